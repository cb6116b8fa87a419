// delta_rule_gpu.hpp - delta_rule.cpp on CUDA, forward: columns of the state are recurrences of their own, kept in registers.
//
// Eight neighbouring threads own S[:, c] and walk through all steps; a block has 16 columns of one head, whose rows of q, k and v arrive in
// on-chip memory a tile ahead. With G = S of the way back, walked from the end, dy in the place of v and x = G^T k in that of the error:
//   forward   e = v - (decay S)^T k    S <- decay S + beta k e^T      y = scale S^T q
//   back      G <- G + scale q dy^T    x = G^T k                      G <- decay (G - beta k x^T)
// Four steps go together: what the first of them does to what the others recall follows from products of their keys, so that they wait once
// for the sums over eight threads. Measured, H200, B16 T1024, 2 heads of 64: 112 us forward, 105 back, against 10 us of bytes. A step takes
// 220 cycles, 75 of them to issue: one warp a scheduler waits for its sums and on-chip loads. More sequences or heads fill that time.
#pragma once
#include "lib/gpu_tile.hpp"
#include "lib/warp.hpp"
#include "ops/delta_rule_kernels.hpp"

namespace ssm::delta_rule_op {

constexpr int kShare = 8;                              // threads of a column
constexpr int kColumns = gpu_tile::kThreads / kShare;  // of a block
constexpr int kSteps = 32;                             // of a tile
constexpr int kTogether = 4;                           // steps that wait together
static_assert(kColumns * kTogether == 2 * kSteps);     // pair_up() gives half of four steps to a column's threads
constexpr Index kWidest = 128;                         // wider keys or values take the plain kernels

// Steps between kept states, for keys and values of up to W: as many as delta_rule_gpu_back.hpp has room for on chip.
constexpr int chunk_for(Index W) { return W <= 64 ? 64 : 32; }

// f(width constant): the least width that has room for n.
template <class F>
void with_width(Index n, const F& f) {
  if (n <= 32) f(std::integral_constant<int, 32>());
  else if (n <= 64) f(std::integral_constant<int, 64>());
  else f(std::integral_constant<int, 128>());
}

// A head of one sequence, and what its kernels share.
struct Head {
  Arguments a;
  const Real* beta;
  int chunk;   // steps between kept states
  bool whole;  // may rows be copied 16 bytes at a time?

  __device__ Index row(Index b, Index t, Index h) const { return (b * a.T + t) * a.heads + h; }
  __device__ int steps(Index t, int limit) const { return a.T - t < limit ? static_cast<int>(a.T - t) : limit; }
  // 0 behind the end, where keys are 0 too: nothing moves there.
  __device__ Real strength(Index b, Index t, Index h) const { return t >= a.T ? Real(0) : beta ? beta[row(b, t, h)] : Real(1); }
  __device__ Real log2_decay(Index b, Index t, Index h) const { return a.gate && t < a.T ? a.gate[row(b, t, h)] * kLog2e : Real(0); }
  // Kept states (B,chunks,heads,V,W), W the width for K.
  SSM_FN Index chunks() const { return (a.T + chunk - 1) / chunk; }
  __device__ Index state(Index b, Index t, Index h) const { return ((b * chunks() + t / chunk) * a.heads + h) * a.V; }
};

template <int W, bool kGated, bool kBack>
struct Walk : Head {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = W <= 64 ? 3 : 2, R = W / kShare;
  static constexpr int kTile = kSteps * (2 * W + kColumns + 4);  // rows of k, q and values, beta, decays, products of keys
  static constexpr std::size_t kBytes = 2 * kTile * sizeof(Real);
  const Real* values;  // v or dy
  Real *y, *kept;      // kept (B,T,heads,V): errors e, or x
  Real* states;        // at the chunks' starts, or the adjoints at their ends
  Index slices;        // groups of columns

  struct Scalars {
    Real strength, decay;
  };

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index first = block % slices * kColumns, h = block / slices % a.heads, b = block / (slices * a.heads);
    const Index tiles = (a.T + kSteps - 1) / kSteps, ld = a.heads * a.V;
    const int lane = thread % kShare, column = thread / kShare;
    const bool live = first + column < a.V;
    const Index own = row(b, 0, h) * a.V + first + column;
    Real S[R] = {};
    const auto start = [&](Index n) { return (kBack ? tiles - 1 - n : n) * kSteps; };
    fetch(thread, b, start(0), h, first, memory);
    put(thread, scalars(thread, b, start(0), h), memory);
    for (Index n = 0; n < tiles; ++n) {
      const Index t0 = start(n);
      Real *now = memory + n % 2 * kTile, *next = memory + (1 - n % 2) * kTile;
      gpu_tile::copies_wait<0>();
      __syncthreads();
      const bool more = n + 1 < tiles;
      if (more) fetch(thread, b, start(n + 1), h, first, next);
      const Scalars ahead = more ? scalars(thread, b, start(n + 1), h) : Scalars{0, 1};
      if (states && live && (kBack ? n == 0 || (t0 + kSteps) % chunk == 0 : t0 % chunk == 0))
        put_state(S, states + (state(b, t0, h) + first + column) * W + 4 * lane);
      pair_up(now, lane, column);
      __syncthreads();
      const int last = (steps(t0, kSteps) - 1) / kShare * kShare;
      SSM_ROLLED
      for (int i = 0; i <= last; i += kShare) {
        const int at = kBack ? last - i : i;
        Real sums[kShare] = {}, mine = 0;
        walk(now, at, lane, column, S, sums, mine);
        const Index t = t0 + at + lane;
        if constexpr (!kBack) halve_over_lanes<kShare / 2>(sums, lane);
        if (live && t < a.T) {
          if (!kBack) y[own + t * ld] = a.scale * sums[0];
          if (kept) kept[own + t * ld] = mine;
        }
      }
      put(thread, ahead, next);
    }
  }

  __device__ void fetch(int thread, Index b, Index t0, Index h, Index first, Real* to) const {
    const Index from = row(b, t0, h);
    const int count = steps(t0, kSteps), K = static_cast<int>(a.K);
    gpu_tile::copy_tile<kSteps, W>(thread, a.k + from * a.K, a.heads * a.K, count, K, whole, to, W);
    gpu_tile::copy_tile<kSteps, W>(thread, a.q + from * a.K, a.heads * a.K, count, K, whole, to + kSteps * W, W);
    const int columns = a.V - first < kColumns ? static_cast<int>(a.V - first) : kColumns;
    gpu_tile::copy_tile<kSteps, kColumns>(thread, values + from * a.V + first, a.heads * a.V, count, columns, whole, to + 2 * kSteps * W,
                                          kColumns);
    gpu_tile::copies_end();
  }
  __device__ Scalars scalars(int thread, Index b, Index t0, Index h) const {
    if (thread >= kSteps) return {0, 1};
    return {strength(b, t0 + thread, h), kGated ? exp2_decay(log2_decay(b, t0 + thread, h)) : Real(1)};
  }
  __device__ static void put(int thread, const Scalars& s, Real* tile) {
    Real* to = tile + kSteps * (2 * W + kColumns);
    if (thread < kSteps) to[thread] = s.strength, to[kSteps + thread] = s.decay;
  }
  // Entry r of a thread is key r / 4 * 32 + 4 lane + r % 4.
  __device__ static void put_state(const Real (&S)[R], Real* to) {
#pragma unroll
    for (int r = 0; r < R; r += 4) *reinterpret_cast<gpu_tile::Four*>(to + 8 * r) = {{S[r], S[r + 1], S[r + 2], S[r + 3]}};
  }
  __device__ static void get(const Real* from, Real (&to)[R]) {
#pragma unroll
    for (int r = 0; r < R; r += 4) {
      const gpu_tile::Four x = gpu_tile::four(from + 8 * r);
#pragma unroll
      for (int e = 0; e < 4; ++e) to[r + e] = x.at[e];
    }
  }
  __device__ static Real product(const Real (&x)[R], const Real (&y)[R]) {
    Real sum[4] = {};
#pragma unroll
    for (int r = 0; r < R; ++r) sum[r % 4] += x[r] * y[r];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

  // Products of the keys of every four steps: of i and j < i at place i (i - 1) / 2 + j of eight.
  __device__ static void pair_up(Real* tile, int lane, int column) {
    const Real* keys = tile + column / 2 * kTogether * W + 4 * lane;
    Real *to = tile + kSteps * (2 * W + kColumns + 2) + column / 2 * 8, i_key[R], j_key[R];
    const bool late = column % 2;
#pragma unroll
    for (int n = 0; n < 3; ++n) {
      const int i = late ? 3 : n ? 2 : 1, j = late ? n : n == 2 ? 1 : 0;
      get(keys + i * W, i_key);
      get(keys + j * W, j_key);
      const Real sum = gpu_tile::lanes_sum<kShare>(product(i_key, j_key));
      if (lane == 0) to[late ? 3 + n : n] = sum;
    }
  }

  // Steps [at, at + kShare) of a tile. sums[j]: this thread's part of S^T q after step j; mine: what lane j keeps of step j.
  __device__ void walk(const Real* tile, int at, int lane, int column, Real (&S)[R], Real (&sums)[kShare], Real& mine) const {
#pragma unroll
    for (int n = 0; n < kShare; n += kTogether) walk_four(tile, at, kBack ? kShare - kTogether - n : n, lane, column, S, sums, mine);
  }

  // Steps [at + first, at + first + kTogether), number n of them in the order of the walk. recalled[n]: key n times the S before its step,
  // at first without what the steps before it in this call take in.
  __device__ void walk_four(const Real* tile, int at, int first, int lane, int column, Real (&S)[R], Real (&sums)[kShare],
                            Real& mine) const {
    const Real *V = tile + 2 * kSteps * W + column, *strengths = tile + kSteps * (2 * W + kColumns), *decays = strengths + kSteps;
    const Real* pairs = decays + kSteps + (at + first) / kTogether * 8;
    const auto place = [&](int n) { return kBack ? kTogether - 1 - n : n; };
    Real key[kTogether][R], recalled[kTogether], value[kTogether], strength[kTogether], decay[kTogether], pair[8];
#pragma unroll
    for (int n = 0; n < 8; ++n) pair[n] = pairs[n];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int i = at + first + place(n);
      get(tile + i * W + 4 * lane, key[n]);
      value[n] = V[i * kColumns], strength[n] = strengths[i], decay[n] = kGated ? decays[i] : Real(1);
      if constexpr (kBack) {
        Real query[R];
        get(tile + (kSteps + i) * W + 4 * lane, query);
        const Real dy = a.scale * value[n];
#pragma unroll
        for (int r = 0; r < R; ++r) S[r] += query[r] * dy;
      }
      recalled[n] = product(key[n], S);
      if (kBack && kGated) shrink(S, decay[n]);
    }
#pragma unroll
    for (int other = 1; other < kShare; other *= 2)
#pragma unroll
      for (int n = 0; n < kTogether; ++n) recalled[n] += shuffle_xor(recalled[n], other);
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      if (!kBack && kGated) {
#pragma unroll
        for (int m = n; m < kTogether; ++m) recalled[m] *= decay[n];
      }
      // forward: strength (value - recalled), with one operation less to wait for
      Real given = kBack ? -strength[n] * recalled[n] : strength[n] * value[n] - strength[n] * recalled[n];
      mine = lane == first + place(n) ? (kBack ? recalled[n] : value[n] - recalled[n]) : mine;
      value[n] = given;
#pragma unroll
      for (int m = n + 1; m < kTogether; ++m) {
        if (kBack && kGated) given *= decay[m - 1];
        const int i = place(n) < place(m) ? place(m) : place(n), j = place(n) + place(m) - i;
        recalled[m] += pair[i * (i - 1) / 2 + j] * given;
      }
      if (kBack && kGated) value[n] = given * decay[kTogether - 1];
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      if (!kBack && kGated) shrink(S, decay[n]);
#pragma unroll
      for (int r = 0; r < R; ++r) S[r] += key[n][r] * value[n];
      if constexpr (!kBack) {
        Real query[R];
        get(tile + (kSteps + at + first + n) * W + 4 * lane, query);
        sums[first + n] = product(query, S);
      }
    }
  }
  __device__ static void shrink(Real (&S)[R], Real by) {
#pragma unroll
    for (int r = 0; r < R; ++r) S[r] *= by;
  }
};

template <bool kBack>
void walk(const Run& r, const Head& head, const Real* values, Real* y, Real* kept, Real* states) {
  const Arguments& a = head.a;
  const Index slices = (a.V + kColumns - 1) / kColumns, blocks = a.B * a.heads * slices;
  const char* label = kBack ? "ssm::delta_rule_adjoints" : "ssm::delta_rule";
  with_width(a.K, [&](auto width) {
    constexpr int W = decltype(width)::value;
    using Plain = Walk<W, false, kBack>;
    using Gated = Walk<W, true, kBack>;
    if (a.gate) launch_shared(label, r, blocks, Gated::kBytes, Gated{head, values, y, kept, states, slices});
    else launch_shared(label, r, blocks, Plain::kBytes, Plain{head, values, y, kept, states, slices});
  });
}

}  // namespace ssm::delta_rule_op
