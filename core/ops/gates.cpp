// gates.cpp - log gates of matrix states and delta rules, entry by entry.
//
//   log_sigmoid: y = max(log(sigmoid(x)) / normaliser, lowest)                                                 x, y of any shape
//   decay_gate:  delta = cut(softplus(raw + dt_bias))   gate = -e^{A_log} delta        raw, delta, gate (B,T,H)   A_log, dt_bias (H)
#include <algorithm>
#include <cmath>

#include "launch.hpp"
#include "lib/finish.hpp"
#include "lib/into.hpp"
#include "lib/reduce.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm {
namespace gates_op {

struct LogSigmoid final : Op {
  Tensor x, y;
  Real per, lowest;
  LogSigmoid(Net& net, Tensor x_, double normaliser, double lowest_)
      : Op(net), x(in(x_, save)), y(out(x_, drop)), per(static_cast<Real>(1 / normaliser)), lowest(static_cast<Real>(lowest_)) {}
  const char* name() const override { return "log_sigmoid"; }

  void forward(const Run& r) override {
    const Real *X = v(x), scale = per, low = lowest;
    each_into(
        "ssm::log_sigmoid", r, x.size(), v(y), KOKKOS_LAMBDA(const Index i) {
          const Real value = -scale * softplus(-X[i]);
          return low < 0 && value < low ? low : value;
        });
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *dY = d(y), scale = per, low = lowest;
    each_into(
        "ssm::log_sigmoid_backward", r, x.size(), g(x), KOKKOS_LAMBDA(const Index i) {
          const bool cut = low < 0 && -scale * softplus(-X[i]) < low;
          return cut ? Real(0) : dY[i] * scale * sigmoid(-X[i]);
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{4 * n_, 2 * n_, 2 * real * n_}, {8 * n_, 3 * n_, 3 * real * n_}};
  }
};

struct Limits {
  Real low, high;
  SSM_FN Real cut(Real x) const { return x < low ? low : x > high ? high : x; }
  SSM_FN bool inside(Real x) const { return x >= low && x <= high; }
};

struct Decay final : Op {
  Tensor raw, delta, gate, y;
  Param A_log, dt_bias;
  Limits limits;
  Scratch parts;
  Decay(Net& net, Tensor raw_, const DecayGateOptions& o)
      : Op(net), raw(in(raw_, save)), limits{static_cast<Real>(o.delta_lowest), static_cast<Real>(o.delta_highest)} {
    const double A_low = std::max(std::min(o.A_low, o.A_high), 1e-3), A_high = std::max(o.A_high, A_low);
    const double low = std::log(std::min(o.dt_low, o.dt_high)), high = std::log(o.dt_high);
    A_log = param(
        "A_log", {raw.last()}, [=](const Draw& draw, Index i) { return std::log(draw.uniform(i, A_low, A_high)); }, no_decay());
    const Init bias = [=](const Draw& draw, Index i) {
      const double dt = std::max(std::exp(draw.uniform(i, low, high)), 1e-4);
      return dt + std::log(-std::expm1(-dt));  // softplus^-1
    };
    dt_bias = param("dt_bias", {raw.last()}, bias, no_decay());
    y = gate = out(raw, drop);
    if (o.with_delta) delta = out(raw, drop);
    if (n.mode == Mode::train) parts = scratch(2 * sum_columns_scratch(raw.rows(), raw.last()));
  }
  const char* name() const override { return "decay_gate"; }

  void forward(const Run& r) override {
    const Real *X = v(raw), *A = v(A_log), *bias = v(dt_bias);
    Real *G = v(gate), *D = delta.id < 0 ? nullptr : v(delta);
    const Limits within = limits;
    const Index H = raw.last();
    each_row(
        "ssm::decay_gate", r, raw.rows(), H, KOKKOS_LAMBDA(const Index row, const Index h) {
          const Real step = within.cut(softplus(X[row * H + h] + bias[h]));
          G[row * H + h] = -fast_exp(A[h]) * step;
          if (D) D[row * H + h] = step;
        });
  }
  Follows follows(Tensor) const override { return Follows::entries; }
  int finish(Tensor, Finish* to) const override {
    *to = Finish{};
    to->kind = Finish::Kind::decay;
    to->y = v(gate), to->y2 = delta.id < 0 ? nullptr : v(delta), to->ld = to->count = raw.last();
    to->at = v(dt_bias), to->rate = v(A_log), to->low = limits.low, to->high = limits.high;
    return 1;
  }
  void backward(const Run& r) override {
    const Real *X = v(raw), *A = v(A_log), *bias = v(dt_bias), *dG = d(gate), *dD = delta.id < 0 ? nullptr : d(delta);
    const Grad dX = g(raw);
    Real *to_bias = d(dt_bias), *to_A_log = d(A_log);
    const Limits within = limits;
    const Index H = raw.last();
    const auto both = KOKKOS_LAMBDA(const Index row, const Index h) {  // gradients of raw and of A_log
      const Index i = row * H + h;
      const Real x = X[i] + bias[h], rate = -fast_exp(A[h]), soft = softplus(x), step = (dD ? dD[i] : Real(0)) + rate * dG[i];
      return Both<Real>{within.inside(soft) ? step * softplus_slope(x) : Real(0), rate * within.cut(soft) * dG[i]};
    };
    each_row(
        "ssm::decay_gate_back", r, raw.rows(), H, KOKKOS_LAMBDA(const Index row, const Index h) { dX(row * H + h, both(row, h).one); });
    sum_both_columns<Real>(
        "ssm::decay_gate_sums", r, raw.rows(), H, v(parts), both,
        KOKKOS_LAMBDA(const Index h, const Both<Real> sum) { to_bias[h] += sum.one, to_A_log[h] += sum.two; });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(raw.size()), real = sizeof(Real), outputs = delta.id < 0 ? 1 : 2;
    return {{6 * n_, 3 * n_, (1 + outputs) * real * n_}, {12 * n_, 9 * n_, (2 + outputs) * real * n_}};
  }
};

}  // namespace gates_op

Tensor log_sigmoid(Net& n, Tensor x, double normaliser, double lowest) { return n.add<gates_op::LogSigmoid>(x, normaliser, lowest); }

DecayGate decay_gate(Net& n, Tensor raw, const DecayGateOptions& options) {
  const auto* op = n.push(std::make_unique<gates_op::Decay>(n, raw, options));
  return {op->delta, op->gate};
}

}  // namespace ssm
