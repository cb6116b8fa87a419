// time_gaps.cpp - the times between positions as the factors of time steps (variants.md 17), and what brings them into a selective scan.
#include "ops/gaps.hpp"

#include "launch.hpp"
#include "lib/each.hpp"
#include "lib/reduce.hpp"
#include "math.hpp"

namespace ssm::time_gaps_op {

// Whatever time passed before a sequence starts, there is no state for it to act on: its first step is 1.
struct TimeGaps final : Op {
  Tensor y;
  Index features, which;
  Real scale;
  State started;

  TimeGaps(Net& net, Index features_, Index which_, double unit)
      : Op(net), y(keep(shaped({n.B, n.T}))), features(features_), which(which_), scale(static_cast<Real>(1 / unit)) {
    if (n.mode == Mode::stream) started = state(1);
  }
  const char* name() const override { return "time_gaps"; }

  void forward(const Run& r) override {
    const Real *X = n.batch.features + which, by = scale;
    Real* Y = v(y);
    const Index T = n.T, F = features;
    each_row(
        "ssm::time_gaps", r, n.B, T,
        KOKKOS_LAMBDA(const Index b, const Index t) { Y[b * T + t] = t > 0 ? X[(b * T + t) * F] * by : Real(1); });
  }
  void backward(const Run&) override {}
  void step(const Run& r) override {
    const Real *X = n.batch.features + which, by = scale;
    Real *Y = v(y), *begun = v(started);
    const Index F = features;
    launch(
        "ssm::time_gaps_step", r, n.B, KOKKOS_LAMBDA(const Index b) {
          Y[b] = begun[b] != 0 ? X[b * F] * by : Real(1);
          begun[b] = 1;
        });
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(y.size());
    return {{numbers, 0, 2 * sizeof(Real) * numbers}, {}};
  }
};

// s = gap softplus(x), softplus^-1(s) and its derivative to x. Padding has gap 0, whose softplus^-1 would be -infinity.
struct Stretch {
  const Real *raw, *gaps, *bias;  // (rows,E) or null: 0; (rows); (E)
  Index E;

  SSM_FN Real x(Index row, Index e) const { return (raw ? raw[row * E + e] : Real(0)) + bias[e]; }
  SSM_FN Real s(Index row, Index e) const {
    const Real out = gaps[row] * softplus(x(row, e));
    return out > Real(1e-30) ? out : Real(1e-30);
  }
  SSM_FN Real inverse(Index row, Index e) const {
    const Real out = s(row, e);
    return out > 20 ? out : ::log(::expm1(out));
  }
  SSM_FN Real slope(Index row, Index e) const { return gaps[row] * softplus_slope(x(row, e)) / -::expm1(-s(row, e)); }
};

// y = softplus^-1(s) - b, s = gap softplus(raw + b): the scan, which adds b again, finds delta = s.
struct StretchSteps final : Op {
  Tensor raw, gaps, y;
  Param bias;
  Scratch sums;
  Index E;

  StretchSteps(Net& net, Tensor raw_, Tensor gaps_, Index width, const std::string& bias_name, const Init& bias_init)
      : Op(net), raw(raw_), gaps(in(gaps_, save)), y(out(shaped({n.B, n.T, width}), drop)), E(width) {
    if (raw.id >= 0) in(raw, save);
    bias = n.params.declare(n.full(bias_name), {E}, bias_init, no_decay(), true);
    if (n.mode == Mode::train) sums = scratch(sum_columns_scratch(y.rows(), E));
  }
  const char* name() const override { return "stretch_steps"; }

  Stretch stretch() const { return {raw.id >= 0 ? v(raw) : nullptr, v(gaps), v(bias), E}; }
  void forward(const Run& r) override {
    const Stretch f = stretch();
    Real* Y = v(y);
    each_row(
        "ssm::stretch_steps", r, y.rows(), E,
        KOKKOS_LAMBDA(const Index row, const Index e) { Y[row * f.E + e] = f.inverse(row, e) - f.bias[e]; });
  }
  void backward(const Run& r) override {
    const Stretch f = stretch();
    const Real* dY = d(y);
    if (raw.id >= 0) {
      const Grad dX = g(raw);
      each_row(
          "ssm::stretch_steps_backward", r, y.rows(), E,
          KOKKOS_LAMBDA(const Index row, const Index e) { dX(row * f.E + e, dY[row * f.E + e] * f.slope(row, e)); });
    }
    sum_columns(
        "ssm::stretch_steps_bias", r, y.rows(), E, v(sums),
        KOKKOS_LAMBDA(const Index row, const Index e) { return dY[row * f.E + e] * (f.slope(row, e) - 1); }, Grad{d(bias), true});
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(y.size()), inputs = raw.id >= 0 ? numbers : 0, real = sizeof(Real);
    return {{6 * numbers, 4 * numbers, real * (numbers + inputs)}, {16 * numbers, 6 * numbers, real * (numbers + 2 * inputs)}};
  }
};

}  // namespace ssm::time_gaps_op

namespace ssm {

Tensor time_gaps(Net& n, Index features, Index which, double unit) { return n.add<time_gaps_op::TimeGaps>(features, which, unit); }
Tensor stretch_steps(Net& n, Tensor raw, Tensor gaps, Index E, const std::string& bias_name, const Init& bias_init) {
  return n.add<time_gaps_op::StretchSteps>(raw, gaps, E, bias_name, bias_init);
}

}  // namespace ssm
