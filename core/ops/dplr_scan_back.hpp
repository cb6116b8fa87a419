// dplr_scan_back.hpp - dplr_scan.cpp backwards in time, lanes and modes as forwards.
#pragma once
#include "ops/dplr_scan_kernels.hpp"

namespace ssm::dplr_scan_op {

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
    Index b, head, c, all, group;
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
    g.b = row / i.R, g.head = row - g.b * i.R, g.c = g.head * i.width + first, g.all = i.R * i.width;
    g.group = first < whole * kLanes ? first / kLanes : whole + first - whole * kLanes;
    Real* next = i.work + (g.b * g.all + g.c) * backward_work(1, M);
    g.table.p = next, next += kTable * M;
    for (Lanes<W>* part : {&g.lambda, &g.B, &g.C, &g.dB, &g.dC, &g.dD, &g.dE, &g.dP, &g.dlambda}) part->p = next, next += 2 * M * W;
    for (Lanes<W>* part : {&g.lambda, &g.dB, &g.dC, &g.dD, &g.dE, &g.dP, &g.dlambda})
      for (Index k = 0; k < 2 * M * W; ++k) part->p[k] = 0;
    g.alpha = next, g.beta = next + kChunk * W, g.states = next + 2 * kChunk * W;
    gather<W>(i.B + 2 * i.owner(g.c, g.head) * M, M, g.B, i.per_head);
    gather<W>(i.C + 2 * i.owner(g.c, g.head) * M, M, g.C, i.per_head);
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
