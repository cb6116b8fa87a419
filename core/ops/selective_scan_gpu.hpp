// selective_scan_gpu.hpp - the recurrence on a GPU: L lanes share a channel, each holds Q of its states in registers, and tiles of steps come
// on chip while the tile before is worked on.
//
// One pass over time: one exponential, 16 a clock and processor, and some 15 other instructions per state and step. What binds is issuing
// these (2.8 of 4 a clock at B32 T1024 E2048 N16: 0.69 ms, exponentials alone 0.29). Where the blocks do not fill the device, time is cut into
// segments: each runs from zero (its last state and the sum of its steps), one short pass carries the states over the segments, then every
// segment runs from its true start. Backward is in selective_scan_gpu_back.hpp.
#pragma once
#define SSM_SCAN_ON_REGISTERS
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "lib/gpu_tile.hpp"
#include "lib/warp.hpp"
#include "ops/selective_scan_kernels.hpp"

namespace ssm::selective_scan_op {

constexpr int kMostStates = 64;  // above that the simple kernels run
constexpr int kGroup = 4;        // steps whose sums over lanes are made together
// Blocks below which time is cut, until as many stand as an H200 holds. A segment's first run costs a forward pass its exponentials again;
// backward has fewer threads a processor, and gains earlier. B8 T4096 E1024 N16, 256 blocks: whole 0.51 and 1.57 ms, cut 0.60 and 1.45.
constexpr Index kBlocksForward = 200, kBlocksBackward = 300, kBlocksWanted = 512;

// S states of a channel on L lanes; a block of 128 threads has kChannels channels. Rows on chip are padded: 4 rows fall on 32 banks.
template <int L, int Q>
struct Lanes {
  static constexpr int kLanes = L, kOwn = Q, S = L * Q, kChannels = gpu_tile::kThreads / L, kLd = kChannels + 8;
  static_assert(L >= kGroup);
};

// How channels and time are handed out.
struct Cut {
  int lanes, own;
  Index groups, segments, length;  // groups of channels; segments of `length` steps, a multiple of kChunk

  Cut(Index B, Index T, Index E, Index N, bool back)
      : lanes(N <= 16   ? 4
              : N <= 32 ? 8
                        : 16),
        own(N <= 8 ? 2 : 4),
        groups(groups_of(E, lanes)) {
    const Index blocks = B * groups, most = std::max<Index>(1, T / (8 * kChunk));
    const Index cut = blocks < (back ? kBlocksBackward : kBlocksForward) ? std::min(kBlocksWanted / blocks, most) : 1;
    length = ((T + cut - 1) / cut + kChunk - 1) / kChunk * kChunk;
    segments = (T + length - 1) / length;
  }
  static Index groups_of(Index E, int lanes) {
    const Index channels = gpu_tile::kThreads / lanes;
    return (E + channels - 1) / channels;
  }
};

// Whether rows may travel 16 bytes at a time, of (.., E) and of (.., N) arrays, and what of B and C are no rows but parameters.
struct Copies {
  bool channels, states, B_own, C_own;

  Copies(const Inputs& p, bool B_parameter, bool C_parameter, const Real* dy = nullptr)
      : channels(fit(p.E, p.u) && fit(p.E, p.raw) && fit(p.E, p.z) && fit(p.E, dy)),
        states((B_parameter || fit(p.N, p.B)) && (C_parameter || fit(p.N, p.C))),
        B_own(B_parameter),
        C_own(C_parameter) {}
  static bool fit(Index width, const Real* p) { return width % 4 == 0 && reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }
};

// f(Lanes<L,Q>{}, whether both B and C are rows) of the form that a cut chose.
template <class F>
void with_lanes(const Cut& c, const Copies& by, const F& f) {
  const auto of = [&](auto form) {
    if (by.B_own || by.C_own) f(form, std::false_type{});
    else f(form, std::true_type{});
  };
  if (c.own == 2) of(Lanes<4, 2>{});
  else if (c.lanes == 4) of(Lanes<4, 4>{});
  else if (c.lanes == 8) of(Lanes<8, 4>{});
  else of(Lanes<16, 4>{});
}

// Where a thread stands: sequence b, segment, channel e = first + channel, lane of it, steps [begin, end). The blocks of a sequence are those of
// `segments` segments from `earliest` on.
template <class Form>
struct Place {
  Index b, segment, group, first, e, begin, end, columns;
  int channel, lane;
  bool live;

  __device__ Place(Index block, int thread, const Inputs& p, Index groups, Index segments, Index length, Index earliest = 0) {
    const Index row = block / groups;
    group = block - row * groups, b = row / segments, segment = earliest + row - b * segments;
    first = group * Form::kChannels, columns = p.E - first < Form::kChannels ? p.E - first : Form::kChannels;
    channel = thread / Form::kLanes, lane = thread % Form::kLanes;
    live = channel < columns;
    e = first + (live ? channel : 0);
    begin = segment * length, end = begin + length < p.T ? begin + length : p.T;
  }
};

// Q neighbours that travel in one load.
template <int Q>
struct alignas(Q * sizeof(Real)) Neighbours {
  Real v[Q];
};
template <int Q>
__device__ void read_own(const Real* from, Real (&to)[Q]) {
  const auto all = *reinterpret_cast<const Neighbours<Q>*>(from);
  SSM_UNROLL
  for (int j = 0; j < Q; ++j) to[j] = all.v[j];
}

// own[j] = entry lane Q + j of row e of an (E,N) array, 0 beyond N
template <class Form, int Q>
__device__ void load_states(const Real* from, const Place<Form>& at, Index N, Real (&own)[Q]) {
  if (N == Form::S) return read_own(from + at.e * N + at.lane * Q, own);
  SSM_UNROLL
  for (int j = 0; j < Q; ++j) own[j] = at.lane * Q + j < N ? from[at.e * N + at.lane * Q + j] : Real(0);
}
template <class Form, int Q>
__device__ void store_states(Real* to, const Place<Form>& at, Index N, const Real (&own)[Q]) {
  if (!at.live) return;
  if (N == Form::S) {
    Neighbours<Q> all;
    SSM_UNROLL
    for (int j = 0; j < Q; ++j) all.v[j] = own[j];
    *reinterpret_cast<Neighbours<Q>*>(to + at.e * N + at.lane * Q) = all;
    return;
  }
  SSM_UNROLL
  for (int j = 0; j < Q; ++j)
    if (at.lane * Q + j < N) to[at.e * N + at.lane * Q + j] = own[j];
}
template <class Form, int Q>
__device__ void load_rates(const Inputs& p, const Place<Form>& at, Real (&A)[Q]) {
  load_states(p.A_log, at, p.N, A);
  SSM_UNROLL
  for (int j = 0; j < Q; ++j) A[j] = at.lane * Q + j < p.N ? -kLog2e * fast_exp(A[j]) : Real(0);
}

// A parameter (E,N) of the block's channels, zeros beyond; to (kChannels,S)
template <class Form>
__device__ void keep_parameter(const Real* from, const Place<Form>& at, Index N, int thread, Real* to) {
  for (int i = thread; i < Form::kChannels * Form::S; i += gpu_tile::kThreads) {
    const int c = i / Form::S, k = i - c * Form::S;
    to[i] = k < N && c < at.columns ? from[(at.first + c) * N + k] : Real(0);
  }
}

// v[0] = the sum over a channel's lanes of v[step_of(lane)]: four sums, each on L/4 lanes.
template <int L>
__device__ Real sum_of_lanes(Real (&v)[kGroup], int lane) {
  const bool high = lane & (L / 2), low = lane & (L / 4);
  const Real give0 = high ? v[0] : v[2], give1 = high ? v[1] : v[3];
  Real a = (high ? v[2] : v[0]) + shuffle_xor(give0, L / 2), b = (high ? v[3] : v[1]) + shuffle_xor(give1, L / 2);
  const Real give = low ? a : b;
  a = (low ? b : a) + shuffle_xor(give, L / 4);
  SSM_UNROLL
  for (int other = L / 8; other > 0; other /= 2) a += shuffle_xor(a, other);
  return a;
}
template <int L>
__device__ int step_of(int lane) {
  return lane / (L / 4);
}
template <int L>
__device__ bool leads(int lane) {
  return lane % (L / 4) == 0;
}

// kEnds: ends (B,segments,E,N) = the last state of every segment but the last from zero, steps (B,segments,E) = sums of delta. Else y, from the
// states in `ends` where time is cut. kRowsOnly: neither B nor C is a parameter, so that every row on chip lies at a constant place.
template <class Form, bool kEnds, bool kRowsOnly>
struct ForwardCut {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 6, L = Form::kLanes, Q = Form::kOwn, S = Form::S, C = Form::kChannels,
                       kLd = Form::kLd, kChunkRows = static_cast<int>(kChunk), kRows = 2 * kChunkRows;  // steps of a tile
  static constexpr int kPlane = kRows * kLd, kStage = 3 * kPlane + 2 * kRows * S, kParameters = kRowsOnly ? 0 : 2 * C * S;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kStage + kParameters);
  Inputs p;
  Index groups, segments, length;
  Copies by;
  Real *y, *ends, *steps;

  __device__ bool B_own() const { return !kRowsOnly && by.B_own; }
  __device__ bool C_own() const { return !kRowsOnly && by.C_own; }

  __device__ void fetch(const Place<Form>& at, Index t, int thread, Real* tile) const {
    const int count = static_cast<int>(at.end - t < kRows ? at.end - t : kRows), columns = static_cast<int>(at.columns);
    const Index row = at.b * p.T + t;
    Real* rows = tile + 3 * kPlane;
    gpu_tile::copy_tiles<kRows, C, 3>(thread, {p.u, p.raw, kEnds ? nullptr : p.z}, row * p.E + at.first, p.E, count, columns, by.channels,
                                      {tile, tile + kPlane, tile + 2 * kPlane}, kLd);
    gpu_tile::copy_tiles<kRows, S, 2>(thread, {B_own() ? nullptr : p.B, C_own() || kEnds ? nullptr : p.C}, row * p.N, p.N, count,
                                      static_cast<int>(p.N), by.states, {rows, rows + kRows * S}, S);
  }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Place<Form> at(block, thread, p, groups, kEnds ? segments - 1 : segments, length);
    const Index E = p.E, N = p.N, own = at.b * segments + at.segment;
    Real* parameters = memory + 2 * kStage;
    if (B_own()) keep_parameter<Form>(p.B, at, N, thread, parameters);
    if (C_own()) keep_parameter<Form>(p.C, at, N, thread, parameters + C * S);
    fetch(at, at.begin, thread, memory);
    gpu_tile::copies_end();
    Real A[Q], h[Q], total = 0;
    load_rates(p, at, A);
    SSM_UNROLL
    for (int j = 0; j < Q; ++j) h[j] = 0;
    if (!kEnds && ends) load_states(ends + own * E * N, at, N, h);
    const Real skip = p.D[at.e];

    int stage = 0;
    for (Index t = at.begin; t < at.end; t += kRows, stage ^= 1) {
      Real *tile = memory + stage * kStage, *delta = tile + kPlane;
      gpu_tile::copies_wait<0>();
      __syncthreads();
      if (t + kRows < at.end) fetch(at, t + kRows, thread, memory + (stage ^ 1) * kStage);
      gpu_tile::copies_end();
      const int count = static_cast<int>(at.end - t < kRows ? at.end - t : kRows);
      const Real bias = p.bias[thread % C < at.columns ? at.first + thread % C : at.first];
      SSM_UNROLL
      for (int q = thread / C; q < kRows; q += kThreads / C) {
        Real& d = delta[q * kLd + thread % C];
        d = q < count ? softplus((p.raw ? d : Real(0)) + bias) : Real(0);
      }
      __syncthreads();
      SSM_ROLLED
      for (int s = 0; s < count; s += kChunkRows) {
        if (!kEnds && p.boundary) store_states(p.boundary + (at.b * p.chunks + (t + s) / kChunk) * E * N, at, N, h);
        const Real *Bs = B_own() ? parameters + at.channel * S : tile + 3 * kPlane + s * S,
                   *Cs = C_own() ? parameters + (C + at.channel) * S : tile + 3 * kPlane + (kRows + s) * S;
        walk(at, y + (at.b * p.T + t + s) * E + at.e, count - s, tile + s * kLd + at.channel, Bs + at.lane * Q, Cs + at.lane * Q, A, skip,
             h, total);
      }
    }
    if (!kEnds) return;
    store_states(ends + own * E * N, at, N, h);
    if (at.live && at.lane == 0) steps[own * E + at.e] = total;
  }

  // A chunk of steps, of which `count` are there.
  __device__ void walk(const Place<Form>& at, Real* to, int count, const Real* u, const Real* Bs, const Real* Cs, const Real (&A)[Q],
                       Real skip, Real (&h)[Q], Real& total) const {
    const Real *delta = u + kPlane, *z = u + 2 * kPlane;
    const int mine = step_of<L>(at.lane), wide = static_cast<int>(p.E), step_B = B_own() ? 0 : S, step_C = C_own() ? 0 : S;
    const bool leader = leads<L>(at.lane) && at.live;
    SSM_UNROLL
    for (int s = 0; s < kChunkRows; s += kGroup) {
      Real v[kGroup];
      SSM_UNROLL
      for (int q = 0; q < kGroup; ++q) {
        Real Bt[Q], Ct[Q];
        read_own(Bs + (s + q) * step_B, Bt);
        if (!kEnds) read_own(Cs + (s + q) * step_C, Ct);
        const Real d = delta[(s + q) * kLd], du = d * u[(s + q) * kLd];
        if (kEnds) total += d;
        v[q] = 0;
        SSM_UNROLL
        for (int j = 0; j < Q; ++j) {
          h[j] = exp2_device(d * A[j]) * h[j] + du * Bt[j];
          if (!kEnds) v[q] += h[j] * Ct[j];
        }
      }
      if (kEnds) continue;
      const int row = s + mine;
      const Real all = sum_of_lanes<L>(v, at.lane) + skip * u[row * kLd], gate = p.z ? silu(z[row * kLd]) : Real(1);
      if (leader && row < count) to[row * wide] = all * gate;
    }
  }
};

// ends: from the last (or, backward, first) states of segments alone to the states that segments start from, in place. What it reads of the
// segment that time reaches last goes nowhere.
inline void carry(const Run& r, const Inputs& p, Index B, Index segments, bool back, const Real* steps, Real* ends) {
  const Index row = p.E * p.N, N = p.N, E = p.E;
  const Real* A_log = p.A_log;
  launch(
      "ssm::selective_scan_carry", r, B * row, KOKKOS_LAMBDA(const Index i) {
        const Index b = i / row, own = i - b * row;
        const Real A = -kLog2e * fast_exp(A_log[own]);
        Real h = 0;
        constexpr int kAtOnce = 8;
        for (Index k0 = 0; k0 < segments; k0 += kAtOnce) {
          Real last[kAtOnce], decay[kAtOnce];
          for (int j = 0; j < kAtOnce; ++j) {
            const Index k = k0 + j < segments ? k0 + j : segments - 1, s = b * segments + (back ? segments - 1 - k : k);
            last[j] = ends[s * row + own];
            decay[j] = exp2_device(A * steps[s * E + own / N]);
          }
          for (int j = 0; j < kAtOnce && k0 + j < segments; ++j) {
            const Index s = b * segments + (back ? segments - 1 - k0 - j : k0 + j);
            ends[s * row + own] = h;
            h = decay[j] * h + last[j];
          }
        }
      });
}

// Reals of scratch: states and steps of segments.
inline Index cut_scratch(const Cut& cut, Index B, Index E, Index N) { return cut.segments > 1 ? B * cut.segments * E * (N + 1) : 0; }

inline void cut_forward(bool B_own, bool C_own, const Run& r, const Inputs& p, Index B, Real* y) {
  const Cut cut(B, p.T, p.E, p.N, false);
  Real *ends = cut.segments > 1 ? p.work : nullptr, *steps = ends ? ends + B * cut.segments * p.E * p.N : nullptr;
  const Copies by(p, B_own, C_own);
  const Index blocks = B * cut.segments * cut.groups;
  with_lanes(cut, by, [&](auto form, auto rows_only) {
    using Ends = ForwardCut<decltype(form), true, decltype(rows_only)::value>;
    using All = ForwardCut<decltype(form), false, decltype(rows_only)::value>;
    if (ends) {
      launch_shared("ssm::selective_scan_ends", r, blocks - B * cut.groups, Ends::kBytes,
                    Ends{p, cut.groups, cut.segments, cut.length, by, nullptr, ends, steps});
      carry(r, p, B, cut.segments, false, steps, ends);
    }
    launch_shared("ssm::selective_scan", r, blocks, All::kBytes, All{p, cut.groups, cut.segments, cut.length, by, y, ends, steps});
  });
}

}  // namespace ssm::selective_scan_op
