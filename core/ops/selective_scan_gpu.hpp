// selective_scan_gpu.hpp - the recurrence on a GPU: one thread per channel, its states in registers, B and C of a few steps on chip.
//
// Where B E channels do not fill the device, time is cut into segments. Every segment runs from zero (its last state and the sum of its
// steps), one short pass carries the states over the segments, then every segment runs again from its true start and writes y.
// Backward is in selective_scan_gpu_back.hpp. Exponentials bind: one per state and step (twice where time is cut), 16 a clock and processor.
#pragma once
#define SSM_SCAN_ON_REGISTERS
#include <algorithm>

#include "lib/team_capture.hpp"
#include "lib/warp.hpp"
#include "ops/selective_scan_kernels.hpp"

namespace ssm::selective_scan_op {

constexpr int kThreads = 64;     // channels of a team at most
constexpr int kRows = 4;         // steps whose rows are in flight at once
constexpr int kMostStates = 16;  // states a thread keeps; above that the simple kernels run
constexpr Index kTeamsWanted = 2048;

// How channels and time are handed out.
struct Cut {
  int threads;
  Index groups, segments, length;  // groups of channels; segments of `length` steps, a multiple of kChunk

  Cut(Index B, Index T, Index E)
      : threads(static_cast<int>(std::min<Index>(kThreads, round_to_warp(E)))), groups((E + threads - 1) / threads) {
    const Index wanted = std::max<Index>(1, kTeamsWanted / (B * groups)), most = std::max<Index>(1, T / (4 * kChunk));
    const Index cut = std::min(wanted, most);
    length = ((T + cut - 1) / cut + kChunk - 1) / kChunk * kChunk;
    segments = (T + length - 1) / length;
  }
  static Index round_to_warp(Index n) { return (n + kWarp - 1) / kWarp * kWarp; }
};

template <int blocks>
using Teams = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>, Kokkos::LaunchBounds<kThreads, blocks>>;
using Member = Teams<1>::member_type;

// blocks: how many a processor is to hold, which limits the registers of a thread.
template <int blocks, class F>
void launch_cut(const char* label, const Run& r, const Cut& cut, Index B, const F& f) {
  fits_team<F>();
  const Teams<blocks> policy(r.exec.space, static_cast<int>(B * cut.segments * cut.groups), cut.threads);
  Kokkos::parallel_for(kernel_name(label), policy, f);
}

// Where a thread stands: sequence b, segment, channel e (clamped to the last one where `live` is false), steps [begin, end).
struct Place {
  Index b, segment, e, begin, end;
  int thread;
  bool live;

  KOKKOS_FORCEINLINE_FUNCTION Place(const Member& m, const Inputs& p, Index groups, Index segments, Index length) {
    const Index item = m.league_rank(), group = item % groups, row = item / groups;
    b = row / segments, segment = row - b * segments;
    thread = m.team_rank();
    const Index own = group * m.team_size() + thread;
    live = own < p.E;
    e = live ? own : p.E - 1;
    begin = segment * length;
    end = begin + length < p.T ? begin + length : p.T;
  }
};

// to (steps, S) on chip = rows [t, t + steps) of from (T, N), zeros beyond N and beyond `end`.
template <int S>
KOKKOS_FORCEINLINE_FUNCTION void load_rows(const Member& m, const Real* from, Index N, Index t, Index end, int steps, Real* to) {
  for (int i = m.team_rank(); i < steps * S; i += m.team_size()) {
    const int q = i / S, k = i - q * S;
    to[i] = k < N && t + q < end ? from[(t + q) * N + k] : Real(0);
  }
}

// own[k] = entry k of channel e of an (E,N) array, zeros beyond N
template <int S>
KOKKOS_FORCEINLINE_FUNCTION void load_own(const Real* from, Index e, Index N, Real (&own)[S]) {
  SSM_UNROLL
  for (int k = 0; k < S; ++k) own[k] = k < N ? from[e * N + k] : Real(0);
}
template <int S>
KOKKOS_FORCEINLINE_FUNCTION void load_rates(const Inputs& p, Index e, Real (&A)[S]) {
  SSM_UNROLL
  for (int k = 0; k < S; ++k) A[k] = k < p.N ? -kLog2e * fast_exp(p.A_log[e * p.N + k]) : Real(0);
}

// One row of S numbers on chip, in registers.
template <int S>
KOKKOS_FORCEINLINE_FUNCTION void read_row(const Real* from, Real (&to)[S]) {
  const Four* four = reinterpret_cast<const Four*>(from);
  SSM_UNROLL
  for (int k = 0; k < S / 4; ++k) {
    const Four part = four[k];
    SSM_UNROLL
    for (int j = 0; j < 4; ++j) to[4 * k + j] = part.v[j];
  }
}

// ends (B,segments,E,N): without y, the last state of every segment from zero; with y, the state that a segment starts from.
// steps (B,segments,E): sum of delta. Both null where time is whole.
template <int S, bool kB, bool kC>
struct ForwardCut {
  Inputs p;
  Index groups, segments, length;
  Real *y, *ends, *steps;

  KOKKOS_FUNCTION void operator()(const Member& m) const {
    const Place at(m, p, groups, segments, length);
    const Index E = p.E, N = p.N;
    alignas(16) SSM_ON_CHIP Real on_chip[2 * kRows * S];
    Real A[S], h[S], own_B[S], own_C[S], total = 0;
    load_rates(p, at.e, A);
    if (kB) load_own(p.B, at.e, N, own_B);
    if (kC) load_own(p.C, at.e, N, own_C);
    SSM_UNROLL
    for (int k = 0; k < S; ++k) h[k] = 0;
    Real* end = ends ? ends + ((at.b * segments + at.segment) * E + at.e) * N : nullptr;
    if (y && end) load_own(ends + (at.b * segments + at.segment) * E * N, at.e, N, h);
    const Real bias = p.bias[at.e], skip = p.D[at.e];

    for (Index t = at.begin; t < at.end; t += kRows) {
      m.team_barrier();
      if (!kB) load_rows<S>(m, p.B + at.b * p.T * N, N, t, at.end, kRows, on_chip);
      if (!kC && y) load_rows<S>(m, p.C + at.b * p.T * N, N, t, at.end, kRows, on_chip + kRows * S);
      const Index first = (at.b * p.T + t) * E + at.e;
      Real u[kRows], delta[kRows], z[kRows];
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        const bool there = t + q < at.end;
        u[q] = there ? p.u[first + q * E] : Real(0);
        delta[q] = there && p.raw ? p.raw[first + q * E] : Real(0);
        z[q] = there && p.z && y ? p.z[first + q * E] : Real(0);
      }
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) delta[q] = t + q < at.end ? softplus(delta[q] + bias) : Real(0);
      m.team_barrier();
      if (y && p.boundary && t % kChunk == 0 && at.live) {
        Real* to = p.boundary + ((at.b * p.chunks + t / kChunk) * E + at.e) * N;
        SSM_UNROLL
        for (int k = 0; k < S; ++k)
          if (k < N) to[k] = h[k];
      }
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        Real B[S], C[S];
        if (!kB) read_row(on_chip + q * S, B);
        if (!kC && y) read_row(on_chip + (kRows + q) * S, C);
        const Real du = delta[q] * u[q];
        Real sum[4] = {skip * u[q], 0, 0, 0};
        total += delta[q];
        SSM_UNROLL
        for (int k = 0; k < S; ++k) {
          h[k] = exp2_device(delta[q] * A[k]) * h[k] + du * (kB ? own_B[k] : B[k]);
          if (y) sum[k % 4] += h[k] * (kC ? own_C[k] : C[k]);
        }
        if (y && at.live && t + q < at.end) {
          const Real all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
          y[first + q * E] = p.z ? all * silu(z[q]) : all;
        }
      }
    }
    if (!y && at.live) {
      steps[(at.b * segments + at.segment) * E + at.e] = total;
      SSM_UNROLL
      for (int k = 0; k < S; ++k)
        if (k < N) end[k] = h[k];
    }
  }
};

// ends: from the last (or, backward, first) states of segments alone to the states that segments start from, in place.
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

template <int S, bool kB, bool kC>
void forward_states(const Run& r, const Inputs& p, Index B, const Cut& cut, Real* y) {
  Real *ends = cut.segments > 1 ? p.work : nullptr, *steps = ends ? ends + B * cut.segments * p.E * p.N : nullptr;
  if (ends) {
    launch_cut<8>("ssm::selective_scan_ends", r, cut, B,
                  ForwardCut<S, kB, kC>{p, cut.groups, cut.segments, cut.length, nullptr, ends, steps});
    carry(r, p, B, cut.segments, false, steps, ends);
  }
  launch_cut<8>("ssm::selective_scan", r, cut, B, ForwardCut<S, kB, kC>{p, cut.groups, cut.segments, cut.length, y, ends, steps});
}

template <bool kB, bool kC>
void cut_forward(Kinds<kB, kC>, const Run& r, const Inputs& p, Index B, Real* y) {
  const Cut cut(B, p.T, p.E);
  if (p.N <= 8) forward_states<8, kB, kC>(r, p, B, cut, y);
  else forward_states<kMostStates, kB, kC>(r, p, B, cut, y);
}

}  // namespace ssm::selective_scan_op
