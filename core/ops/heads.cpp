// heads.cpp - what acts on every head of a (B,T,heads K) tensor alike: rotary positions, unit length, a norm.
//
//   (u, v) -> (u cos a - v sin a, v cos a + u sin a)      a = t 10000^{-2i/K} of pair (i, i + K/2),  i < floor(K/2)
//   interleaved: pair (2i, 2i+1), a = t 10000^{-i/(K/2-1)}. A last odd channel is left as it is. The gradient is rotated by -a.
#include "launch.hpp"
#include "lib/into.hpp"
#include "lib/rows.hpp"
#include "ops.hpp"

namespace ssm {
namespace heads_op {

struct Rotary final : Op {
  Tensor x, y;
  Index K;
  bool interleaved;
  Scratch turns;  // (T, K/2, 2), or (B, K/2, 2) of a stream: cos, sin
  State seen;     // positions of the stream so far
  Rotary(Net& net, Tensor x_, Index heads, bool interleaved_)
      : Op(net), x(in(x_, drop)), y(out(x_, drop)), K(x_.last() / heads), interleaved(interleaved_) {
    turns = scratch((n.mode == Mode::stream ? n.B : n.T) * (K / 2) * 2);
    if (n.mode == Mode::stream) seen = state(1);
  }
  const char* name() const override { return "rotary"; }

  void forward(const Run& r) override { rotate(r, v(x), Grad{v(y), false}, 1, nullptr); }
  void backward(const Run& r) override { rotate(r, d(y), g(x), -1, nullptr); }
  void step(const Run& r) override {
    Real* t = v(seen);
    rotate(r, v(x), Grad{v(y), false}, 1, t);
    launch(
        "ssm::rotary_count", r, n.B, KOKKOS_LAMBDA(const Index b) { t[b] += 1; });
  }

  // Angles in double: single precision loses the phase of late positions.
  void rotate(const Run& r, const Real* from, Grad to, Real sign, const Real* position) {
    const Index half = K / 2, width = K, T = n.T, rows = x.size() / K, per_row = x.last() / K, places = position ? n.B : T;
    const bool next = interleaved;
    const double rate = 9.2103403719761827361 * (next ? 1 / static_cast<double>(half > 1 ? half - 1 : 1) : 2 / static_cast<double>(K));
    Real* cs = v(turns);
    launch(
        "ssm::rotary_angles", r, places * half, KOKKOS_LAMBDA(const Index i) {
          const Index place = i / half, pair = i - place * half;
          const double t = position ? static_cast<double>(position[place]) : static_cast<double>(place);
          const double angle = t * ::exp(-rate * static_cast<double>(pair));
          cs[2 * i] = static_cast<Real>(::cos(angle));
          cs[2 * i + 1] = sign * static_cast<Real>(::sin(angle));
        });
    const auto pair = KOKKOS_LAMBDA(const Index row, const Index i)->Two {
      const Index step = quotient(row, per_row), place = position ? quotient(step, T) : step - quotient(step, T) * T;
      const Index first = row * width + (next ? 2 * i : i), second = first + (next ? 1 : half), at = (place * half + i) * 2;
      const Real a = from[first], b = from[second], c = cs[at], s = cs[at + 1];
      return {a * c - b * s, b * c + a * s};
    };
    if (!next) {
      each_row_into("ssm::rotary", r, rows, half, width, to, Grad{to.p + half, to.add}, pair);
    } else {
      each_row(
          "ssm::rotary", r, rows, half, KOKKOS_LAMBDA(const Index row, const Index i) {
            const Two turned = pair(row, i);
            to(row * width + 2 * i, turned.one), to(row * width + 2 * i + 1, turned.two);
          });
    }
    if (width % 2)
      launch(
          "ssm::rotary_odd", r, rows, KOKKOS_LAMBDA(const Index row) { to((row + 1) * width - 1, from[(row + 1) * width - 1]); });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real), angles = static_cast<double>(n.T * K);
    return {{3 * n_, angles, 2 * real * n_}, {3 * n_, angles, 2 * real * n_}};
  }
};

// y = x s, s = 1/sqrt(sum x^2 + 1e-6);  dx = s (dy - y (y . dy)): x is not needed again, y is by who reads it.
struct Unit final : Op {
  Tensor x, y, scales;  // scales: s (B,T,heads)
  Index K;
  Unit(Net& net, Tensor x_, Index heads) : Op(net), x(in(x_, drop)), y(out(x_, save)), K(x_.last() / heads) {
    if (n.mode == Mode::train) scales = keep(shaped({x.size() / K}));
  }
  const char* name() const override { return "unit_heads"; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    Real *Y = v(y), *kept = scales.id < 0 ? nullptr : v(scales);
    const Index width = K;
    launch_rows(
        "ssm::unit_heads", r, x.size() / K, KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real* from = X + i * width;
          Real* to = Y + i * width;
          const Real s = 1 / Kokkos::sqrt(row.sum(width, [&](const Index c) { return from[c] * from[c]; }) + Real(1e-6));
          row.each(width, [&](const Index c) { to[c] = from[c] * s; });
          row.once([&] {
            if (kept) kept[i] = s;
          });
        });
  }
  void backward(const Run& r) override {
    const Real *Y = v(y), *dY = d(y), *kept = v(scales);
    const Grad dX = g(x);
    const Index width = K;
    launch_rows(
        "ssm::unit_heads_back", r, x.size() / K, KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real *unit = Y + i * width, *dy = dY + i * width, s = kept[i];
          const Real along = row.sum(width, [&](const Index c) { return unit[c] * dy[c]; });
          row.each(width, [&](const Index c) { dX(i * width + c, s * (dy[c] - unit[c] * along)); });
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{3 * n_, 0, 2 * real * n_}, {5 * n_, 0, 3 * real * n_}};
  }
};

}  // namespace heads_op

Tensor rotary(Net& n, Tensor x, Index heads, bool interleaved) { return n.add<heads_op::Rotary>(x, heads, interleaved); }

Tensor unit_heads(Net& n, Tensor x, Index heads) { return n.add<heads_op::Unit>(x, heads); }

Tensor head_norm(Net& n, Tensor x, Index heads, const std::string& name, double eps) {
  Tensor split = x;
  split.rank = 4, split.n[2] = heads, split.n[3] = x.last() / heads;
  Tensor y = x;
  y.id = rms_norm(n, split, name, eps).id;
  return y;
}

}  // namespace ssm
