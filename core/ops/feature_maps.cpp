// feature_maps.cpp - feature maps of linear attention that widen a row.
//
//   softmax_of_signs: y = softmax([x; -x])              u = y (dy - y . dy)     dx_i = u_i - u_{K+i}
//   rolled_products:  y_{(j-1) 2K + i} = z_i z_{i-j}    dz_i = sum_j dy_{(j-1) 2K + i} z_{i-j} + dy_{(j-1) 2K + i+j} z_{i+j}
#include "ops/feature_maps.hpp"

#include "launch.hpp"
#include "lib/into.hpp"
#include "lib/rows.hpp"
#include "math.hpp"

namespace ssm {
namespace feature_maps_op {

Tensor widened(Tensor x, Index factor) {
  if (x.rank == 3 && x.order == Order::BDT) throw std::logic_error("a feature map needs order BTD");
  x.n[x.rank - 1] *= factor;
  return x;
}

struct SoftmaxOfSigns final : Op {
  Tensor x, y;
  SoftmaxOfSigns(Net& net, Tensor x_) : Op(net), x(in(x_, drop)), y(out(widened(x_, 2), save)) {}
  const char* name() const override { return "softmax_of_signs"; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    Real* Y = v(y);
    const Index K = x.last();
    launch_rows(
        "ssm::softmax_of_signs", r, x.rows(), KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real* from = X + i * K;
          Real* to = Y + i * 2 * K;
          const Real most = row.max(K, [&](const Index c) { return from[c] < 0 ? -from[c] : from[c]; });
          row.each(K, [&](const Index c) {
            to[c] = fast_exp(from[c] - most);
            to[K + c] = fast_exp(-from[c] - most);
          });
          const Real per = 1 / row.sum(K, [&](const Index c) { return to[c] + to[K + c]; });
          row.each(K, [&](const Index c) {
            to[c] *= per;
            to[K + c] *= per;
          });
        });
  }
  void backward(const Run& r) override {
    const Real *Y = v(y), *dY = d(y);
    const Grad dX = g(x);
    const Index K = x.last();
    launch_rows(
        "ssm::softmax_of_signs_back", r, x.rows(), KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real *p = Y + i * 2 * K, *dp = dY + i * 2 * K;
          const Real mean = row.sum(K, [&](const Index c) { return p[c] * dp[c] + p[K + c] * dp[K + c]; });
          row.each(K, [&](const Index c) { dX(i * K + c, p[c] * (dp[c] - mean) - p[K + c] * (dp[K + c] - mean)); });
        });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{6 * n_, 2 * n_, 3 * real * n_}, {9 * n_, 0, 5 * real * n_}};
  }
};

// z_i of one row of K entries, i in [0, 2K).
SSM_FN Real half_wave(const Real* x, Index K, Index i) {
  const Real value = i < K ? x[i] : -x[i - K];
  return value > 0 ? value : Real(0);
}

struct RolledProducts final : Op {
  Tensor x, y;
  int nu;
  RolledProducts(Net& net, Tensor x_, int rolls) : Op(net), x(in(x_, save)), y(out(widened(x_, 2 * rolls), drop)), nu(rolls) {}
  const char* name() const override { return "rolled_products"; }

  void forward(const Run& r) override {
    const Real* X = v(x);
    const Index K = x.last(), wide = 2 * K, columns = y.last();
    each_row_into(
        "ssm::rolled_products", r, x.rows(), columns, columns, v(y), KOKKOS_LAMBDA(const Index row, const Index c) {
          const Index block = quotient(c, wide), i = c - block * wide;
          Index other = i - block - 1;
          while (other < 0) other += wide;
          return half_wave(X + row * K, K, i) * half_wave(X + row * K, K, other);
        });
  }
  // Of z_k and z_{K+k} at most one is not zero, and it alone moves with x_k.
  void backward(const Run& r) override {
    const Real *X = v(x), *dY = d(y);
    const Index K = x.last(), wide = 2 * K, columns = y.last(), rolls = nu;
    each_row_into(
        "ssm::rolled_products_back", r, x.rows(), K, K, g(x), KOKKOS_LAMBDA(const Index row, const Index k) {
          const Real* from = X + row * K;
          const Index i = from[k] > 0 ? k : K + k;
          Real sum = 0;
          Index below = i, above = i;
          for (Index j = 0; j < rolls; ++j) {
            below = below == 0 ? wide - 1 : below - 1;
            above = above == wide - 1 ? 0 : above + 1;
            const Real* dy = dY + row * columns + j * wide;
            sum += dy[i] * half_wave(from, K, below) + dy[above] * half_wave(from, K, above);
          }
          return from[k] > 0 ? sum : from[k] < 0 ? -sum : Real(0);
        });
  }
  Cost cost() const override {
    const double few = static_cast<double>(x.size()), all = static_cast<double>(y.size()), real = sizeof(Real);
    return {{all, 0, real * (few + all)}, {2 * all, 0, real * (2 * few + all)}};
  }
};

}  // namespace feature_maps_op

Tensor softmax_of_signs(Net& n, Tensor x) { return n.add<feature_maps_op::SoftmaxOfSigns>(x); }
Tensor rolled_products(Net& n, Tensor x, int nu) { return n.add<feature_maps_op::RolledProducts>(x, nu); }

}  // namespace ssm
