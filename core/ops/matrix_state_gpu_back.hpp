// matrix_state_gpu_back.hpp - gradients of matrix states on tensor cores: a block per chunk and heads that share its keys.
//
// From S, the state at the start of the chunk, and G, the adjoint of the state at its end, both of matrix_state_gpu_states.hpp:
//   F = dO V^T delta_j      dV = A^T dO + to_j K G      dK = (E F)^T Q + to_j delta_j V G^T      dQ = E F K + from_i dO S^T
//   gate_t = sum_{i >= t} (sum_j H_ij - sum_j H_ji + q_i.dq'_i) + sum_{j < t} k_j.dk'_j + 2^{b_63} <G, S>,  H = A F below the diagonal
// where dq', dk' are the shares that come through the states. 6 C K + 4 C V + 6 K V operations a step and head, and 4 K V in States.
#pragma once
#include "matrix_state_gpu.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

template <int kPasses, int D>
struct GradientsBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 2, kRow = D + 4, kC = D / 4;
  static constexpr int kQ = 0, kK = kQ + kSteps * kRow, kS = kK + kSteps * kRow, kV = kS + kValues * kRow, kDO = kV + kSteps * kValueRow,
                       kA = kDO + kSteps * kValueRow, kF = kA + kSteps * kScoreRow, kZ = kF + kRows * kSteps, kGz = kZ + D,
                       kOfRow = kGz + D, kOfColumn = kOfRow + kSteps, kOfQ = kOfColumn + 4 * kSteps, kOfK = kOfQ + kSteps,
                       kOfBlock = kOfK + kSteps, kEnd = kOfBlock + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(2 * (kBytes + 1024) <= 228 * 1024);
  using L = Mma<kPasses>;
  Chunked t;
  Gradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChunkPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index k_tiles = t.k_tiles(D), v_tiles = t.v_tiles();
    const bool many_k = k_tiles > 1, many_v = v_tiles > 1, many = many_k || many_v;
    // Tiles of keys, values, states come again where there are several of them.
    const auto again = [&](bool wanted, const auto& copies) {
      if (!wanted) return;
      __syncthreads();
      copies();
      arrive();
    };
    for (Index h = at.first; h < at.last; ++h) {
      Real p[2][16] = {}, f[2][16] = {};
      __syncthreads();
      at.template factors<kRows>(h, m + kF);
      if (!many_k && h == at.first) at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK);
      if (!many_v) at.values(a.v, h, 0, m + kV), at.values(t.dy, h, 0, m + kDO);
      if (!many) at.state(t.G, h, 0, 0, m + kS);
      arrive();
      for (Index kt = 0; kt < k_tiles; ++kt) {
        again(many_k, [&] { at.keys(a.q, kt, m + kQ), at.keys(a.k, kt, m + kK); });
        layout.template product_nt<D>(p, m + kQ, kRow, m + kK, kRow);
      }
      for (Index vt = 0; vt < v_tiles; ++vt) {
        again(many_v, [&] { at.values(a.v, h, vt, m + kV), at.values(t.dy, h, vt, m + kDO); });
        layout.template product_nt<kValues>(f, m + kDO, kValueRow, m + kV, kValueRow);
      }
      differentiate(layout, p, f, m, thread);
      entries(layout, p, [&](int i, int j, Real x) { m[kA + j * kScoreRow + i] = x; });
      __syncthreads();

      Real to_delta[2] = {};
      for (Index vt = 0; vt < v_tiles; ++vt) {
        Real acc[2][16] = {};
        for (Index kt = 0; kt < k_tiles; ++kt) {
          again(many, [&] {
            if (many_k) at.keys(a.k, kt, m + kK);
            if (many_v && kt == 0) at.values(a.v, h, vt, m + kV), at.values(t.dy, h, vt, m + kDO);
            at.state(t.G, h, vt, kt, m + kS);
          });
          layout.template product_nt<D>(acc, m + kK, kRow, m + kS, kRow);
        }
        entries(layout, acc, [&](int j, int, Real& x) { x *= m[kF + kTo * kSteps + j]; });
        layout.template product_nn<kSteps>(acc, m + kA, kScoreRow, m + kDO, kValueRow);
        store_values(at, layout, acc, m, h, vt, to_delta);
      }
      if (a.delta)
        for (int r = 0; r < 2; ++r) {
          const int j = layout.template row<2>(r);
          const Real sum = lanes_sum<4>(to_delta[r]);
          if (layout.t == 0 && j < at.count) o.ddelta((at.row + j) * a.heads + h, sum);
        }

      __syncthreads();
      entries(layout, f, [&](int i, int j, Real x) { m[kA + j * kScoreRow + i] = x; });
      __syncthreads();
      Real of_k[2] = {}, of_q[2] = {}, of_state = 0;
      for (Index kt = 0; kt < k_tiles; ++kt) {
        Real acc[2][kC] = {};
        if (a.normalise) at.ones_state(t.Gz, h, kt, m + kGz), __syncthreads();
        for (Index vt = 0; vt < v_tiles; ++vt) {
          again(many, [&] {
            if (many_k && vt == 0) at.keys(a.q, kt, m + kQ), at.keys(a.k, kt, m + kK);
            if (many_v) at.values(a.v, h, vt, m + kV);
            at.state(t.G, h, vt, kt, m + kS);
          });
          layout.template product_nn<kValues>(acc, m + kV, kValueRow, m + kS, kRow);
        }
        weigh(layout, acc, m, kToDelta, kTo, kGz, kK, of_k);
        layout.template product_nn<kSteps>(acc, m + kA, kScoreRow, m + kQ, kRow);
        store_keys(at, layout, acc, o.k_parts, o.dk, h, kt);
        if (a.normalise) __syncthreads();
      }

      __syncthreads();
      if (!many) at.state(t.S, h, 0, 0, m + kS);
      copies_end();
      entries(layout, f, [&](int i, int j, Real x) { m[kA + i * kScoreRow + j] = x; });
      warp_sync();
      for (Index kt = 0; kt < k_tiles; ++kt) {
        Real inner[2][kC] = {}, acc[2][kC] = {};
        if (a.normalise) at.ones_state(t.z, h, kt, m + kZ);
        again(many_k, [&] { at.keys(a.q, kt, m + kQ), at.keys(a.k, kt, m + kK); });
        layout.template product_nn<kSteps>(inner, m + kA, kScoreRow, m + kK, kRow);
        if (!many) arrive();
        for (Index vt = 0; vt < v_tiles; ++vt) {
          again(many, [&] {
            if (many_v) at.values(t.dy, h, vt, m + kDO);
            at.state(t.S, h, vt, kt, m + kS);
          });
          layout.template product_nn<kValues>(acc, m + kDO, kValueRow, m + kS, kRow);
          if (a.kind == Gate::time) of_state += against(at, m + kS, t.G, h, vt, kt);
        }
        weigh(layout, acc, m, kFromPer, kFromExtra, kZ, kQ, of_q);
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
          for (int c = 0; c < kC; ++c) acc[r][c] += inner[r][c];
        store_keys(at, layout, acc, o.q_parts, o.dq, h, kt);
        if (a.normalise && a.kind == Gate::time && thread < D && kt * D + thread < t.Kp) {
          const Real* p4 = t.Gz + at.item(h) * 4 * t.Kp + kt * D + thread;
          of_state += m[kZ + thread] * ((p4[0] + p4[t.Kp]) + (p4[2 * t.Kp] + p4[3 * t.Kp]));
        }
        if (a.normalise) __syncthreads();
      }
      finish(at, layout, m, of_q, of_k, of_state, h);
    }
  }

  // Scores p -> A / normaliser without delta, and f = dO V^T -> gradient of q k^T. Leaves sums of H by row and column, and <dO, V> of warps.
  __device__ void differentiate(const L& layout, Real (&p)[2][16], Real (&f)[2][16], Real* m, int thread) const {
    const Real *rows = m + kF, scale = t.a.scale;
    const bool gate = t.a.kind == Gate::time;
    Real of_row[2] = {}, of_column[16] = {}, skip = 0;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = layout.template row<2>(r);
      const Real per = rows[kPer * kSteps + i], extra = rows[kExtra * kSteps + i];
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const int j = layout.column_nt(c);
        const Real decay = scale * between(rows, i, j), score = p[r][c] * decay;
        if (i == j) skip += f[r][c];
        const Real slope = f[r][c] * per * rows[kDelta * kSteps + j] + extra, both = j < i ? score * slope : Real(0);
        of_row[r] += both, of_column[c] += both;
        p[r][c] = score * per, f[r][c] = slope * decay;
      }
    }
    if (t.a.skip) {
      skip = lanes_sum<32>(skip);
      if (thread % 32 == 0) m[kOfBlock + 4 + layout.warp] = skip;
    }
    if (!gate) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Real sum = lanes_sum<4>(of_row[r]);
      if (layout.t == 0) m[kOfRow + layout.template row<2>(r)] = sum;
    }
#pragma unroll
    for (int c = 0; c < 16; ++c) {
      Real sum = of_column[c];
#pragma unroll
      for (int other = 4; other < 32; other *= 2) sum += from_lane(sum, other);
      if (layout.g == 0) m[kOfColumn + layout.warp * kSteps + layout.column_nt(c)] = sum;
    }
  }

  // acc (steps, keys): what came through a state, times its factor, plus the normaliser's column; of: its product with X, row by row.
  __device__ void weigh(const L& layout, Real (&acc)[2][kC], const Real* m, int factor, int ones, int z, int X, Real (&of)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = layout.template row<2>(r);
      const Real times = m[kF + factor * kSteps + i], one = t.a.normalise ? m[kF + ones * kSteps + i] : Real(0);
#pragma unroll
      for (int c = 0; c < kC; ++c) {
        const int k = layout.column_nt(c);
        acc[r][c] *= times;
        if (t.a.normalise) acc[r][c] += one * m[z + k];
        of[r] += acc[r][c] * m[X + i * kRow + k];
      }
    }
  }

  // A thread's share of <S, G> of one tile.
  __device__ Real against(const ChunkPlace<D>& at, const Real* S, const Real* states, Index h, Index vt, Index kt) const {
    const Real* G = at.part_of(states, h, vt, kt);
    const int width = at_most(t.Kp - kt * D, D);
    Real sum = 0;
#pragma unroll 4
    for (int i = at.thread; i < kValues * (D / 4); i += kThreads) {
      const int v = i / (D / 4), k = i % (D / 4) * 4;
      if (k >= width) continue;
      const gpu_tile::Four x = four(S + v * kRow + k), y = four(G + v * t.Kp + k);
      sum += (x.at[0] * y.at[0] + x.at[1] * y.at[1]) + (x.at[2] * y.at[2] + x.at[3] * y.at[3]);
    }
    return sum;
  }

  __device__ void store_values(const ChunkPlace<D>& at, const L& layout, Real (&acc)[2][16], const Real* m, Index h, Index vt,
                               Real (&to_delta)[2]) const {
    const Arguments& a = t.a;
    const int width = at_most(a.V - vt * kValues, kValues);
    const Real skip = a.skip ? a.skip[h] : Real(0);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int j = layout.template row<2>(r);
      const Real delta = m[kF + kDelta * kSteps + j];
      const Index to = ((at.row + j) * a.heads + h) * a.V + vt * kValues;
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const int v = layout.column_nt(c);
        to_delta[r] += acc[r][c] * m[kV + j * kValueRow + v];
        if (j < at.count && v < width) o.dv(to + v, delta * acc[r][c] + skip * m[kDO + j * kValueRow + v]);
      }
    }
  }

  // Gradients of queries or keys, over the heads of the block.
  __device__ void store_keys(const ChunkPlace<D>& at, const L& layout, Real (&acc)[2][kC], Real* parts, Grad to, Index h, Index kt) const {
    const Arguments& a = t.a;
    if (parts) to = Grad{parts + at.part * a.B * a.T * t.ld(), false};
    if (h > at.first) to.add = true;
    const int width = at_most(a.K - kt * D, D);
    const Index first = at.row * t.ld() + at.group * a.K + kt * D;
    entries(layout, acc, [&](int i, int k, Real x) {
      if (i < at.count && k < width) to(first + i * t.ld() + k, x);
    });
  }

  // Sums over the block: the gates' gradients and the skip's share.
  __device__ void finish(const ChunkPlace<D>& at, const L& layout, Real* m, Real (&of_q)[2], Real (&of_k)[2], Real of_state,
                         Index h) const {
    const Arguments& a = t.a;
    const int thread = at.thread;
    if (a.kind == Gate::time) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const Real q = lanes_sum<4>(of_q[r]), k = lanes_sum<4>(of_k[r]);
        if (layout.t == 0) m[kOfQ + layout.template row<2>(r)] = q, m[kOfK + layout.template row<2>(r)] = k;
      }
      of_state = lanes_sum<32>(of_state);
      if (thread % 32 == 0) m[kOfBlock + layout.warp] = of_state;
    }
    __syncthreads();
    const Real* sums = m + kOfBlock;
    if (a.skip && thread == 0) o.skip_parts[(at.b * t.chunks() + at.chunk) * a.heads + h] = (sums[4] + sums[5]) + (sums[6] + sums[7]);
    if (a.kind != Gate::time || thread >= 32) return;
    double after[2], before[2];
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * thread + e;
      const Real* column = m + kOfColumn + i;
      after[e] = double(m[kOfRow + i]) + m[kOfQ + i] - column[0] - column[kSteps] - column[2 * kSteps] - column[3 * kSteps];
      before[e] = m[kOfK + i];
    }
    double above = after[0] + after[1], below = before[0] + before[1];
    const double own_above = above, own_below = below;
    for (int other = 1; other < 32; other *= 2) {
      const double x = __shfl_down_sync(0xffffffffu, above, other), y = __shfl_up_sync(0xffffffffu, below, other);
      if (thread + other < 32) above += x;
      if (thread >= other) below += y;
    }
    above -= own_above, below -= own_below;
    const double all = double(exp2_weight(m[kF + kHigh * kSteps + kSteps - 1])) * ((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * thread + e;
      const double own = e ? after[1] : own_above, earlier = e ? before[0] : 0.0;
      if (i < at.count) o.dgate((at.row + i) * a.heads + h, static_cast<Real>(above + own + below + earlier + all));
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
