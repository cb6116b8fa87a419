// s4_cauchy.hpp - the kernels of s4_kernel.cpp: sums over modes at W frequencies, and their adjoints. R: float or double.
#pragma once
#include "launch.hpp"
#include "ops/ssm.hpp"

namespace ssm::s4_kernel_op {

// L: length of the transform; bins = L/2 + 1 frequencies, padded to whole vectors.
struct Shape {
  Index H, M, L, bins, padded;
};
inline Shape shape_of(Index H, Index M, Index L) { return {H, M, L, L / 2 + 1, (L / 2 + 1 + 15) / 16 * 16}; }

// g(c,b) for c in {C~_0 .. C~_{Ch-1}, Q_0 .. Q_{Rank-1}} and b in {B, P_0 .. P_{Rank-1}}, b fastest.
template <int Ch, int Rank>
struct Sums {
  static constexpr int count = (Ch + Rank) * (1 + Rank);
  SSM_FN static constexpr int cb(int c) { return c * (1 + Rank); }
  SSM_FN static constexpr int cp(int c, int r) { return c * (1 + Rank) + 1 + r; }
  SSM_FN static constexpr int qb(int r) { return (Ch + r) * (1 + Rank); }
  SSM_FN static constexpr int qp(int r, int q) { return (Ch + r) * (1 + Rank) + 1 + q; }
};

// nodes (2, padded): cos and sin of theta_j / 2. Padded frequencies get harmless values.
template <class R>
struct Nodes {
  R* nodes;
  Index L, padded;
  SSM_FN void operator()(const Index j) const {
    const Wide half = 3.14159265358979323846 * static_cast<Wide>(j) / static_cast<Wide>(L);
    const bool inside = 2 * j < L;
    nodes[j] = inside ? static_cast<R>(::cos(half)) : R(0);
    nodes[padded + j] = inside ? static_cast<R>(::sin(half)) : R(1);
  }
};

// table (H, M, 2 + 2 sums): mu = Delta lambda, then x = Delta c b of every sum.
template <class R, int Ch, int Rank>
struct Table {
  SsmView view;
  R* table;
  SSM_FN static ComplexW c_of(const SsmView& view, int c, Index h, Index n) {
    return c < Ch ? view.c(c, h, n) : view.q(c - Ch, h % view.S, n);
  }
  SSM_FN static ComplexW b_of(const SsmView& view, int b, Index h, Index n) {
    return b == 0 ? view.b(h % view.S, n) : view.p(b - 1, h % view.S, n);
  }
  SSM_FN void operator()(const Index i) const {
    const Index h = i / view.M, n = i - h * view.M;
    const Wide dt = view.delta(h);
    const ComplexW mu = dt * view.a(h % view.S, n);
    R* out = table + i * (2 + 2 * Sums<Ch, Rank>::count);
    out[0] = static_cast<R>(mu.re);
    out[1] = static_cast<R>(mu.im);
    for (int c = 0; c < Ch + Rank; ++c)
      for (int b = 0; b <= Rank; ++b) {
        const ComplexW x = dt * (c_of(view, c, h, n) * b_of(view, b, h, n));
        out[2 + 2 * (c * (1 + Rank) + b)] = static_cast<R>(x.re);
        out[3 + 2 * (c * (1 + Rank) + b)] = static_cast<R>(x.im);
      }
  }
};

// 1/(2iS - K mu) = p1 - i q1 and 1/(2iS - K mu*) = p2 - i q2 at W frequencies; one division for both.
template <class R, int W>
struct Poles {
  R p1[W], q1[W], p2[W], q2[W];
  SSM_FN void set(const R* cosine, const R* sine, R mu_re, R mu_im) {
    for (int l = 0; l < W; ++l) {
      const R re = -cosine[l] * mu_re, a = 2 * sine[l] - cosine[l] * mu_im, b = 2 * sine[l] + cosine[l] * mu_im;
      const R n1 = re * re + a * a, n2 = re * re + b * b, inv = R(1) / (n1 * n2), i1 = n2 * inv, i2 = n1 * inv;
      p1[l] = re * i1;
      q1[l] = a * i1;
      p2[l] = re * i2;
      q2[l] = b * i2;
    }
  }
};

// All g(c,b) at frequencies [j, j + W).
template <class R, int Ch, int Rank, int W>
struct Accumulated {
  R re[Sums<Ch, Rank>::count][W], im[Sums<Ch, Rank>::count][W];
  SSM_FN Complex<R> at(int sum, int l) const { return {re[sum][l], im[sum][l]}; }

  SSM_FN void add_modes(const R* nodes, const R* table, const Shape& s, Index h, Index j) {
    constexpr int count = Sums<Ch, Rank>::count;
    const R *cosine = nodes + j, *sine = nodes + s.padded + j;
    for (int k = 0; k < count; ++k)
      for (int l = 0; l < W; ++l) re[k][l] = im[k][l] = 0;
    for (Index n = 0; n < s.M; ++n) {
      const R* row = table + (h * s.M + n) * (2 + 2 * count);
      Poles<R, W> pole;
      pole.set(cosine, sine, row[0], row[1]);
      for (int l = 0; l < W; ++l) {
        const R a = pole.p1[l] + pole.p2[l], b = pole.q1[l] - pole.q2[l], c = pole.p1[l] - pole.p2[l], d = pole.q1[l] + pole.q2[l];
        pole.p1[l] = a;
        pole.q1[l] = b;
        pole.p2[l] = c;
        pole.q2[l] = d;
      }
      for (int k = 0; k < count; ++k) {
        const R xr = row[2 + 2 * k], xi = row[3 + 2 * k];
        for (int l = 0; l < W; ++l) {
          re[k][l] += xr * pole.p1[l] + xi * pole.q1[l];
          im[k][l] += xi * pole.p2[l] - xr * pole.q2[l];
        }
      }
    }
  }
};

// (I + K W)^{-1} of one frequency.
template <class R, int Rank>
struct Inverse {
  Complex<R> x[Rank][Rank];
  template <class A>
  SSM_FN void set(const A& sums, R cosine, int l, int first) {
    const Complex<R> one{1, 0};
    if constexpr (Rank == 1) {
      x[0][0] = one / (one + cosine * sums.at(first, l));
    } else {
      const int row = 1 + Rank;
      const Complex<R> a = one + cosine * sums.at(first, l), b = cosine * sums.at(first + 1, l), c = cosine * sums.at(first + row, l),
                       d = one + cosine * sums.at(first + row + 1, l), det = one / (a * d - b * c);
      x[0][0] = det * d;
      x[1][1] = det * a;
      x[0][1] = {-(det * b).re, -(det * b).im};
      x[1][0] = {-(det * c).re, -(det * c).im};
    }
  }
};

// One item: channel h, W frequencies. spectrum (Ch, H, bins, 2).
template <class R, int Ch, int Rank>
struct Spectrum {
  const R *nodes, *table;
  R* spectrum;
  Shape s;

  SSM_FN void operator()(const Index item) const {
    using Which = Sums<Ch, Rank>;
    const Index groups = s.padded / kLanes, h = item / groups, j = (item - h * groups) * kLanes;
    Accumulated<R, Ch, Rank, kLanes> g;
    g.add_modes(nodes, table, s, h, j);
    for (int l = 0; l < kLanes && j + l < s.bins; ++l) {
      const R cosine = nodes[j + l], sine = nodes[s.padded + j + l];
      Inverse<R, Rank> inverse;
      inverse.set(g, cosine, l, Which::qp(0, 0));
      for (int c = 0; c < Ch; ++c) {
        Complex<R> low{0, 0};
        for (int r = 0; r < Rank; ++r)
          for (int q = 0; q < Rank; ++q) low = low + g.at(Which::cp(c, r), l) * (inverse.x[r][q] * g.at(Which::qb(q), l));
        const Complex<R> value = Complex<R>{cosine, sine} * (g.at(Which::cb(c), l) - cosine * low);
        R* out = spectrum + ((c * s.H + h) * s.bins + j + l) * 2;
        out[0] = value.re;
        out[1] = value.im;
      }
    }
  }
};

// From the transform of dK to gamma (H, sums, 2, padded), the gradients of all g(c,b).
template <class R, int Ch, int Rank>
struct Gamma {
  const R *nodes, *table, *spectrum;
  R* gamma;
  Shape s;

  SSM_FN void operator()(const Index item) const {
    using Which = Sums<Ch, Rank>;
    const Index groups = s.padded / kLanes, h = item / groups, j = (item - h * groups) * kLanes;
    Accumulated<R, Ch, Rank, kLanes> g;
    g.add_modes(nodes, table, s, h, j);
    R* out = gamma + h * Which::count * 2 * s.padded + j;
    for (int l = 0; l < kLanes; ++l) {
      const bool inside = j + l < s.bins;
      const R cosine = nodes[j + l], sine = nodes[s.padded + j + l];
      const R weight = (j + l == 0 || 2 * (j + l) == s.L ? R(1) : R(2)) / static_cast<R>(s.L);
      Inverse<R, Rank> inverse;
      inverse.set(g, cosine, l, Which::qp(0, 0));
      Complex<R> grad[Which::count];
      for (int k = 0; k < Which::count; ++k) grad[k] = {0, 0};
      for (int c = 0; c < Ch && inside; ++c) {
        const R* in = spectrum + ((c * s.H + h) * s.bins + j + l) * 2;
        const Complex<R> back = weight * (Complex<R>{cosine, -sine} * Complex<R>{in[0], in[1]});
        Complex<R> u[Rank], w[Rank];
        for (int r = 0; r < Rank; ++r) {
          u[r] = w[r] = {0, 0};
          for (int q = 0; q < Rank; ++q) {
            u[r] = u[r] + inverse.x[q][r] * g.at(Which::cp(c, q), l);
            w[r] = w[r] + inverse.x[r][q] * g.at(Which::qb(q), l);
          }
        }
        grad[Which::cb(c)] = back;
        for (int r = 0; r < Rank; ++r) {
          grad[Which::cp(c, r)] = (-cosine) * (conj(w[r]) * back);
          grad[Which::qb(r)] = grad[Which::qb(r)] - cosine * (conj(u[r]) * back);
          for (int q = 0; q < Rank; ++q) grad[Which::qp(r, q)] = grad[Which::qp(r, q)] + (cosine * cosine) * (conj(u[r] * w[q]) * back);
        }
      }
      for (int k = 0; k < Which::count; ++k) {
        out[2 * k * s.padded + l] = grad[k].re;
        out[(2 * k + 1) * s.padded + l] = grad[k].im;
      }
    }
  }
};

// One item: mode n of channel h, all frequencies. Gives dC~ and the gradients of the mode's other parameters.
template <class R, int Ch, int Rank>
struct ModeSums {
  SsmView view;
  const R *nodes, *table, *gamma;
  Real* dC;
  Wide* parts;
  Shape s;

  SSM_FN void operator()(const Index item) const {
    constexpr int count = Sums<Ch, Rank>::count, W = kLanes;
    const Index h = item / s.M, n = item - h * s.M;
    const R* row = table + item * (2 + 2 * count);
    const R* g = gamma + h * count * 2 * s.padded;
    R xr[count][W], xi[count][W], mr[W], mi[W];
    for (int l = 0; l < W; ++l) {
      mr[l] = mi[l] = 0;
      for (int k = 0; k < count; ++k) xr[k][l] = xi[k][l] = 0;
    }
    for (Index j = 0; j < s.padded; j += W) {
      Poles<R, W> p;
      p.set(nodes + j, nodes + s.padded + j, row[0], row[1]);
      R rr[W], ii[W], ri[W], ir[W];  // sums over k of xr gr, xi gi, xr gi, xi gr
      for (int l = 0; l < W; ++l) rr[l] = ii[l] = ri[l] = ir[l] = 0;
      for (int k = 0; k < count; ++k) {
        const R *gr = g + 2 * k * s.padded + j, *gi = gr + s.padded;
        const R a = row[2 + 2 * k], b = row[3 + 2 * k];
        for (int l = 0; l < W; ++l) {
          xr[k][l] += (p.p1[l] + p.p2[l]) * gr[l] - (p.q1[l] + p.q2[l]) * gi[l];
          xi[k][l] += (p.q1[l] - p.q2[l]) * gr[l] + (p.p1[l] - p.p2[l]) * gi[l];
          rr[l] += a * gr[l];
          ii[l] += b * gi[l];
          ri[l] += a * gi[l];
          ir[l] += b * gr[l];
        }
      }
      for (int l = 0; l < W; ++l) {  // d mu = K [ conj(r1^2) sum conj(x) gamma + r2^2 sum conj(x gamma) ]
        const R s1r = p.p1[l] * p.p1[l] - p.q1[l] * p.q1[l], s1i = 2 * p.p1[l] * p.q1[l];
        const R s2r = p.p2[l] * p.p2[l] - p.q2[l] * p.q2[l], s2i = -2 * p.p2[l] * p.q2[l];
        const R ar = rr[l] + ii[l], ai = ri[l] - ir[l], br = rr[l] - ii[l], bi = -ri[l] - ir[l];
        mr[l] += nodes[j + l] * (s1r * ar - s1i * ai + s2r * br - s2i * bi);
        mi[l] += nodes[j + l] * (s1r * ai + s1i * ar + s2r * bi + s2i * br);
      }
    }
    finish(h, n, total(xr, xi), {sum(mr), sum(mi)});
  }

  struct Totals {
    ComplexW x[Sums<Ch, Rank>::count];
  };
  SSM_FN static Wide sum(const R* lanes) {
    Wide out = 0;
    for (int l = 0; l < kLanes; ++l) out += static_cast<Wide>(lanes[l]);
    return out;
  }
  template <class Lanes>
  SSM_FN static Totals total(const Lanes& re, const Lanes& im) {
    Totals t;
    for (int k = 0; k < Sums<Ch, Rank>::count; ++k) t.x[k] = {sum(re[k]), sum(im[k])};
    return t;
  }
  SSM_FN void finish(Index h, Index n, const Totals& dx, ComplexW dmu) const {
    using T = Table<R, Ch, Rank>;
    const Wide dt = view.delta(h);
    const ComplexW lambda = view.a(h % view.S, n), dlambda = dt * dmu;
    ComplexW dc[Ch + Rank], db[1 + Rank];
    for (int c = 0; c < Ch + Rank; ++c) dc[c] = {0, 0};
    for (int b = 0; b <= Rank; ++b) db[b] = {0, 0};
    Wide ddt = (conj(lambda) * dmu).re;
    for (int c = 0; c < Ch + Rank; ++c)
      for (int b = 0; b <= Rank; ++b) {
        const ComplexW C = T::c_of(view, c, h, n), B = T::b_of(view, b, h, n), g = dx.x[c * (1 + Rank) + b];
        dc[c] = dc[c] + dt * (conj(B) * g);
        db[b] = db[b] + dt * (conj(C) * g);
        ddt += (conj(C * B) * g).re;
      }
    for (int c = 0; c < Ch; ++c) {
      const Index at = ((c * view.H + h) * view.M + n) * 2;
      dC[at] += static_cast<Real>(dc[c].re);
      dC[at + 1] += static_cast<Real>(dc[c].im);
    }
    Wide* out = parts + (h * view.M + n) * view.grads();
    out[0] = dlambda.re * lambda.re;
    out[1] = -dlambda.im;
    out[2] = db[0].re;
    out[3] = db[0].im;
    out[4] = ddt;
    for (int r = 0; r < Rank; ++r) {
      const ComplexW dQ = dc[Ch + r], dP = view.Q ? db[1 + r] : db[1 + r] + conj(dQ);
      out[kModeGrads + 2 * r] = dP.re;
      out[kModeGrads + 2 * r + 1] = dP.im;
      if (!view.Q) continue;
      out[kModeGrads + 2 * (Rank + r)] = dQ.re;
      out[kModeGrads + 2 * (Rank + r) + 1] = dQ.im;
    }
  }
};

}  // namespace ssm::s4_kernel_op
