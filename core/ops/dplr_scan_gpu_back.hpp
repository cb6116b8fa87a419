// dplr_scan_gpu_back.hpp - the way back of dplr_scan_gpu.hpp: chunks of kChunk steps from the end, each run again from its saved state.
//
// Every lane keeps what a chunk takes and leaves in columns of its own on the chip (33 KiB a team), so that no barrier is needed. Four sums
// over the modes follow each other in a step, two of them when it runs again. Sums over the channels of a warp are exchanges; the warps of a
// head leave partial sums, which dplr_scan.cpp adds in order.
#pragma once
#include "ops/dplr_scan_back.hpp"
#include "ops/dplr_scan_gpu.hpp"

#if defined(SSM_DPLR_ON_LANES)
namespace ssm::dplr_scan_op {

constexpr int kSteps = static_cast<int>(kChunk);
static_assert(kSteps % kBatch == 0);

// Columns of lanes. h: before the first step of a chunk, and after every step.
struct ChunkColumns {
  Real re[kSteps + 1][kTeam], im[kSteps + 1][kTeam], alpha[kSteps][kTeam], beta[kSteps][kTeam];
  Real u[kSteps][kTeam], open[kSteps][kTeam], dy[kSteps][kTeam], delta[kSteps][kTeam];
};

template <int L, bool kMoving>
struct LanesBackward {
  Inputs i;
  Outputs o;
  Index warps;

  // What a chunk takes from memory, on its way while the chunk behind it is worked on.
  struct Ahead {
    Batch<kMoving> in[kSteps / kBatch];
    Real dy[kSteps];
    Cx h;
    KOKKOS_FORCEINLINE_FUNCTION void load(const LanesBackward& own, const Spot<L>& at, Index chunk) {
      const Inputs& inputs = own.i;
      const Index all = inputs.R * inputs.width;
      SSM_UNROLL
      for (int half = 0; half < kSteps / kBatch; ++half) in[half].load(inputs, at, chunk * kChunk + half * kBatch);
      SSM_UNROLL
      for (int q = 0; q < kSteps; ++q) {
        const Index t = chunk * kChunk + q;
        dy[q] = t < inputs.T && at.live ? own.o.dy[(at.b * inputs.T + t) * all + at.c] : Real(0);
      }
      const Real* from = inputs.boundary + (((at.b * inputs.chunks + chunk) * all + at.c) * inputs.M + at.mode) * 2;
      h = at.live ? Cx{from[0], from[1]} : Cx{0, 0};
    }
    KOKKOS_FORCEINLINE_FUNCTION void leave(ChunkColumns& chip, int thread) const {
      SSM_UNROLL
      for (int q = 0; q < kSteps; ++q) {
        const Batch<kMoving>& part = in[q / kBatch];
        chip.u[q][thread] = part.u[q % kBatch], chip.open[q][thread] = part.open[q % kBatch], chip.dy[q][thread] = dy[q];
        if constexpr (kMoving) chip.delta[q][thread] = part.delta[q % kBatch];
      }
      chip.re[0][thread] = h.re, chip.im[0][thread] = h.im;
    }
  };

  // What a lane carries from step to step, and its sums over time.
  struct Carried {
    OneMode k;
    Cx B, C, lambda{0, 0}, dB{0, 0}, dC{0, 0}, dD{0, 0}, dE{0, 0}, dP{0, 0}, dlambda{0, 0};
    Real r = 0, dr = 0, skip = 0, dskip = 0;
  };

  KOKKOS_FUNCTION void operator()(const LaneMember& m) const {
    const Spot<L> at(m, i, warps);
    if (!at.there) return;
    SSM_ON_CHIP ChunkColumns chip;
    Carried s{OneMode(i, at), at.of_channel(i, i.B), at.of_channel(i, i.C)};
    s.skip = at.mode == 0 && at.live ? i.D[at.c] : Real(0);
    if constexpr (!kMoving) s.r = s.k.template step<L>(i.delta[i.step_of(at.b, 0, at.head)]);
    Ahead ahead;
    ahead.load(*this, at, i.chunks - 1);
    SSM_ROLLED
    for (Index chunk = i.chunks - 1; chunk >= 0; --chunk) {
      ahead.leave(chip, at.thread);
      if (chunk > 0) ahead.load(*this, at, chunk - 1);
      again(s, chip, at.thread);
      SSM_ROLLED
      for (int first = kSteps - kBatch; first >= 0; first -= kBatch) back(s, at, chip, chunk * kChunk, first);
    }
    if constexpr (!kMoving) {
      const Real sum = sum_bits<1, kWarp>(finish(s, i.delta[i.step_of(at.b, 0, at.head)]));
      if (at.lane == 0) o.ddelta[(at.b * i.group_count + at.group) * i.R + at.head] = sum;
    }
    leave(s, at);
  }

  KOKKOS_FORCEINLINE_FUNCTION void again(Carried& s, ChunkColumns& chip, int own) const {
    Cx x{chip.re[0][own], chip.im[0][own]};
    SSM_ROLLED
    for (int first = 0; first < kSteps; first += kBatch) {
      SSM_UNROLL
      for (int q = first; q < first + kBatch; ++q) {
        if constexpr (kMoving) s.r = s.k.template step<L>(chip.delta[q][own]);
        Real alpha, beta;
        advance_mode<L>(s.k, s.r, chip.open[q][own], chip.u[q][own], s.B, x, alpha, beta);
        chip.alpha[q][own] = alpha, chip.beta[q][own] = beta;
        chip.re[q + 1][own] = x.re, chip.im[q + 1][own] = x.im;
      }
    }
  }

  // Steps first + kBatch - 1 .. first of the chunk that begins at t0; the outputs of all at once.
  KOKKOS_FORCEINLINE_FUNCTION void back(Carried& s, const Spot<L>& at, const ChunkColumns& chip, Index t0, int first) const {
    Real du[kBatch], dg[kBatch], ddelta[kBatch];
    SSM_UNROLL
    for (int q = kBatch - 1; q >= 0; --q) {
      const Real delta = kMoving ? chip.delta[first + q][at.thread] : Real(1);
      if constexpr (kMoving) s.r = s.k.template step<L>(delta);
      back_one(s, chip, first + q, at.thread, du[q], dg[q]);
      if constexpr (kMoving) ddelta[q] = finish(s, delta);
    }
    const Index begin = t0 + first, t = begin + at.lane % kBatch, own = at.group * Spot<L>::kChannels + at.lane / L;
    const Real to_u = sum_batch<L>(du, at.lane);
    if (at.mode < kBatch && own < i.width && t < i.T) o.du((at.b * i.T + t) * i.R * i.width + at.c, to_u);
    const Index part = ((at.b * i.T + t) * i.group_count + at.group) * i.R + at.head;
    if constexpr (kMoving) {
      const Real sum = sum_batch<kWarp>(ddelta, at.lane);
      if (at.lane < kBatch && t < i.T) o.ddelta[part] = sum;
    }
    if (!i.gate) return;
    if (!i.per_mode) {
      const Real sum = sum_batch<kWarp>(dg, at.lane);
      if (at.lane < kBatch && t < i.T) o.dgate[part] = sum;
      return;
    }
    SSM_UNROLL
    for (int q = 0; q < kBatch; ++q) {
      const Real sum = sum_bits<L, kWarp>(dg[q]);
      if (at.lane < i.M && begin + q < i.T)
        o.dgate[(((at.b * i.T + begin + q) * i.group_count + at.group) * i.R + at.head) * i.M + at.lane] = sum;
    }
  }

  // Backward::back of one mode: lambda goes from the gradient of h_t to that of h_{t-1}.
  KOKKOS_FORCEINLINE_FUNCTION void back_one(Carried& s, const ChunkColumns& chip, int q, int own, Real& du, Real& dg) const {
    const OneMode& k = s.k;
    const Cx before{chip.re[q][own], chip.im[q][own]}, after{chip.re[q + 1][own], chip.im[q + 1][own]}, B = s.B;
    const Real alpha = chip.alpha[q][own], beta = chip.beta[q][own], u = chip.u[q][own], dy = chip.dy[q][own], open = chip.open[q][own];
    s.dskip += u * dy;
    const Cx x = s.lambda + 2 * dy * conj(s.C), low = k.D * k.P, gated = open * before;
    s.dC = s.dC + 2 * dy * conj(after);
    const Real kappa = sum_bits<1, L>(low.re * x.re + low.im * x.im), rb = s.r * beta, dbeta = -2 * s.r * kappa;
    s.dr -= beta * kappa;
    const Cx w = k.E * gated - alpha * k.P + 2 * u * B, v = w - rb * k.P, Dx = conj(k.D) * x;
    s.dD = s.dD + conj(v) * x + dbeta * (k.P * conj(w));
    s.dP = s.dP - rb * Dx + dbeta * (k.D * w);
    const Cx dw = Dx + dbeta * conj(k.QD);
    const Real pi = 2 * sum_bits<1, L>(k.P.re * dw.re + k.P.im * dw.im);
    s.dE = s.dE + conj(gated) * dw;
    s.dP = s.dP - alpha * dw - pi * gated;
    s.dB = s.dB + 2 * u * dw;
    du = s.skip * dy + 2 * (B.re * dw.re + B.im * dw.im);
    const Cx dgated = conj(k.E) * dw - pi * k.P;
    dg = before.re * dgated.re + before.im * dgated.im;
    s.lambda = open * dgated;
  }

  // Backward::finish of one mode; returns what it gives to the step.
  KOKKOS_FORCEINLINE_FUNCTION Real finish(Carried& s, Real delta) const {
    const OneMode& k = s.k;
    const Real drho = -s.r * s.r * s.dr;
    const Cx z = conj(k.D * k.D) * Cx{s.dD.re + 2 * norm2(k.P) * drho, s.dD.im};
    s.dP = s.dP + 4 * k.D.re * drho * k.P;
    s.dlambda = s.dlambda + z + s.dE;
    const Real sum = 2 / (delta * delta) * (z.re - s.dE.re);
    s.dD = s.dE = {0, 0}, s.dr = 0;
    return sum;
  }

  KOKKOS_FORCEINLINE_FUNCTION void leave(const Carried& s, const Spot<L>& at) const {
    const Index M = i.M, all = i.R * i.width;
    const Real sums[4] = {sum_bits<L, kWarp>(s.dlambda.re), sum_bits<L, kWarp>(s.dlambda.im), sum_bits<L, kWarp>(s.dP.re),
                          sum_bits<L, kWarp>(s.dP.im)};
    if (at.lane < M) {
      Real* heads = o.heads + ((at.b * i.group_count + at.group) * i.R + at.head) * head_sums(M, 1) + 4 * at.lane;
      SSM_UNROLL
      for (int k = 0; k < 4; ++k) heads[k] = sums[k];
    }
    if (!at.live) return;
    Real *channel = o.channels + (at.b * all + at.c) * channel_sums(M), *own = channel + 4 * at.mode;
    own[0] = s.dB.re, own[1] = s.dB.im, own[2] = s.dC.re, own[3] = s.dC.im;
    if (at.mode == 0) channel[4 * M] = s.dskip;
  }
};

inline void backward_on_lanes(const Run& r, const Inputs& i, Index B, const Outputs& o) {
  launch_modes("ssm::dplr_scan_back", r, i, B, [&](auto lanes, auto moving, Index warps) {
    return LanesBackward<decltype(lanes)::value, decltype(moving)::value>{i, o, warps};
  });
}

}  // namespace ssm::dplr_scan_op
#endif
