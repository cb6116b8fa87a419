// selective_scan_gpu_back.hpp - the way back of selective_scan_gpu.hpp: chunks of kChunk steps from the end, each run again from its saved
// state. A lane keeps its Q states of all steps of a chunk in registers; two exponentials a state and step.
//
// dB and dC sum over channels: the channels of a warp exchange halves (sum_of_channels), the warps of a block add up on chip in order, and
// every group of channels leaves its own partial sums for selective_scan.cpp to add.
#pragma once
#include "ops/selective_scan_gpu.hpp"

namespace ssm::selective_scan_op {

// Gradient of the ungated output, and of z where `sum` is that output.
SSM_FN Real gated(Real dy, Real z, Real s) { return dy * z * s; }
SSM_FN Real gate_slope(Real z, Real s) { return s * (Real(1) + z * (Real(1) - s)); }

// ends (B,segments,E,N) = lambda before the first step of a segment, but for the first one, that starts from 0 behind its end; steps
// (B,segments,E) = sum of delta.
template <class Form, bool kRowsOnly>
struct LambdaCut {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 4, Q = Form::kOwn, S = Form::S, C = Form::kChannels, kLd = Form::kLd,
                       kRows = static_cast<int>(kChunk);
  static constexpr int kPlane = kRows * kLd, kStage = 3 * kPlane + kRows * S;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kStage + (kRowsOnly ? 0 : C * S));
  Inputs p;
  const Real* dy;
  Index groups, segments, length;
  Copies by;
  Real *ends, *steps;

  __device__ bool C_own() const { return !kRowsOnly && by.C_own; }

  __device__ void fetch(const Place<Form>& at, Index t, int thread, Real* tile) const {
    const int count = static_cast<int>(at.end - t < kRows ? at.end - t : kRows), columns = static_cast<int>(at.columns);
    const Index row = at.b * p.T + t;
    gpu_tile::copy_tiles<kRows, C, 3>(thread, {dy, p.raw, p.z}, row * p.E + at.first, p.E, count, columns, by.channels,
                                      {tile, tile + kPlane, tile + 2 * kPlane}, kLd);
    gpu_tile::copy_tiles<kRows, S, 1>(thread, {C_own() ? nullptr : p.C}, row * p.N, p.N, count, static_cast<int>(p.N), by.states,
                                      {tile + 3 * kPlane}, S);
  }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Place<Form> at(block, thread, p, groups, segments - 1, length, 1);
    const Index own = at.b * segments + at.segment;
    Real *parameter = memory + 2 * kStage, A[Q], lambda[Q], total = 0;
    if (C_own()) keep_parameter<Form>(p.C, at, p.N, thread, parameter);
    load_rates(p, at, A);
    SSM_UNROLL
    for (int j = 0; j < Q; ++j) lambda[j] = 0;
    int stage = 0;
    const Index last = at.begin + (at.end - at.begin - 1) / kRows * kRows;
    fetch(at, last, thread, memory);
    gpu_tile::copies_end();
    for (Index t = last; t >= at.begin; t -= kRows, stage ^= 1) {
      Real *tile = memory + stage * kStage, *delta = tile + kPlane;
      const Real* z = tile + 2 * kPlane;
      gpu_tile::copies_wait<0>();
      __syncthreads();
      if (t > at.begin) fetch(at, t - kRows, thread, memory + (stage ^ 1) * kStage);
      gpu_tile::copies_end();
      const Real bias = p.bias[thread % C < at.columns ? at.first + thread % C : at.first];
      SSM_UNROLL
      for (int q = thread / C; q < kRows; q += kThreads / C) {
        const int k = q * kLd + thread % C;
        delta[k] = t + q < at.end ? softplus((p.raw ? delta[k] : Real(0)) + bias) : Real(0);
        if (p.z) tile[k] = gated(tile[k], z[k], sigmoid(z[k]));
      }
      __syncthreads();
      const Real* Cs = (C_own() ? parameter + at.channel * S : tile + 3 * kPlane) + at.lane * Q;
      const int step_C = C_own() ? 0 : S;
      SSM_UNROLL
      for (int q = kRows - 1; q >= 0; --q) {
        Real Ct[Q];
        read_own(Cs + q * step_C, Ct);
        const Real d = delta[q * kLd + at.channel], g = tile[q * kLd + at.channel];
        total += d;
        SSM_UNROLL
        for (int j = 0; j < Q; ++j) lambda[j] = exp2_device(d * A[j]) * (lambda[j] + Ct[j] * g);
      }
    }
    store_states(ends + own * p.E * p.N, at, p.N, lambda);
    if (at.live && at.lane == 0) steps[own * p.E + at.e] = total;
  }
};

// v[0..] = sums over the channels of a warp, whose lanes are L, 2 L, .. 16 apart: every exchange halves what a lane carries until one value
// is left. These stand at place_of_sum() of the V.
template <int mask, int L, int V, int left = V>
__device__ void sum_of_channels(Real (&v)[V], int thread) {
  if constexpr (mask >= L) {
    constexpr int left_half = left / 2;
    if constexpr (left > 1) {
      const bool upper = thread & mask;
      SSM_UNROLL
      for (int i = 0; i < left_half; ++i) {
        const Real give = upper ? v[i] : v[i + left_half], keep = upper ? v[i + left_half] : v[i];
        v[i] = keep + shuffle_xor(give, mask);
      }
    } else {
      v[0] += shuffle_xor(v[0], mask);
    }
    sum_of_channels<mask / 2, L, V, (left > 1 ? left_half : 1)>(v, thread);
  }
}
template <int L, int V>
__device__ int place_of_sum(int thread) {
  int place = 0;
  SSM_UNROLL
  for (int mask = kWarp / 2, left_half = V / 2; mask >= L && left_half > 0; mask /= 2, left_half /= 2)
    place += thread & mask ? left_half : 0;
  return place;
}

template <class Form, bool kRowsOnly>
struct BackwardCut {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 4, L = Form::kLanes, Q = Form::kOwn, S = Form::S, C = Form::kChannels,
                       kLd = Form::kLd, kRows = static_cast<int>(kChunk), kWarps = kThreads / kWarp;
  static constexpr int kPlane = kRows * kLd, kStage = 4 * kPlane + 2 * kRows * S, kParameters = kRowsOnly ? 0 : 2 * C * S;
  static constexpr int V = 2 * Q, kChannelsOfWarp = kWarp / L, kLeft = V > kChannelsOfWarp ? V / kChannelsOfWarp : 1,
                       kSpare = V < kChannelsOfWarp ? (kChannelsOfWarp / V - 1) * L : 0;  // lanes that end with what another has
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kStage + kParameters + 2 * kPlane + kWarps * kRows * 2 * S);
  Inputs p;
  Outputs o;
  const Real* ends;  // lambda behind the end of every segment, null where time is whole
  Index groups, segments, length;
  Copies by;

  __device__ bool B_own() const { return !kRowsOnly && by.B_own; }
  __device__ bool C_own() const { return !kRowsOnly && by.C_own; }

  __device__ int step_B() const { return B_own() ? 0 : S; }
  __device__ int step_C() const { return C_own() ? 0 : S; }

  // What a thread carries from chunk to chunk.
  struct Carried {
    Real A[Q], lambda[Q], dA[Q], dB[Q], dC[Q];  // dB, dC: of parameters
    Real skip, dD = 0, dbias = 0;
  };
  // On chip: u, raw (then delta), z, dy of a chunk, and what is made of them.
  struct Tile {
    const Real *u, *delta, *z, *dy, *B, *C;
    Real *slope, *g, *sums;
  };

  __device__ void fetch(const Place<Form>& at, Index t, int thread, Real* tile) const {
    const int count = static_cast<int>(at.end - t < kRows ? at.end - t : kRows), columns = static_cast<int>(at.columns);
    const Index row = at.b * p.T + t;
    Real* rows = tile + 4 * kPlane;
    gpu_tile::copy_tiles<kRows, C, 4>(thread, {p.u, p.raw, p.z, o.dy}, row * p.E + at.first, p.E, count, columns, by.channels,
                                      {tile, tile + kPlane, tile + 2 * kPlane, tile + 3 * kPlane}, kLd);
    gpu_tile::copy_tiles<kRows, S, 2>(thread, {B_own() ? nullptr : p.B, C_own() ? nullptr : p.C}, row * p.N, p.N, count,
                                      static_cast<int>(p.N), by.states, {rows, rows + kRows * S}, S);
  }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Place<Form> at(block, thread, p, groups, segments, length);
    const Index N = p.N, EN = p.E * N, row = at.b * segments + at.segment;
    Real *parameters = memory + 2 * kStage, *slope = parameters + kParameters;
    if (B_own()) keep_parameter<Form>(p.B, at, N, thread, parameters);
    if (C_own()) keep_parameter<Form>(p.C, at, N, thread, parameters + C * S);
    Carried c;
    load_rates(p, at, c.A);
    c.skip = p.D[at.e];
    SSM_UNROLL
    for (int j = 0; j < Q; ++j) c.lambda[j] = c.dA[j] = c.dB[j] = c.dC[j] = 0;
    if (ends) load_states(ends + row * EN, at, N, c.lambda);

    int stage = 0;
    const Index last = at.begin + (at.end - at.begin - 1) / kRows * kRows;
    fetch(at, last, thread, memory);
    gpu_tile::copies_end();
    for (Index t = last; t >= at.begin; t -= kRows, stage ^= 1) {
      Real* tile = memory + stage * kStage;
      Real start[Q];
      load_states(p.boundary + (at.b * p.chunks + t / kRows) * EN, at, N, start);
      gpu_tile::copies_wait<0>();
      __syncthreads();
      if (t > at.begin) fetch(at, t - kRows, thread, memory + (stage ^ 1) * kStage);
      gpu_tile::copies_end();
      const Real* rows = tile + 4 * kPlane;
      const Tile on_chip{tile + at.channel,
                         tile + kPlane + at.channel,
                         tile + 2 * kPlane + at.channel,
                         tile + 3 * kPlane + at.channel,
                         (B_own() ? parameters + at.channel * S : rows) + at.lane * Q,
                         (C_own() ? parameters + (C + at.channel) * S : rows + kRows * S) + at.lane * Q,
                         slope + at.channel,
                         slope + kPlane + at.channel,
                         slope + 2 * kPlane};
      const int count = static_cast<int>(at.end - t < kRows ? at.end - t : kRows);
      prepare(at, count, thread, tile, slope);
      __syncthreads();
      walk(at, t, count, thread, on_chip, start, c);
      __syncthreads();
      add_up(at, t, count, thread, on_chip.sums);
    }
    leave(at, row, c);
  }

  // Rows of delta, its slope and the gradient of the ungated output.
  __device__ void prepare(const Place<Form>& at, int count, int thread, Real* tile, Real* slope) const {
    const Real bias = p.bias[thread % C < at.columns ? at.first + thread % C : at.first];
    SSM_UNROLL
    for (int q = thread / C; q < kRows; q += kThreads / C) {
      const int k = q * kLd + thread % C;
      const Real x = (p.raw ? tile[kPlane + k] : Real(0)) + bias;
      tile[kPlane + k] = q < count ? softplus(x) : Real(0);
      slope[k] = softplus_slope(x);
      const Real dy = tile[3 * kPlane + k];
      slope[kPlane + k] = p.z ? gated(dy, tile[2 * kPlane + k], sigmoid(tile[2 * kPlane + k])) : dy;
    }
  }

  // A chunk forward from `start`, then back.
  __device__ void walk(const Place<Form>& at, Index t0, int count, int thread, const Tile& x, const Real (&start)[Q], Carried& c) const {
    const bool leader = leads<L>(at.lane) && at.live;
    const int mine = step_of<L>(at.lane), wide = static_cast<int>(p.E), place = place_of_sum<L, V>(thread);
    const Index first = (at.b * p.T + t0) * p.E + at.e;
    Real* sums = x.sums + thread / kWarp * kRows * 2 * S + at.lane * Q + (place < Q ? place : S + place - Q);
    Real h[kRows][Q];
    SSM_UNROLL
    for (int s = 0; s < kRows; s += kGroup) {
      Real v[kGroup];
      SSM_UNROLL
      for (int q = s; q < s + kGroup; ++q) {
        Real Bt[Q], Ct[Q];
        read_own(x.B + q * step_B(), Bt);
        if (p.z) read_own(x.C + q * step_C(), Ct);
        const Real d = x.delta[q * kLd], du = d * x.u[q * kLd];
        v[q - s] = 0;
        SSM_UNROLL
        for (int j = 0; j < Q; ++j) {
          h[q][j] = exp2_device(d * c.A[j]) * (q ? h[q ? q - 1 : 0][j] : start[j]) + du * Bt[j];
          if (p.z) v[q - s] += h[q][j] * Ct[j];
        }
      }
      if (!p.z) continue;
      const int k = (s + mine) * kLd;
      const Real sum = sum_of_lanes<L>(v, at.lane) + c.skip * x.u[k], z = x.z[k];
      if (leader && s + mine < count) {
        const Real dz = x.dy[k] * sum * gate_slope(z, sigmoid(z));
        put(o.dz, first, (s + mine) * wide, dz);
      }
    }
    SSM_UNROLL
    for (int s = kRows - kGroup; s >= 0; s -= kGroup) {
      Real along_B[kGroup], along_A[kGroup];
      SSM_UNROLL
      for (int q = s + kGroup - 1; q >= s; --q) {
        Real Bt[Q], Ct[Q], v[V];
        read_own(x.B + q * step_B(), Bt);
        read_own(x.C + q * step_C(), Ct);
        const Real d = x.delta[q * kLd], du = d * x.u[q * kLd], g = x.g[q * kLd];
        along_B[q - s] = along_A[q - s] = 0;
        SSM_UNROLL
        for (int j = 0; j < Q; ++j) {
          const Real full = c.lambda[j] + Ct[j] * g;
          c.lambda[j] = exp2_device(d * c.A[j]) * full;
          const Real old = c.lambda[j] * (q ? h[q ? q - 1 : 0][j] : start[j]);  // full r_t
          along_B[q - s] += full * Bt[j];
          along_A[q - s] += old * c.A[j];
          c.dA[j] += d * old;
          v[j] = full * du, v[Q + j] = g * h[q][j];
        }
        if (B_own() || C_own()) {
          SSM_UNROLL
          for (int j = 0; j < Q; ++j) c.dB[j] += v[j], c.dC[j] += v[Q + j];
        }
        if (B_own() && C_own()) continue;
        sum_of_channels<kWarp / 2, L>(v, thread);
        if (!(thread & kSpare)) {
          SSM_UNROLL
          for (int i = 0; i < kLeft; ++i) sums[q * 2 * S + i] = v[i];
        }
      }
      const int row = s + mine, k = row * kLd;
      const Real by_B = sum_of_lanes<L>(along_B, at.lane), by_A = sum_of_lanes<L>(along_A, at.lane);
      if (leader && row < count) {
        const Real u = x.u[k], d = x.delta[k], g = x.g[k], draw = (u * by_B + kLn2 * by_A) * x.slope[k];
        c.dD += g * u;
        c.dbias += draw;
        put(o.du, first, row * wide, c.skip * g + d * by_B);
        if (p.raw) put(o.draw, first, row * wide, draw);
      }
    }
  }
  __device__ static void put(const Grad& to, Index first, int further, Real value) {
    Real* at = to.p + first + further;
    *at = to.add ? *at + value : value;
  }

  // The warps' sums of dB and dC, in order, to the partial sums of this group of channels.
  __device__ void add_up(const Place<Form>& at, Index t0, int count, int thread, const Real* sums) const {
    const int v = thread % (2 * S), k = v % S;
    if (k >= p.N || (v < S ? B_own() : C_own())) return;
    Real* to = (v < S ? o.dB : o.dC) + ((at.group * o.batch + at.b) * p.T + t0) * p.N + k;
    SSM_UNROLL
    for (int q = thread / (2 * S); q < kRows; q += kThreads / (2 * S)) {
      Real sum = sums[q * 2 * S + v];
      SSM_UNROLL
      for (int warp = 1; warp < kWarps; ++warp) sum += sums[(warp * kRows + q) * 2 * S + v];
      if (q < count) to[q * static_cast<int>(p.N)] = sum;
    }
  }

  // Sums over the segment.
  __device__ void leave(const Place<Form>& at, Index row, Carried& c) const {
    SSM_UNROLL
    for (int other = L / 2; other > 0; other /= 2) c.dD += shuffle_xor(c.dD, other), c.dbias += shuffle_xor(c.dbias, other);
    if (!at.live) return;
    const Index N = p.N;
    Real* to = o.partial + (row * p.E + at.e) * sums_of_channel(N);
    SSM_UNROLL
    for (int j = 0; j < Q; ++j) {
      const Index k = at.lane * Q + j;
      if (k >= N) continue;
      to[k] = c.dA[j] * kLn2 * c.A[j];
      if (B_own()) to[N + 2 + k] = c.dB[j];
      if (C_own()) to[2 * N + 2 + k] = c.dC[j];
    }
    if (at.lane == 0) to[N] = c.dD, to[N + 1] = c.dbias;
  }
};

inline void cut_backward(bool B_own, bool C_own, const Run& r, const Inputs& p, const Outputs& o, Index B) {
  const Cut cut(B, p.T, p.E, p.N, true);
  Real *ends = cut.segments > 1 ? p.work : nullptr, *steps = ends ? ends + B * cut.segments * p.E * p.N : nullptr;
  const Copies by(p, B_own, C_own, o.dy);
  const Index blocks = B * cut.segments * cut.groups;
  with_lanes(cut, by, [&](auto form, auto rows_only) {
    using Lambda = LambdaCut<decltype(form), decltype(rows_only)::value>;
    using Back = BackwardCut<decltype(form), decltype(rows_only)::value>;
    if (ends) {
      launch_shared("ssm::selective_scan_lambda", r, blocks - B * cut.groups, Lambda::kBytes,
                    Lambda{p, o.dy, cut.groups, cut.segments, cut.length, by, ends, steps});
      carry(r, p, B, cut.segments, true, steps, ends);
    }
    launch_shared("ssm::selective_scan_back", r, blocks, Back::kBytes, Back{p, o, ends, cut.groups, cut.segments, cut.length, by});
  });
}

}  // namespace ssm::selective_scan_op
