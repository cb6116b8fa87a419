// matrix_state_gpu_gates.hpp - channel gates on tensor cores: what replaces the decay between two steps where every key channel has its own.
//
// A chunk is cut into four sub-chunks of 16 steps, one a warp. Scores between two of them are a product, A_ij = (q_i pre_i M) . (k_j suf_j):
// pre decays from the start of i's sub-chunk, suf to the end of j's, M over whole sub-chunks between; no factor is above 1, whatever the
// gates. Inside a sub-chunk keys decay step by step, as on a CPU. States take scale q and k with their decays (Qe, Kd) and no other factor.
#pragma once
#include "matrix_state_gpu.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

constexpr int kSub = 16;  // steps of a sub-chunk; kSteps / kSub warps

// 2^x to the last bits: steps and sub-chunks are multiplied up.
__device__ inline float exp2_full(float x) { return ::exp2f(x); }
__device__ inline double exp2_full(double x) { return ::exp2(x); }

// Decays of a chunk, a warp per sub-chunk, channels as lanes.
template <int D>
struct GatesBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = D <= 64 ? 4 : 2;
  static constexpr std::size_t kBytes = sizeof(Real) * 4 * D;
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* totals) const {
    const Arguments& a = t.a;
    const Index chunk = block % t.chunks(), h = block / t.chunks() % a.heads, b = block / (t.chunks() * a.heads);
    const int sub = thread / 32, lane = thread % 32, count = at_most(a.T - chunk * kSteps, kSteps);
    const Index row = b * a.T + chunk * kSteps, ld = a.heads * a.K, from = row * ld + h * a.K, to = block * kSteps * t.Kp;
    Real logs[D / 32][kSub];
#pragma unroll
    for (int part = 0; part < D / 32; ++part) {
      const Index k = lane + 32 * part;
      Real sum = 0;
#pragma unroll
      for (int i = 0; i < kSub; ++i) {
        const int step = sub * kSub + i;
        logs[part][i] = step < count && k < a.K ? a.gate[from + step * ld + k] * kLog2e : Real(0);
        sum += logs[part][i];
      }
      totals[sub * D + k] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int part = 0; part < D / 32; ++part) {
      const Index k = lane + 32 * part;
      Real before = 0, after = 0;
      for (int other = 0; other < 4; ++other) (other < sub ? before : after) += other == sub ? Real(0) : totals[other * D + k];
      if (sub == 0 && k < t.Kp) t.totals[block * t.Kp + k] = exp2_full(totals[k] + after);
      if (k >= t.Kp) continue;
      Real sum = 0;
#pragma unroll
      for (int i = 0; i < kSub; ++i) {
        const int step = sub * kSub + i;
        sum += logs[part][i];
        t.step[to + step * t.Kp + k] = exp2_full(logs[part][i]);
        t.pre[to + step * t.Kp + k] = exp2_full(sum);
        if (step < count && k < a.K) t.Qe[from + step * ld + k] = a.scale * a.q[from + step * ld + k] * exp2_full(before + sum);
      }
      sum = 0;
#pragma unroll
      for (int i = kSub - 1; i >= 0; --i) {
        const int step = sub * kSub + i;
        t.suf[to + step * t.Kp + k] = exp2_full(sum);
        if (step < count && k < a.K) t.Kd[from + step * ld + k] = a.k[from + step * ld + k] * exp2_full(sum + after);
        sum += logs[part][i];
      }
    }
  }
};

// Product of the decays of sub-chunks (first, last), neither of them, of one channel.
__device__ inline Real over_subs(const Real* totals, int D, int first, int last, int k) {
  Real product = 1;
  for (int s = first + 1; s < last; ++s) product *= totals[s * D + k];
  return product;
}

// Scores A_ij inside the warp's own sub-chunk: lanes are keys, two for each, which share the channels. step: rows of Kp.
template <int D>
__device__ void scores_within(int sub, int lane, const Real* Q, const Real* K, const Real* step, Index Kp, Real scale, Real* A, int of_i,
                              int of_j) {
  constexpr int kRow = D + 4;
  const int j = lane % kSub, half = lane / kSub, first = sub * kSub;
  Real sum[kSub] = {};
#pragma unroll 1
  for (int base = half * 16; base < D; base += 32) {
    Real seen[16] = {};
#pragma unroll
    for (int i = 0; i < kSub; ++i)
#pragma unroll
      for (int k = 0; k < 16; k += 4) {
        const gpu_tile::Four decay = four(step + (first + i) * Kp + base + k), query = four(Q + (first + i) * kRow + base + k),
                             key = four(K + (first + i) * kRow + base + k);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          seen[k + e] = i == j ? key.at[e] : seen[k + e] * decay.at[e];
          sum[i] += query.at[e] * seen[k + e];
        }
      }
  }
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const Real all = scale * (sum[i] + from_lane(sum[i], kSub));
    if (i / 8 == half) A[(first + i) * of_i + (first + j) * of_j] = all;
  }
}

// Scores of a chunk to A, and on the way Q -> Q pre, K -> K suf; totals (4, D) become decays of whole sub-chunks.
template <int kPasses, int D>
__device__ void channel_scores(const Mma<kPasses>& layout, const ChunkPlace<D>& at, Index h, Real* Q, Real* K, Real* totals, Real* A,
                               int of_i, int of_j) {
  constexpr int kRow = D + 4;
  const Chunked& t = at.t;
  const Index width = t.a.K;
  const int sub = layout.warp, lane = at.thread % 32, own = sub * kSub;
  const Index decays = at.item(h) * kSteps * t.Kp;
  const Real scale = t.a.scale, *pre = t.pre + decays, *suf = t.suf + decays;
  scores_within<D>(sub, lane, Q, K, t.step + decays, t.Kp, scale, A, of_i, of_j);
  __syncwarp();
  for (int k = lane; k < D; k += 32) {
    totals[sub * D + k] = k < width ? pre[(own + kSub - 1) * t.Kp + k] : Real(0);
#pragma unroll 8
    for (int i = own; i < own + kSub; ++i) {
      Q[i * kRow + k] *= k < width ? pre[i * t.Kp + k] : Real(0);
      K[i * kRow + k] *= k < width ? suf[i * t.Kp + k] : Real(0);
    }
  }
  __syncthreads();
  const Real *q = Q + (own + layout.g) * kRow + layout.t, *keys = K + layout.g * kRow + layout.t;
  for (int other = 0; other < 4; ++other) {
    if (other == sub) continue;
    Real acc[2][4] = {};
    for (int k = 0; k < D && other < sub; k += 8) {
      gpu_tile::Bits high[1][4], low[1][4];
      Real right[2][2];
      const Real across[2] = {over_subs(totals, D, other, sub, k + layout.t), over_subs(totals, D, other, sub, k + layout.t + 4)};
#pragma unroll
      for (int e = 0; e < 4; ++e) layout.split(q[e % 2 * 8 * kRow + k + e / 2 * 4] * across[e / 2], high[0][e], low[0][e]);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) right[n][e] = keys[(other * kSub + 8 * n) * kRow + k + 4 * e];
      Mma<kPasses>::multiply(acc, 0, high, low, right);
    }
    entries(layout, acc, [&](int i, int j, Real x) { A[i * of_i + (other * kSub + j) * of_j] = scale * x; });
  }
  __syncthreads();
}

template <int kPasses, int D>
struct ChannelOutputsBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 2, kRow = D + 4;
  static constexpr int kQ = 0, kK = kQ + kSteps * kRow, kV = kK + kSteps * kRow, kA = kV + kSteps * kValueRow,
                       kTotals = kA + kSteps * kScoreRow, kEnd = kTotals + 4 * D;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChunkPlace<D> at(t, block, thread);
    const Mma<kPasses> layout(thread);
    const Index h = at.first;
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK);
    at.values(a.v, h, 0, m + kV);
    arrive();
    channel_scores(layout, at, h, m + kQ, m + kK, m + kTotals, m + kA, kScoreRow, 1);
    at.keys(t.Qe, 0, m + kQ);
    const Real skip = a.skip ? a.skip[h] : Real(0);
    for (Index vt = 0; vt < t.v_tiles(); ++vt) {
      Real acc[2][16] = {};
      if (vt > 0) {
        __syncthreads();
        at.values(a.v, h, vt, m + kV);
      }
      at.state(t.S, h, vt, 0, m + kK);
      arrive();
      layout.template product_nt<D>(acc, m + kQ, kRow, m + kK, kRow);
      layout.template product_nn<kSteps>(acc, m + kA, kScoreRow, m + kV, kValueRow);
      const int width = at_most(a.V - vt * kValues, kValues);
      Real* y = a.y + (at.row * a.heads + h) * a.V + vt * kValues;
      entries(layout, acc, [&](int i, int v, Real x) {
        if (i < at.count && v < width) y[i * a.heads * a.V + v] = x + skip * m[kV + i * kValueRow + v];
      });
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
