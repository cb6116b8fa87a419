// matrix_state_gpu_back.hpp - gradients of matrix states on tensor cores: a block per chunk, heads that share its keys, and tile of keys.
//
// From S, the state at the start of the chunk, and G, the adjoint of the state at its end, both of matrix_state_gpu_states.hpp:
//   F = dO V^T delta_j      dV = A^T dO + to_j K G      dK = (E F)^T Q + to_j delta_j V G^T      dQ = E F K + from_i dO S^T
//   gate_t = sum_{i >= t} (sum_j H_ij - sum_j H_ji + q_i.dq'_i) + sum_{j < t} k_j.dk'_j + 2^{b_63} <G, S>,  H = A F below the diagonal
// where dq', dk' are the shares that come through the states. Where values are one tile, E F of the block's heads is summed and multiplied
// with Q and K once, and dQ, dK stay in registers: 4 C V + 6 K V operations a step and head, 4 K V more in States.
// A head's values, its G and its S come in one after another, each while the head is worked on from what came before.
//
// Floor of a step and head: 8 K V / C bytes of S and G here and as many in States, 20 V of values and dy, read twice, and dV, at 4.8 TB/s: at
// K 128, V 64, T 2048, B 16, 32 heads 0.39 ms here and 0.34 ms in States.
#pragma once
#include "matrix_state_gpu.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

// kMany: values in several tiles. Where keys are (tiles of D), each tile's block leaves its share of dV, of the gates' and of delta's gradients.
template <int kPasses, int D, bool kMany>
struct GradientsBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = 1, N = D / 32, kFactors = kRows * kSteps;
  static constexpr int kOfRow = 0, kOfQ = kOfRow + 4 * kSteps, kOfK = kOfQ + 4 * kSteps, kOfDelta = kOfK + 4 * kSteps,
                       kOfColumn = kOfDelta + 4 * kSteps, kOfSkip = kOfColumn + 2 * kSteps, kOfState = kOfSkip + 8, kSums = kOfState + 8;
  static constexpr int kQ = 0, kK = kQ + kSteps * D, kS = kK + kSteps * D, kG = kS + kValues * D, kV = kG + kValues * D,
                       kA = kV + 4 * kSteps * kValues, kF = kA + kSteps * kSteps, kZ = kF + 2 * kFactors, kGz = kZ + D, kOf = kGz + D,
                       kEnd = kOf + 2 * kSums;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBytes + 1024 <= 228 * 1024);
  using L = MmaTile<kPasses>;
  using Square = float[2][2][4];
  using Wide = float[2][N][4];
  Chunked t;
  Gradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const Index k_tiles = t.k_tiles(D), kt = block % k_tiles, v_tiles = kMany ? t.v_tiles() : 1;
    const TurnedPlace<D> at(t, block / k_tiles, thread);
    const L layout(thread);
    const Index units = (at.last - at.first) * v_tiles;
    const auto fetch_values = [&](Index u) {
      const Index h = at.first + u / v_tiles, vt = u % v_tiles;
      Real* to = m + kV + u % 2 * (2 * kSteps * kValues);
      if (u < units) at.values(a.v, h, vt, to), at.values(t.dy, h, vt, to + kSteps * kValues);
      if (u < units && vt == 0) at.template factors<kRows>(h, m + kF + h % 2 * kFactors);
      copies_end();
    };
    const auto fetch_state = [&](const Real* states, Index u, Real* to) {
      if (u < units) at.state(states, at.first + u / v_tiles, u % v_tiles, kt, to);
      copies_end();
    };
    Square p = {}, f = {}, inside = {};
    Wide dq = {}, dk = {};
    float of_state = 0, to_delta[2][2] = {};
    for (Index other = 0; other < k_tiles; ++other) {
      if (other == kt) continue;
      at.keys(a.q, other, m + kS), at.keys(a.k, other, m + kG);
      arrive();
      layout.template add<D, Along<D>, Along<D>>(p, m + kS, m + kG);
      __syncthreads();
    }
    at.keys(a.q, kt, m + kQ), at.keys(a.k, kt, m + kK);
    fetch_values(0), fetch_state(t.G, 0, m + kG), fetch_state(t.S, 0, m + kS);

    for (Index u = 0; u < units; ++u) {
      const Index h = at.first + u / v_tiles, vt = u % v_tiles;
      const Real *V = m + kV + u % 2 * (2 * kSteps * kValues), *dO = V + kSteps * kValues, *rows = m + kF + h % 2 * kFactors;
      Real* of = m + kOf + h % 2 * kSums;
      const bool last = vt + 1 == v_tiles;
      copies_wait<2>();
      __syncthreads();
      fetch_values(u + 1);
      if (u == 0) {
        layout.template add<D, Along<D>, Along<D>>(p, m + kQ, m + kK);
        __syncthreads();
        make_ready<kPasses, kThreads, 2 * kSteps * D>(thread, m + kQ);
      }
      if (a.normalise && vt == 0) at.ones_state(t.z, h, kt, m + kZ), at.ones_state(t.Gz, h, kt, m + kGz);
      if (kMany && vt == 0) weigh<true, false>(layout, p, f, inside, rows, m, of);
      layout.template add<kValues, Along<kValues>, Along<kValues>>(f, dO, V);
      if (!kMany) weigh<true, true>(layout, p, f, inside, rows, m, of);
      else if (last) weigh<false, true>(layout, p, f, inside, rows, m, of);

      copies_wait<2>();
      __syncthreads();
      {
        Square acc = {};
        layout.template onto<D, Along<D, true>, Along<D, true>>(acc, m + kK, m + kG);
        pairs(layout, acc, [&](int j, int, float& x, float& y) { x *= rows[kTo * kSteps + j], y *= rows[kTo * kSteps + j]; });
        if (kt == 0) layout.template add<kSteps, Across<kSteps, true>, Across<kValues>>(acc, m + kA, dO);
        store_values(at, layout, acc, rows, V, dO, kt, h, vt, to_delta);
      }
      through(layout, dk, V, m + kG, last, rows, kToDelta, kTo, m + kGz, m + kK, of + kOfK);

      copies_wait<1>();
      __syncthreads();
      if (a.kind == Gate::time) {
        of_state += against(thread, m);
        __syncthreads();
      }
      fetch_state(t.G, u + 1, m + kG);
      through(layout, dq, dO, m + kS, last, rows, kFromPer, kFromExtra, m + kZ, m + kQ, of + kOfQ);
      if (kMany && last) {
        share(layout, f, dq, dk, m);
        store_keys(at, layout, dq, o.q_parts, o.dq, h, kt);
        store_keys(at, layout, dk, o.k_parts, o.dk, h, kt);
        clear(dq), clear(dk), clear(f);
      }
      if (last) {
        if (a.normalise && a.kind == Gate::time && thread < D) of_state += m[kZ + thread] * m[kGz + thread];
        leave_sums(layout, to_delta, of_state, of);
      }
      __syncthreads();
      fetch_state(t.S, u + 1, m + kS);
      if (last) finish(at, rows, of, kt, h);
    }
    if (kMany) return;
    share(layout, inside, dq, dk, m);
    store_keys(at, layout, dq, o.q_parts, o.dq, at.first, kt);
    store_keys(at, layout, dk, o.k_parts, o.dk, at.first, kt);
  }

  template <int n>
  __device__ static void clear(float (&x)[2][n][4]) {
#pragma unroll
    for (int i = 0; i < 8 * n; ++i) x[i / (4 * n)][i / 4 % n][i % 4] = 0;
  }

  // kWeights: scores p -> A / normaliser without delta, to the chip. kSlopes: f = dO V^T -> gradient of q k^T, in f, or added to `inside` where
  // the block's heads share it; sums of H by row and column and of the diagonal of f, by warps.
  template <bool kWeights, bool kSlopes>
  __device__ void weigh(const L& layout, const Square& p, Square& f, Square& inside, const Real* rows, Real* m, Real* of) const {
    const Real scale = t.a.scale;
    const Decays<L> decays(layout, rows);
    float of_column[2][2] = {}, skip = 0;
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int i = layout.row(mm, e);
        const float per = rows[kPer * kSteps + i], extra = rows[kExtra * kSteps + i];
        float of_row = 0;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          float weight[2];
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            const int j = layout.template column<2>(n, next);
            float& x = f[mm][n][e + next];
            const float decay = i < j ? 0 : scale * decays(mm, e / 2, n, next), score = p[mm][n][e + next] * decay;
            weight[next] = ready<kPasses>(score * per);
            if (!kSlopes) continue;
            if (i == j) skip += x;
            const float slope = x * per * decays.delta[n][next] + extra, both = j < i ? score * slope : 0;
            of_row += both, of_column[n][next] += both;
            if (kMany) x = slope * decay;
            else inside[mm][n][e + next] += slope * decay, x = 0;
          }
          if (kWeights) *reinterpret_cast<float2*>(m + kA + place<kSteps>(i, layout.template column<2>(n, 0))) = {weight[0], weight[1]};
        }
        if (!kSlopes || t.a.kind != Gate::time) continue;
        of_row = lanes_sum<4>(of_row);
        if (layout.t == 0) of[kOfRow + layout.right * kSteps + i] = of_row;
      }
    if constexpr (kSlopes) {
      if (t.a.skip) {
        skip = lanes_sum<32>(skip);
        if (layout.lane == 0) of[kOfSkip + layout.down * 4 + layout.right] = skip;
      }
      if (t.a.kind == Gate::time) by_column(layout, of_column, of);
    }
  }
  __device__ static void by_column(const L& layout, const float (&of_column)[2][2], Real* of) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int next = 0; next < 2; ++next) {
        float sum = of_column[n][next];
#pragma unroll
        for (int other = 4; other < 32; other *= 2) sum += from_lane(sum, other);
        if (layout.g == 0) of[kOfColumn + layout.down * kSteps + layout.template column<2>(n, next)] = sum;
      }
  }

  // What comes through a state, X (steps, values) times it, times a factor of the step, plus the normaliser's column: added to sum, and row by
  // row its product with Y to `of`. Where there are several tiles of values, the factors wait for the last.
  __device__ void through(const L& layout, Wide& sum, const Real* X, const Real* state, bool last, const Real* rows, int factor, int ones,
                          const Real* z, const Real* Y, Real* of) const {
    if constexpr (kMany) {
      layout.template add<kValues, Along<kValues>, Across<D, true>>(sum, X, state);
      if (last) factored(layout, sum, rows, factor, ones, z, Y, of);
    } else {
      Wide own = {};
      layout.template onto<kValues, Along<kValues>, Across<D, true>>(own, X, state);
      factored(layout, own, rows, factor, ones, z, Y, of);
#pragma unroll
      for (int i = 0; i < 8 * N; ++i) sum[i / (4 * N)][i / 4 % N][i % 4] += own[i / (4 * N)][i / 4 % N][i % 4];
    }
  }
  __device__ void factored(const L& layout, Wide& acc, const Real* rows, int factor, int ones, const Real* z, const Real* Y,
                           Real* of) const {
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int i = layout.row(mm, e);
        const float times = rows[factor * kSteps + i], one = t.a.normalise ? rows[ones * kSteps + i] : Real(0);
        float product = 0;
#pragma unroll
        for (int n = 0; n < N; ++n) {
          const int k = layout.template column<N>(n, 0);
          float &x = acc[mm][n][e], &y = acc[mm][n][e + 1];
          x *= times, y *= times;
          if (t.a.normalise) x += one * z[k], y += one * z[k + 1];
          if (t.a.kind != Gate::time) continue;
          const float2 with = *reinterpret_cast<const float2*>(Y + place<D>(i, k));
          product += x * with.x + y * with.y;
        }
        if (t.a.kind != Gate::time) continue;
        product = lanes_sum<4>(product);
        if (layout.t == 0) of[layout.right * kSteps + i] = product;
      }
  }

  // Where a tile of keys leaves its share of a gradient, behind those of `first` numbers a step and head.
  __device__ Grad share_of(const Grad& whole, Index first, Index kt) const {
    const Index rows = t.a.B * t.a.T * t.a.heads;
    return t.shares ? Grad{t.shares + (kt * t.share_width() + first) * rows, false} : whole;
  }

  // A thread's share of <S, G>.
  __device__ static float against(int thread, const Real* m) {
    float sum = 0;
#pragma unroll 4
    for (int i = 4 * thread; i < kValues * D; i += 4 * kThreads) {
      const gpu_tile::Four x = four(m + kS + i), y = four(m + kG + i);
      sum += (x.at[0] * y.at[0] + x.at[1] * y.at[1]) + (x.at[2] * y.at[2] + x.at[3] * y.at[3]);
    }
    return sum;
  }

  // The shares of queries and keys that stay inside the chunk, from the gradient of q k^T.
  __device__ void share(const L& layout, Square& inside, Wide& dq, Wide& dk, Real* m) const {
    pairs(layout, inside, [&](int i, int j, float x, float y) {
      *reinterpret_cast<float2*>(m + kA + place<kSteps>(i, j)) = {ready<kPasses>(x), ready<kPasses>(y)};
    });
    __syncthreads();
    layout.template add<kSteps, Along<kSteps, true>, Across<D, true>>(dq, m + kA, m + kK);
    layout.template add<kSteps, Across<kSteps, true>, Across<D, true>>(dk, m + kA, m + kQ);
  }

  __device__ void store_values(const TurnedPlace<D>& at, const L& layout, const Square& acc, const Real* rows, const Real* V,
                               const Real* dO, Index kt, Index h, Index vt, float (&to_delta)[2][2]) const {
    const Arguments& a = t.a;
    const int width = at_most(a.V - vt * kValues, kValues), first = layout.template column<2>(0, 0);
    const bool skips = a.skip && kt == 0;
    const Real skip = skips ? a.skip[h] : Real(0);
    const Grad dv = share_of(o.dv, 0, kt);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = layout.row(mm, 2 * e);
        const float delta = rows[kDelta * kSteps + j];
        float x[2][2];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            const int from = place<kValues>(j, first + 8 * n + next);
            x[n][next] = acc[mm][n][2 * e + next];
            if (a.delta) to_delta[mm][e] += x[n][next] * V[from];
            x[n][next] *= delta;
            if (skips) x[n][next] += skip * dO[from];
          }
        if (j < at.count) store_pairs(dv, ((at.row + j) * a.heads + h) * a.V + vt * kValues, first, width, t.even, x);
      }
  }

  // Gradients of queries or keys, over the heads of the block.
  __device__ void store_keys(const TurnedPlace<D>& at, const L& layout, const Wide& acc, Real* parts, Grad to, Index h, Index kt) const {
    const Arguments& a = t.a;
    if (parts) to = Grad{parts + at.part * a.B * a.T * t.ld(), false};
    if (h > at.first) to.add = true;
    const int width = at_most(a.K - kt * D, D);
    const Index first = at.row * t.ld() + at.group * a.K + kt * D;
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        float x[N][2];
#pragma unroll
        for (int n = 0; n < 2 * N; ++n) x[n / 2][n % 2] = acc[mm][n / 2][2 * e + n % 2];
        if (i < at.count) store_pairs(to, first + i * t.ld(), layout.template column<N>(0, 0), width, t.even, x);
      }
  }

  __device__ void leave_sums(const L& layout, float (&to_delta)[2][2], float& of_state, Real* of) const {
    if (t.a.delta)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float sum = lanes_sum<4>(to_delta[i / 2][i % 2]);
        if (layout.t == 0) of[kOfDelta + layout.right * kSteps + layout.row(i / 2, i % 2 * 2)] = sum;
        to_delta[i / 2][i % 2] = 0;
      }
    if (t.a.kind != Gate::time) return;
    of_state = lanes_sum<32>(of_state);
    if (layout.lane == 0) of[kOfState + layout.down * 4 + layout.right] = of_state;
    of_state = 0;
  }
  __device__ static float four_rows(const Real* p) { return (p[0] + p[kSteps]) + (p[2 * kSteps] + p[3 * kSteps]); }
  __device__ static float eight(const Real* p) { return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7])); }

  // Sums over the block: delta's gradient, the skip's share, the gates' gradients.
  __device__ void finish(const TurnedPlace<D>& at, const Real* rows, const Real* of, Index kt, Index h) const {
    const Arguments& a = t.a;
    const int thread = at.thread;
    if (a.delta && thread >= kThreads - kSteps) {
      const int j = thread - (kThreads - kSteps);
      if (j < at.count) share_of(o.ddelta, a.V + 1, kt)((at.row + j) * a.heads + h, four_rows(of + kOfDelta + j));
    }
    if (a.skip && kt == 0 && thread == kThreads - kSteps - 1)
      o.skip_parts[(at.b * t.chunks() + at.chunk) * a.heads + h] = eight(of + kOfSkip);
    if (a.kind != Gate::time || thread >= 32) return;
    double after[2], before[2];
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * thread + e;
      const double inner = kt ? 0.0 : double(four_rows(of + kOfRow + i)) - of[kOfColumn + i] - of[kOfColumn + kSteps + i];
      after[e] = inner + four_rows(of + kOfQ + i);
      before[e] = four_rows(of + kOfK + i);
    }
    double above = after[0] + after[1], below = before[0] + before[1];
    const double own_above = above, own_below = below;
    for (int other = 1; other < 32; other *= 2) {
      const double x = __shfl_down_sync(0xffffffffu, above, other), y = __shfl_up_sync(0xffffffffu, below, other);
      if (thread + other < 32) above += x;
      if (thread >= other) below += y;
    }
    above -= own_above, below -= own_below;
    const double all = double(exp2_weight(rows[kHigh * kSteps + kSteps - 1])) * eight(of + kOfState);
    const Grad dgate = share_of(o.dgate, a.V, kt);
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * thread + e;
      const double own = e ? after[1] : own_above, earlier = e ? before[0] : 0.0;
      if (i < at.count) dgate((at.row + i) * a.heads + h, static_cast<Real>(above + own + below + earlier + all));
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
