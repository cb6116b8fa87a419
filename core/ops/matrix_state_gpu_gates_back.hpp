// matrix_state_gpu_gates_back.hpp - gradients of matrix states with channel gates on tensor cores.
//
//   dV = A^T dO + Kd G: ChannelOutputsBlock. From every tile of values ChannelThroughBlock adds up, before any decay of the chunk's,
//     F = scale dO V^T (lower triangle)      Qs = dO S      Ks = V G      s = sum over values of G S, channel by channel
//   ChannelInsideBlock does the rest, a chunk's channels by their decays (c, b of matrix_state_gpu_gates.hpp):
//     dq = F_ii k_i + 2^{c_i} (F' (k 2^{-c}) + ..)      dk = F_jj q_j + 2^{-c_j} (F'^T (q 2^c) + ..)      F' = F below the diagonal
//   and where a chunk is cut: from other sub-chunks F (K suf), decayed by one whole sub-chunk after another and at last by pre, and step by step
//   inside the own one.
//   gate_t = sum_{i >= t} (q_i dq_i - k_i dk_i inside) + sum_{j < t} k_j dk_j through the state + 2^{b_63} s, without the diagonal of F
//
// Floor of a step and head: 40 K + 8 C + 16 V + 8 K V / C bytes here, 4 C + 8 K + 12 V + 4 K V / C for dV, at 4.8 TB/s.
#pragma once
#include "matrix_state_gpu_back.hpp"
#include "matrix_state_gpu_gates.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

template <int kPasses, int D>
struct ChannelThroughBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = kPasses > 1 ? 1 : 2, N = D / 32;
  static constexpr int kFours = D / 4, kLines = kThreads / kFours;  // threads of a row of a state, rows at once
  static constexpr int kS = 0, kG = kS + kValues * D, kV = kG + kValues * D, kY = kV + kSteps * kValues, kSkip = kY + kSteps * kValues,
                       kEnd = kSkip + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = MmaTile<kPasses>;
  Chunked t;
  Gradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const TurnedPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index h = at.first, tiles = t.v_tiles(), item = at.item(h);
    const auto fetch_keys = [&](Index vt) {
      if (vt < tiles) at.values(a.v, h, vt, m + kV), at.state(t.G, h, vt, 0, m + kG);
      copies_end();
    };
    const auto fetch_queries = [&](Index vt) {
      if (vt < tiles) at.values(t.dy, h, vt, m + kY), at.state(t.S, h, vt, 0, m + kS);
      copies_end();
    };
    float f[2][2][4] = {}, queries[2][N][4] = {}, keys[2][N][4] = {}, products[4] = {};
    fetch_keys(0), fetch_queries(0);
    for (Index vt = 0; vt < tiles; ++vt) {
      copies_wait<0>();
      __syncthreads();
      layout.template add<kValues, Along<kValues>, Along<kValues>>(f, m + kY, m + kV);
      layout.template add<kValues, Along<kValues>, Across<D, true>>(keys, m + kV, m + kG);
#pragma unroll 4
      for (int v = thread / kFours; v < kValues; v += kLines) {
        const int from = place<D>(v, thread % kFours * 4);
        const gpu_tile::Four s = four(m + kS + from), g = four(m + kG + from);
#pragma unroll
        for (int e = 0; e < 4; ++e) products[e] += s.at[e] * g.at[e];
      }
      __syncthreads();
      fetch_keys(vt + 1);
      layout.template add<kValues, Along<kValues>, Across<D, true>>(queries, m + kY, m + kS);
      __syncthreads();
      fetch_queries(vt + 1);
    }
    copies_wait<0>();
    float skip = 0;
    Real* F = t.F + item * kSteps * kSteps;
    pairs(layout, f, [&](int i, int j, float x, float y) {
      if (i == j) skip += x;
      if (i == j + 1) skip += y;
      *reinterpret_cast<float2*>(F + i * kSteps + j) = {i < j ? 0 : ready<kPasses>(a.scale * x), i <= j ? 0 : ready<kPasses>(a.scale * y)};
    });
    leave(layout, queries, t.Qs + item * kSteps * t.Kp), leave(layout, keys, t.Ks + item * kSteps * t.Kp);
    Real* sums = m;  // (kLines, D)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[thread / kFours * D + thread % kFours * 4 + e] = products[e];
    if (a.skip) {
      skip = lanes_sum<32>(skip);
      if (layout.lane == 0) m[kSkip + thread / 32] = skip;
    }
    __syncthreads();
    if (thread < D && thread < t.Kp) {
      Real sum = 0;
#pragma unroll
      for (int line = 0; line < kLines; ++line) sum += sums[line * D + thread];
      t.products[item * t.Kp + thread] = sum;
    }
    if (a.skip && thread == 0) {
      Real sum = 0;
      for (int w = 0; w < 8; ++w) sum += m[kSkip + w];
      o.skip_parts[(at.b * t.chunks() + at.chunk) * a.heads + h] = sum;
    }
  }

  __device__ void leave(const L& layout, float (&x)[2][N][4], Real* to) const {
    pairs(layout, x, [&](int i, int k, float one, float next) {
      if (k < t.Kp) *reinterpret_cast<float2*>(to + i * t.Kp + k) = {one, next};
    });
  }
};

template <int kPasses, int D>
struct ChannelInsideBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = 2, N = D / 32;
  static constexpr int kQ = 0, kK = kQ + kSteps * D, kF = kK + kSteps * D, kOwn = kF + kSteps * kSteps, kSums = kOwn + kSteps,
                       kAfter = kSums + 4 * D, kBefore = kAfter + 4 * D, kEnd = kBefore + 4 * D;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = MmaTile<kPasses>;
  using Column = Real[kSub];
  using Wide = float[2][N][4];
  Chunked t;
  Gradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChannelPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index item = at.item(at.first);
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK);
    copy_turned<kThreads, kSteps, kSteps>(thread, t.F + item * kSteps * kSteps, kSteps, kSteps, kSteps, true, m + kF);
    Column logs[ChannelPlace<D>::kTasks];
    at.tasks([&](int task, int sub, int k) { m[kSums + sub * D + k] = at.logs(sub, k, logs[task]); });
    arrive();
    const bool gentle = at.gentle(m + kSums);
    if (thread < kSteps) {
      Real& x = m[kF + place<kSteps>(thread, thread)];
      m[kOwn + thread] = x, x = 0;
    }
    at.tasks([&](int task, int sub, int k) {
      const ChannelDecays decays(gentle, m + kSums, D, sub, k);
      const auto times = [&](Real* tile) {
        return [=](int i, Real factor) {
          Real& x = tile[place<D>(sub * kSub + i, k)];
          x = ready<kPasses>(x * factor);
        };
      };
      decays.queries(logs[task], times(m + kQ)), decays.keys(logs[task], times(m + kK));
    });
    __syncthreads();
    {
      Wide queries = {}, keys = {};
      if (gentle) {
        layout.template onto<kSteps, Along<kSteps, true>, Across<D, true>>(queries, m + kF, m + kK);
        layout.template onto<kSteps, Across<kSteps, true>, Across<D, true>>(keys, m + kF, m + kQ);
      } else {
        between<false>(layout, queries, m + kF, m + kK, m + kSums), between<true>(layout, keys, m + kF, m + kQ, m + kSums);
      }
      __syncthreads();
      leave(layout, queries, m + kQ), leave(layout, keys, m + kK);
    }
    __syncthreads();
    if (!gentle) at.each_task([&](int sub, int k) { within(at, m, sub, k); });
    at.each_task([&](int sub, int k) { combine(at, m, item, gentle, sub, k); });
    __syncthreads();
    at.each_task([&](int sub, int k) { gates(at, m, item, sub, k); });
  }

  __device__ static void leave(const L& layout, Wide& x, Real* to) {
    pairs(layout, x, [&](int i, int k, float one, float next) { *reinterpret_cast<float2*>(to + place<D>(i, k)) = {one, next}; });
  }

  // What a sub-chunk, 16 rows of the layout, gets from earlier ones, F X, or of keys from later ones, F^T X, X decayed to their ends or starts.
  template <bool kOfKeys>
  __device__ static void between(const L& layout, Wide& acc, const Real* F, const Real* X, const Real* sums) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int sub = 2 * layout.down + m;
      for (int n = 0; n < 4; ++n) {
        const int other = kOfKeys ? 3 - n : n;
        if (kOfKeys ? other <= sub : other >= sub) break;
#pragma unroll
        for (int c = 0; c < N; ++c)
#pragma unroll
          for (int e = 0; e < 4; ++e) acc[m][c][e] *= exp2_full(sums[other * D + layout.template column<N>(c, e)]);
#pragma unroll 1
        for (int step = 0; step < kSub; step += 8) {
          gpu_tile::Bits x[4], xl[4];
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int row = sub * kSub + layout.g + e % 2 * 8, of = other * kSub + step + layout.t + e / 2 * 4;
            Mma<kPasses>::split(F[kOfKeys ? place<kSteps>(of, row) : place<kSteps>(row, of)], x[e], xl[e]);
          }
#pragma unroll
          for (int c = 0; c < N; ++c) {
            gpu_tile::Bits y[2], yl[2];
#pragma unroll
            for (int e = 0; e < 2; ++e)
              Mma<kPasses>::split(X[place<D>(other * kSub + step + layout.t + 4 * e, 8 * N * layout.right + 8 * c + layout.g)], y[e],
                                  yl[e]);
            float(&to)[4] = acc[m][c];
            if (kPasses > 1) mma(to[0], to[1], to[2], to[3], xl, y), mma(to[0], to[1], to[2], to[3], x, yl);
            mma(to[0], to[1], to[2], to[3], x, y);
          }
        }
      }
    }
  }

  // A cut chunk's shares from other sub-chunks get the rest of their decay, and what the own one adds, step by step.
  __device__ void within(const ChannelPlace<D>& at, Real* m, int sub, int k) const {
    const int first = sub * kSub;
    const Real* F = m + kF;
    Column decay, seen, sum;
    at.logs(sub, k, decay);
    const ChannelDecays decays(false, m + kSums, D, sub, k);
    decays.queries(decay, [&](int i, Real factor) { sum[i] = factor * m[kQ + place<D>(first + i, k)]; });
    Column of_keys;
    decays.keys(decay, [&](int i, Real factor) { of_keys[i] = factor * m[kK + place<D>(first + i, k)]; });
    at.column(t.a.k, sub, k, seen);
#pragma unroll
    for (int i = 0; i < kSub; ++i) decay[i] = exp2_full(decay[i]);
#pragma unroll
    for (int i = 1; i < kSub; ++i)
#pragma unroll
      for (int j = 0; j < i; ++j) seen[j] *= decay[i], sum[i] += F[place<kSteps>(first + i, first + j)] * seen[j];
#pragma unroll
    for (int i = 0; i < kSub; ++i) m[kQ + place<D>(first + i, k)] = sum[i];
    at.column(t.a.q, sub, k, seen);
#pragma unroll
    for (int j = kSub - 2; j >= 0; --j)
#pragma unroll
      for (int i = kSub - 1; i > j; --i) seen[i] *= decay[j + 1], of_keys[j] += F[place<kSteps>(first + i, first + j)] * seen[i];
#pragma unroll
    for (int i = 0; i < kSub; ++i) m[kK + place<D>(first + i, k)] = of_keys[i];
  }

  // Gradients of a channel's queries and keys of a sub-chunk; their places hold their products with q and k then, and kAfter and kBefore the sums.
  __device__ void combine(const ChannelPlace<D>& at, Real* m, Index item, bool gentle, int sub, int k) const {
    const Arguments& a = t.a;
    const int first = sub * kSub;
    const Index from = (item * kSteps + first) * t.Kp + k;
    const auto through = [&](const Real* p, Column& x) {
#pragma unroll
      for (int i = 0; i < kSub; ++i) x[i] = at.there(first + i, k) ? p[from + i * t.Kp] : Real(0);
    };
    Column q, key, logs, x;
    at.column(a.q, sub, k, q), at.column(a.k, sub, k, key), at.logs(sub, k, logs), through(t.Qs, x);
    const ChannelDecays decays(gentle, m + kSums, D, sub, k);
    const Real outer_query = a.scale * decays.outer_query;
    decays.queries(logs, [&](int i, Real factor) {
      const int step = first + i;
      Real& place_of = m[kQ + place<D>(step, k)];
      const Real dq = (gentle ? factor : Real(1)) * place_of + factor * outer_query * x[i];
      place_of = q[i] * dq;
      if (at.there(step, k)) o.dq(at.base(k) + step * t.ld(), dq + m[kOwn + step] * key[i]);
    });
    through(t.Ks, x);
    Real after = 0, before = 0;
    decays.keys(logs, [&](int i, Real factor) {
      const int step = first + i, place_of = place<D>(step, k);
      const Real inside = (gentle ? factor : Real(1)) * m[kK + place_of], outside = factor * decays.outer_key * x[i];
      const Real own = m[kQ + place_of] - key[i] * inside, earlier = key[i] * outside;
      m[kQ + place_of] = own, m[kK + place_of] = earlier;
      after += own, before += earlier;
      if (at.there(step, k)) o.dk(at.base(k) + step * t.ld(), inside + outside + m[kOwn + step] * q[i]);
    });
    m[kAfter + sub * D + k] = after, m[kBefore + sub * D + k] = before;
  }

  // Sums along the chunk, of `own` from the end and of `earlier` from the start.
  __device__ void gates(const ChannelPlace<D>& at, const Real* m, Index item, int sub, int k) const {
    if (k >= t.a.K) return;
    const Real* sums = m + kSums + k;
    const Real whole = exp2_full((sums[0] + sums[D]) + (sums[2 * D] + sums[3 * D]));
    Real down = whole * t.products[item * t.Kp + k], up = 0;
    for (int s = 0; s < sub; ++s) down += m[kBefore + s * D + k];
    for (int s = 3; s > sub; --s) up += m[kAfter + s * D + k];
    Column earlier;
#pragma unroll
    for (int i = 0; i < kSub; ++i) earlier[i] = down, down += m[kK + place<D>(sub * kSub + i, k)];
#pragma unroll
    for (int i = kSub - 1; i >= 0; --i) {
      const int step = sub * kSub + i;
      up += m[kQ + place<D>(step, k)];
      if (at.there(step, k)) o.dgate(at.base(k) + step * t.ld(), earlier[i] + up);
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
