// matrix_state_gpu_gates_back.hpp - gradients of matrix states with channel gates on tensor cores: a block per chunk and head.
//
// As matrix_state_gpu_back.hpp, but for what lies inside a chunk (F = dO V^T, lower triangle, times scale): a sub-chunk's share of dQ from
// earlier ones is F (K suf), decayed by one whole sub-chunk after another and at last by pre; dK's from later ones likewise.
//   gate_t = sum_{i >= t} (q_i dq_i - k_i dk_i inside) + sum_{j < t} k_j dk_j through the state + 2^{b_63} <G, S>, channel by channel
#pragma once
#include "matrix_state_gpu_back.hpp"
#include "matrix_state_gpu_gates.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

// Shares of the warp's own sub-chunk to queries, or to keys where kOfKeys: from X, the other ones, their steps' decays (rows of Kp), and
// weights F (rows as the result's) to `to` (steps, kRow). Lanes are channels.
template <int D, bool kOfKeys>
__device__ void gradients_within(int sub, int lane, const Real* X, Index ld, int count, Index width, const Real* step, Index Kp,
                                 const Real* F, Real* to) {
  constexpr int kRow = D + 4;
  const int first = sub * kSub;
  for (int k = lane; k < D; k += 32) {
    Real seen[kSub], decays[kSub];
#pragma unroll
    for (int i = 0; i < kSub; ++i) {
      seen[i] = first + i < count && k < width ? X[(first + i) * ld + k] : Real(0);
      decays[i] = step[(first + i) * Kp + k];
    }
#pragma unroll
    for (int n = 0; n < kSub; ++n) {
      const int i = kOfKeys ? kSub - 1 - n : n;
      const Real decay = kOfKeys ? (i + 1 < kSub ? decays[i + 1 < kSub ? i + 1 : i] : Real(1)) : decays[i];
      const Real* weights = F + (first + i) * kScoreRow + first;
      Real sum = weights[i] * seen[i];
#pragma unroll
      for (int j = 0; j < kSub; ++j) {
        if (kOfKeys ? j <= i : j >= i) continue;
        seen[j] *= decay;
        sum += weights[j] * seen[j];
      }
      to[(first + i) * kRow + k] = sum;
    }
  }
}

template <int kPasses, int D>
struct ChannelGradientsBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = D <= 32 ? 2 : 1, kRow = D + 4, kC = D / 4,
                       kHalf = D / 4 < 16 ? D / 4 : 16;  // kHalf: a thread's entries of the keys that are worked on at once
  static constexpr int kQ = 0, kK = kQ + kSteps * kRow, kY = kK + kSteps * kRow, kS = kY + kSteps * kRow, kX = kS + kValues * kRow,
                       kV = kX + kSteps * kRow, kDO = kV + kSteps * kValueRow, kA = kDO + kSteps * kValueRow,
                       kTotals = kA + kSteps * kScoreRow, kSums = kTotals + 4 * D, kEnd = kSums + 3 * 4 * D + 4;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = Mma<kPasses>;
  Chunked t;
  Gradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChunkPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index h = at.first, v_tiles = t.v_tiles(), width = a.K, first = at.row * t.ld() + h * width, decays = at.item(h) * kSteps * t.Kp;
    const int sub = layout.warp, lane = thread % 32;
    const bool many = v_tiles > 1;
    Real f[2][16] = {};
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK), at.keys(t.Kd, 0, m + kX);
    if (!many) at.state(t.G, h, 0, 0, m + kS);
    for (Index vt = 0; vt < v_tiles; ++vt) {
      __syncthreads();
      at.values(a.v, h, vt, m + kV), at.values(t.dy, h, vt, m + kDO);
      arrive();
      layout.template product_nt<kValues>(f, m + kDO, kValueRow, m + kV, kValueRow);
    }
    Real skip = 0;
    entries(layout, f, [&](int i, int j, Real& x) {
      if (i == j) skip += x;
      x = i < j ? Real(0) : a.scale * x;
    });
    if (a.skip) {
      skip = lanes_sum<32>(skip);
      if (lane == 0) m[kSums + 12 * D + sub] = skip;
    }
    channel_scores(layout, at, h, m + kQ, m + kK, m + kTotals, m + kA, 1, kScoreRow);
    if (a.skip && thread == 0) {
      const Real* sums = m + kSums + 12 * D;
      o.skip_parts[(at.b * t.chunks() + at.chunk) * a.heads + h] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }

    Real through[2][kC] = {};
    for (Index vt = 0; vt < v_tiles; ++vt) {
      if (many) {
        __syncthreads();
        at.values(a.v, h, vt, m + kV), at.values(t.dy, h, vt, m + kDO), at.state(t.G, h, vt, 0, m + kS);
        arrive();
      }
      Real acc[2][16] = {};
      layout.template product_nt<D>(acc, m + kX, kRow, m + kS, kRow);
      layout.template product_nn<kSteps>(acc, m + kA, kScoreRow, m + kDO, kValueRow);
      store_values(at, layout, acc, m, h, vt);
      layout.template product_nn<kValues>(through, m + kV, kValueRow, m + kS, kRow);
    }
    __syncthreads();
    if (!many) at.state(t.S, h, 0, 0, m + kS);
    copies_end();
    entries(layout, f, [&](int i, int j, Real x) { m[kA + j * kScoreRow + i] = x; });
    __syncthreads();

    // Keys: X becomes k_j dk_j through the state; Y -k_j dk_j inside the chunk.
    gradients_within<D, true>(sub, lane, a.q + first, t.ld(), at.count, width, t.step + decays, t.Kp, m + kA, m + kX);
    __syncwarp();
#pragma unroll
    for (int from = 0; from < kC; from += kHalf) {
      Real inner[2][kHalf] = {};
      for (int other = 3; other > sub; --other) {
        entries(layout, inner, [&](int, int k, Real& x) { x *= m[kTotals + other * D + 4 * from + k]; });
        layout.template product_nn<kSub>(inner, m + kA + other * kSub, kScoreRow, m + kQ + other * kSub * kRow + 4 * from, kRow);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int j = layout.template row<2>(r);
        Real suf[kHalf], key[kHalf];
        of_row(at, t.suf, a.k, first, decays, j, 4 * from, layout, suf, key);
#pragma unroll
        for (int c = 0; c < kHalf; ++c) {
          const int k = 4 * from + layout.column_nt(c);
          const Real inside = inner[r][c] * suf[c] + m[kX + j * kRow + k];
          const Real outside = through[r][from + c] * suf[c] * over_subs(m + kTotals, D, sub, 4, k);
          if (j < at.count && k < width) o.dk(first + j * t.ld() + k, inside + outside);
          m[kY + j * kRow + k] = -key[c] * inside, m[kX + j * kRow + k] = key[c] * outside;
        }
      }
    }
    __syncthreads();
    entries(layout, f, [&](int i, int j, Real x) { m[kA + i * kScoreRow + j] = x; });
    __syncwarp();

    // Queries: Y becomes q_i dq_i - k_i dk_i inside; Q's place holds the shares of the own sub-chunk.
    gradients_within<D, false>(sub, lane, a.k + first, t.ld(), at.count, width, t.step + decays, t.Kp, m + kA, m + kQ);
    Real acc[2][kC] = {};
    if (!many) arrive();
    for (Index vt = 0; vt < v_tiles; ++vt) {
      if (many) {
        __syncthreads();
        at.values(t.dy, h, vt, m + kDO), at.state(t.S, h, vt, 0, m + kS);
        arrive();
      }
      layout.template product_nn<kValues>(acc, m + kDO, kValueRow, m + kS, kRow);
      state_products(at, m, h, vt, sub, lane);
    }
    __syncwarp();
#pragma unroll
    for (int from = 0; from < kC; from += kHalf) {
      Real own[2][kHalf] = {};
      for (int other = 0; other < sub; ++other) {
        entries(layout, own, [&](int, int k, Real& x) { x *= m[kTotals + other * D + 4 * from + k]; });
        layout.template product_nn<kSub>(own, m + kA + other * kSub, kScoreRow, m + kK + other * kSub * kRow + 4 * from, kRow);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = layout.template row<2>(r);
        Real pre[kHalf], query[kHalf];
        of_row(at, t.pre, a.q, first, decays, i, 4 * from, layout, pre, query);
#pragma unroll
        for (int c = 0; c < kHalf; ++c) {
          const int k = 4 * from + layout.column_nt(c);
          const Real outside = a.scale * acc[r][from + c] * over_subs(m + kTotals, D, -1, sub, k);
          const Real all = (own[r][c] + outside) * pre[c] + m[kQ + i * kRow + k];
          if (i < at.count && k < width) o.dq(first + i * t.ld() + k, all);
          m[kY + i * kRow + k] += query[c] * all;
        }
      }
    }
    __syncwarp();
    gates(at, m, m + kY, h, sub, lane);
  }

  // A thread's entries of row i, from column `from`: of decays and of queries or keys, 0 where there are none. All loads before the first use.
  __device__ void of_row(const ChunkPlace<D>& at, const Real* decays_of, const Real* x, Index first, Index decays, int i, int from,
                         const L& layout, Real (&decay)[kHalf], Real (&entry)[kHalf]) const {
#pragma unroll
    for (int c = 0; c < kHalf; ++c) {
      const int k = from + layout.column_nt(c);
      const bool there = i < at.count && k < t.a.K;
      decay[c] = there ? decays_of[decays + i * t.Kp + k] : Real(0), entry[c] = there ? x[first + i * t.ld() + k] : Real(0);
    }
  }

  __device__ void store_values(const ChunkPlace<D>& at, const L& layout, Real (&acc)[2][16], const Real* m, Index h, Index vt) const {
    const Arguments& a = t.a;
    const int width = at_most(a.V - vt * kValues, kValues);
    const Real skip = a.skip ? a.skip[h] : Real(0);
    const Index to = (at.row * a.heads + h) * a.V + vt * kValues;
    entries(layout, acc, [&](int j, int v, Real x) {
      if (j < at.count && v < width) o.dv(to + j * a.heads * a.V + v, x + skip * m[kDO + j * kValueRow + v]);
    });
  }

  // sum over values of G S, channel by channel; each warp its share of the values.
  __device__ void state_products(const ChunkPlace<D>& at, Real* m, Index h, Index vt, int sub, int lane) const {
    const Real* G = at.part_of(t.G, h, vt, 0);
    for (int k = lane; k < D; k += 32) {
      Real sum = vt ? m[kSums + (8 + sub) * D + k] : Real(0);
#pragma unroll 8
      for (int v = sub * 16; v < sub * 16 + 16; ++v) sum += m[kS + v * kRow + k] * (k < t.Kp ? G[v * t.Kp + k] : Real(0));
      m[kSums + (8 + sub) * D + k] = sum;
    }
  }

  // Sums along the chunk, of Y from the end and of X from the start: lanes are channels, every warp its sub-chunk.
  __device__ void gates(const ChunkPlace<D>& at, Real* m, const Real* Y, Index h, int sub, int lane) const {
    const Index width = t.a.K, ld = t.a.heads * width, to = at.row * ld + h * width;
    Real *after = m + kSums, *before = after + 4 * D, *state = before + 4 * D;
    const int first = sub * kSub;
    for (int k = lane; k < D; k += 32) {
      Real up = 0, down = 0;
#pragma unroll 8
      for (int i = first; i < first + kSub; ++i) up += Y[i * kRow + k], down += m[kX + i * kRow + k];
      after[sub * D + k] = up, before[sub * D + k] = down;
    }
    __syncthreads();
    for (int k = lane; k < width; k += 32) {
      const Real whole = over_subs(m + kTotals, D, -1, 4, k);
      Real down = whole * ((state[k] + state[D + k]) + (state[2 * D + k] + state[3 * D + k])), up = 0;
      for (int s = 0; s < sub; ++s) down += before[s * D + k];
      for (int s = 3; s > sub; --s) up += after[s * D + k];
      Real earlier[kSub];
#pragma unroll
      for (int i = 0; i < kSub; ++i) {
        earlier[i] = down;
        down += m[kX + (first + i) * kRow + k];
      }
#pragma unroll
      for (int i = kSub - 1; i >= 0; --i) {
        up += Y[(first + i) * kRow + k];
        if (first + i < at.count) o.dgate(to + (first + i) * ld + k, earlier[i] + up);
      }
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
