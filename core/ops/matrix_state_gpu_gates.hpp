// matrix_state_gpu_gates.hpp - channel gates on tensor cores: what replaces the decay between two steps where every key channel has its own.
//
//   A_ij = scale sum_k q_ik 2^{c_ik} k_jk 2^{-c_jk}, i >= j      O = A V + Qe S      Qe = scale q 2^{b}      Kd = k 2^{b_63 - b}
//
// b is the sum of a channel's log2 gates since the chunk's start, c the same counted from the chunk's middle. Where a channel's half of a chunk
// decays by more than 2^-40, c would cost accuracy and at last overflow: that chunk is cut into four sub-chunks of 16 steps. Scores between two
// of them are a product, A_ij = (q_i pre_i M) . (k_j suf_j): pre decays from the start of i's sub-chunk, suf to the end of j's, M over whole
// sub-chunks between; no factor is above 1, whatever the gates. Inside a sub-chunk keys decay step by step then, as on a CPU.
//
// Three kernels: Qe, Kd and scores of a chunk (ChannelScores); states at the starts of chunks (matrix_state_gpu_states.hpp); outputs, and on the
// way back dV = A^T dO + Kd G (ChannelOutputs). Floor of a step and head: 20 K + 4 C + 12 V + 8 K V / C bytes at 4.8 TB/s.
#pragma once
#include "matrix_state_gpu.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

constexpr int kSub = 16;          // steps of a sub-chunk
constexpr Real kMostDecay = -40;  // log2 of a channel's decay over half a chunk, down to which the chunk is one product

struct alignas(2 * sizeof(Real)) Both {
  Real at[2];
};
__device__ inline Both both(const Real* p) { return *reinterpret_cast<const Both*>(p); }
// From global memory by one access, 0 where there is nothing.
__device__ inline Both both_of(const Real* p, bool there) {
  const float2 x = there ? __ldg(reinterpret_cast<const float2*>(p)) : make_float2(0, 0);
  return {x.x, x.y};
}

// What 256 threads know of a chunk's decays: each has two neighbouring channels of a sub-chunk, k and k + 1; narrow tiles leave some without.
template <int D>
struct ChannelPlace : TurnedPlace<D> {
  using TurnedPlace<D>::t, TurnedPlace<D>::thread, TurnedPlace<D>::count, TurnedPlace<D>::row;
  bool active;
  int sub, begin, k, steps;  // steps of the sub-chunk that are there, from step `begin` of the chunk; 0 where the channel is not
  Index base;                // of entry (begin, k) of q, k, their gates and gradients

  __device__ ChannelPlace(const Chunked& t_, Index block, int thread_) : TurnedPlace<D>(t_, block, thread_) {
    active = thread < 2 * D, sub = thread / (D / 2) % 4, begin = sub * kSub, k = thread % (D / 2) * 2;
    steps = k < t.a.K ? count - begin : 0;
    base = (row + begin) * t.ld() + this->group * t.a.K + k;
  }
  // Entries of n steps from the sub-chunk's `from`, rows of leading extent ld, 0 where there are none.
  template <int n>
  __device__ void columns(const Real* p, Index ld, int from, Both (&to)[n]) const {
    p += from * ld;
    if (t.whole) {
#pragma unroll
      for (int i = 0; i < n; ++i) to[i] = both_of(p + i * ld, from + i < steps);
    } else {
#pragma unroll
      for (int i = 0; i < n; ++i)
        to[i] = {from + i < steps ? p[i * ld] : Real(0), from + i < steps && k + 1 < t.a.K ? p[i * ld + 1] : Real(0)};
    }
  }
  template <int n>
  __device__ void logs(int from, Both (&to)[n]) const {
    columns(t.a.gate + base, t.ld(), from, to);
#pragma unroll
    for (int i = 0; i < 2 * n; ++i) to[i / 2].at[i % 2] *= kLog2e;
  }
  // Sums of logs over sub-chunks, (4, D).
  __device__ void sum_logs(const Both (&x)[kSub], Real* sums) const {
    Both sum{0, 0};
#pragma unroll
    for (int i = 0; i < 2 * kSub; ++i) sum.at[i % 2] += x[i / 2].at[i % 2];
    if (active) *reinterpret_cast<Both*>(sums + sub * D + k) = sum;
  }
  __device__ void put(const Grad& to, int i, Both x, bool even) const {
    if (i >= steps) return;
    Real* p = to.p + base + i * t.ld();
    if (even) {
      const Both old = to.add ? both(p) : Both{0, 0};
      gpu_tile::put(p, x.at[0] + old.at[0], x.at[1] + old.at[1]);
    } else {
      p[0] = to.add ? p[0] + x.at[0] : x.at[0];
      if (k + 1 < t.a.K) p[1] = to.add ? p[1] + x.at[1] : x.at[1];
    }
  }
  // May the chunk be one product? All threads call it, it is a barrier.
  __device__ bool gentle(const Real* sums) const {
    bool steep = false;
    if (thread < D) steep = sums[thread] + sums[D + thread] < kMostDecay || sums[2 * D + thread] + sums[3 * D + thread] < kMostDecay;
    return !__syncthreads_or(steep);
  }
};

// Factors of queries and keys of two channels in a sub-chunk, and what leads from these to the chunk's start and end.
struct ChannelDecays {
  bool gentle;
  Both start, outer_query, outer_key;  // start: log2 of the first query's factor but for its own gate
  __device__ ChannelDecays(bool gentle_, const Real* sums, int D, int sub, int k) : gentle(gentle_), start{0, 0} {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const Real one = sums[k + e], two = sums[D + k + e], three = sums[2 * D + k + e], four = sums[3 * D + k + e];
      Real before = one + two, after = three + four;
      if (gentle) {
        start.at[e] = sub == 0 ? -before : sub == 1 ? -two : sub == 2 ? Real(0) : three;
      } else {
        before = (sub > 0 ? one : Real(0)) + (sub > 1 ? two : Real(0)) + (sub > 2 ? three : Real(0));
        after = (sub < 3 ? four : Real(0)) + (sub < 2 ? three : Real(0)) + (sub < 1 ? two : Real(0));
      }
      outer_query.at[e] = exp2_weight(before), outer_key.at[e] = exp2_weight(after);
    }
  }
  // f(step, factors) for n steps in a row, the first one `from`; sum: of what came before, `start` at first.
  template <int n, class F>
  __device__ void queries(const Both (&logs)[n], int from, Both& sum, const F& f) const {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      sum.at[0] += logs[i].at[0], sum.at[1] += logs[i].at[1];
      f(from + i, i, Both{exp2_weight(sum.at[0]), exp2_weight(sum.at[1])});
    }
  }
  // The same for keys; steep ones from the end, so that n steps come before those that precede them.
  template <int n, class F>
  __device__ void keys(const Both (&logs)[n], int from, Both& sum, const F& f) const {
    if (gentle) {
#pragma unroll
      for (int i = 0; i < n; ++i) {
        sum.at[0] += logs[i].at[0], sum.at[1] += logs[i].at[1];
        f(from + i, i, Both{exp2_weight(-sum.at[0]), exp2_weight(-sum.at[1])});
      }
    } else {
#pragma unroll
      for (int i = n - 1; i >= 0; --i) {
        f(from + i, i, Both{exp2_weight(sum.at[0]), exp2_weight(sum.at[1])});
        sum.at[0] += logs[i].at[0], sum.at[1] += logs[i].at[1];
      }
    }
  }
};

// Scores A_ij inside the warp's sub-chunk, to rows of kSteps: lanes are keys, two for each, which share the channels. Q, K: tiles of
// mma_tile.hpp; step (kSteps, D): decays of single steps.
template <int kPasses, int D>
__device__ void scores_within(int sub, int lane, const Real* Q, const Real* K, const Real* step, Real scale, Real* A) {
  const int j = lane % kSub, half = lane / kSub, first = sub * kSub;
  Real sum[kSub] = {};
#pragma unroll 1
  for (int base = half * 16; base < D; base += 32) {
    Real seen[16] = {};
#pragma unroll
    for (int i = 0; i < kSub; ++i)
#pragma unroll
      for (int k = 0; k < 16; k += 4) {
        const gpu_tile::Four decay = four(step + (first + i) * D + base + k), query = four(Q + place<D>(first + i, base + k)),
                             key = four(K + place<D>(first + i, base + k));
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
    if (i / 8 == half) A[(first + i) * kSteps + first + j] = ready<kPasses>(all);
  }
}

// Scores of sub-chunk `sub` with keys of `other`, 0 where these are later. Q pre, K suf: tiles; sums (4, D) of logs.
template <int kPasses, int D>
__device__ void scores_between(int sub, int other, int lane, const Real* Q, const Real* K, const Real* sums, Real scale, Real* A) {
  const int g = lane / 4, t = lane % 4;
  Real acc[2][4] = {};
  for (int k = 0; k < D && other < sub; k += 8) {
    gpu_tile::Bits high[1][4], low[1][4];
    Real right[2][2], between[2] = {};
    for (int s = other + 1; s < sub; ++s) between[0] += sums[s * D + k + t], between[1] += sums[s * D + k + t + 4];
#pragma unroll
    for (int e = 0; e < 4; ++e)
      Mma<kPasses>::split(Q[place<D>(sub * kSub + g + e % 2 * 8, k + t + e / 2 * 4)] * exp2_weight(between[e / 2]), high[0][e], low[0][e]);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) right[n][e] = K[place<D>(other * kSub + 8 * n + g, k + t + 4 * e)];
    Mma<kPasses>::multiply(acc, 0, high, low, right);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      A[(sub * kSub + 8 * r + g) * kSteps + other * kSub + 8 * (c / 2) + 2 * t + c % 2] = ready<kPasses>(scale * acc[r][c]);
}

// Qe, Kd, scores and the whole decay of a chunk.
template <int kPasses, int D>
struct ChannelScoresBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = 2;
  static constexpr int kQ = 0, kK = kQ + kSteps * D, kStep = kK + kSteps * D, kSums = kStep + kSteps * D, kEnd = kSums + 4 * D;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChannelPlace<D> at(t, block, thread);
    const MmaTile<kPasses> layout(thread);
    const Index item = at.item(at.first);
    Real* A = t.A + item * kSteps * kSteps;
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK);
    Both logs[kSub];
    at.logs(0, logs), at.sum_logs(logs, m + kSums);
    arrive();
    const bool gentle = at.gentle(m + kSums);
    if (thread < D && thread < t.Kp) {
      const Real* sums = m + kSums + thread;
      t.totals[item * t.Kp + thread] = exp2_weight((sums[0] + sums[D]) + (sums[2 * D] + sums[3 * D]));
    }
    const int warp = thread / 32;
    if (!gentle) {
      if (at.active)
#pragma unroll
        for (int i = 0; i < kSub; ++i)
          *reinterpret_cast<Both*>(m + kStep + (at.begin + i) * D + at.k) = {exp2_weight(logs[i].at[0]), exp2_weight(logs[i].at[1])};
      __syncthreads();
      if (warp < 4) scores_within<kPasses, D>(warp, thread % 32, m + kQ, m + kK, m + kStep, a.scale, A);
      __syncthreads();
    }
    if (at.active) {
      const ChannelDecays decays(gentle, m + kSums, D, at.sub, at.k);
      const auto times = [&](Real* tile, Real* to, Real scale, const Both& outer) {
        return [=, &at](int step, int, const Both& factor) {
          Both& entry = *reinterpret_cast<Both*>(tile + place<D>(at.begin + step, at.k));
          const Both x{entry.at[0] * factor.at[0], entry.at[1] * factor.at[1]};
          entry = {ready<kPasses>(x.at[0]), ready<kPasses>(x.at[1])};
          at.put(Grad{to, false}, step, {ready<kPasses>(scale * outer.at[0] * x.at[0]), ready<kPasses>(scale * outer.at[1] * x.at[1])},
                 at.t.whole);
        };
      };
      Both sum = decays.start;
      decays.queries(logs, 0, sum, times(m + kQ, t.Qe, a.scale, decays.outer_query));
      sum = decays.start;
      decays.keys(logs, 0, sum, times(m + kK, t.Kd, Real(1), decays.outer_key));
    }
    __syncthreads();
    if (!gentle) {
      for (int pair = warp; pair < 12; pair += kThreads / 32) {
        const int sub = pair / 3, other = pair % 3 + (pair % 3 >= sub ? 1 : 0);
        scores_between<kPasses, D>(sub, other, thread % 32, m + kQ, m + kK, m + kSums, a.scale, A);
      }
      return;
    }
    float scores[2][2][4] = {};
    layout.template onto<D, Along<D, true>, Along<D, true>>(scores, m + kQ, m + kK);
    pairs(layout, scores, [&](int i, int j, float x, float y) {
      put(A + i * kSteps + j, i < j ? 0 : ready<kPasses>(a.scale * x), i <= j ? 0 : ready<kPasses>(a.scale * y));
    });
  }
};

// kBack: dV = A^T dO + Kd G, else O = A V + Qe S; and what the skip adds.
template <int kPasses, int D, bool kBack>
struct ChannelOutputsBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = 2;
  static constexpr int kX = 0, kS = kX + kSteps * D, kV = kS + kValues * D, kA = kV + kSteps * kValues, kEnd = kA + kSteps * kSteps;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Chunked t;
  Grad to;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const TurnedPlace<D> at(t, block, thread);
    const MmaTile<kPasses> layout(thread);
    const Index h = at.first, tiles = t.v_tiles();
    const auto fetch_state = [&](Index vt) {
      if (vt < tiles) at.state(kBack ? t.G : t.S, h, vt, 0, m + kS);
      copies_end();
    };
    const auto fetch_values = [&](Index vt) {
      if (vt < tiles) at.values(kBack ? t.dy : a.v, h, vt, m + kV);
      copies_end();
    };
    at.keys(kBack ? t.Kd : t.Qe, 0, m + kX);
    fetch_state(0);
    copy_turned<kThreads, kSteps, kSteps>(thread, t.A + at.item(h) * kSteps * kSteps, kSteps, kSteps, kSteps, true, m + kA);
    fetch_values(0);
    const Real skip = a.skip ? a.skip[h] : Real(0);
    const int first = layout.template column<2>(0, 0);
    for (Index vt = 0; vt < tiles; ++vt) {
      copies_wait<1>();
      __syncthreads();
      float acc[2][2][4] = {};
      layout.template onto<D, Along<D, true>, Along<D, true>>(acc, m + kX, m + kS);
      copies_wait<0>();
      __syncthreads();
      fetch_state(vt + 1);
      if constexpr (kBack) layout.template add<kSteps, Across<kSteps, true>, Across<kValues>>(acc, m + kA, m + kV);
      else layout.template add<kSteps, Along<kSteps, true>, Across<kValues>>(acc, m + kA, m + kV);
      const int width = at_most(a.V - vt * kValues, kValues);
#pragma unroll
      for (int mm = 0; mm < 2; ++mm)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int i = layout.row(mm, 2 * e);
          float y[2][2];
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            y[n / 2][n % 2] = acc[mm][n / 2][2 * e + n % 2];
            if (a.skip) y[n / 2][n % 2] += skip * m[kV + place<kValues>(i, first + 8 * (n / 2) + n % 2)];
          }
          if (i < at.count) store_pairs(to, ((at.row + i) * a.heads + h) * a.V + vt * kValues, first, width, t.even, y);
        }
      __syncthreads();
      fetch_values(vt + 1);
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
