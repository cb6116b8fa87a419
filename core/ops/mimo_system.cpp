// mimo_system.cpp - lambda, B and C of a shared diagonal system from its parameters, and the way back. Phases and gains in Wide.
#include "launch.hpp"
#include "lib/rows.hpp"
#include "ops/mimo.hpp"
#include "ops/ssm.hpp"

namespace ssm::mimo_system_op {

enum class Kind : int { step, stable_exp, exp, re_im, pole };
Kind kind_of(const std::string& name) {
  if (name == "step") return Kind::step;
  if (name == "stable_exp") return Kind::stable_exp;
  if (name == "exp") return Kind::exp;
  if (name == "re_im") return Kind::re_im;
  if (name == "pole") return Kind::pole;
  throw std::logic_error("no kind of modes is called " + name);
}

struct ModeGrad {
  Wide a, b, c;
};

struct Modes {
  const Real *a, *b, *c;
  Index steps;  // numbers in c
  Kind kind;
  Disc disc;
  bool clip;

  SSM_FN Wide read(const Real* p, Index n) const { return static_cast<Wide>(p[n]); }
  SSM_FN bool clipped(Index n) const { return clip && read(a, n) > -1e-4; }
  SSM_FN Wide delta(Index n) const { return ::exp(read(c, steps == 1 ? 0 : n)); }
  SSM_FN ComplexW pole(Index n) const { return {clipped(n) ? -1e-4 : read(a, n), read(b, n)}; }
  SSM_FN ComplexW lambda(Index n) const {
    const Wide x = read(a, n), y = read(b, n);
    if (kind == Kind::step) return discretize(disc, delta(n), pole(n)).A;
    if (kind == Kind::pole) return pole(n);
    if (kind == Kind::stable_exp) return cexp(ComplexW{-::exp(x), ::exp(y)});
    return kind == Kind::exp ? cexp(ComplexW{-x, y}) : ComplexW{x, y};
  }
  SSM_FN ComplexW gain(Index n) const {
    if (kind == Kind::step) return discretize(disc, delta(n), pole(n)).gain;
    return {c && kind != Kind::pole ? ::exp(read(c, n)) : 1, 0};
  }
  // sum: conj(B~) dB over the channels. ddelta: of a pole.
  SSM_FN ModeGrad gradient(Index n, ComplexW dlambda, ComplexW sum, Wide ddelta) const {
    if (kind == Kind::pole) return {clipped(n) ? 0 : dlambda.re, dlambda.im, delta(n) * ddelta};
    if (kind == Kind::step) {
      const Wide dt = delta(n);
      const ComplexW pole_n = pole(n);
      const Discrete d = discretize(disc, dt, pole_n);
      const ComplexW dz = conj(d.A_z) * dlambda, da = dt * dz + conj(d.gain_a) * sum;
      return {clipped(n) ? 0 : da.re, da.im, dt * (conj(pole_n) * dz + conj(d.gain_dt) * sum).re};
    }
    const Wide dc = c ? ::exp(read(c, n)) * sum.re : 0;
    if (kind == Kind::re_im) return {dlambda.re, dlambda.im, dc};
    const ComplexW dlog = conj(lambda(n)) * dlambda;
    const bool twice = kind == Kind::stable_exp;
    return {-dlog.re * (twice ? ::exp(read(a, n)) : 1), dlog.im * (twice ? ::exp(read(b, n)) : 1), dc};
  }
};

struct ComplexView {
  Real *re, *im;
  Index row, first, stride;
  SSM_FN Index at(Index i, Index j) const { return (i * row + first + j) * stride; }
};

struct System final : Op {
  static constexpr std::size_t kMostOutputs = 2;
  MimoParams p;
  Tensor lambda, B, C, y, gains;
  Scratch steps;

  System(Net& net, const MimoParams& params) : Op(net), p(params) {
    const Index S = 2 * p.p * static_cast<Index>(p.C.size());
    const auto made = [&](Tensor shape) { return n.mode == Mode::stream ? Op::table(shape) : out(shape, drop); };
    lambda = made(shaped({4, p.p}));
    y = B = made(shaped({2 * p.p, p.H}));
    C = made(shaped({p.H, S}));
    gains = keep(shaped({2 * p.p}));
    if (p.c.size != p.p) steps = scratch(p.p);
    if (p.C.size() > kMostOutputs) throw std::logic_error("mimo_system: C forth and C back, no more");
  }
  const char* name() const override { return "mimo_system"; }

  Modes modes() const { return {v(p.a), v(p.b), p.c.id >= 0 ? v(p.c) : nullptr, p.c.size, kind_of(p.kind), disc_of(p.disc), p.clip}; }
  ComplexView view(const ComplexParam& q, bool gradient) const {
    Real* re = gradient ? d(q.re) : v(q.re);
    if (q.im.id < 0) return {re, re + 1, q.row, q.first, 2};
    return {re, gradient ? d(q.im) : v(q.im), q.row, q.first, 1};
  }
  // The C of all directions; the first where there is one.
  struct Outputs {
    ComplexView view[kMostOutputs];
  };
  Outputs outputs(bool gradient) const { return {view(p.C.front(), gradient), view(p.C.back(), gradient)}; }

  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) forward(r);
  }
  void step(const Run&) override {}
  void forward(const Run& r) override {
    const Modes m = modes();
    const ComplexView b = view(p.B, false);
    const Outputs c = outputs(false);
    const Index P = p.p, H = p.H, S = C.last();
    const Real scale = static_cast<Real>(p.scale);
    Real *L = v(lambda), *G = v(gains), *Bd = v(B), *Cd = v(C);
    launch(
        "ssm::mimo_modes", r, P, KOKKOS_LAMBDA(const Index k) {
          const ComplexW l = m.lambda(k), g = m.gain(k);
          const Real re = static_cast<Real>(l.re), im = static_cast<Real>(l.im);
          L[k] = re;
          L[P + k] = im;
          const Wide step = m.kind == Kind::pole ? m.delta(k) : 0;
          const Real near = static_cast<Real>(step);
          L[2 * P + k] = m.kind == Kind::pole ? near : static_cast<Real>(l.re - static_cast<Wide>(re));
          L[3 * P + k] = static_cast<Real>(m.kind == Kind::pole ? step - static_cast<Wide>(near) : l.im - static_cast<Wide>(im));
          G[k] = static_cast<Real>(g.re);
          G[P + k] = static_cast<Real>(g.im);
        });
    each_row(
        "ssm::mimo_maps", r, P + S / 2, H, KOKKOS_LAMBDA(const Index row, const Index h) {
          if (row < P) {
            const Index i = b.at(row, h);
            const Real x = b.re[i], z = b.im[i];
            Bd[row * H + h] = G[row] * x - G[P + row] * z;
            Bd[(P + row) * H + h] = G[row] * z + G[P + row] * x;
          } else {
            const Index q = row / P - 1, k = row % P, to = h * S + 2 * P * q + k, i = c.view[q].at(h, k);
            Cd[to] = scale * c.view[q].re[i];
            Cd[to + P] = -scale * c.view[q].im[i];
          }
        });
  }

  void backward(const Run& r) override {
    const Modes m = modes();
    const ComplexView b = view(p.B, false), db = view(p.B, true);
    const Outputs dC = outputs(true);
    const Index P = p.p, H = p.H, S = C.last(), count = p.c.size;
    const Real scale = static_cast<Real>(p.scale), *G = v(gains);
    const Real *dL = d(lambda), *dBd = d(B), *dCd = d(C);
    Real *da = d(p.a), *db_ = d(p.b), *dc = p.c.id >= 0 ? d(p.c) : nullptr, *dsteps = steps.size > 0 ? v(steps) : nullptr;
    launch_rows(
        "ssm::mimo_modes_back", r, P, KOKKOS_LAMBDA(const Row& row, const Index k) {
          const auto term = [&](const Index h) {
            const Index i = b.at(k, h);
            const ComplexW x{static_cast<Wide>(b.re[i]), static_cast<Wide>(b.im[i])};
            return conj(x) * ComplexW{static_cast<Wide>(dBd[k * H + h]), static_cast<Wide>(dBd[(P + k) * H + h])};
          };
          const Wide re = row.sum<Wide>(H, [&](const Index h) { return term(h).re; });
          const Wide im = row.sum<Wide>(H, [&](const Index h) { return term(h).im; });
          row.once([&] {
            const ModeGrad g =
                m.gradient(k, {static_cast<Wide>(dL[k]), static_cast<Wide>(dL[P + k])}, {re, im}, static_cast<Wide>(dL[2 * P + k]));
            da[k] += static_cast<Real>(g.a);
            db_[k] += static_cast<Real>(g.b);
            if (dsteps) dsteps[k] = static_cast<Real>(g.c);
            else dc[k] += static_cast<Real>(g.c);
          });
        });
    if (dsteps)
      launch(
          "ssm::mimo_steps", r, count, KOKKOS_LAMBDA(const Index i) {
            Real sum = 0;
            for (Index k = i; k < P; k += count) sum += dsteps[k];
            dc[i] += sum;
          });
    each_row(
        "ssm::mimo_maps_back", r, P + S / 2, H, KOKKOS_LAMBDA(const Index row, const Index h) {
          if (row < P) {
            const Real x = dBd[row * H + h], z = dBd[(P + row) * H + h];
            const Index i = db.at(row, h);
            db.re[i] += G[row] * x + G[P + row] * z;
            db.im[i] += G[row] * z - G[P + row] * x;
          } else {
            const Index q = row / P - 1, k = row % P, from = h * S + 2 * P * q + k, i = dC.view[q].at(h, k);
            dC.view[q].re[i] += scale * dCd[from];
            dC.view[q].im[i] -= scale * dCd[from + P];
          }
        });
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(B.size() + C.size()), modes_ = static_cast<double>(p.p), real = sizeof(Real);
    return {{4 * numbers, 4 * modes_, 2 * real * numbers}, {8 * numbers, 8 * modes_, 4 * real * numbers}};
  }
};

}  // namespace ssm::mimo_system_op

namespace ssm {

MimoSystem mimo_system(Net& n, const MimoParams& p) {
  const auto* op = n.push(std::make_unique<mimo_system_op::System>(n, p));
  return {op->lambda, op->B, op->C};
}

}  // namespace ssm
