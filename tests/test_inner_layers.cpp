// What the matrix of test_variants cannot reach, since it moves one knob alone: running statistics that training has moved inside cnn,
// S6 inside H3 with several products a head, and Mamba's block with two knobs at once.
#include <cmath>

#include "check.hpp"
#include "mixer_cases.hpp"
#include "op_check.hpp"
#include "open_task.hpp"

namespace ssm {
namespace {

const double kNear = kDouble ? 1e-10 : 1e-5;

class InnerNorm : public ::testing::TestWithParam<const char*> {};

TEST_P(InnerNorm, EvaluatesAndStreamsWithMovedStatistics) {
  const Index B = 3, T = 17, D = 5;
  const VariantKnobs knobs = {{"cnn", {{"inner_norm", "batch"}, {"weight_norm", GetParam()}}}};
  ProbeSpec spec = mixer_spec("cnn", knobs, {B, T, D});
  Probe train(test_device().exec(), spec);
  const std::vector<double> x = test_values("x", B * T * D, 2), by_batch = train.forward({x});
  for (int i = 0; i < 3; ++i) train.advance();
  Case c;
  c.B = B, c.T = T, c.D = D, c.l_max = spec.l_max, c.x = x, c.y.resize(x.size());
  for (const ParamInfo& p : train.params().all()) c.params[p.name] = train.params().get(p.name);
  for (const char* norm : {"conv1_norm", "conv2_norm"}) EXPECT_NE(c.p(std::string(norm) + ".running_mean")[0], 0);
  make_variant("cnn", knobs)->reference(c);
  spec.mode = Mode::evaluate;
  Probe whole(test_device().exec(), spec, train.shared());
  whole.prepare();
  const std::vector<double> y = whole.forward({x});
  EXPECT_LT(relative_error(y, c.y), kNear);
  EXPECT_GT(relative_error(y, by_batch), 1e-3);
  spec.mode = Mode::stream, spec.T = 1, spec.inputs = {shaped({B, 1, D})};
  Probe one(test_device().exec(), spec, train.shared());
  one.prepare();
  one.reset();
  for (Index t = 0; t < T; ++t) {
    std::vector<double> now, expected;
    for (Index b = 0; b < B; ++b)
      for (Index d = 0; d < D; ++d) {
        now.push_back(x[static_cast<std::size_t>((b * T + t) * D + d)]);
        expected.push_back(y[static_cast<std::size_t>((b * T + t) * D + d)]);
      }
    EXPECT_LT(relative_error(one.step({now}), expected), kNear) << "position " << t;
  }
}
INSTANTIATE_TEST_SUITE_P(Cnn, InnerNorm, ::testing::Values("true", "false"));

TEST(InnerScan, SeveralProductsAHead) {
  for (const char* width : {"2", "4"}) {
    const VariantKnobs knobs = {{"h3", {{"inner", "s6"}, {"head_dim", width}, {"d_state", "3"}}}};
    const CheckReport r = self_check("h3", knobs, test_device().exec(), 3, 35, 8);
    EXPECT_TRUE(r.passed && r.streamed) << r.text;
    OpCase c;
    static_cast<ProbeSpec&>(c) = mixer_spec("h3", knobs, {2, 5, 4});
    check_op(c);
  }
}

TEST(InnerScan, MambaWithTwoKnobs) {
  const std::vector<std::map<std::string, std::string>> pairs = {
      {{"A_init", "complex"}, {"select_B", "false"}},
      {{"A_init", "complex"}, {"select_C", "false"}},
      {{"A_init", "complex"}, {"select_delta", "false"}},
      {{"inner", "s4d"}, {"gate", "false"}},
      {{"inner", "hyena"}, {"gate", "false"}},
      {{"inner", "s4d_real"}, {"d_state", "3"}},
  };
  for (std::map<std::string, std::string> knobs : pairs) {
    knobs.try_emplace("d_state", "2");
    const CheckReport r = self_check("mamba", {{"mamba", knobs}}, test_device().exec(), 3, 35, 5);
    EXPECT_TRUE(r.passed && r.streamed) << r.text;
    OpCase c;
    static_cast<ProbeSpec&>(c) = mixer_spec("mamba", {{"mamba", knobs}}, {2, 5, 3});
    check_op(c);
  }
}

TEST(InnerScan, WhoTakesAnOddState) {
  const auto message = [](const char* variant, const char* inner) {
    return bad_input([&] {
      Probe(test_device().exec(), mixer_spec(variant, {{variant, {{"inner", inner}, {"d_state", "3"}}}}, {1, 4, 4}));
    });
  };
  EXPECT_NE(message("mamba", "s4d").find("mamba.d_state is 3"), std::string::npos);
  EXPECT_NE(message("h3", "s4d").find("h3.d_state is 3"), std::string::npos);
  EXPECT_EQ(message("mamba", "s4d_real") + message("h3", "hyena") + message("h3", "longconv") + message("h3", "s6"), "");
}

}  // namespace
}  // namespace ssm
