// Norms over channels and over the batch against plain loops, their gradients, and running statistics.
#include <gtest/gtest.h>

#include <cmath>

#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

OpCase norm_case(bool centred, Index D) {
  OpCase c = one_input(shaped({2, 17, D}));
  c.gradient_tolerance = D == 1 ? 1e-3 : 1e-6;  // one channel: x is normalised away, its gradient is noise
  c.input_scale = D == 1 ? 0.01 : 1;
  c.expected = [=](const Arrays& in, Params& p) {
    const Values w = p.get("norm.weight"), b = centred ? p.get("norm.bias") : Values(at(D), 0);
    Values y(in[0].size());
    for (Index i = 0; i < 34; ++i) {
      double mean = 0, square = 0;
      for (Index k = 0; k < D; ++k) mean += centred ? in[0][at(i * D + k)] / static_cast<double>(D) : 0;
      for (Index k = 0; k < D; ++k) square += std::pow(in[0][at(i * D + k)] - mean, 2) / static_cast<double>(D);
      for (Index k = 0; k < D; ++k) y[at(i * D + k)] = (in[0][at(i * D + k)] - mean) / std::sqrt(square + 1e-5) * w[at(k)] + b[at(k)];
    }
    return y;
  };
  c.build = [=](Net& n, const std::vector<Tensor>& x) { return norm(n, x[0], centred ? "layer" : "rms", "norm"); };
  return c;
}

}  // namespace

TEST(Norms, LayerAndRms) {
  for (const bool centred : {true, false})
    for (const Index D : {1, 3, 7, 33}) {
      SCOPED_TRACE((centred ? "layer " : "rms ") + std::to_string(D));
      if (D > 1 || !centred) check_op(norm_case(centred, D));
    }
}
TEST(Norms, LayerBesideAnotherReader) {
  OpCase c = one_input(shaped({2, 5, 7}));
  c.build = [](Net& n, const std::vector<Tensor>& x) { return add(n, layer_norm(n, x[0], "norm"), activation(n, x[0], "tanh")); };
  check_op(c);
}

TEST(BatchNorm, TrainUsesTheBatch) {
  const Index rows = 3 * 13, D = 7;
  OpCase c = one_input(shaped({3, 13, D}));
  c.lengths = {13, 4, 9};  // padding counts, as published
  c.expected = [=](const Arrays& in, Params& p) {
    const Values w = p.get("norm.weight"), b = p.get("norm.bias");
    Values y(in[0].size());
    for (Index k = 0; k < D; ++k) {
      double mean = 0, var = 0;
      for (Index i = 0; i < rows; ++i) mean += in[0][at(i * D + k)] / static_cast<double>(rows);
      for (Index i = 0; i < rows; ++i) var += std::pow(in[0][at(i * D + k)] - mean, 2) / static_cast<double>(rows);
      for (Index i = 0; i < rows; ++i) y[at(i * D + k)] = (in[0][at(i * D + k)] - mean) / std::sqrt(var + 1e-5) * w[at(k)] + b[at(k)];
    }
    return y;
  };
  c.build = [](Net& n, const std::vector<Tensor>& x) { return batch_norm(n, x[0], "norm"); };
  check_op(c);
  c.expected = nullptr;
  c.build = [](Net& n, const std::vector<Tensor>& x) { return add(n, batch_norm(n, x[0], "norm"), activation(n, x[0], "tanh")); };
  check_op(c);
}

// A mean of many deviations, with a first row that lies far from all others, and a channel that is constant.
TEST(BatchNorm, FarFromZero) {
  const Index rows = 3 * 200, D = 3;
  OpCase c = one_input(shaped({3, 200, D}));
  c.build = [](Net& n, const std::vector<Tensor>& x) { return batch_norm(n, x[0], "norm", 1); };
  Values x = test_values("x", rows * D);
  for (Index i = 0; i < rows; ++i) {
    x[at(i * D)] = 1e4 + std::round(x[at(i * D)] * 8) / 512;  // whole in float
    x[at(i * D + 1)] += i == 0 ? 1e3 : 0;
    x[at(i * D + 2)] = 1e4;
  }
  Probe probe(test_device().exec(), c);
  probe.params().set("norm.running_var", Values(at(D), 0));  // beside the 1 it starts from, a float would lose digits
  probe.forward({x});
  probe.advance();
  for (Index k = 0; k < D; ++k) {
    double offset = 0, var = 0;
    const auto entry = [&](Index i) { return static_cast<double>(static_cast<Real>(x[at(i * D + k)])); };
    for (Index i = 1; i < rows; ++i) offset += (entry(i) - entry(1)) / static_cast<double>(rows);
    offset += (entry(0) - entry(1)) / static_cast<double>(rows);
    const double mean = entry(1) + offset;
    for (Index i = 0; i < rows; ++i) var += std::pow(entry(i) - entry(1) - offset, 2) / static_cast<double>(rows - 1);
    EXPECT_NEAR(probe.params().get("norm.running_mean")[at(k)], mean, (kDouble ? 1e-13 : 1e-7) * std::abs(mean)) << k;
    EXPECT_NEAR(probe.params().get("norm.running_var")[at(k)], var, (kDouble ? 1e-11 : 3e-7) * var) << k;
  }
}

TEST(BatchNorm, RunningStatistics) {
  OpCase c = one_input(shaped({2, 3, 1}));
  c.build = [](Net& n, const std::vector<Tensor>& x) { return batch_norm(n, x[0], "norm", 0.1); };
  Probe train(test_device().exec(), c);
  const Values x = {1, 2, 3, 4, 5, 9};  // mean 4, unbiased variance 8
  train.forward({x});
  EXPECT_EQ(train.params().get("norm.running_mean")[0], 0);  // forward is pure
  train.advance();
  EXPECT_NEAR(train.params().get("norm.running_mean")[0], 0.4, 1e-6);
  EXPECT_NEAR(train.params().get("norm.running_var")[0], 0.9 + 0.8, 1e-6);
  c.mode = Mode::evaluate;
  Probe evaluate(test_device().exec(), c, train.shared());
  const Values y = evaluate.forward({x});
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], (x[i] - 0.4) / std::sqrt(1.7 + 1e-5), 2e-6);
}
