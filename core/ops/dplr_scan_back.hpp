// dplr_scan_back.hpp - dplr_scan.cpp backwards in time, lanes and modes as forwards.
#pragma once
#include "ops/dplr_scan_kernels.hpp"

namespace ssm::dplr_scan_op {

// Sums over time that a group of lanes leaves: per mode dlambda and dP of every column, summed over its channels; per channel dB, dC (M,2), dD.
SSM_FN Index mode_sums(Index rank) { return 2 + 2 * rank; }
SSM_FN Index head_sums(Index M, Index rank) { return mode_sums(rank) * M; }
SSM_FN Index channel_sums(Index M) { return 4 * M + 1; }
// Lanes of every state of a chunk and of eight sums per mode, one more a column of P; alpha, beta per step and column.
SSM_FN Index backward_work(Index W, Index M, Index rank) {
  return W * ((kChunk + 1) * 2 * M + (16 + 2 * rank) * M + 2 * rank * kChunk) + table_size(rank) * M;
}

struct Outputs {
  const Real* dy;
  Grad du;
  Real *ddelta, *dgate;    // (B,steps,groups of a head,R), (B,T,groups,R,gates)
  Real *heads, *channels;  // (B,groups,R,head_sums), (B,D,channel_sums)
};

template <int Rank>
struct Backward {
  Inputs i;
  Outputs o;

  // What the steps of one group of lanes share.
  template <int W>
  struct Group {
    Index b, head, c, all, group;
    Table<Rank> table;
    Lanes<W> lambda, B, C, dB, dC, dD, dE, dlambda, dP[Rank];
    Real *states, (*alpha)[W], (*beta)[W];  // h before and after every step of a chunk; rows (kChunk,Rank,W)
    Square<Rank> r;
    Real dr[Rank][Rank][W], dskip[W];
    SSM_FN Lanes<W> h(Index k, Index M) const { return {states + k * 2 * M * W}; }
  };

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index M = i.M, whole = i.width / kLanes;
    Group<W> g;
    g.b = row / i.R, g.head = row - g.b * i.R, g.c = g.head * i.width + first, g.all = i.R * i.width;
    g.group = first < whole * kLanes ? first / kLanes : whole + first - whole * kLanes;
    Real* next = i.work + (g.b * g.all + g.c) * backward_work(1, M, Rank);
    g.table.p = next, next += g.table.kSize * M;
    const auto place = [&](Lanes<W>& part) {
      part.p = next, next += 2 * M * W;
      for (Index k = 0; k < 2 * M * W; ++k) part.p[k] = 0;
    };
    for (Lanes<W>* part : {&g.lambda, &g.B, &g.C, &g.dB, &g.dC, &g.dD, &g.dE, &g.dlambda}) place(*part);
    for (Lanes<W>& part : g.dP) place(part);
    g.alpha = reinterpret_cast<Real(*)[W]>(next), g.beta = g.alpha + kChunk * Rank;
    g.states = next + 2 * kChunk * Rank * W;
    gather<W>(i.B + 2 * i.owner(g.c, g.head) * M, M, g.B, i.per_head);
    gather<W>(i.C + 2 * i.owner(g.c, g.head) * M, M, g.C, i.per_head);
    g.table.modes(i, g.head);
    for (int l = 0; l < W; ++l) g.dskip[l] = 0;
    clear<W>(g);
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

  template <int W>
  KOKKOS_FUNCTION void clear(Group<W>& g) const {
    for (int c = 0; c < Rank; ++c)
      for (int k = 0; k < Rank; ++k)
        for (int l = 0; l < W; ++l) g.dr[c][k][l] = 0;
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
      const Index k = (t - begin) * Rank;
      advance<Rank, W>(i, g.table, g.r, g.b, t, g.head, u, g.B, after, g.alpha + k, g.beta + k);
    }
  }

  SSM_FN static Square<Rank> minus_transposed(const Square<Rank>& r) {
    Square<Rank> to;
    for (int c = 0; c < Rank; ++c)
      for (int k = 0; k < Rank; ++k) to.at[c][k] = -r.at[k][c];
    return to;
  }

  // Step k of the chunk: lambda goes from the gradient of h_t to that of h_{t-1}.
  template <int W>
  KOKKOS_FUNCTION void back(Group<W>& g, Index t, Index k) const {
    const Index M = i.M, at = (g.b * i.T + t) * g.all + g.c;
    const Real(*alpha)[W] = g.alpha + k * Rank, (*beta)[W] = g.beta + k * Rank, *u = i.u + at, *dy = o.dy + at;
    const Lanes<W> before = g.h(k, M), after = g.h(k + 1, M);
    Real kappa[Rank][W], dbeta[Rank][W], pull[Rank][W], pi[Rank][W], du[W], dg[W];
    for (int c = 0; c < Rank; ++c)
      for (int l = 0; l < W; ++l) kappa[c][l] = pi[c][l] = 0;
    for (int l = 0; l < W; ++l) {
      dg[l] = 0;
      du[l] = i.D[g.c + l] * dy[l];
      g.dskip[l] += u[l] * dy[l];
    }
    for (Index m = 0; m < M; ++m) {
      Cx dp[Rank];
      for (int c = 0; c < Rank; ++c) dp[c] = g.table.D(m) * g.table.P(m, c);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Cr = g.dC.re(m), *Ci = g.dC.im(m);
      const Real *hr = after.re(m), *hi = after.im(m), *cr = g.C.re(m), *ci = g.C.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real twice = 2 * dy[l];
        xr[l] += twice * cr[l], xi[l] -= twice * ci[l];
        Cr[l] += twice * hr[l], Ci[l] -= twice * hi[l];
        for (int c = 0; c < Rank; ++c) kappa[c][l] += dp[c].re * xr[l] + dp[c].im * xi[l];
      }
    }
    multiply<Rank, W>(g.r, beta, pull);
    multiply<Rank, W>(minus_transposed(g.r), kappa, dbeta);
    for (int c = 0; c < Rank; ++c)
      for (int j = 0; j < Rank; ++j)
        for (int l = 0; l < W; ++l) g.dr[c][j][l] -= beta[j][l] * kappa[c][l];
    for (Index m = 0; m < M; ++m) {
      const Cx d = g.table.D(m), e = g.table.E(m);
      Cx p[Rank], qd[Rank];
      Real *Pr[Rank], *Pi[Rank];
      for (int c = 0; c < Rank; ++c) p[c] = g.table.P(m, c), qd[c] = g.table.QD(m, c), Pr[c] = g.dP[c].re(m), Pi[c] = g.dP[c].im(m);
      const Real open = i.open(g.b, t, g.head, m);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Dr = g.dD.re(m), *Di = g.dD.im(m);
      const Real *hr = before.re(m), *hi = before.im(m), *br = g.B.re(m), *bi = g.B.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real tr = open * hr[l], ti = open * hi[l];
        Real wr = e.re * tr - e.im * ti, wi = e.re * ti + e.im * tr;
        for (int c = 0; c < Rank; ++c) wr -= alpha[c][l] * p[c].re, wi -= alpha[c][l] * p[c].im;
        wr += 2 * u[l] * br[l], wi += 2 * u[l] * bi[l];
        Real vr = wr, vi = wi;
        for (int c = 0; c < Rank; ++c) vr -= pull[c][l] * p[c].re, vi -= pull[c][l] * p[c].im;
        const Real Dxr = d.re * xr[l] + d.im * xi[l], Dxi = d.re * xi[l] - d.im * xr[l];
        Real to_Dr = vr * xr[l] + vi * xi[l], to_Di = vr * xi[l] - vi * xr[l], dwr = Dxr, dwi = Dxi;
        for (int c = 0; c < Rank; ++c) {
          const Real twice = 2 * dbeta[c][l];
          to_Dr += twice * (p[c].re * wr + p[c].im * wi);
          to_Di -= twice * (p[c].re * wi - p[c].im * wr);
          Pr[c][l] += -pull[c][l] * Dxr + twice * (d.re * wr - d.im * wi);
          Pi[c][l] += -pull[c][l] * Dxi + twice * (d.re * wi + d.im * wr);
          dwr += twice * qd[c].re, dwi -= twice * qd[c].im;
        }
        Dr[l] += to_Dr, Di[l] += to_Di;
        xr[l] = dwr, xi[l] = dwi;
        for (int c = 0; c < Rank; ++c) pi[c][l] += p[c].re * dwr + p[c].im * dwi;
      }
    }
    for (Index m = 0; m < M; ++m) {
      const Cx e = g.table.E(m);
      Cx p[Rank];
      Real *Pr[Rank], *Pi[Rank];
      for (int c = 0; c < Rank; ++c) p[c] = g.table.P(m, c), Pr[c] = g.dP[c].re(m), Pi[c] = g.dP[c].im(m);
      const Real open = i.open(g.b, t, g.head, m);
      Real *xr = g.lambda.re(m), *xi = g.lambda.im(m), *Er = g.dE.re(m), *Ei = g.dE.im(m), *Br = g.dB.re(m), *Bi = g.dB.im(m);
      const Real *hr = before.re(m), *hi = before.im(m), *br = g.B.re(m), *bi = g.B.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real tr = open * hr[l], ti = open * hi[l], wr = xr[l], wi = xi[l];
        Er[l] += tr * wr + ti * wi, Ei[l] += tr * wi - ti * wr;
        Br[l] += 2 * u[l] * wr, Bi[l] += 2 * u[l] * wi;
        du[l] += 2 * (br[l] * wr + bi[l] * wi);
        Real gr = e.re * wr + e.im * wi, gi = e.re * wi - e.im * wr;
        for (int c = 0; c < Rank; ++c) {
          const Real twice = 2 * pi[c][l];
          Pr[c][l] -= alpha[c][l] * wr + twice * tr, Pi[c][l] -= alpha[c][l] * wi + twice * ti;
          gr -= twice * p[c].re, gi -= twice * p[c].im;
        }
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
    Real ddelta[W], drho[Rank][Rank][W];  // of I + 2 Re sum Q D P^T: -r^T dr r^T
    for (int l = 0; l < W; ++l) ddelta[l] = 0;
    for (int c = 0; c < Rank; ++c)
      for (int k = 0; k < Rank; ++k)
        for (int l = 0; l < W; ++l) {
          Real sum = 0;
          for (int a = 0; a < Rank; ++a)
            for (int b = 0; b < Rank; ++b) sum -= g.r.at[a][c] * g.r.at[k][b] * g.dr[a][b][l];
          drho[c][k][l] = sum;
        }
    clear<W>(g);
    for (Index m = 0; m < i.M; ++m) {
      const Cx d = g.table.D(m), square = d * d;
      Cx p[Rank], size[Rank][Rank];
      Real *Pr[Rank], *Pi[Rank];
      for (int c = 0; c < Rank; ++c) {
        p[c] = g.table.P(m, c), Pr[c] = g.dP[c].re(m), Pi[c] = g.dP[c].im(m);
        for (int k = 0; k < Rank; ++k) size[c][k] = Real(2) * (c == k ? Cx{norm2(p[c]), 0} : g.table.P(m, c) * conj(g.table.P(m, k)));
      }
      Real *Dr = g.dD.re(m), *Di = g.dD.im(m), *Er = g.dE.re(m), *Ei = g.dE.im(m), *Lr = g.dlambda.re(m), *Li = g.dlambda.im(m);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        Real dr = Dr[l], di = Di[l];
        for (int c = 0; c < Rank; ++c)
          for (int k = 0; k < Rank; ++k) {
            const Real even = drho[c][k][l] + drho[k][c][l], odd = drho[c][k][l] - drho[k][c][l];
            dr += size[c][k].re * drho[c][k][l];
            Pr[c][l] += 2 * d.re * p[k].re * even, Pi[c][l] += 2 * d.re * p[k].im * even;
            if (c == k) continue;
            di += size[c][k].im * drho[c][k][l];
            Pr[c][l] -= 2 * d.im * p[k].im * odd, Pi[c][l] += 2 * d.im * p[k].re * odd;
          }
        const Real zr = square.re * dr + square.im * di, zi = square.re * di - square.im * dr;
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
  SSM_FN static void add_up(const Lanes<W>& from, Index m, Real* to) {
    to[0] = to[1] = 0;
    for (int l = 0; l < W; ++l) to[0] += from.re(m)[l], to[1] += from.im(m)[l];
  }
  template <int W>
  KOKKOS_FUNCTION void leave(const Group<W>& g) const {
    const Index M = i.M;
    Real* heads = o.heads + ((g.b * i.group_count + g.group) * i.R + g.head) * head_sums(M, Rank);
    for (Index m = 0; m < M; ++m) {
      Real* own = heads + mode_sums(Rank) * m;
      add_up<W>(g.dlambda, m, own);
      for (int c = 0; c < Rank; ++c) add_up<W>(g.dP[c], m, own + 2 + 2 * c);
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
