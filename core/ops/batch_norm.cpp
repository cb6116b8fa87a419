// batch_norm.cpp - normalisation of every channel over batch and time, padding included, as in torch (variants.md 1.5).
//
//   train: y = (x - mean) s w + b,  s = 1/sqrt(var + eps), biased var of the batch;  dx = w s (dy - mean dy - h mean(dy h)), h = (x - mean) s
//   evaluate, stream: the same with running_mean, running_var, which advance() moves (unbiased var).
#include "launch.hpp"
#include "lib/into.hpp"
#include "lib/reduce.hpp"
#include "ops.hpp"

namespace ssm::batch_norm_op {

struct BatchNorm final : Op {
  double momentum, eps;
  Tensor x, y, mean, var;
  Param weight, bias, running_mean, running_var;
  Scratch parts, dbias, dweight;

  BatchNorm(Net& net, Tensor x_, const std::string& local, double momentum_, double eps_)
      : Op(net), momentum(momentum_), eps(eps_), x(in(x_, save)), y(out(x_, drop)) {
    if (x.rank == 3 && x.order == Order::BDT) throw std::logic_error("batch_norm needs order BTD");
    const Index D = x.last();
    mean = table(shaped({D})), var = table(shaped({D}));  // advance() reads them after the backward pass
    weight = param(local + ".weight", {D}, init::constant(1), no_decay());
    bias = param(local + ".bias", {D}, init::constant(0), no_decay());
    running_mean = buffer(local + ".running_mean", {D}, init::constant(0));
    running_var = buffer(local + ".running_var", {D}, init::constant(1));
    parts = scratch(2 * sum_columns_scratch<double>(x.rows(), D));
    dbias = scratch(D), dweight = scratch(D);
  }
  const char* name() const override { return "batch_norm"; }

  void forward(const Run& r) override {
    const Real *X = v(x), *W = v(weight), *B = v(bias);
    const Index D = x.last(), rows = x.rows();
    const Real small = static_cast<Real>(eps);
    if (n.mode == Mode::train) {
      Real *M = v(mean), *V = v(var), *part = v(parts);
      const double per = 1 / static_cast<double>(rows);
      // About the first row: a value of the batch lies at most sqrt(rows) deviations from the mean, so that the difference of squares loses
      // no more than a factor of rows of a double's digits, wherever the mean lies.
      sum_both_columns<double>(
          "ssm::batch_norm_sums", r, rows, D, part,
          KOKKOS_LAMBDA(const Index i, const Index c) {
            const double z = static_cast<double>(X[i * D + c]) - static_cast<double>(X[c]);
            return Both<double>{z, z * z};
          },
          KOKKOS_LAMBDA(const Index c, const Both<double>& sum) {
            const double offset = sum.one * per, square = sum.two * per - offset * offset;
            M[c] = static_cast<Real>(static_cast<double>(X[c]) + offset);
            V[c] = static_cast<Real>(square > 0 ? square : 0);
          });
    }
    const Real *M = n.mode == Mode::train ? v(mean) : v(running_mean), *V = n.mode == Mode::train ? v(var) : v(running_var);
    each_row_into(
        "ssm::batch_norm", r, rows, D, D, v(y),
        KOKKOS_LAMBDA(const Index i, const Index c) { return (X[i * D + c] - M[c]) * (W[c] / Kokkos::sqrt(V[c] + small)) + B[c]; });
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *W = v(weight), *M = v(mean), *V = v(var), *dY = d(y);
    Real *dW = d(weight), *dB = d(bias), *sum_h = v(dweight), *sum = v(dbias), *part = v(parts);
    const Index D = x.last(), rows = x.rows();
    const Real small = static_cast<Real>(eps), per = 1 / static_cast<Real>(rows);
    sum_both_columns<double>(
        "ssm::batch_norm_gradients", r, rows, D, part,
        KOKKOS_LAMBDA(const Index i, const Index c) {
          const Real dy = dY[i * D + c];
          return Both<double>{dy, dy * (X[i * D + c] - M[c])};
        },
        KOKKOS_LAMBDA(const Index c, const Both<double>& total) {
          sum[c] = static_cast<Real>(total.one);
          sum_h[c] = static_cast<Real>(total.two) / Kokkos::sqrt(V[c] + small);
          dB[c] += sum[c];
          dW[c] += sum_h[c];
        });
    each_row_into(
        "ssm::batch_norm_backward", r, rows, D, D, g(x), KOKKOS_LAMBDA(const Index i, const Index c) {
          const Real s = 1 / Kokkos::sqrt(V[c] + small), h = (X[i * D + c] - M[c]) * s;
          return W[c] * s * (dY[i * D + c] - per * sum[c] - h * per * sum_h[c]);
        });
  }
  void advance(const Run& r) override {
    const Real *M = v(mean), *V = v(var);
    Real *RM = v(running_mean), *RV = v(running_var);
    const Real k = static_cast<Real>(momentum);
    const Real unbiased = x.rows() > 1 ? static_cast<Real>(static_cast<double>(x.rows()) / static_cast<double>(x.rows() - 1)) : Real(1);
    launch(
        "ssm::batch_norm_advance", r, x.last(), KOKKOS_LAMBDA(const Index c) {
          RM[c] += k * (M[c] - RM[c]);
          RV[c] += k * (V[c] * unbiased - RV[c]);
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{(n.mode == Mode::train ? 8.0 : 3.0) * n_, 0, (n.mode == Mode::train ? 3.0 : 2.0) * real * n_}, {13 * n_, 0, 5 * real * n_}};
  }
};

}  // namespace ssm::batch_norm_op

namespace ssm {

Tensor batch_norm(Net& n, Tensor x, const std::string& name, double momentum, double eps) {
  return n.add<batch_norm_op::BatchNorm>(x, name, momentum, eps);
}

}  // namespace ssm
