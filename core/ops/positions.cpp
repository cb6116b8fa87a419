// positions.cpp - fixed sinusoids added to a sequence: sin on even, cos on odd columns, angle t 10000^{-2 floor(d/2)/D} (variants.md 12.1).
#include "launch.hpp"
#include "lib/each.hpp"
#include "ops.hpp"

namespace ssm::positions_op {

struct Sinusoids final : Op {
  Tensor x, y;
  State seen;  // positions of the stream so far
  Sinusoids(Net& net, Tensor x_) : Op(net), x(in(x_, drop)), y(out(x_, drop)) {
    if (n.mode == Mode::stream) seen = state(1);
  }
  const char* name() const override { return "add_sinusoids"; }

  // In double: single precision loses the phase of late positions.
  static SSM_FN Real sinusoid(double t, Index d, Index D) {
    const Index even = d - d % 2;
    const double angle = t * ::exp(-9.2103403719761827361 * static_cast<double>(even) / static_cast<double>(D));
    return static_cast<Real>(d % 2 ? ::cos(angle) : ::sin(angle));
  }
  void forward(const Run& r) override {
    const Index B = x.B(), T = x.T(), D = x.D();
    const Real* X = v(x);
    Real* Y = v(y);
    launch(
        "ssm::add_sinusoids", r, T * D, KOKKOS_LAMBDA(const Index i) {
          const Index t = i / D;
          const Real value = sinusoid(static_cast<double>(t), i - t * D, D);
          for (Index b = 0; b < B; ++b) Y[b * T * D + i] = X[b * T * D + i] + value;
        });
  }
  void backward(const Run& r) override {
    const Real* dY = d(y);
    const Grad dX = g(x);
    each(
        "ssm::add_sinusoids_backward", r, x.size(), KOKKOS_LAMBDA(const Index i) { dX(i, dY[i]); });
  }
  void step(const Run& r) override {
    const Index D = x.D();
    const Real *X = v(x), *t = v(seen);
    Real *Y = v(y), *counter = v(seen);
    each_row(
        "ssm::add_sinusoids_step", r, x.B(), D,
        KOKKOS_LAMBDA(const Index b, const Index d) { Y[b * D + d] = X[b * D + d] + sinusoid(static_cast<double>(t[b]), d, D); });
    launch(
        "ssm::add_sinusoids_count", r, x.B(), KOKKOS_LAMBDA(const Index b) { counter[b] += 1; });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{n_, static_cast<double>(x.T() * x.D()), 2 * real * n_}, {0, 0, 2 * real * n_}};
  }
};

}  // namespace ssm::positions_op

namespace ssm {

Tensor add_sinusoids(Net& n, Tensor x) { return n.add<positions_op::Sinusoids>(n.as(x, Order::BTD)); }

}  // namespace ssm
