// dplr_scan_kernels.hpp - the two walks of dplr_scan.cpp through time: W channels of a head are the lanes, modes one after the other.
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
SSM_FN void gather(const Real* from, Index M, Lanes<W> to) {  // from (channels, M, 2)
  for (Index m = 0; m < M; ++m)
    for (int l = 0; l < W; ++l) to.re(m)[l] = from[(l * M + m) * 2], to.im(m)[l] = from[(l * M + m) * 2 + 1];
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
    gather<W>(i.B + 2 * c * M, M, B);
    gather<W>(i.C + 2 * c * M, M, C);
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

// Sums over time that a group of lanes leaves: dlambda, dP (M,2) summed over its channels; per channel dB, dC (M,2), dD.
SSM_FN Index head_sums(Index M) { return 4 * M; }
SSM_FN Index channel_sums(Index M) { return 4 * M + 1; }
// Lanes of every state of a chunk and of ten sums per mode; alpha, beta per step.
SSM_FN Index backward_work(Index W, Index M) { return W * ((kChunk + 1) * 2 * M + 18 * M + 2 * kChunk) + kTable * M; }

struct Outputs {
  const Real* dy;
  Grad du;
  Real *ddelta, *dgate;    // (B,steps,groups of a head,R), (B,T,groups,R,gates)
  Real *heads, *channels;  // (B,groups,R,head_sums), (B,D,channel_sums)
};

struct Backward {
  Inputs i;
  Outputs o;

  // What the steps of one group of lanes share.
  template <int W>
  struct Group {
    Index b, head, first, c, all, group;
    Table table;
    Lanes<W> lambda, B, C, dB, dC, dD, dE, dP, dlambda;
    Real *states, *alpha, *beta;  // h before and after every step of a chunk; rows (kChunk,W)
    Real r, dr[W], dskip[W];
    SSM_FN Lanes<W> h(Index k, Index M) const { return {states + k * 2 * M * W}; }
  };

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index M = i.M, whole = i.width / kLanes;
    Group<W> g;
    g.b = row / i.R, g.head = row - g.b * i.R, g.first = first, g.c = g.head * i.width + first, g.all = i.R * i.width;
    g.group = first < whole * kLanes ? first / kLanes : whole + first - whole * kLanes;
    Real* next = i.work + (g.b * g.all + g.c) * backward_work(1, M);
    g.table.p = next, next += kTable * M;
    for (Lanes<W>* part : {&g.lambda, &g.B, &g.C, &g.dB, &g.dC, &g.dD, &g.dE, &g.dP, &g.dlambda}) part->p = next, next += 2 * M * W;
    for (Lanes<W>* part : {&g.lambda, &g.dB, &g.dC, &g.dD, &g.dE, &g.dP, &g.dlambda})
      for (Index k = 0; k < 2 * M * W; ++k) part->p[k] = 0;
    g.alpha = next, g.beta = next + kChunk * W, g.states = next + 2 * kChunk * W;
    gather<W>(i.B + 2 * g.c * M, M, g.B);
    gather<W>(i.C + 2 * g.c * M, M, g.C);
    g.table.modes(i, g.head);
    for (int l = 0; l < W; ++l) g.dr[l] = g.dskip[l] = 0;
    if (!i.moving) g.r = g.table.step(M, i.delta[i.step_of(g.b, 0, g.head)]);
    for (Index chunk = i.chunks - 1; chunk >= 0; --chunk) {
      const Index begin = chunk * kChunk, end = begin + kChunk < i.T ? begin + kChunk : i.T;
      replay<W>(g, chunk, begin, end);
      for (Index t = end - 1; t >= begin; --t) {
        if (i.moving) g.r = g.table.step(M, i.delta[i.step_of(g.b, t, g.head)]);
        back<W>(g, t, t - begin);
        if (i.moving || t == 0) finish<W>(g, t);
      }
    }
    leave<W>(g);
  }

  // Every state of a chunk, from the saved one on.
  template <int W>
  KOKKOS_FUNCTION void replay(Group<W>& g, Index chunk, Index begin, Index end) const {
    const Index M = i.M;
    const Real* from = i.boundary + ((g.b * i.chunks + chunk) * g.all + g.c) * 2 * M;
    for (Index k = 0; k < 2 * M * W; ++k) g.states[k] = from[k];
    for (Index t = begin; t < end; ++t) {
      const Lanes<W> before = g.h(t - begin, M), after = g.h(t - begin + 1, M);
      for (Index k = 0; k < 2 * M * W; ++k) after.p[k] = before.p[k];
      if (i.moving) g.r = g.table.step(M, i.delta[i.step_of(g.b, t, g.head)]);
      const Real* u = i.u + (g.b * i.T + t) * g.all + g.c;
      advance<W>(i, g.table, g.r, g.b, t, g.head, u, g.B, after, g.alpha + (t - begin) * W, g.beta + (t - begin) * W);
    }
  }

  // Step k of the chunk: lambda goes from the gradient of h_t to that of h_{t-1}.
  template <int W>
  KOKKOS_FUNCTION void back(Group<W>& g, Index t, Index k) const {
    const Index M = i.M, at = (g.b * i.T + t) * g.all + g.c;
    const Real *alpha = g.alpha + k * W, *beta = g.beta + k * W, *u = i.u + at, *dy = o.dy + at, r = g.r;
    const Lanes<W> before = g.h(k, M), after = g.h(k + 1, M);
    Real kappa[W], dbeta[W], pi[W], du[W], dg[W];
    for (int l = 0; l < W; ++l) {
      kappa[l] = pi[l] = dg[l] = 0;
      du[l] = i.D[g.c + l] * dy[l];
      g.dskip[l] += u[l] * dy[l];
    }
    for (Index m = 0; m < M; ++m) {
      const Cx dp = g.table.D(m) * g.table.P(m);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Cr = g.dC.re(m), *Ci = g.dC.im(m);
      const Real *hr = after.re(m), *hi = after.im(m), *cr = g.C.re(m), *ci = g.C.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real twice = 2 * dy[l];
        xr[l] += twice * cr[l], xi[l] -= twice * ci[l];
        Cr[l] += twice * hr[l], Ci[l] -= twice * hi[l];
        kappa[l] += dp.re * xr[l] + dp.im * xi[l];
      }
    }
    for (int l = 0; l < W; ++l) {
      dbeta[l] = -r * kappa[l];
      g.dr[l] -= beta[l] * kappa[l];
    }
    for (Index m = 0; m < M; ++m) {
      const Cx p = g.table.P(m), d = g.table.D(m), e = g.table.E(m), qd = g.table.QD(m);
      const Real open = i.open(g.b, t, g.head, m);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Dr = g.dD.re(m), *Di = g.dD.im(m), *Pr = g.dP.re(m), *Pi = g.dP.im(m);
      const Real *hr = before.re(m), *hi = before.im(m), *br = g.B.re(m), *bi = g.B.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real tr = open * hr[l], ti = open * hi[l];
        const Real wr = e.re * tr - e.im * ti - alpha[l] * p.re + 2 * u[l] * br[l];
        const Real wi = e.re * ti + e.im * tr - alpha[l] * p.im + 2 * u[l] * bi[l];
        const Real rb = r * beta[l], vr = wr - rb * p.re, vi = wi - rb * p.im, twice = 2 * dbeta[l];
        const Real Dxr = d.re * xr[l] + d.im * xi[l], Dxi = d.re * xi[l] - d.im * xr[l];
        Dr[l] += vr * xr[l] + vi * xi[l] + twice * (p.re * wr + p.im * wi);
        Di[l] += vr * xi[l] - vi * xr[l] - twice * (p.re * wi - p.im * wr);
        Pr[l] += -rb * Dxr + twice * (d.re * wr - d.im * wi);
        Pi[l] += -rb * Dxi + twice * (d.re * wi + d.im * wr);
        xr[l] = Dxr + twice * qd.re, xi[l] = Dxi - twice * qd.im;
        pi[l] += p.re * xr[l] + p.im * xi[l];
      }
    }
    for (Index m = 0; m < M; ++m) {
      const Cx p = g.table.P(m), e = g.table.E(m);
      const Real open = i.open(g.b, t, g.head, m);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Er = g.dE.re(m), *Ei = g.dE.im(m), *Pr = g.dP.re(m), *Pi = g.dP.im(m);
      Real *Br = g.dB.re(m), *Bi = g.dB.im(m);
      const Real *hr = before.re(m), *hi = before.im(m), *br = g.B.re(m), *bi = g.B.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real tr = open * hr[l], ti = open * hi[l], wr = xr[l], wi = xi[l], twice = 2 * pi[l];
        Er[l] += tr * wr + ti * wi, Ei[l] += tr * wi - ti * wr;
        Pr[l] -= alpha[l] * wr + twice * tr, Pi[l] -= alpha[l] * wi + twice * ti;
        Br[l] += 2 * u[l] * wr, Bi[l] += 2 * u[l] * wi;
        du[l] += 2 * (br[l] * wr + bi[l] * wi);
        const Real gr = e.re * wr + e.im * wi - twice * p.re, gi = e.re * wi - e.im * wr - twice * p.im;
        dg[l] += hr[l] * gr + hi[l] * gi;
        xr[l] = open * gr, xi[l] = open * gi;
      }
      if (i.per_mode) leave_gate<W>(g, t, m, dg);
    }
    if (i.gate && !i.per_mode) leave_gate<W>(g, t, 0, dg);
    for (int l = 0; l < W; ++l) o.du(at + l, du[l]);
  }

  // Sums the lanes into the gate's part of this group, and starts again from 0.
  template <int W>
  KOKKOS_FUNCTION void leave_gate(const Group<W>& g, Index t, Index m, Real* dg) const {
    const Index gates = i.per_mode ? i.M : 1;
    Real sum = 0;
    for (int l = 0; l < W; ++l) sum += dg[l], dg[l] = 0;
    o.dgate[(((g.b * i.T + t) * i.group_count + g.group) * i.R + g.head) * gates + m] = sum;
  }

  // What depended on the table of one step: gradients of D, E, r become those of lambda, P and the step.
  template <int W>
  KOKKOS_FUNCTION void finish(Group<W>& g, Index t) const {
    const Index step = i.step_of(g.b, t, g.head), place = step / i.R;
    const Real delta = i.delta[step], per = 2 / (delta * delta);
    Real ddelta[W], drho[W];
    for (int l = 0; l < W; ++l) ddelta[l] = 0, drho[l] = -g.r * g.r * g.dr[l], g.dr[l] = 0;
    for (Index m = 0; m < i.M; ++m) {
      const Cx p = g.table.P(m), d = g.table.D(m), square = d * d;
      const Real size = 2 * norm2(p), twice = 4 * d.re;
      Real *Dr = g.dD.re(m), *Di = g.dD.im(m), *Er = g.dE.re(m), *Ei = g.dE.im(m), *Pr = g.dP.re(m), *Pi = g.dP.im(m);
      Real *Lr = g.dlambda.re(m), *Li = g.dlambda.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real dr = Dr[l] + size * drho[l], di = Di[l], zr = square.re * dr + square.im * di, zi = square.re * di - square.im * dr;
        Pr[l] += twice * p.re * drho[l], Pi[l] += twice * p.im * drho[l];
        Lr[l] += zr + Er[l], Li[l] += zi + Ei[l];
        ddelta[l] += per * (zr - Er[l]);
        Dr[l] = Di[l] = Er[l] = Ei[l] = 0;
      }
    }
    Real sum = 0;
    for (int l = 0; l < W; ++l) sum += ddelta[l];
    o.ddelta[(place * i.group_count + g.group) * i.R + g.head] = sum;
  }

  template <int W>
  KOKKOS_FUNCTION void leave(const Group<W>& g) const {
    const Index M = i.M;
    Real* heads = o.heads + ((g.b * i.group_count + g.group) * i.R + g.head) * head_sums(M);
    for (Index m = 0; m < M; ++m) {
      Real sum[4] = {0, 0, 0, 0};
      for (int l = 0; l < W; ++l) {
        sum[0] += g.dlambda.re(m)[l], sum[1] += g.dlambda.im(m)[l];
        sum[2] += g.dP.re(m)[l], sum[3] += g.dP.im(m)[l];
      }
      for (int k = 0; k < 4; ++k) heads[4 * m + k] = sum[k];
      for (int l = 0; l < W; ++l) {
        Real* channel = o.channels + (g.b * g.all + g.c + l) * channel_sums(M);
        channel[4 * m] = g.dB.re(m)[l], channel[4 * m + 1] = g.dB.im(m)[l];
        channel[4 * m + 2] = g.dC.re(m)[l], channel[4 * m + 3] = g.dC.im(m)[l];
      }
    }
    for (int l = 0; l < W; ++l) o.channels[(g.b * g.all + g.c + l) * channel_sums(M) + 4 * M] = g.dskip[l];
  }
};

}  // namespace ssm::dplr_scan_op
