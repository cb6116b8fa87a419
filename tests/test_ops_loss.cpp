// Losses against plain loops, their gradients, and the sums they leave in the step state.
#include <gtest/gtest.h>

#include <cmath>

#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

using Values = std::vector<double>;

OpCase cross_entropy_case(Tensor logits, std::vector<std::int32_t> targets) {
  OpCase c;
  c.B = logits.n[0], c.T = logits.rank == 3 ? logits.n[1] : 1;
  c.inputs = {logits};
  c.is_loss = true;
  c.targets = std::move(targets);
  c.input_scale = 5;
  c.expected = [logits, t = c.targets](const Arrays& in, Params&) {
    const std::size_t C = static_cast<std::size_t>(logits.last());
    Values y;
    for (std::size_t i = 0; i < t.size(); ++i) {
      double sum = 0;
      for (std::size_t k = 0; k < C; ++k) sum += std::exp(in[0][i * C + k]);
      y.push_back(t[i] < 0 ? 0 : std::log(sum) - in[0][i * C + static_cast<std::size_t>(t[i])]);
    }
    return y;
  };
  c.build = [](Net& n, const std::vector<Tensor>& x) { return cross_entropy(n, x[0]).loss; };
  return c;
}

StepState state_of(Probe& probe) {
  StepState s;
  copy_out(&s, probe.run().state, sizeof s);
  return s;
}

}  // namespace

TEST(CrossEntropy, ClassesAndPositions) {
  check_op(cross_entropy_case(shaped({3, 17}), {0, 16, 5}));
  check_op(cross_entropy_case(shaped({2, 3, 7}), {0, -1, 6, -1, 2, 2}));
  check_op(cross_entropy_case(shaped({5, 2}), {0, 1, 0, 0, -1}));
}

TEST(CrossEntropy, BesideAnotherReader) {
  OpCase c = cross_entropy_case(shaped({3, 5}), {1, -1, 4});
  c.expected = nullptr;
  c.build = [](Net& n, const std::vector<Tensor>& x) {
    const Tensor loss = cross_entropy(n, x[0]).loss;
    mean_squared_error(n, activation(n, x[0], "id"));
    return loss;
  };
  c.values = test_values("values", 15);
  Probe both(test_device().exec(), c);
  c.build = [](Net& n, const std::vector<Tensor>& x) { return cross_entropy(n, x[0]).loss; };
  Probe one(test_device().exec(), c);
  c.build = [](Net& n, const std::vector<Tensor>& x) { return mean_squared_error(n, x[0]).loss; };
  Probe other(test_device().exec(), c);
  const Arrays x = {test_values("x", 15)};
  both.forward(x), one.forward(x), other.forward(x);
  const Arrays sum = both.backward({}), a = one.backward({}), b = other.backward({});
  Values together;
  for (std::size_t i = 0; i < 15; ++i) together.push_back(a[0][i] + b[0][i]);
  EXPECT_LT(relative_error(sum[0], together), 1e-6);
}

TEST(CrossEntropy, LargeLogitsStayFinite) {
  OpCase c = cross_entropy_case(shaped({2, 3}), {0, 1});
  c.values_of_inputs = {{1e4, 0, -1e4, 1e4, 1e4, -1e4}};
  c.expected = [](const Arrays&, Params&) { return Values{0, std::log(2.0)}; };
  c.gradients = false;
  check_op(c);
}

TEST(CrossEntropy, SumsCountsAndPredictions) {
  OpCase c = cross_entropy_case(shaped({2, 2, 3}), {2, -1, 0, 1});
  Tensor prediction;
  c.build = [&](Net& n, const std::vector<Tensor>& x) {
    const Loss loss = cross_entropy(n, x[0]);
    prediction = loss.prediction;
    return loss.loss;
  };
  Probe probe(test_device().exec(), c);
  const Values x = {1, 2, 3, 0, 0, 0, -1, 7, 7, 2, 1, 2};  // ties go to the first class
  const Values y = probe.forward({x});
  std::vector<Real> p(4);
  copy_out(p.data(), probe.net().value(prediction), 4 * sizeof(Real));
  EXPECT_EQ(p, (std::vector<Real>{2, 0, 1, 0}));
  EXPECT_NEAR(state_of(probe).loss_sum, y[0] + y[2] + y[3], 1e-6);
  EXPECT_EQ(state_of(probe).valid, 3);
  probe.forward({x});  // micro-batches add up
  EXPECT_EQ(state_of(probe).valid, 6);
  probe.run().mode = Mode::evaluate;
  probe.forward({x});
  EXPECT_EQ(state_of(probe).valid, 6);
}

TEST(CrossEntropy, TargetBeyondTheClassesIsNaN) {
  OpCase c = cross_entropy_case(shaped({1, 3}), {3});
  EXPECT_TRUE(std::isnan(Probe(test_device().exec(), c).forward({{1, 2, 3}})[0]));
}

TEST(MeanSquaredError, ValuesAndGradient) {
  OpCase c;
  c.B = 5, c.T = 1;
  c.inputs = {shaped({5, 3})};
  c.is_loss = true;
  c.values = test_values("values", 15);
  c.expected = [v = c.values](const Arrays& in, Params&) {
    Values y(5, 0);
    for (std::size_t i = 0; i < 15; ++i) y[i / 3] += std::pow(in[0][i] - v[i], 2) / 3;
    return y;
  };
  c.build = [](Net& n, const std::vector<Tensor>& x) { return mean_squared_error(n, x[0]).loss; };
  check_op(c);
  Probe probe(test_device().exec(), c);
  const Values y = probe.forward({test_values("x", 15)});
  EXPECT_NEAR(state_of(probe).loss_sum, y[0] + y[1] + y[2] + y[3] + y[4], 1e-6);
  EXPECT_EQ(state_of(probe).valid, 5);
}

// A row whose first value is NaN is no label.
TEST(MeanSquaredError, RowsWithoutValuesAreIgnored) {
  OpCase c;
  c.B = 2, c.T = 3;
  c.inputs = {shaped({2, 3, 2})};
  c.is_loss = true;
  c.values = test_values("values", 12);
  for (const std::size_t row : {1u, 5u}) c.values[2 * row] = c.values[2 * row + 1] = NAN;
  c.expected = [v = c.values](const Arrays& in, Params&) {
    Values y(6, 0);
    for (std::size_t i = 0; i < 12; ++i)
      if (!std::isnan(v[i])) y[i / 2] += std::pow(in[0][i] - v[i], 2) / 2;
    return y;
  };
  c.build = [](Net& n, const std::vector<Tensor>& x) { return mean_squared_error(n, x[0]).loss; };
  check_op(c);
  Probe probe(test_device().exec(), c);
  probe.forward({test_values("x", 12)});
  EXPECT_EQ(state_of(probe).valid, 4);
}

TEST(CrossEntropy, SumOverManyLabels) {
  const Index rows = 70001;
  OpCase c = cross_entropy_case(shaped({rows, 2}), std::vector<std::int32_t>(static_cast<std::size_t>(rows), 1));
  Probe probe(test_device().exec(), c);
  const Values y = probe.forward({test_values("many", rows * 2)});
  double sum = 0;
  for (const double v : y) sum += v;
  EXPECT_NEAR(state_of(probe).loss_sum, sum, 1e-12 * sum);
  EXPECT_EQ(state_of(probe).valid, static_cast<double>(rows));
}
