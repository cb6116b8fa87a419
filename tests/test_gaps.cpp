// Positions at uneven times: mixers that take them against plain loops, gradients, streams; what an interval cut in two must not change;
// who refuses and what a task gives.
#include <algorithm>
#include <cmath>

#include "mixer_cases.hpp"
#include "op_check.hpp"
#include "open_task.hpp"
#include "ops/gaps.hpp"
#include "tiny_task.hpp"

namespace ssm {
namespace {

constexpr Index kFeatures = 2, kWhich = 1;
constexpr double kUnit = 2;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Features of (B,T): something else, and times from 0.2 to 3.8.
std::vector<double> features_of(Index B, Index T) {
  std::vector<double> out = test_values("features", B * T * kFeatures);
  for (Index row = 0; row < B * T; ++row) out[at(row * kFeatures + kWhich)] = 2 + 1.8 * out[at(row * kFeatures + kWhich)];
  return out;
}
std::vector<double> gaps_of(const std::vector<double>& features, Index T) {
  std::vector<double> out;
  for (std::size_t row = 0; row < features.size() / kFeatures; ++row)
    out.push_back(static_cast<Index>(row) % T ? features[row * kFeatures + kWhich] / kUnit : 1);
  return out;
}

OpCase uneven_case(const std::string& name, const VariantKnobs& knobs, Shape s, const std::vector<double>& features) {
  OpCase c;
  static_cast<ProbeSpec&>(c) = mixer_spec(name, knobs, s);
  c.features = features;
  c.build = [=](Net& n, const std::vector<Tensor>& in) {
    const auto variant = make_variant(name, knobs);
    EXPECT_TRUE(variant->takes_gaps().yes) << variant->takes_gaps().reason;
    variant->gaps = time_gaps(n, kFeatures, kWhich, kUnit);
    return variant->build(n, in[0]);
  };
  c.expected = [=](const Arrays& inputs, Params& params) {
    Case plain;
    plain.B = s.B, plain.T = s.T, plain.D = s.D, plain.l_max = c.l_max;
    plain.x = inputs[0];
    plain.gaps = gaps_of(features, s.T);
    for (const ParamInfo& p : params.all()) plain.params[p.name] = params.get(p.name);
    plain.y.assign(plain.x.size(), 0.0);
    make_variant(name, knobs)->reference(plain);
    return plain.y;
  };
  return c;
}

struct Setting {
  std::string name;
  VariantKnobs knobs;
};
std::vector<Setting> settings() {
  const std::pair<std::string, std::string> scan = {"view", "scan"}, small = {"d_state", "8"}, one = {"blocks", "2"};
  return {{"s4d", {{"s4d", {scan, small}}}},
          {"s4d", {{"s4d", {scan, small, {"disc", "bilinear"}, {"n_ssm", "0"}, {"dt_transform", "softplus"}, {"decay", "relu"}}}}},
          {"s4d", {{"s4d", {scan, small, {"init", "real"}, {"train_B", "false"}, {"dt_tie", "false"}}}}},
          {"s5", {{"s5", {small, one}}}},
          {"s5", {{"s5", {small, one, {"disc", "bilinear"}, {"dt", "scalar"}, {"clip_eigs", "true"}}}}},
          {"mamba", {{"mamba", {{"d_state", "4"}}}}},
          {"mamba", {{"mamba", {{"d_state", "4"}, {"select_delta", "false"}}}}},
          {"mamba", {{"mamba", {{"d_state", "4"}, {"A_init", "complex"}}}}},
          {"mamba", {{"mamba", {{"d_state", "4"}, {"inner", "s4d"}}}}}};
}

TEST(Gaps, ReferencesAndGradients) {
  const Shape s{3, 9, 4};
  for (const Setting& one : settings()) {
    SCOPED_TRACE(one.name);
    check_op(uneven_case(one.name, one.knobs, s, features_of(s.B, s.T)));
  }
}

TEST(Gaps, LongSequencesAndStreams) {
  const Shape s{2, 200, 18};
  const std::vector<double> features = features_of(s.B, s.T), x = test_values("input0", s.B * s.T * s.D);
  for (const Setting& one : settings()) {
    OpCase c = uneven_case(one.name, one.knobs, s, features);
    c.mode = Mode::evaluate;
    Probe whole(test_device().exec(), c);
    const std::vector<double> y = whole.forward({x});
    EXPECT_LT(relative_error(y, c.expected({x}, whole.params())), c.value_tolerance) << one.name;
    OpCase stream = uneven_case(one.name, one.knobs, {s.B, 1, s.D}, std::vector<double>(at(s.B * kFeatures)));
    stream.mode = Mode::stream, stream.l_max = c.l_max;
    Probe step(test_device().exec(), stream, whole.shared());
    step.prepare();
    step.reset();
    double worst = 0;
    for (Index t = 0; t < s.T; ++t) {
      std::vector<double> now;
      std::vector<Real> seen;
      for (Index b = 0; b < s.B; ++b) {
        for (Index d = 0; d < s.D; ++d) now.push_back(x[at((b * s.T + t) * s.D + d)]);
        for (Index f = 0; f < kFeatures; ++f) seen.push_back(static_cast<Real>(features[at((b * s.T + t) * kFeatures + f)]));
      }
      copy_in(step.net().batch.features, seen.data(), static_cast<Index>(seen.size() * sizeof(Real)));
      const std::vector<double> out = step.step({now});
      for (Index b = 0; b < s.B; ++b)
        for (Index d = 0; d < s.D; ++d) worst = std::max(worst, std::abs(out[at(b * s.D + d)] - y[at((b * s.T + t) * s.D + d)]));
    }
    EXPECT_LT(worst, c.value_tolerance * *std::max_element(y.begin(), y.end())) << one.name << " streamed";
  }
}

// ZOH holds an input over the interval that ends at its position: an interval of 2 is two of 1 with the same input. Even steps are another
// answer, and so are the same gaps in another order.
TEST(Gaps, AnIntervalCutInTwo) {
  const Index D = 4;
  const std::vector<double> a = test_values("a", D), b = test_values("b", D), c = test_values("c", D);
  const auto last = [&](const Setting& one, const std::vector<std::vector<double>>& rows, const std::vector<double>& gaps) {
    const Index T = static_cast<Index>(rows.size());
    std::vector<double> x, features;
    for (Index t = 0; t < T; ++t) {
      x.insert(x.end(), rows[at(t)].begin(), rows[at(t)].end());
      features.insert(features.end(), {0, kUnit * gaps[at(t)]});
    }
    Probe probe(test_device().exec(), uneven_case(one.name, one.knobs, {1, T, D}, features));
    const std::vector<double> y = probe.forward({x});
    return std::vector<double>(y.end() - D, y.end());
  };
  for (const Setting& one : {settings()[0], settings()[3]}) {
    const auto whole = last(one, {a, b, c}, {1, 2, .5});
    EXPECT_LT(relative_error(last(one, {a, b, b, c}, {1, 1.3, .7, .5}), whole), kDouble ? 1e-12 : 1e-5) << one.name;
    EXPECT_GT(relative_error(last(one, {a, b, c}, {1, 1, 1}), whole), 1e-3) << one.name;
    EXPECT_GT(relative_error(last(one, {a, b, c}, {1, .5, 2}), whole), 1e-3) << one.name;
  }
}

ModelConfig uneven(const std::string& variant) {
  ModelConfig c;
  c.variant = variant, c.depth = 1, c.d_model = 8, c.gaps = "given";
  return c;
}

TEST(Gaps, WhoRefuses) {
  TaskInfo timed = TinyTask(Target::series, 2).info(), plain = timed;
  timed.time_feature = 1;
  const auto message = [](const ModelConfig& c, const TaskInfo& task, const VariantKnobs& knobs = {}) {
    return bad_input([&] { Model(c, task, knobs); });
  };
  EXPECT_EQ(message(uneven("mamba"), timed), "");
  EXPECT_EQ(message(uneven("s4d"), timed, {{"s4d", {{"view", "scan"}}}}), "");
  EXPECT_NE(message(uneven("mamba"), plain).find("this task gives no times"), std::string::npos);
  EXPECT_NE(message(uneven("hyena"), timed).find("hyena: it has no time step"), std::string::npos);
  EXPECT_NE(message(uneven("s4d"), timed).find("s4d.view = conv has one kernel"), std::string::npos);
  EXPECT_NE(message(uneven("s5"), timed, {{"s5", {{"param", "discrete"}}}}).find("s5.param = discrete"), std::string::npos);
  EXPECT_NE(message(uneven("mamba"), timed, {{"mamba", {{"inner", "hyena"}}}}).find("mamba.inner = hyena"), std::string::npos);
  EXPECT_NE(message(uneven("s5"), timed, {{"s5", {{"bidirectional", "true"}}}}).find("s5.bidirectional"), std::string::npos);
  ModelConfig both = uneven("mamba"), patched = uneven("mamba");
  both.bidirectional = "sum", patched.frontend = "patch:2";
  EXPECT_NE(message(both, timed).find("model.bidirectional = sum"), std::string::npos);
  EXPECT_NE(message(patched, timed).find("model.frontend = patch:2"), std::string::npos);
}

// The time feature of a task says when: its mean is the one declared, and no position but the first and padding has 0.
TEST(Gaps, PendulumGivesItsTimes) {
  const auto task = open_task("pendulum");
  const TaskInfo info = task->info();
  ASSERT_GE(info.time_feature, 0);
  double sum = 0, count = 0;
  Example e;
  for (Index i = 0; i < 50; ++i) {
    task->example(Split::train, i, e);
    for (std::size_t k = static_cast<std::size_t>(info.features); k < e.features.size(); k += static_cast<std::size_t>(info.features)) {
      const double gap = static_cast<double>(e.features[k + static_cast<std::size_t>(info.time_feature)]);
      EXPECT_GE(gap, 1);
      sum += gap, count += 1;
    }
  }
  EXPECT_NEAR(sum / count, info.mean_gap, 0.06);
}

}  // namespace
}  // namespace ssm
