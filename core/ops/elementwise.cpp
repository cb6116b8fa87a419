// elementwise.cpp - sums and products of two tensors, column slices, copy and fill.
#include "launch.hpp"
#include "lib/into.hpp"
#include "ops.hpp"

namespace ssm::elementwise_op {

void same_shape(const char* what, Tensor a, Tensor b) {
  if (a.size() != b.size() || a.order != b.order) throw std::logic_error(std::string(what) + " needs two tensors of one shape");
}

struct Add final : Op {
  Tensor a, b, y;
  Add(Net& net, Tensor a_, Tensor b_) : Op(net), a(in(a_, drop)), b(in(b_, drop)), y(out(a_, drop)) {
    same_shape("add", a, b);
    passes(a, y), passes(b, y);
  }
  const char* name() const override { return "add"; }

  void forward(const Run& r) override {
    const Real *A = v(a), *B = v(b);
    each_into(
        "ssm::add", r, y.size(), v(y), KOKKOS_LAMBDA(const Index i) { return A[i] + B[i]; });
  }
  void backward(const Run& r) override {
    pass(r, y, a);
    pass(r, y, b);
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real), copies = (shares(a, y) ? 0 : 1) + (shares(b, y) ? 0 : 1);
    return {{n_, 0, 3 * real * n_}, {0, 0, 2 * real * n_ * copies}};
  }
};

struct Multiply final : Op {
  Tensor a, b, y;
  Multiply(Net& net, Tensor a_, Tensor b_) : Op(net), a(in(a_, save)), b(in(b_, save)), y(out(a_, drop)) { same_shape("multiply", a, b); }
  const char* name() const override { return "multiply"; }

  void forward(const Run& r) override {
    const Real *A = v(a), *B = v(b);
    each_into(
        "ssm::multiply", r, y.size(), v(y), KOKKOS_LAMBDA(const Index i) { return A[i] * B[i]; });
  }
  void backward(const Run& r) override {
    const Real *A = v(a), *B = v(b), *dY = d(y);
    each_into(
        "ssm::multiply_backward", r, y.size(), g(a), g(b), KOKKOS_LAMBDA(const Index i) {
          return Two{dY[i] * B[i], dY[i] * A[i]};
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real);
    return {{n_, 0, 3 * real * n_}, {2 * n_, 0, 5 * real * n_}};
  }
};

struct Slice final : Op {
  Tensor x, y;
  Index first;
  static Tensor narrow(Tensor x, Index first, Index count) {
    if (first < 0 || count < 1 || first + count > x.last()) throw std::logic_error("slice leaves the last extent");
    x.n[x.rank - 1] = count;
    return x;
  }
  Slice(Net& net, Tensor x_, Index first_, Index count)
      : Op(net), x(in(x_, drop)), y(out(narrow(x_, first_, count), drop)), first(first_) {}
  const char* name() const override { return "slice"; }

  void forward(const Run& r) override {
    const Index from = first, wide = x.last(), narrow = y.last();
    const Real* X = v(x);
    each_row_into(
        "ssm::slice", r, x.rows(), narrow, narrow, v(y),
        KOKKOS_LAMBDA(const Index row, const Index c) { return X[row * wide + from + c]; });
  }
  void backward(const Run& r) override {
    const Index from = first, wide = x.last(), narrow = y.last();
    const Real* dY = d(y);
    const Grad dX = g(x);
    if (dX.add)
      each_row_into(
          "ssm::slice_backward", r, x.rows(), narrow, wide, Grad{dX.p + from, true},
          KOKKOS_LAMBDA(const Index row, const Index c) { return dY[row * narrow + c]; });
    else
      each_row_into(
          "ssm::slice_backward", r, x.rows(), wide, wide, dX.p,
          KOKKOS_LAMBDA(const Index row, const Index c) { return c >= from && c < from + narrow ? dY[row * narrow + c - from] : Real(0); });
  }
  Cost cost() const override {
    const double real = sizeof(Real), few = static_cast<double>(y.size());
    return {{0, 0, 2 * real * few}, {0, 0, real * (few + static_cast<double>(x.size()))}};
  }
};

}  // namespace ssm::elementwise_op

namespace ssm {

Tensor add(Net& n, Tensor a, Tensor b) { return n.add<elementwise_op::Add>(a, b); }
Tensor residual_add(Net& n, Tensor x, Tensor h) { return n.add_within(h, x) ? h : add(n, x, h); }
Tensor multiply(Net& n, Tensor a, Tensor b) { return n.add<elementwise_op::Multiply>(a, b); }
Tensor slice(Net& n, Tensor x, Index first, Index count) { return n.add<elementwise_op::Slice>(x, first, count); }

void copy(const Run& r, const Real* from, Grad to, Index count) {
  each_into(
      "ssm::copy", r, count, to, KOKKOS_LAMBDA(const Index i) { return from[i]; });
}
void fill(const Run& r, Real* p, Index count, Real value) {
  each(
      "ssm::fill", r, count, KOKKOS_LAMBDA(const Index i) { p[i] = value; });
}

}  // namespace ssm
