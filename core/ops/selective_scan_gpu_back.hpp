// selective_scan_gpu_back.hpp - the way back of selective_scan_gpu.hpp: chunks of kChunk steps from the end, each run again from its saved
// state. One thread per channel; the states of kSub steps are in registers, those that sub-chunks start from on chip.
//
// dB and dC sum over channels: 32 lanes exchange halves (sum_over_lanes), the warps of a team add up on chip in order, and every group of
// channels leaves its own partial sums for selective_scan.cpp to add. Per state and step: 3 exponentials, about 20 operations, 2 exchanges.
#pragma once
#include "ops/selective_scan_gpu.hpp"

namespace ssm::selective_scan_op {

constexpr int kSub = 4, kSubs = static_cast<int>(kChunk) / kSub, kChunkRows = static_cast<int>(kChunk);

// What one team keeps on chip, 39 KiB for 16 states; every thread its own column but for the rows of B and C and the sums of warps.
template <int S>
struct OnChip {
  static constexpr int V = 2 * S;  // dB and dC of a step
  alignas(16) Real B[kChunkRows * S], C[kChunkRows * S];
  Real start[kSubs][S][kThreads], delta[kChunkRows][kThreads], slope[kChunkRows][kThreads], u[kChunkRows][kThreads],
      dy[kChunkRows][kThreads];
  Real sums[kThreads / kWarp][kChunkRows * V];
};

// Gradient of the ungated output, and z's own gradient where `sum` is that output.
SSM_FN Real gated(Real dy, Real z, Real s) { return dy * z * s; }
SSM_FN Real gate_slope(Real z, Real s) { return s * (Real(1) + z * (Real(1) - s)); }

// ends (B,segments,E,N) = lambda before the first step of a segment that starts from 0 behind its end; steps (B,segments,E) = sum of delta.
template <int S, bool kC>
struct LambdaCut {
  Inputs p;
  const Real* dy;
  Index groups, segments, length;
  Real *ends, *steps;

  KOKKOS_FUNCTION void operator()(const Member& m) const {
    const Place at(m, p, groups, segments, length);
    const Index E = p.E, N = p.N;
    alignas(16) SSM_ON_CHIP Real on_chip[kRows * S];
    Real A[S], lambda[S], own_C[S], total = 0;
    load_rates(p, at.e, A);
    if (kC) load_own(p.C, at.e, N, own_C);
    SSM_UNROLL
    for (int k = 0; k < S; ++k) lambda[k] = 0;
    const Real bias = p.bias[at.e];
    for (Index t = at.begin + (at.end - at.begin - 1) / kRows * kRows; t >= at.begin; t -= kRows) {
      m.team_barrier();
      if (!kC) load_rows<S>(m, p.C + at.b * p.T * N, N, t, at.end, kRows, on_chip);
      const Index first = (at.b * p.T + t) * E + at.e;
      Real g[kRows], delta[kRows], z[kRows];
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        const bool there = t + q < at.end;
        g[q] = there ? dy[first + q * E] : Real(0);
        delta[q] = there && p.raw ? p.raw[first + q * E] : Real(0);
        z[q] = there && p.z ? p.z[first + q * E] : Real(0);
      }
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        delta[q] = t + q < at.end ? softplus(delta[q] + bias) : Real(0);
        if (p.z) g[q] = gated(g[q], z[q], sigmoid(z[q]));
        total += delta[q];
      }
      m.team_barrier();
      SSM_UNROLL
      for (int q = kRows - 1; q >= 0; --q) {
        Real C[S];
        if (!kC) read_row(on_chip + q * S, C);
        SSM_UNROLL
        for (int k = 0; k < S; ++k) lambda[k] = exp2_device(delta[q] * A[k]) * (lambda[k] + (kC ? own_C[k] : C[k]) * g[q]);
      }
    }
    if (!at.live) return;
    const Index own = (at.b * segments + at.segment) * E + at.e;
    steps[own] = total;
    SSM_UNROLL
    for (int k = 0; k < S; ++k)
      if (k < N) ends[own * N + k] = lambda[k];
  }
};

template <int S, bool kB, bool kC>
struct BackwardCut {
  Inputs p;
  Outputs o;
  const Real* ends;  // lambda behind the end of every segment, null where time is whole
  Index groups, segments, length;

  // What a thread carries from chunk to chunk.
  struct Carried {
    Real A[S], lambda[S], dA[S], B[kB ? S : 1], C[kC ? S : 1], dB[kB ? S : 1], dC[kC ? S : 1];
    Real bias, skip, dD = 0, dbias = 0;
  };

  KOKKOS_FUNCTION void operator()(const Member& m) const {
    const Place at(m, p, groups, segments, length);
    const Index N = p.N, row = (at.b * segments + at.segment) * p.E + at.e;
    SSM_ON_CHIP OnChip<S> chip;
    Carried c;
    load_rates(p, at.e, c.A);
    if constexpr (kB) load_own(p.B, at.e, N, c.B);
    if constexpr (kC) load_own(p.C, at.e, N, c.C);
    c.bias = p.bias[at.e], c.skip = p.D[at.e];
    SSM_UNROLL
    for (int k = 0; k < S; ++k) {
      c.lambda[k] = ends && k < N ? ends[row * N + k] : Real(0);
      c.dA[k] = 0;
      if constexpr (kB) c.dB[k] = 0;
      if constexpr (kC) c.dC[k] = 0;
    }
    for (Index t = at.begin + (at.end - at.begin - 1) / kChunk * kChunk; t >= at.begin; t -= kChunk) {
      m.team_barrier();
      if (!kB) load_rows<S>(m, p.B + at.b * p.T * N, N, t, at.end, kChunkRows, chip.B);
      if (!kC) load_rows<S>(m, p.C + at.b * p.T * N, N, t, at.end, kChunkRows, chip.C);
      m.team_barrier();
      again(at, c, chip, t);
      for (int sub = kSubs - 1; sub >= 0; --sub) back(at, c, chip, t, sub);
      m.team_barrier();
      add_up(m, at, chip, t);
    }
    if (!at.live) return;
    Real* sums = o.partial + row * sums_of_channel(N);
    SSM_UNROLL
    for (int k = 0; k < S; ++k)
      if (k < N) {
        sums[k] = c.dA[k] * kLn2 * c.A[k];
        if constexpr (kB) sums[N + 2 + k] = c.dB[k];
        if constexpr (kC) sums[2 * N + 2 + k] = c.dC[k];
      }
    sums[N] = c.dD;
    sums[N + 1] = c.dbias;
  }

  // The chunk forward: rows of delta, its slope, u and the ungated dy on chip, the states that sub-chunks start from, and dz.
  KOKKOS_FORCEINLINE_FUNCTION void again(const Place& at, const Carried& c, OnChip<S>& chip, Index t0) const {
    const Index E = p.E, N = p.N;
    Real h[S];
    load_own(p.boundary + (at.b * p.chunks + t0 / kChunk) * E * N, at.e, N, h);
    SSM_ROLLED
    for (int half = 0; half < kChunkRows; half += kRows) {
      const Index first = (at.b * p.T + t0 + half) * E + at.e;
      Real u[kRows], raw[kRows], z[kRows], dy[kRows];
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        const bool there = t0 + half + q < at.end;
        u[q] = there ? p.u[first + q * E] : Real(0);
        raw[q] = there && p.raw ? p.raw[first + q * E] : Real(0);
        z[q] = there && p.z ? p.z[first + q * E] : Real(0);
        dy[q] = there ? o.dy[first + q * E] : Real(0);
      }
      SSM_UNROLL
      for (int q = 0; q < kRows; ++q) {
        const int place = half + q;
        const bool there = t0 + place < at.end;
        if (q % kSub == 0) {
          SSM_UNROLL
          for (int k = 0; k < S; ++k) chip.start[place / kSub][k][at.thread] = h[k];
        }
        const Real x = raw[q] + c.bias, delta = there ? softplus(x) : Real(0), du = delta * u[q];
        Real sum = c.skip * u[q];
        SSM_UNROLL
        for (int four = 0; four < S / 4; ++four) {
          const Four Bt = reinterpret_cast<const Four*>(chip.B + place * S)[four],
                     Ct = reinterpret_cast<const Four*>(chip.C + place * S)[four];
          SSM_UNROLL
          for (int j = 0; j < 4; ++j) {
            const int k = 4 * four + j;
            h[k] = exp2_device(delta * c.A[k]) * h[k] + du * (kB ? c.B[kB ? k : 0] : Bt.v[j]);
            sum += h[k] * (kC ? c.C[kC ? k : 0] : Ct.v[j]);
          }
        }
        if (p.z) {
          const Real s = sigmoid(z[q]);
          if (there && at.live) o.dz(first + q * E, dy[q] * sum * gate_slope(z[q], s));
          dy[q] = gated(dy[q], z[q], s);
        }
        chip.delta[place][at.thread] = delta, chip.slope[place][at.thread] = softplus_slope(x);
        chip.u[place][at.thread] = u[q], chip.dy[place][at.thread] = at.live ? dy[q] : Real(0);
      }
    }
  }

  // kSub steps forward once more, their states in registers, then back.
  KOKKOS_FORCEINLINE_FUNCTION void back(const Place& at, Carried& c, OnChip<S>& chip, Index t0, int sub) const {
    constexpr int V = OnChip<S>::V;
    const int lane = at.thread % kWarp, warp = at.thread / kWarp;
    Real h[kSub][S], delta[kSub], u[kSub];
    SSM_UNROLL
    for (int q = 0; q < kSub; ++q) {
      const int place = sub * kSub + q;
      delta[q] = chip.delta[place][at.thread], u[q] = chip.u[place][at.thread];
      const Real du = delta[q] * u[q];
      SSM_UNROLL
      for (int four = 0; four < S / 4; ++four) {
        const Four Bt = reinterpret_cast<const Four*>(chip.B + place * S)[four];
        SSM_UNROLL
        for (int j = 0; j < 4; ++j) {
          const int k = 4 * four + j;
          const Real before = q ? h[q ? q - 1 : 0][k] : chip.start[sub][k][at.thread];
          h[q][k] = exp2_device(delta[q] * c.A[k]) * before + du * (kB ? c.B[kB ? k : 0] : Bt.v[j]);
        }
      }
    }
    SSM_UNROLL
    for (int q = kSub - 1; q >= 0; --q) {
      const int place = sub * kSub + q;
      const Real dy = chip.dy[place][at.thread], du = delta[q] * u[q];
      Real along_B = 0, along_A = 0, v[V];
      SSM_UNROLL
      for (int four = 0; four < S / 4; ++four) {
        const Four Bt = reinterpret_cast<const Four*>(chip.B + place * S)[four],
                   Ct = reinterpret_cast<const Four*>(chip.C + place * S)[four];
        SSM_UNROLL
        for (int j = 0; j < 4; ++j) {
          const int k = 4 * four + j;
          const Real B = kB ? c.B[kB ? k : 0] : Bt.v[j], full = c.lambda[k] + (kC ? c.C[kC ? k : 0] : Ct.v[j]) * dy;
          const Real old = full * (h[q][k] - du * B);
          along_B += full * B;
          along_A += old * c.A[k];
          c.dA[k] += delta[q] * old;
          c.lambda[k] = exp2_device(delta[q] * c.A[k]) * full;
          v[k] = at.live ? full * du : Real(0), v[S + k] = dy * h[q][k];
          if constexpr (kB) c.dB[k] += full * du;
          if constexpr (kC) c.dC[k] += dy * h[q][k];
        }
      }
      if (!kB || !kC) {
        sum_over_lanes(v, lane);
        if (lane < V) chip.sums[warp][place * V + lane] = v[0];
      }
      const Real draw = (u[q] * along_B + kLn2 * along_A) * chip.slope[place][at.thread];
      c.dD += dy * u[q];
      const Index t = t0 + place;
      if (t < at.end) {
        c.dbias += draw;
        if (at.live) {
          const Index i = (at.b * p.T + t) * p.E + at.e;
          o.du(i, c.skip * dy + delta[q] * along_B);
          if (p.raw) o.draw(i, draw);
        }
      }
    }
  }

  // The warps' sums of dB and dC, in order, to the partial sums of this group of channels.
  KOKKOS_FORCEINLINE_FUNCTION void add_up(const Member& m, const Place& at, OnChip<S>& chip, Index t0) const {
    constexpr int V = OnChip<S>::V;
    const int warps = m.team_size() / kWarp;
    const Index group = m.league_rank() % groups;
    for (int i = m.team_rank(); i < kChunkRows * V; i += m.team_size()) {
      const int q = i / V, v = i - q * V, k = v % S;
      if (k >= p.N || t0 + q >= at.end || (v < S ? kB : kC)) continue;
      Real sum = chip.sums[0][i];
      for (int warp = 1; warp < warps; ++warp) sum += chip.sums[warp][i];
      (v < S ? o.dB : o.dC)[((group * o.batch + at.b) * p.T + t0 + q) * p.N + k] = sum;
    }
  }
};

template <int S, bool kB, bool kC>
void backward_states(const Run& r, const Inputs& p, const Outputs& o, Index B, const Cut& cut) {
  Real *ends = cut.segments > 1 ? p.work : nullptr, *steps = ends ? ends + B * cut.segments * p.E * p.N : nullptr;
  if (ends) {
    launch_cut<8>("ssm::selective_scan_lambda", r, cut, B, LambdaCut<S, kC>{p, o.dy, cut.groups, cut.segments, cut.length, ends, steps});
    carry(r, p, B, cut.segments, true, steps, ends);
  }
  launch_cut<4>("ssm::selective_scan_back", r, cut, B, BackwardCut<S, kB, kC>{p, o, ends, cut.groups, cut.segments, cut.length});
}

template <bool kB, bool kC>
void cut_backward(Kinds<kB, kC>, const Run& r, const Inputs& p, const Outputs& o, Index B) {
  const Cut cut(B, p.T, p.E);
  if (p.N <= 8) backward_states<8, kB, kC>(r, p, o, B, cut);
  else backward_states<kMostStates, kB, kC>(r, p, o, B, cut);
}

}  // namespace ssm::selective_scan_op
