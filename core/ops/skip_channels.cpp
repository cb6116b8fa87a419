// skip_channels.cpp - a path around a mixer with a factor per channel: z = y + D x.   x, y, z (.., C)   D (C)
#include "ops/skip_channels.hpp"

#include "launch.hpp"
#include "lib/into.hpp"
#include "lib/reduce.hpp"

namespace ssm {
namespace skip_channels_op {

struct SkipChannels final : Op {
  Tensor mixed, x, y;
  Param D;
  Scratch parts;
  SkipChannels(Net& net, Tensor mixed_, Tensor x_, Param skip)
      : Op(net), mixed(in(mixed_, drop)), x(in(x_, save)), y(out(mixed_, drop)), D(skip) {
    if (mixed.size() != x.size() || mixed.last() != x.last() || mixed.order != x.order || (x.rank == 3 && x.order != Order::BTD))
      throw std::logic_error("skip_channels takes two tensors of one shape, channels last");
    if (n.mode == Mode::train) parts = scratch(sum_columns_scratch(x.rows(), x.last()));
  }
  const char* name() const override { return "skip_channels"; }

  void forward(const Run& r) override {
    const Real *Y = v(mixed), *X = v(x), *by = v(D);
    const Index C = x.last();
    each_row_into(
        "ssm::skip_channels", r, x.rows(), C, C, v(y),
        KOKKOS_LAMBDA(const Index row, const Index c) { return Y[row * C + c] + by[c] * X[row * C + c]; });
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *by = v(D), *dZ = d(y);
    const Index C = x.last();
    each_row_into(
        "ssm::skip_channels_back", r, x.rows(), C, C, g(mixed), g(x), KOKKOS_LAMBDA(const Index row, const Index c) {
          return Two{dZ[row * C + c], by[c] * dZ[row * C + c]};
        });
    sum_columns(
        "ssm::skip_channels_D", r, x.rows(), C, v(parts),
        KOKKOS_LAMBDA(const Index row, const Index c) { return dZ[row * C + c] * X[row * C + c]; }, Grad{d(D), true});
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{2 * n_, 0, 3 * real * n_}, {3 * n_, 0, 4 * real * n_}};
  }
};

}  // namespace skip_channels_op

Tensor skip_channels(Net& n, Tensor y, Tensor x, Param D) { return n.add<skip_channels_op::SkipChannels>(y, x, D); }

}  // namespace ssm
