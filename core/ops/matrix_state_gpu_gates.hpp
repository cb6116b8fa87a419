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

// 2^x to the last bits: steps and sub-chunks are multiplied up.
__device__ inline float exp2_full(float x) { return ::exp2f(x); }
__device__ inline double exp2_full(double x) { return ::exp2(x); }

// What 256 threads know of a chunk's decays: a thread's tasks are (sub-chunk, channel) pairs, neighbouring threads have neighbouring channels.
template <int D>
struct ChannelPlace : TurnedPlace<D> {
  static constexpr int kThreads = 256, kTasks = (4 * D + kThreads - 1) / kThreads;
  using TurnedPlace<D>::TurnedPlace, TurnedPlace<D>::t, TurnedPlace<D>::thread, TurnedPlace<D>::count, TurnedPlace<D>::row;

  // f(task, sub, channel) for the thread's tasks.
  template <class F>
  __device__ void tasks(const F& f) const {
#pragma unroll
    for (int task = 0; task < kTasks; ++task) {
      const int at = thread + task * kThreads;
      if (kTasks * kThreads == 4 * D || at < 4 * D) f(task, at / D, at % D);
    }
  }
  // The same one after another: f(sub, channel).
  template <class F>
  __device__ void each_task(const F& f) const {
#pragma unroll 1
    for (int at = thread; at < 4 * D; at += kThreads) f(at / D, at % D);
  }
  // Where entry (step, channel) of q, k, their gates and gradients lies: base + step ld.
  __device__ Index base(int k) const { return row * t.ld() + this->group * t.a.K + k; }
  __device__ bool there(int step, int k) const { return step < count && k < t.a.K; }
  // A channel's entries of a sub-chunk, 0 where there are none.
  __device__ void column(const Real* from, int sub, int k, Real (&to)[kSub]) const {
    const Real* p = from + base(k) + sub * kSub * t.ld();
#pragma unroll
    for (int i = 0; i < kSub; ++i) to[i] = there(sub * kSub + i, k) ? p[i * t.ld()] : Real(0);
  }
  // log2 of the decays of the steps, and their sum.
  __device__ Real logs(int sub, int k, Real (&to)[kSub]) const {
    column(t.a.gate, sub, k, to);
    Real sum = 0;
#pragma unroll
    for (int i = 0; i < kSub; ++i) to[i] *= kLog2e, sum += to[i];
    return sum;
  }
  // May the chunk be one product? sums (4, D): of logs over sub-chunks. All threads call it, it is a barrier.
  __device__ bool gentle(const Real* sums) const {
    bool steep = false;
    if (thread < D) steep = sums[thread] + sums[D + thread] < kMostDecay || sums[2 * D + thread] + sums[3 * D + thread] < kMostDecay;
    return !__syncthreads_or(steep);
  }
};

// Factors of queries and keys of a channel in a sub-chunk, and what leads from these to the chunk's start and end.
struct ChannelDecays {
  bool gentle;
  Real start, outer_query, outer_key;  // start: log2 of the first query's factor but for its own gate
  __device__ ChannelDecays(bool gentle_, const Real* sums, int D, int sub, int k) : gentle(gentle_), start(0) {
    const Real first = sums[k], second = sums[D + k], third = sums[2 * D + k], fourth = sums[3 * D + k];
    Real before = first + second, after = third + fourth;
    if (gentle) {
      start = sub == 0 ? -before : sub == 1 ? -second : sub == 2 ? Real(0) : third;
    } else {
      before = (sub > 0 ? first : Real(0)) + (sub > 1 ? second : Real(0)) + (sub > 2 ? third : Real(0));
      after = (sub < 3 ? fourth : Real(0)) + (sub < 2 ? third : Real(0)) + (sub < 1 ? second : Real(0));
    }
    outer_query = exp2_full(before), outer_key = exp2_full(after);
  }
  // f(step of the sub-chunk, factor)
  template <class F>
  __device__ void queries(const Real (&logs)[kSub], const F& f) const {
    Real sum = start;
#pragma unroll
    for (int i = 0; i < kSub; ++i) sum += logs[i], f(i, exp2_full(sum));
  }
  template <class F>
  __device__ void keys(const Real (&logs)[kSub], const F& f) const {
    Real sum = start;
    if (gentle) {
#pragma unroll
      for (int i = 0; i < kSub; ++i) sum += logs[i], f(i, exp2_full(-sum));
    } else {
#pragma unroll
      for (int i = kSub - 1; i >= 0; --i) f(i, exp2_full(sum)), sum += logs[i];
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
      Mma<kPasses>::split(Q[place<D>(sub * kSub + g + e % 2 * 8, k + t + e / 2 * 4)] * exp2_full(between[e / 2]), high[0][e], low[0][e]);
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
    const Index ld = t.ld(), item = at.item(at.first);
    Real* A = t.A + item * kSteps * kSteps;
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kK);
    Real logs[ChannelPlace<D>::kTasks][kSub];
    at.tasks([&](int task, int sub, int k) { m[kSums + sub * D + k] = at.logs(sub, k, logs[task]); });
    arrive();
    const bool gentle = at.gentle(m + kSums);
    if (thread < D && thread < t.Kp) {
      const Real* sums = m + kSums + thread;
      t.totals[item * t.Kp + thread] = exp2_full((sums[0] + sums[D]) + (sums[2 * D] + sums[3 * D]));
    }
    const int warp = thread / 32;
    if (!gentle) {
      at.tasks([&](int task, int sub, int k) {
#pragma unroll
        for (int i = 0; i < kSub; ++i) m[kStep + (sub * kSub + i) * D + k] = exp2_full(logs[task][i]);
      });
      __syncthreads();
      if (warp < 4) scores_within<kPasses, D>(warp, thread % 32, m + kQ, m + kK, m + kStep, a.scale, A);
      __syncthreads();
    }
    at.tasks([&](int task, int sub, int k) {
      const ChannelDecays decays(gentle, m + kSums, D, sub, k);
      decays.queries(logs[task], [&](int i, Real factor) {
        const int step = sub * kSub + i;
        Real& q = m[kQ + place<D>(step, k)];
        const Real x = q * factor;
        q = ready<kPasses>(x);
        if (at.there(step, k)) t.Qe[at.base(k) + step * ld] = ready<kPasses>(a.scale * x * decays.outer_query);
      });
      decays.keys(logs[task], [&](int i, Real factor) {
        const int step = sub * kSub + i;
        Real& key = m[kK + place<D>(step, k)];
        const Real x = key * factor;
        key = ready<kPasses>(x);
        if (at.there(step, k)) t.Kd[at.base(k) + step * ld] = ready<kPasses>(x * decays.outer_key);
      });
    });
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
      *reinterpret_cast<float2*>(A + i * kSteps + j) = {i < j ? 0 : ready<kPasses>(a.scale * x), i <= j ? 0 : ready<kPasses>(a.scale * y)};
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
