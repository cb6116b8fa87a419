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
  const Real *A_real, *A_imag, *P, *B, *C, *D;          // P (rank,R,M,2), null: diagonal
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

template <int Rank>
struct Square {
  Real at[Rank][Rank];
};

// Per mode of a head: lambda, D = 1/(2/Delta - lambda), E = 2/Delta + lambda; of every column of the correction P and Q D with Q = conj(P).
SSM_FN constexpr Index table_size(Index rank) { return 6 + 4 * rank; }
template <int Rank>
struct Table {
  static constexpr Index kSize = table_size(Rank);
  Real* p;
  SSM_FN Cx at(Index m, int field) const { return {p[m * kSize + 2 * field], p[m * kSize + 2 * field + 1]}; }
  SSM_FN void put(Index m, int field, Cx z) const { p[m * kSize + 2 * field] = z.re, p[m * kSize + 2 * field + 1] = z.im; }
  SSM_FN Cx lambda(Index m) const { return at(m, 0); }
  SSM_FN Cx D(Index m) const { return at(m, 1); }
  SSM_FN Cx E(Index m) const { return at(m, 2); }
  SSM_FN Cx P(Index m, int c) const { return at(m, 3 + 2 * c); }
  SSM_FN Cx QD(Index m, int c) const { return at(m, 4 + 2 * c); }

  SSM_FN void modes(const Inputs& i, Index head) const {
    for (Index m = 0; m < i.M; ++m) {
      const Index k = head * i.M + m;
      put(m, 0, {-fast_exp(i.A_real[k]), i.A_imag[k]});
      for (int c = 0; c < Rank; ++c) {
        const Index own = 2 * (c * i.R * i.M + k);
        put(m, 3 + 2 * c, i.P ? Cx{i.P[own], i.P[own + 1]} : Cx{0, 0});
      }
    }
  }
  // Fills D, E, Q D for a step; returns r = (I + 2 Re sum Q D P^T)^-1.
  SSM_FN Square<Rank> step(Index M, Real delta) const {
    Square<Rank> sum{};
    const Real rate = 2 / delta;
    for (Index m = 0; m < M; ++m) {
      const Cx l = lambda(m), down = Cx{1, 0} / Cx{rate - l.re, -l.im};
      put(m, 1, down);
      put(m, 2, {rate + l.re, l.im});
      for (int c = 0; c < Rank; ++c) {
        const Cx low = P(m, c), qd = conj(low) * down;
        put(m, 4 + 2 * c, qd);
        sum.at[c][c] += norm2(low) * down.re;
        for (int k = 0; k < Rank; ++k)
          if (k != c) sum.at[c][k] += (qd * P(m, k)).re;
      }
    }
    if constexpr (Rank == 1) {
      return {{{1 / (1 + 2 * sum.at[0][0])}}};
    } else {
      static_assert(Rank == 2);
      const Real a = 1 + 2 * sum.at[0][0], b = 2 * sum.at[0][1], c = 2 * sum.at[1][0], d = 1 + 2 * sum.at[1][1];
      const Real per = 1 / (a * d - b * c);
      return {{{per * d, -per * b}, {-per * c, per * a}}};
    }
  }
};

// f(c) for every column: what stands in a loop over lanes, which a loop over one column would keep from being SIMD.
template <int Rank, class F>
KOKKOS_FORCEINLINE_FUNCTION void columns(const F& f) {
  static_assert(Rank == 1 || Rank == 2);
  f(0);
  if constexpr (Rank == 2) f(1);
}

// to[c] = sum_k r_ck from[k], lane by lane.
template <int Rank, int W>
SSM_FN void multiply(const Square<Rank>& r, const Real (*from)[W], Real (*to)[W]) {
  for (int c = 0; c < Rank; ++c)
    for (int l = 0; l < W; ++l) {
      Real sum = 0;
      for (int k = 0; k < Rank; ++k) sum += r.at[c][k] * from[k][l];
      to[c][l] = sum;
    }
}

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

// x <- Abar x~ + Bbar u for one position, x~ = gate x; alpha, beta of every column of P:
//   alpha = 2 Re sum Q x~     w = E x~ - P alpha + 2 u B     beta = 2 Re sum Q D w     x = D (w - P r beta)
template <int Rank, int W>
KOKKOS_FORCEINLINE_FUNCTION void advance(const Inputs& i, const Table<Rank>& table, const Square<Rank>& r, Index b, Index t, Index head,
                                         const Real* u, Lanes<W> B, Lanes<W> x, Real (*alpha)[W], Real (*beta)[W]) {
  for (int c = 0; c < Rank; ++c)
    for (int l = 0; l < W; ++l) alpha[c][l] = beta[c][l] = 0;
  for (Index m = 0; m < i.M; ++m) {
    const Real g = i.open(b, t, head, m);
    Cx p[Rank];
    for (int c = 0; c < Rank; ++c) p[c] = table.P(m, c);
    Real *re = x.re(m), *im = x.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      re[l] *= g, im[l] *= g;
      columns<Rank>([&](int c) { alpha[c][l] += 2 * (p[c].re * re[l] + p[c].im * im[l]); });
    }
  }
  for (Index m = 0; m < i.M; ++m) {
    const Cx e = table.E(m);
    Cx p[Rank], qd[Rank];
    for (int c = 0; c < Rank; ++c) p[c] = table.P(m, c), qd[c] = table.QD(m, c);
    Real *re = x.re(m), *im = x.im(m);
    const Real *Br = B.re(m), *Bi = B.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      Real wr = e.re * re[l] - e.im * im[l], wi = e.re * im[l] + e.im * re[l];
      columns<Rank>([&](int c) { wr -= alpha[c][l] * p[c].re, wi -= alpha[c][l] * p[c].im; });
      wr += 2 * u[l] * Br[l], wi += 2 * u[l] * Bi[l];
      columns<Rank>([&](int c) { beta[c][l] += 2 * (qd[c].re * wr - qd[c].im * wi); });
      re[l] = wr, im[l] = wi;
    }
  }
  for (Index m = 0; m < i.M; ++m) {
    const Cx d = table.D(m);
    Cx p[Rank];
    for (int c = 0; c < Rank; ++c) p[c] = table.P(m, c);
    Real *re = x.re(m), *im = x.im(m);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      Real wr = re[l], wi = im[l];
      columns<Rank>([&](int c) {
        Real pull = r.at[c][0] * beta[0][l];
        if constexpr (Rank == 2) pull += r.at[c][1] * beta[1][l];
        wr -= pull * p[c].re, wi -= pull * p[c].im;
      });
      re[l] = d.re * wr - d.im * wi, im[l] = d.re * wi + d.im * wr;
    }
  }
}

SSM_FN Index forward_work(Index W, Index M, Index rank) { return 6 * M * W + table_size(rank) * M; }
template <int Rank>
struct Forward {
  Inputs i;
  Real *y, *carried;  // carried (B,D,M,2) of a stream, or null

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index b = row / i.R, head = row - b * i.R, M = i.M, c = head * i.width + first, all = i.R * i.width;
    Real* next = i.work + (b * all + c) * forward_work(1, M, Rank);
    const Table<Rank> table{next};
    const Lanes<W> x{next + table.kSize * M}, B{x.p + 2 * M * W}, C{B.p + 2 * M * W};
    gather<W>(i.B + 2 * i.owner(c, head) * M, M, B, i.per_head);
    gather<W>(i.C + 2 * i.owner(c, head) * M, M, C, i.per_head);
    for (Index k = 0; k < 2 * M * W; ++k) x.p[k] = 0;
    if (carried) gather<W>(carried + 2 * (b * all + c) * M, M, x);
    table.modes(i, head);
    Square<Rank> r{};
    for (Index t = 0; t < i.T; ++t) {
      if (t == 0 || i.moving) r = table.step(M, i.delta[i.step_of(b, t, head)]);
      if (i.boundary && t % kChunk == 0) {
        Real* to = i.boundary + ((b * i.chunks + t / kChunk) * all + c) * 2 * M;
        for (Index k = 0; k < 2 * M * W; ++k) to[k] = x.p[k];
      }
      const Index at = (b * i.T + t) * all + c;
      Real alpha[Rank][W], beta[Rank][W], u[W], sum[W];
      for (int l = 0; l < W; ++l) u[l] = i.u[at + l], sum[l] = i.D[c + l] * u[l];
      advance<Rank, W>(i, table, r, b, t, head, u, B, x, alpha, beta);
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
