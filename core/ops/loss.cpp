// loss.cpp - losses are sums over labels: backward gives the gradient of the sum, the optimiser divides once by the number of labels.
//
// The forward pass in train mode also adds (sum of losses, number of labels) to the step state of the run, where there is one.
#include "launch.hpp"
#include "lib/reduce.hpp"
#include "lib/rows.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm::loss_op {

// loss = log sum_c e^{x_c} - x_target of every row of logits (..., C); 0 where target < 0, NaN where target >= C.
struct CrossEntropy final : Op {
  Tensor x, y, prediction, top, log_sum;  // top: largest logit of a row; log_sum: log sum_c e^{x_c - top}, apart because large logits round
  Scratch parts;
  CrossEntropy(Net& net, Tensor logits) : Op(net), x(in(logits, save)), parts(scratch(kSumAllScratch)) {
    for (Tensor* t : {&y, &prediction, &top, &log_sum}) *t = keep(shaped({x.rows()}));
    if (x.rank == 3 && x.order == Order::BDT) throw std::logic_error("cross_entropy needs classes in the last extent");
  }
  const char* name() const override { return "cross_entropy"; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    Real *L = v(y), *P = v(prediction), *M = v(top), *S = v(log_sum);
    const std::int32_t* targets = n.batch.targets;
    const Index C = x.last(), rows = x.rows();
    launch_rows(
        "ssm::cross_entropy", r, rows, KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real* logit = X + i * C;
          const Real m = row.max(C, [&](const Index c) { return logit[c]; });
          const Real first = -row.max(C, [&](const Index c) { return logit[c] == m ? -static_cast<Real>(c) : -static_cast<Real>(C); });
          const Real s = Kokkos::log(row.sum(C, [&](const Index c) { return fast_exp(logit[c] - m); }));
          const std::int32_t target = targets[i];
          row.once([&] {
            P[i] = first;
            M[i] = m;
            S[i] = s;
            L[i] = target < 0 ? Real(0) : target < C ? s + (m - logit[target]) : Real(NAN);
          });
        });
    if (!r.state || r.mode != Mode::train) return;
    Real* part = v(parts);
    sum_all(
        "ssm::loss_sum", r, rows, part, KOKKOS_LAMBDA(const Index i) { return static_cast<double>(L[i]); }, &r.state->loss_sum);
    sum_all(
        "ssm::loss_count", r, rows, part, KOKKOS_LAMBDA(const Index i) { return targets[i] < 0 ? 0.0 : 1.0; }, &r.state->valid);
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *M = v(top), *S = v(log_sum);
    const Grad dX = g(x);
    const std::int32_t* targets = n.batch.targets;
    const Index C = x.last();
    launch_rows(
        "ssm::cross_entropy_backward", r, x.rows(), KOKKOS_LAMBDA(const Row& row, const Index i) {
          const std::int32_t target = targets[i];
          const Real m = M[i], s = S[i], valid = target < 0 ? Real(0) : Real(1);
          row.each(C,
                   [&](const Index c) { dX(i * C + c, valid * (fast_exp((X[i * C + c] - m) - s) - (c == target ? Real(1) : Real(0)))); });
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{4 * n_, n_, real * n_}, {3 * n_, n_, 2 * real * n_}};
  }
};

// loss = mean over the outputs of (y - value)^2, for every row of y (..., outputs); every row is one label, ignored (0) where its first
// value is NaN.
struct MeanSquaredError final : Op {
  Tensor x, y, prediction;
  Scratch parts;
  MeanSquaredError(Net& net, Tensor x_)
      : Op(net), x(in(x_, save)), y(keep(shaped({x_.rows()}))), prediction(keep(shaped({x_.rows()}))), parts(scratch(kSumAllScratch)) {}
  const char* name() const override { return "mean_squared_error"; }

  void forward(const Run& r) override {
    const Real *X = v(x), *target = n.batch.values;
    Real *L = v(y), *P = v(prediction);
    const Index C = x.last(), rows = x.rows();
    launch_rows(
        "ssm::mean_squared_error", r, rows, KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real square =
              row.sum(C, [&](const Index c) { return (X[i * C + c] - target[i * C + c]) * (X[i * C + c] - target[i * C + c]); });
          const bool ignored = Kokkos::isnan(target[i * C]);
          row.once([&] { L[i] = P[i] = ignored ? Real(0) : square / static_cast<Real>(C); });
        });
    if (!r.state || r.mode != Mode::train) return;
    Real* part = v(parts);
    sum_all(
        "ssm::loss_sum", r, rows, part, KOKKOS_LAMBDA(const Index i) { return static_cast<double>(L[i]); }, &r.state->loss_sum);
    sum_all(
        "ssm::loss_count", r, rows, part, KOKKOS_LAMBDA(const Index i) { return Kokkos::isnan(target[i * C]) ? 0.0 : 1.0; },
        &r.state->valid);
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *target = n.batch.values;
    const Grad dX = g(x);
    const Index C = x.last();
    const Real factor = 2 / static_cast<Real>(C);
    each_row(
        "ssm::mean_squared_error_backward", r, x.rows(), C, KOKKOS_LAMBDA(const Index i, const Index c) {
          dX(i * C + c, Kokkos::isnan(target[i * C]) ? Real(0) : factor * (X[i * C + c] - target[i * C + c]));
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{3 * n_, 0, 2 * real * n_}, {2 * n_, 0, 3 * real * n_}};
  }
};

}  // namespace ssm::loss_op

namespace ssm {

Loss cross_entropy(Net& n, Tensor logits) {
  const auto* op = n.push(std::make_unique<loss_op::CrossEntropy>(n, logits));
  return {op->y, op->prediction};
}

Loss mean_squared_error(Net& n, Tensor y) {
  const auto* op = n.push(std::make_unique<loss_op::MeanSquaredError>(n, y));
  return {op->y, op->prediction};
}

}  // namespace ssm
