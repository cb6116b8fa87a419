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
      put(F + i * kSteps + j, i < j ? 0 : ready<kPasses>(a.scale * x), i <= j ? 0 : ready<kPasses>(a.scale * y));
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
      if (k < t.Kp) put(to + i * t.Kp + k, one, next);
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
    Both logs[kSub];
    at.logs(0, logs), at.sum_logs(logs, m + kSums);
    arrive();
    const bool gentle = at.gentle(m + kSums);
    if (thread < kSteps) {
      Real& x = m[kF + place<kSteps>(thread, thread)];
      m[kOwn + thread] = x, x = 0;
    }
    if (at.active) {
      const ChannelDecays decays(gentle, m + kSums, D, at.sub, at.k);
      const auto times = [&](Real* tile) {
        return [=, &at](int step, int, const Both& factor) {
          Both& x = entry(at, tile, step);
          x = {ready<kPasses>(x.at[0] * factor.at[0]), ready<kPasses>(x.at[1] * factor.at[1])};
        };
      };
      Both sum = decays.start;
      decays.queries(logs, 0, sum, times(m + kQ));
      sum = decays.start;
      decays.keys(logs, 0, sum, times(m + kK));
    }
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
    if (at.active) {
      if (!gentle)
#pragma unroll 1
        for (int e = 0; e < 2; ++e) within(at, m, e);
      const ChannelDecays decays(gentle, m + kSums, D, at.sub, at.k);
      queries(at, m, item, decays), keys(at, m, item, decays);
    }
    __syncthreads();
    if (at.active) gates(at, m, item);
  }

  // The thread's channels at a step of its sub-chunk.
  __device__ static Both& entry(const ChannelPlace<D>& at, Real* tile, int step) {
    return *reinterpret_cast<Both*>(tile + place<D>(at.begin + step, at.k));
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
          for (int e = 0; e < 4; ++e) acc[m][c][e] *= exp2_weight(sums[other * D + layout.template column<N>(c, e)]);
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

  // A cut chunk's shares from other sub-chunks get the rest of their decay, and what the own one adds, step by step. Of one channel.
  __device__ void within(const ChannelPlace<D>& at, Real* m, int e) const {
    const int first = at.begin, k = at.k + e;
    const Real* F = m + kF;
    const auto column = [&](const Real* p, Column& x) {
#pragma unroll
      for (int i = 0; i < kSub; ++i) x[i] = i < at.steps && k < t.a.K ? p[at.base + e + i * t.ld()] : Real(0);
    };
    Column decay, seen, of_queries, of_keys;
    column(t.a.gate, decay);
    Real sum = 0;
#pragma unroll
    for (int i = 0; i < kSub; ++i) decay[i] *= kLog2e, sum += decay[i], of_queries[i] = exp2_weight(sum) * m[kQ + place<D>(first + i, k)];
    sum = 0;
#pragma unroll
    for (int i = kSub - 1; i >= 0; --i) of_keys[i] = exp2_weight(sum) * m[kK + place<D>(first + i, k)], sum += decay[i];
#pragma unroll
    for (int i = 0; i < kSub; ++i) decay[i] = exp2_weight(decay[i]);
    column(t.a.k, seen);
#pragma unroll
    for (int i = 1; i < kSub; ++i)
#pragma unroll
      for (int j = 0; j < i; ++j) seen[j] *= decay[i], of_queries[i] += F[place<kSteps>(first + i, first + j)] * seen[j];
    column(t.a.q, seen);
#pragma unroll
    for (int j = kSub - 2; j >= 0; --j)
#pragma unroll
      for (int i = kSub - 1; i > j; --i) seen[i] *= decay[j + 1], of_keys[j] += F[place<kSteps>(first + i, first + j)] * seen[i];
#pragma unroll
    for (int i = 0; i < kSub; ++i) m[kQ + place<D>(first + i, k)] = of_queries[i], m[kK + place<D>(first + i, k)] = of_keys[i];
  }

  // Entries of kAtOnce steps of the thread's channels: of q, k, what comes through the state, and the gates' logs.
  static constexpr int kAtOnce = 8;
  struct Steps {
    Both q[kAtOnce], k[kAtOnce], x[kAtOnce], logs[kAtOnce];
    __device__ Steps(const ChannelPlace<D>& at, const Real* through, Index item, int from) {
      const Chunked& of = at.t;
      at.columns(of.a.q + at.base, of.ld(), from, q), at.columns(of.a.k + at.base, of.ld(), from, k);
      const Real* p = through + (item * kSteps + at.begin + from) * of.Kp + at.k;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) x[i] = both_of(p + i * of.Kp, from + i < at.steps);
      at.logs(from, logs);
    }
  };

  // dq; its products with q, but for the diagonal of F, take its place.
  __device__ void queries(const ChannelPlace<D>& at, Real* m, Index item, const ChannelDecays& decays) const {
    Both sum = decays.start;
#pragma unroll 1
    for (int from = 0; from < kSub; from += kAtOnce) {
      const Steps s(at, t.Qs, item, from);
      decays.queries(s.logs, from, sum, [&](int step, int i, const Both& factor) {
        Both &inside = entry(at, m + kQ, step), dq;
        const Real own = m[kOwn + at.begin + step];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const Real x =
              (decays.gentle ? factor.at[e] : Real(1)) * inside.at[e] + t.a.scale * factor.at[e] * decays.outer_query.at[e] * s.x[i].at[e];
          dq.at[e] = x + own * s.k[i].at[e], inside.at[e] = s.q[i].at[e] * x;
        }
        at.put(o.dq, step, dq, t.even);
      });
    }
  }

  // dk; then the place of dq holds q dq - k dk inside, that of dk k dk through the state, and kAfter and kBefore their sums.
  __device__ void keys(const ChannelPlace<D>& at, Real* m, Index item, const ChannelDecays& decays) const {
    Both sum = decays.start, after{0, 0}, before{0, 0};
#pragma unroll 1
    for (int n = 0; n < kSub; n += kAtOnce) {
      const int from = decays.gentle ? n : kSub - kAtOnce - n;
      const Steps s(at, t.Ks, item, from);
      decays.keys(s.logs, from, sum, [&](int step, int i, const Both& factor) {
        Both &here = entry(at, m + kK, step), &products = entry(at, m + kQ, step), dk;
        const Real own = m[kOwn + at.begin + step];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const Real inside = (decays.gentle ? factor.at[e] : Real(1)) * here.at[e],
                     outside = factor.at[e] * decays.outer_key.at[e] * s.x[i].at[e];
          dk.at[e] = inside + outside + own * s.q[i].at[e];
          products.at[e] -= s.k[i].at[e] * inside, here.at[e] = s.k[i].at[e] * outside;
          after.at[e] += products.at[e], before.at[e] += here.at[e];
        }
        at.put(o.dk, step, dk, t.even);
      });
    }
    *reinterpret_cast<Both*>(m + kAfter + at.sub * D + at.k) = after, *reinterpret_cast<Both*>(m + kBefore + at.sub * D + at.k) = before;
  }

  // The gates' gradients: sums along the chunk, of the one product from the end, of the other from the start.
  __device__ void gates(const ChannelPlace<D>& at, Real* m, Index item) const {
    if (at.steps <= 0) return;
    Both earlier[kSub], up{0, 0}, down;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const Real* sums = m + kSums + at.k + e;
      down.at[e] = exp2_weight((sums[0] + sums[D]) + (sums[2 * D] + sums[3 * D])) * t.products[item * t.Kp + at.k + e];
      for (int s = 0; s < at.sub; ++s) down.at[e] += m[kBefore + s * D + at.k + e];
      for (int s = 3; s > at.sub; --s) up.at[e] += m[kAfter + s * D + at.k + e];
    }
#pragma unroll
    for (int i = 0; i < kSub; ++i) {
      const Both x = entry(at, m + kK, i);
      earlier[i] = down, down.at[0] += x.at[0], down.at[1] += x.at[1];
    }
#pragma unroll
    for (int i = kSub - 1; i >= 0; --i) {
      const Both x = entry(at, m + kQ, i);
      up.at[0] += x.at[0], up.at[1] += x.at[1];
      at.put(o.dgate, i, {earlier[i].at[0] + up.at[0], earlier[i].at[1] + up.at[1]}, t.even);
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
