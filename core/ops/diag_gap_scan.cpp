// diag_gap_scan.cpp - a diagonal system per channel as a recurrence at uneven times:
//
//   x_t = A_t x_{t-1} + g_t b u_t      y_t = 2 Re sum_n c_n x_{n,t} + D u_t      A_t, g_t: a at the step gaps_t Delta (variants.md 1.2)
//   l_t = 2 conj(c) dy_t + conj(A_{t+1}) l_{t+1}
//
// u, y (B,T,H)   gaps (B,T)   modes as in ssm.hpp. A work item walks one channel of one sequence, mode after mode, in Wide; backward
// keeps the states of one mode at a time.
#include "launch.hpp"
#include "ops/ssm.hpp"

namespace ssm::diag_gap_scan_op {

constexpr Index kOut = kModeGrads + 2;  // numbers per mode and channel: as mode_gradients leaves them, then dC

struct Walk {
  SsmView m;
  const Real *u, *gaps, *D;
  Real* y;
  Real* state;  // of a stream: (B,H,M,2); else null
  Index T;

  KOKKOS_FUNCTION Wide step(Index row, Index h, Index n) const { return static_cast<Wide>(gaps[row]) * m.delta(h, n); }
  KOKKOS_FUNCTION void operator()(const Index i) const {
    const Index b = i / m.H, h = i - b * m.H, s = h % m.S, first = b * T;
    for (Index row = first; row < first + T; ++row) y[row * m.H + h] = D[h] * u[row * m.H + h];
    for (Index n = 0; n < m.M; ++n) {
      const ComplexW a = m.a(s, n), in = m.b(s, n), out = 2.0 * m.c(0, h, n);
      Real* kept = state ? state + 2 * (i * m.M + n) : nullptr;
      ComplexW x{0, 0};
      if (kept) x = {static_cast<Wide>(kept[0]), static_cast<Wide>(kept[1])};
      for (Index row = first; row < first + T; ++row) {
        const Discrete d = discretize(m.disc, step(row, h, n), a);
        x = d.A * x + static_cast<Wide>(u[row * m.H + h]) * (d.gain * in);
        y[row * m.H + h] += static_cast<Real>((out * x).re);
      }
      if (kept) kept[0] = static_cast<Real>(x.re), kept[1] = static_cast<Real>(x.im);
    }
  }
};

struct Back {
  Walk w;
  const Real* dy;
  Grad du;
  Real *dskip, *states;  // (B,H), (B,H,T,2)
  Wide* parts;           // (B,H,M,kOut)

  KOKKOS_FUNCTION void operator()(const Index i) const {
    const SsmView& m = w.m;
    const Index b = i / m.H, h = i - b * m.H, s = h % m.S, first = b * w.T;
    Real skip = 0;
    for (Index row = first; row < first + w.T; ++row) {
      const Index at = row * m.H + h;
      skip += w.u[at] * dy[at];
      du(at, w.D[h] * dy[at]);
    }
    dskip[i] = skip;
    Real* x = states + 2 * i * w.T;
    for (Index n = 0; n < m.M; ++n) {
      const ComplexW a = m.a(s, n), in = m.b(s, n), out = 2.0 * m.c(0, h, n);
      ComplexW now{0, 0};
      for (Index t = 0; t < w.T; ++t) {
        const Discrete d = discretize(m.disc, w.step(first + t, h, n), a);
        now = d.A * now + static_cast<Wide>(w.u[(first + t) * m.H + h]) * (d.gain * in);
        x[2 * t] = static_cast<Real>(now.re), x[2 * t + 1] = static_cast<Real>(now.im);
      }
      mode(i, n, h, first, a, in, out, x);
    }
  }

  KOKKOS_FUNCTION static ComplexW at_time(const Real* x, Index t) { return {static_cast<Wide>(x[2 * t]), static_cast<Wide>(x[2 * t + 1])}; }
  KOKKOS_FUNCTION void mode(Index i, Index n, Index h, Index first, ComplexW a, ComplexW in, ComplexW out, const Real* x) const {
    const SsmView& m = w.m;
    ComplexW carry{0, 0}, da{0, 0}, db{0, 0}, dc{0, 0};
    Wide dstep = 0;
    for (Index t = w.T - 1; t >= 0; --t) {
      const Index at = (first + t) * m.H + h;
      const Wide gap = static_cast<Wide>(w.gaps[first + t]), dt = w.step(first + t, h, n), g = static_cast<Wide>(dy[at]);
      const Wide input = static_cast<Wide>(w.u[at]);
      const Discrete d = discretize(m.disc, dt, a);
      const ComplexW l = g * conj(out) + carry, before = t > 0 ? at_time(x, t - 1) : ComplexW{0, 0};
      const ComplexW dz = conj(d.A_z) * (l * conj(before)), dgain = input * (conj(in) * l);
      da = da + dt * dz + conj(d.gain_a) * dgain;
      dstep += gap * (conj(a) * dz + conj(d.gain_dt) * dgain).re;
      db = db + input * (conj(d.gain) * l);
      dc = dc + 2 * g * conj(at_time(x, t));
      du.p[at] += static_cast<Real>((conj(d.gain * in) * l).re);
      carry = conj(d.A) * l;
    }
    Wide* to = parts + (i * m.M + n) * kOut;
    to[0] = da.re * m.decay_slope(h % m.S, n), to[1] = -da.im, to[2] = db.re, to[3] = db.im, to[4] = dstep, to[5] = dc.re, to[6] = dc.im;
  }
};

struct DiagGapScan final : Op {
  SsmParams p;
  Tensor u, gaps, y;
  Param D;
  State carried;
  Scratch parts, states, dskip, modes;

  DiagGapScan(Net& net, Tensor u_, Tensor gaps_, const SsmParams& params, Param skip)
      : Op(net), p(params), u(in(u_, save)), gaps(in(gaps_, save)), y(out(u_, drop)), D(skip) {
    if (u.order != Order::BTD || u.D() != p.H || p.kernels != 1) throw std::logic_error("diag_gap_scan takes (B,T,H) and one kernel");
    if (n.mode == Mode::stream) carried = state(2 * p.H * p.M);
    if (n.mode != Mode::train) return;
    parts = scratch(u.B() * p.H * p.M * kOut * static_cast<Index>(sizeof(Wide) / sizeof(Real)));
    states = scratch(2 * u.size());
    dskip = scratch(u.B() * p.H);
    modes = scratch(mode_gradients_scratch(p));
  }
  const char* name() const override { return "diag_gap_scan"; }

  Walk walk(Real* state_) const { return {view_of(*this, p), v(u), v(gaps), v(D), v(y), state_, u.T()}; }
  void forward(const Run& r) override { launch("ssm::diag_gap_scan", r, u.B() * p.H, walk(nullptr)); }
  void step(const Run& r) override { launch("ssm::diag_gap_step", r, u.B() * p.H, walk(v(carried))); }

  void backward(const Run& r) override {
    const Index B = u.B(), H = p.H, M = p.M;
    const Real* skips = v(dskip);
    Real *dD = d(D), *dC = d(p.C);
    Wide *part = reinterpret_cast<Wide*>(v(parts)), *sums = reinterpret_cast<Wide*>(v(modes));
    const bool real = p.real;
    launch("ssm::diag_gap_back", r, B * H, Back{walk(nullptr), d(y), g(u), v(dskip), v(states), part});
    launch(
        "ssm::diag_gap_modes", r, H * M, KOKKOS_LAMBDA(const Index i) {
          for (Index k = 0; k < kOut; ++k) {
            Wide sum = 0;
            for (Index b = 0; b < B; ++b) sum += part[(b * H * M + i) * kOut + k];
            if (k < kModeGrads) sums[i * kModeGrads + k] = sum;
            else if (real && k == kModeGrads) dC[i] += static_cast<Real>(sum);
            else if (!real) dC[2 * i + k - kModeGrads] += static_cast<Real>(sum);
          }
        });
    add_mode_gradients(r, *this, p, sums);
    launch(
        "ssm::diag_gap_dD", r, H, KOKKOS_LAMBDA(const Index h) {
          Real sum = 0;
          for (Index b = 0; b < B; ++b) sum += skips[b * H + h];
          dD[h] += sum;
        });
  }
  Cost cost() const override {
    const double size = static_cast<double>(u.size()), modes_ = static_cast<double>(p.M), real = sizeof(Real);
    return {{size * (50 * modes_ + 2), 3 * size * modes_, 2 * real * size},
            {size * (140 * modes_ + 4), 6 * size * modes_, 3 * real * size}};
  }
};

}  // namespace ssm::diag_gap_scan_op

namespace ssm {

Tensor diag_gap_scan(Net& n, Tensor u, Tensor gaps, const SsmParams& p, Param D) {
  return n.add<diag_gap_scan_op::DiagGapScan>(u, gaps, p, D);
}

}  // namespace ssm
