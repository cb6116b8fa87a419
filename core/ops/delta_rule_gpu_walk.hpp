// delta_rule_gpu_walk.hpp - the delta rule on tensor cores: from chunk to chunk (delta_rule_gpu.hpp has the formulas).
//
// A block carries 32 columns of a state, in registers: warp (group, side) owns D / kGroups keys of 16 M values. Those are an operand of W S as they
// lie, whose sums over keys are then added over the groups on chip. W, keys and queries (back) come in while the chunk is worked on.
// Measured, H200, TF32, K 256, 128 blocks: 4.7 us a chunk, 6.8 back. Its 128 KiB (192) would take 3 (5) at the second-level cache's rate, which is
// 44 % (39) used; on-chip loads and stores take 2.4 (3.1), waits between the five steps of a chunk the rest.
#pragma once
#include "delta_rule_gpu.hpp"

#if defined(SSM_DELTA_RULE_ON_TILES)
namespace ssm::delta_rule_op {

// `n` operands of E registers as tensor cores take them.
template <int kPasses, int n, int E>
struct Operand {
  gpu_tile::Bits high[n][E], low[n][E];
  __device__ void set(int i, int e, float x) {
    const Part<kPasses> part(x);
    high[i][e] = part.high, low[i][e] = part.low;
  }
};
template <int kPasses, int R, int C>
__device__ void multiply(float (*acc)[C][4], const Operand<kPasses, R, 4>& a, const Operand<kPasses, C, 2>& b) {
#pragma unroll
  for (int pass = kPasses > 1 ? 0 : 2; pass < 3; ++pass)
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < C; ++c)
        mma(acc[r][c][0], acc[r][c][1], acc[r][c][2], acc[r][c][3], pass == 0 ? a.low[r] : a.high[r], pass == 1 ? b.low[c] : b.high[c]);
}

template <int kPasses, int D, bool kBack>
struct WalkBlock {
  static constexpr int kThreads = 256, kBlocks = 1, kGroups = D > 128 ? 8 : 4, M = kGroups / 4, N = D / (8 * kGroups);
  static constexpr int kPart = kSteps * kSlice, kTile = kSteps * D, kThird = kTile > kGroups *kPart ? kTile : kGroups *kPart;
  static constexpr int kW = 0, kK = kW + kTile, kQ = kK + kTile, kX = kQ + kThird, kDo = kX + 2 * kPart, kF = kDo + (kBack ? kPart : 0),
                       kEnd = kF + 2 * kFactorCount;  // sums of the groups lie in the place of Q
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBytes + 1024 <= 228 * 1024);
  Segment s;
  const Real* from;  // (B,heads,Vp,Kp): state, or adjoint, to start with, and where the last one goes; null: 0, nowhere
  Real* to;

  struct Warp {
    int g, t, key, value;  // first key and value of this warp
    __device__ explicit Warp(int thread)
        : g(thread % 32 / 4), t(thread % 4), key(thread / 32 % kGroups * 8 * N), value(thread / 32 / kGroups * 16 * M) {}
  };

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = s.a;
    const Index bh = block / s.slices(), v0 = block % s.slices() * kSlice, n_chunks = s.count;
    const Warp warp(thread);
    const auto item = [&](Index n) { return bh * n_chunks + (kBack ? n_chunks - 1 - n : n); };
    Real* own = kBack ? s.X : s.e;
    const auto fetch_first = [&](Index n) {
      if (n < n_chunks) {
        const ItemPlace at(s, item(n), thread);
        at.template own<D>(s.W, D, 0, m + kW);
        at.template own<kSlice>(own, s.Vp, v0, m + kX + n % 2 * kPart);
        at.factors(m + kF + n % 2 * kFactorCount);
      }
      copies_end();
    };
    const auto fetch_keys = [&](Index n) {
      ItemPlace(s, item(n), thread).template tile<D>(a.k, a.K, 0, m + kK);
      copies_end();
    };
    const auto fetch_queries = [&](Index n) {
      if (n < n_chunks) {
        const ItemPlace at(s, item(n), thread);
        at.template tile<D>(a.q, a.K, 0, m + kQ), at.template tile<kSlice>(s.dy, a.V, v0, m + kDo);
      }
      copies_end();
    };
    float acc[M][N][4] = {};
    if (from)
      states(warp, acc, const_cast<Real*>(from) + (bh * s.Vp + v0) * D,
             [](float2& there, float& x, float& y) { x = there.x, y = there.y; });
    fetch_first(0);
    if (kBack) fetch_queries(0);
    for (Index n = 0; n < n_chunks; ++n) {
      Real* X = m + kX + n % 2 * kPart;
      const Real* rows = m + kF + n % 2 * kFactorCount;
      copies_wait<kBack ? 1 : 0>();
      __syncthreads();
      fetch_keys(n);
      states(warp, acc, (kBack ? s.G : s.S) + (item(n) * s.Vp + v0) * D, [](float2& there, float x, float y) {
        there = {ready<kPasses>(x), ready<kPasses>(y)};
      });
      float part[4][2 * M][4] = {};
      recall(warp, acc, m + kW, part);
      if constexpr (kBack) {
        copies_wait<1>();
        __syncthreads();
      }
      const float last = rows[kSince * kSteps + kSteps - 1];
#pragma unroll
      for (int i = 0; i < 4 * M * N; ++i) acc[i / (4 * N)][i / 4 % N][i % 4] *= last;
      if (kBack) take_in<true>(warp, acc, m + kDo, m + kQ, rows + kFrom * kSteps);
      __syncthreads();
      fetch_first(n + 1);
      leave(warp, thread, part, m + kQ);
      copies_wait<1>();
      __syncthreads();
      add_up(thread, m + kQ, X, rows, own + item(n) * kSteps * s.Vp + v0);
      __syncthreads();
      if (kBack) fetch_queries(n + 1);
      take_in<false>(warp, acc, X, m + kK, nullptr);
    }
    if (to) states(warp, acc, to + (bh * s.Vp + v0) * D, [](float2& there, float x, float y) { there = {x, y}; });
  }

  // f(pair of numbers in (values, keys), two entries of a thread)
  template <class F>
  __device__ static void states(const Warp& w, float (&acc)[M][N][4], Real* at, const F& f) {
#pragma unroll
    for (int r = 0; r < M; ++r)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
#pragma unroll
        for (int c = 0; c < N; ++c)
          f(*reinterpret_cast<float2*>(at + (w.value + 16 * r + 4 * e + w.g) * D + w.key + 8 * c + 2 * w.t), acc[r][c][e],
            acc[r][c][e + 1]);
  }

  // part (steps, values) = W S over this warp's keys. Slots t and t + 4 of a sum are the keys 2t and 2t + 1.
  __device__ static void recall(const Warp& w, const float (&acc)[M][N][4], const Real* W, float (&part)[4][2 * M][4]) {
#pragma unroll
    for (int c = 0; c < N; ++c) {
      Operand<kPasses, 2 * M, 2> state;
#pragma unroll
      for (int i = 0; i < 4 * M; ++i) state.set(i / 2, i % 2, acc[i / 4][c][i % 4]);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        Operand<kPasses, 1, 4> left;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float2 x = *reinterpret_cast<const float2*>(W + place<D>(16 * r + 8 * e + w.g, w.key + 8 * c + 2 * w.t));
          left.set(0, e, x.x), left.set(0, e + 2, x.y);
        }
        multiply<kPasses>(part + r, left, state);
      }
    }
  }

  // acc (values, keys) += (factor x)^T y, x (steps, kSlice), y (steps, D).
  template <bool kFactor>
  __device__ static void take_in(const Warp& w, float (&acc)[M][N][4], const Real* x, const Real* y, const Real* factor) {
    float apart[M][N][4] = {};
    auto& sum = kPasses > 1 ? apart : acc;
#pragma unroll 2
    for (int k = 0; k < kSteps; k += 8) {
      Operand<kPasses, M, 4> left;
      Operand<kPasses, N, 2> right;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = k + 4 * half + w.t;
        const float times = kFactor ? factor[i] : 1;
#pragma unroll
        for (int r = 0; r < M; ++r)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float entry = x[place<kSlice>(i, w.value + 16 * r + 8 * e + w.g)];
            left.set(r, 2 * half + e, kFactor ? times * entry : entry);
          }
#pragma unroll
        for (int c = 0; c < N; ++c) right.set(c, half, y[place<D>(i, w.key + 8 * c + w.g)]);
      }
      multiply<kPasses>(sum, left, right);
    }
    if (kPasses > 1)
#pragma unroll
      for (int i = 0; i < 4 * M * N; ++i) acc[i / (4 * N)][i / 4 % N][i % 4] += apart[i / (4 * N)][i / 4 % N][i % 4];
  }

  __device__ static void leave(const Warp& w, int thread, const float (&part)[4][2 * M][4], Real* sums) {
    Real* to = sums + thread / 32 % kGroups * kPart;
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
#pragma unroll
        for (int c = 0; c < 2 * M; ++c)
          *reinterpret_cast<float2*>(to + place<kSlice>(16 * r + 4 * e + w.g, w.value + 8 * c + 2 * w.t)) = {part[r][c][e],
                                                                                                             part[r][c][e + 1]};
  }
  // Errors e, or X, to `own`, and times what the state takes of them in their tile.
  __device__ void add_up(int thread, const Real* sums, Real* X, const Real* rows, Real* own) const {
#pragma unroll
    for (int at = 4 * thread; at < kPart; at += 4 * kThreads) {
      const int i = at / kSlice, c = at % kSlice, on_chip = place<kSlice>(i, c);
      gpu_tile::Four sum = four(sums + on_chip), x = four(X + on_chip);
#pragma unroll
      for (int group = 1; group < kGroups; ++group) {
        const gpu_tile::Four more = four(sums + group * kPart + on_chip);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum.at[e] += more.at[e];
      }
      const Real factor = kBack ? -rows[kSince * kSteps + i] * rows[kDelta * kSteps + i] : rows[kToDelta * kSteps + i];
#pragma unroll
      for (int e = 0; e < 4; ++e) x.at[e] += kBack ? sum.at[e] : -sum.at[e];
      *reinterpret_cast<gpu_tile::Four*>(own + i * s.Vp + c) = x;
#pragma unroll
      for (Real& e : x.at) e *= factor;
      *reinterpret_cast<gpu_tile::Four*>(X + on_chip) = x;
    }
  }
};

}  // namespace ssm::delta_rule_op
#endif
