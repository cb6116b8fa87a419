// test_wide_lanes.cpp - recurrences at widths and batches where their kernels take whole groups of lanes and of sequences, which the small
// shapes of test_variants.cpp do not reach: values against the plain loops, gradients along random directions.
#include <cmath>

#include "check.hpp"
#include "op_check.hpp"

namespace ssm {
namespace {

void check_shape(const std::string& name, const VariantKnobs& knobs, Index B, Index T, Index D) {
  const CheckReport report = self_check(name, knobs, test_device().exec(), B, T, D);
  EXPECT_TRUE(report.passed) << report.text;
  OpCase c;
  c.B = B, c.T = T, c.D = D, c.l_max = T;
  c.inputs = {shaped({B, T, D})};
  c.build = [=](Net& n, const std::vector<Tensor>& in) { return make_variant(name, knobs)->build(n, in[0]); };
  Probe probe(test_device().exec(), c);
  Arrays inputs = {test_values("input0", B * T * D)};
  const std::vector<double> dy = test_values("dy", B * T * D);
  probe.forward(inputs);
  const std::vector<double> dx = probe.backward(dy)[0];
  std::map<std::string, std::vector<double>> grads;
  double largest = 0;
  for (const ParamInfo& p : probe.params().all())
    if (p.trained)
      for (const double g : grads[p.name] = probe.params().get_grad(p.name)) {
        ASSERT_TRUE(std::isfinite(g)) << p.name;
        largest = std::max(largest, std::abs(g));
      }
  probe.forward(inputs);
  EXPECT_EQ(dx, probe.backward(dy)[0]) << "two backward passes differ";
  if (!kDifferences) return;
  const auto loss = [&] { return dot(probe.forward(inputs), dy); };
  const std::vector<double> x = inputs[0];
  check_along_directions("x", x, dx, largest, [&](const std::vector<double>& moved) { return inputs[0] = moved, loss(); });
  inputs[0] = x;
  for (const auto& [parameter, g] : grads) {
    const std::vector<double> base = probe.params().get(parameter);
    check_along_directions(parameter, base, g, largest,
                           [&, &at = parameter](const std::vector<double>& moved) { return probe.params().set(at, moved), loss(); });
    probe.params().set(parameter, base);
  }
}

TEST(WideLanes, lstm) { check_shape("lstm", {{"lstm", {{"learn_start", "true"}}}}, 9, 6, 72); }
TEST(WideLanes, gru) { check_shape("gru", {{"gru", {{"learn_start", "true"}}}}, 9, 6, 72); }
TEST(WideLanes, selective_dplr) { check_shape("selective_dplr", {}, 2, 35, 40); }
TEST(WideLanes, selective_dplr_moving_steps) {
  check_shape("selective_dplr", {{"selective_dplr", {{"delta", "running"}, {"gate", "mode"}}}}, 2, 35, 40);
}
TEST(WideLanes, selective_dplr_rank_2) {
  check_shape("selective_dplr", {{"selective_dplr", {{"rank", "2"}, {"init", "legt"}}}}, 2, 35, 40);
  check_shape("selective_dplr", {{"selective_dplr", {{"rank", "2"}, {"delta", "running"}, {"gate", "mode"}}}}, 2, 35, 40);
}

}  // namespace
}  // namespace ssm
