// dplr_scan_kernels.hpp - dplr_scan.cpp forwards in time: W channels of a head are the lanes, modes one after the other.
#pragma once
#include "launch.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "tensor.hpp"

namespace ssm::dplr_scan_op {

using Cx = Complex<Real>;

constexpr Index kChunk = 16;  // steps between saved states

struct Inputs {
  const Real *u, *gate, *delta;                         // gate null: open; delta (B,steps,R)
  const Real *A_real, *A_imag, *P, *B, *C, *D;          // P null: diagonal
  Real *boundary, *work;                                // boundary (B,chunks,D,2M), null in evaluation
  Index T, width, M, R, per_mode, moving, group_count;  // width D/R; per_mode: a gate per mode; moving: delta changes with t
  Index chunks;
  bool per_head;  // B, C of a head, not of a channel

  SSM_FN Index owner(Index c, Index head) const { return per_head ? head : c; }
  SSM_FN Index step_of(Index b, Index t, Index head) const { return (moving ? b * T + t : b) * R + head; }
  SSM_FN Real open(Index b, Index t, Index head, Index m) const {
    return gate ? gate[((b * T + t) * R + head) * (per_mode ? M : 1) + (per_mode ? m : 0)] : Real(1);
  }
};

// Per mode of a head: lambda, P, D = 1/(2/Delta - lambda), E = 2/Delta + lambda, Q D with Q = conj(P).
constexpr Index kTable = 10;
struct Table {
  Real* p;
  SSM_FN Cx at(Index m, int field) const { return {p[m * kTable + 2 * field], p[m * kTable + 2 * field + 1]}; }
  SSM_FN void put(Index m, int field, Cx z) const { p[m * kTable + 2 * field] = z.re, p[m * kTable + 2 * field + 1] = z.im; }
  SSM_FN Cx lambda(Index m) const { return at(m, 0); }
  SSM_FN Cx P(Index m) const { return at(m, 1); }
  SSM_FN Cx D(Index m) const { return at(m, 2); }
  SSM_FN Cx E(Index m) const { return at(m, 3); }
  SSM_FN Cx QD(Index m) const { return at(m, 4); }

  SSM_FN void modes(const Inputs& i, Index head) const {
    for (Index m = 0; m < i.M; ++m) {
      const Index k = head * i.M + m;
      put(m, 0, {-fast_exp(i.A_real[k]), i.A_imag[k]});
      put(m, 1, i.P ? Cx{i.P[2 * k], i.P[2 * k + 1]} : Cx{0, 0});
    }
  }
  // Fills D, E, Q D for a step; returns r = 1/(1 + 2 Re sum Q D P).
  SSM_FN Real step(Index M, Real delta) const {
    Real sum = 0;
    const Real rate = 2 / delta;
    for (Index m = 0; m < M; ++m) {
      const Cx l = lambda(m), low = P(m), down = Cx{1, 0} / Cx{rate - l.re, -l.im};
      put(m, 2, down);
      put(m, 3, {rate + l.re, l.im});
      put(m, 4, conj(low) * down);
      sum += norm2(low) * down.re;
    }
    return 1 / (1 + 2 * sum);
  }
};

// The lanes of one complex number per mode: re (W), im (W).
template <int W>
struct Lanes {
  Real* p;
  SSM_FN Real* re(Index m) const { return p + 2 * m * W; }
  SSM_FN Real* im(Index m) const { return p + (2 * m + 1) * W; }
};
template <int W>
SSM_FN void gather(const Real* from, Index M, Lanes<W> to, bool same = false) {  // from (channels, M, 2); same: one channel for all lanes
  const Index apart = same ? 0 : M;
  for (Index m = 0; m < M; ++m)
    for (int l = 0; l < W; ++l) to.re(m)[l] = from[(l * apart + m) * 2], to.im(m)[l] = from[(l * apart + m) * 2 + 1];
}

// x <- Abar x~ + Bbar u for one position, x~ = gate x:
//   alpha = 2 Re sum Q x~     w = E x~ - P alpha + 2 u B     beta = 2 Re sum Q D w     x = D (w - r beta P)
template <int W>
SSM_FN void advance(const Inputs& i, const Table& table, Real r, Index b, Index t, Index head, const Real* u, Lanes<W> B, Lanes<W> x,
                    Real* alpha, Real* beta) {
  for (int l = 0; l < W; ++l) alpha[l] = beta[l] = 0;
  for (Index m = 0; m < i.M; ++m) {
    const Real g = i.open(b, t, head, m);
    const Cx p = table.P(m);
    Real *re = x.re(m), *im = x.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      re[l] *= g, im[l] *= g;
      alpha[l] += 2 * (p.re * re[l] + p.im * im[l]);
    }
  }
  for (Index m = 0; m < i.M; ++m) {
    const Cx p = table.P(m), e = table.E(m), qd = table.QD(m);
    Real *re = x.re(m), *im = x.im(m);
    const Real *Br = B.re(m), *Bi = B.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const Real wr = e.re * re[l] - e.im * im[l] - alpha[l] * p.re + 2 * u[l] * Br[l];
      const Real wi = e.re * im[l] + e.im * re[l] - alpha[l] * p.im + 2 * u[l] * Bi[l];
      beta[l] += 2 * (qd.re * wr - qd.im * wi);
      re[l] = wr, im[l] = wi;
    }
  }
  for (Index m = 0; m < i.M; ++m) {
    const Cx p = table.P(m), d = table.D(m);
    Real *re = x.re(m), *im = x.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const Real wr = re[l] - r * beta[l] * p.re, wi = im[l] - r * beta[l] * p.im;
      re[l] = d.re * wr - d.im * wi, im[l] = d.re * wi + d.im * wr;
    }
  }
}

SSM_FN Index forward_work(Index W, Index M) { return 6 * M * W + kTable * M; }
struct Forward {
  Inputs i;
  Real *y, *carried;  // carried (B,D,M,2) of a stream, or null

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index b = row / i.R, head = row - b * i.R, M = i.M, c = head * i.width + first, all = i.R * i.width;
    Real* next = i.work + (b * all + c) * forward_work(1, M);
    const Table table{next};
    const Lanes<W> x{next + kTable * M}, B{x.p + 2 * M * W}, C{B.p + 2 * M * W};
    gather<W>(i.B + 2 * i.owner(c, head) * M, M, B, i.per_head);
    gather<W>(i.C + 2 * i.owner(c, head) * M, M, C, i.per_head);
    for (Index k = 0; k < 2 * M * W; ++k) x.p[k] = 0;
    if (carried) gather<W>(carried + 2 * (b * all + c) * M, M, x);
    table.modes(i, head);
    Real r = 0;
    for (Index t = 0; t < i.T; ++t) {
      if (t == 0 || i.moving) r = table.step(M, i.delta[i.step_of(b, t, head)]);
      if (i.boundary && t % kChunk == 0) {
        Real* to = i.boundary + ((b * i.chunks + t / kChunk) * all + c) * 2 * M;
        for (Index k = 0; k < 2 * M * W; ++k) to[k] = x.p[k];
      }
      const Index at = (b * i.T + t) * all + c;
      Real alpha[W], beta[W], u[W], sum[W];
      for (int l = 0; l < W; ++l) u[l] = i.u[at + l], sum[l] = i.D[c + l] * u[l];
      advance<W>(i, table, r, b, t, head, u, B, x, alpha, beta);
      for (Index m = 0; m < M; ++m)
        for (int l = 0; l < W; ++l) sum[l] += 2 * (C.re(m)[l] * x.re(m)[l] - C.im(m)[l] * x.im(m)[l]);
      for (int l = 0; l < W; ++l) y[at + l] = sum[l];
    }
    for (Index m = 0; carried && m < M; ++m)
      for (int l = 0; l < W; ++l) {
        Real* to = carried + 2 * ((b * all + c + l) * M + m);
        to[0] = x.re(m)[l], to[1] = x.im(m)[l];
      }
  }
};

}  // namespace ssm::dplr_scan_op
