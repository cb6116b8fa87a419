// dplr_scan_gpu.hpp - dplr_scan.cpp on a GPU: one lane per mode, L neighbouring lanes per channel, 32 / L channels of a head per warp.
//
// The chain from step to step binds: two sums over the modes, log2 L exchanges each, and the products between them. Inputs of the next kBatch
// steps are fetched during these; outputs of kBatch steps are summed over the lanes together, which costs one exchange a step instead of
// log2 L. Warps need no barrier. Backward is in dplr_scan_gpu_back.hpp.
#pragma once
#include "lib/warp.hpp"
#include "ops/dplr_scan_kernels.hpp"

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
#define SSM_DPLR_ON_LANES
namespace ssm::dplr_scan_op {

constexpr Index kMostModes = 32;  // above, the simple kernels run
constexpr int kTeam = 64, kBatch = 8;

using LanePolicy = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>, Kokkos::LaunchBounds<kTeam, 1>>;
using LaneMember = LanePolicy::member_type;

// Lanes that hold the modes of a channel.
inline int lanes_of(Index M) { return M <= 8 ? 8 : M <= 16 ? 16 : 32; }

// v + v of the lanes whose number differs in bit s, for s = kFrom, 2 kFrom, .. below kTo.
template <int kFrom, int kTo>
KOKKOS_FORCEINLINE_FUNCTION Real sum_bits(Real v) {
  if constexpr (kFrom < kTo) return sum_bits<2 * kFrom, kTo>(v + shuffle_xor(v, kFrom));
  else return v;
}
// Sum over L neighbours of value (lane % kBatch); the other values are lost.
template <int L>
KOKKOS_FORCEINLINE_FUNCTION Real sum_batch(Real (&v)[kBatch], int lane) {
  halve_over_lanes<kBatch / 2>(v, lane);
  return sum_bits<kBatch, L>(v[0]);
}

// Where a lane stands. Lanes beyond M, and channels beyond the head's last, go along with zeros.
template <int L>
struct Spot {
  static constexpr int kChannels = kWarp / L;
  Index b, head, group, c;
  int thread, lane, mode;
  bool there, live;  // of a warp with work; of a channel and mode that exist

  KOKKOS_FORCEINLINE_FUNCTION Spot(const LaneMember& m, const Inputs& i, Index warps) {
    thread = m.team_rank(), lane = thread % kWarp, mode = lane % L;
    const Index warp = m.league_rank() * (kTeam / kWarp) + thread / kWarp, row = warp / i.group_count;
    there = warp < warps;
    group = warp - row * i.group_count;
    b = row / i.R, head = row - b * i.R;
    const Index own = group * kChannels + lane / L;
    live = own < i.width && mode < i.M;
    c = head * i.width + (own < i.width ? own : i.width - 1);
  }
  KOKKOS_FORCEINLINE_FUNCTION Cx of_channel(const Inputs& i, const Real* p) const {  // (D,M,2), or (R,M,2) per head
    const Real* at = p + (i.owner(c, head) * i.M + mode) * 2;
    return live ? Cx{at[0], at[1]} : Cx{0, 0};
  }
};

// The Table of one mode.
struct OneMode {
  Cx lambda{-1, 0}, P{0, 0}, D, E, QD;

  template <int L>
  KOKKOS_FORCEINLINE_FUNCTION OneMode(const Inputs& i, const Spot<L>& at) {
    if (at.mode >= i.M) return;
    const Index k = at.head * i.M + at.mode;
    lambda = {-fast_exp(i.A_real[k]), i.A_imag[k]};
    if (i.P) P = {i.P[2 * k], i.P[2 * k + 1]};
  }
  template <int L>
  KOKKOS_FORCEINLINE_FUNCTION Real step(Real delta) {
    const Real rate = 2 / delta;
    D = Cx{1, 0} / Cx{rate - lambda.re, -lambda.im};
    E = {rate + lambda.re, lambda.im};
    QD = conj(P) * D;
    return 1 / (1 + 2 * sum_bits<1, L>(norm2(P) * D.re));
  }
};

// What kBatch steps take from memory, by every lane for itself; behind the end nothing comes in.
template <bool kMoving>
struct Batch {
  Real u[kBatch], open[kBatch], delta[kMoving ? kBatch : 1];

  template <int L>
  KOKKOS_FORCEINLINE_FUNCTION void load(const Inputs& i, const Spot<L>& at, Index t0) {
    SSM_UNROLL
    for (int q = 0; q < kBatch; ++q) {
      const Index t = t0 + q;
      const bool in = t < i.T && at.live;
      u[q] = in ? i.u[(at.b * i.T + t) * i.R * i.width + at.c] : Real(0);
      open[q] = in ? i.open(at.b, t, at.head, at.mode) : Real(0);
      if constexpr (kMoving) delta[q] = t < i.T ? i.delta[i.step_of(at.b, t, at.head)] : Real(1);
    }
  }
};

// `advance` of one mode; x goes from h_{t-1} to h_t.
template <int L>
KOKKOS_FORCEINLINE_FUNCTION void advance_mode(const OneMode& k, Real r, Real open, Real u, Cx B, Cx& x, Real& alpha, Real& beta) {
  const Cx gated = open * x;
  alpha = sum_bits<1, L>(2 * (k.P.re * gated.re + k.P.im * gated.im));
  const Cx w = k.E * gated - alpha * k.P + 2 * u * B;
  beta = sum_bits<1, L>(2 * (k.QD.re * w.re - k.QD.im * w.im));
  x = k.D * (w - r * beta * k.P);
}

template <int L, bool kMoving>
struct LanesForward {
  Inputs i;
  Real *y, *carried;  // carried (B,D,M,2) of a stream, or null
  Index warps;

  KOKKOS_FUNCTION void operator()(const LaneMember& m) const {
    const Spot<L> at(m, i, warps);
    if (!at.there) return;
    const Index T = i.T, M = i.M, all = i.R * i.width, channel = at.b * all + at.c;
    OneMode k(i, at);
    const Cx B = at.of_channel(i, i.B), C = at.of_channel(i, i.C);
    const Real skip = at.mode == 0 && at.live ? i.D[at.c] : Real(0);
    Cx x{0, 0};
    Real* kept = carried ? carried + (channel * M + at.mode) * 2 : nullptr;
    if (kept && at.live) x = {kept[0], kept[1]};
    Real r = kMoving ? Real(0) : k.step<L>(i.delta[i.step_of(at.b, 0, at.head)]);
    Batch<kMoving> next;
    next.load(i, at, 0);
    SSM_ROLLED
    for (Index t0 = 0; t0 < T; t0 += kBatch) {
      const Batch<kMoving> now = next;
      next.load(i, at, t0 + kBatch);
      if (i.boundary && t0 % kChunk == 0 && at.live) {
        Real* to = i.boundary + (((at.b * i.chunks + t0 / kChunk) * all + at.c) * M + at.mode) * 2;
        to[0] = x.re, to[1] = x.im;
      }
      Real sums[kBatch];
      SSM_UNROLL
      for (int q = 0; q < kBatch; ++q) {
        if constexpr (kMoving) r = k.step<L>(now.delta[q]);
        Cx h = x;
        Real alpha, beta;
        advance_mode<L>(k, r, now.open[q], now.u[q], B, h, alpha, beta);
        if (t0 + q < T) x = h;
        sums[q] = skip * now.u[q] + 2 * (C.re * h.re - C.im * h.im);
      }
      const Real sum = sum_batch<L>(sums, at.lane);
      const Index t = t0 + at.lane % kBatch, own = at.group * Spot<L>::kChannels + at.lane / L;
      if (at.mode < kBatch && own < i.width && t < T) y[(at.b * T + t) * all + at.c] = sum;
    }
    if (kept && at.live) kept[0] = x.re, kept[1] = x.im;
  }
};

// make(lanes of a channel, whether steps change with t, number of warps) is the kernel.
template <class Make>
void launch_modes(const char* label, const Run& r, const Inputs& i, Index B, const Make& make) {
  const Index warps = B * i.R * i.group_count, per_team = kTeam / kWarp;
  const auto start = [&](const auto& kernel) {
    fits<std::decay_t<decltype(kernel)>>();
    Kokkos::parallel_for(kernel_name(label), LanePolicy(r.exec.space, static_cast<int>((warps + per_team - 1) / per_team), kTeam), kernel);
  };
  const auto of = [&](auto lanes) {
    if (i.moving) start(make(lanes, std::true_type(), warps));
    else start(make(lanes, std::false_type(), warps));
  };
  if (i.M <= 8) of(std::integral_constant<int, 8>());
  else if (i.M <= 16) of(std::integral_constant<int, 16>());
  else of(std::integral_constant<int, 32>());
}
inline void forward_on_lanes(const Run& r, const Inputs& i, Index B, Real* y, Real* carried) {
  launch_modes("ssm::dplr_scan", r, i, B, [&](auto lanes, auto moving, Index warps) {
    return LanesForward<decltype(lanes)::value, decltype(moving)::value>{i, y, carried, warps};
  });
}

}  // namespace ssm::dplr_scan_op
#endif
