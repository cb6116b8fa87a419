// The delta rule alone: plain loops and central differences in both views, and what the rule promises about recall.
#include <cmath>

#include "error.hpp"
#include "lib/blas.hpp"
#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

struct RuleCase {
  const char* name;
  Index B, T, heads, K, V;
  bool gated = false;
  std::string view = "chunked";
};
std::ostream& operator<<(std::ostream& out, const RuleCase& c) { return out << c.name; }

// Inputs q, k, v, beta, gate. Keys of at most unit length.
OpCase op_case(const RuleCase& c) {
  OpCase o;
  o.B = c.B, o.T = c.T, o.D = c.heads * c.V;
  const Index rows = c.B * c.T * c.heads;
  o.inputs = {shaped({c.B, c.T, c.heads * c.K}), shaped({c.B, c.T, c.heads * c.K}), shaped({c.B, c.T, c.heads * c.V}),
              shaped({c.B, c.T, c.heads})};
  o.values_of_inputs = {test_values("q", rows * c.K), test_values("k", rows * c.K, 1 / std::sqrt(static_cast<double>(c.K))),
                        test_values("v", rows * c.V), test_values("beta", rows)};
  for (double& beta : o.values_of_inputs[3]) beta = 0.5 + 0.4 * beta;
  if (c.gated) {
    o.inputs.push_back(shaped({c.B, c.T, c.heads}));
    o.values_of_inputs.push_back(test_values("gate", rows));
    for (double& g : o.values_of_inputs[4]) g = -0.5 * (1 + g);
  }
  o.build = [c](Net& n, const std::vector<Tensor>& in) {
    return delta_rule(n, {in[0], in[1], in[2], in[3], c.gated ? in[4] : Tensor{}}, c.heads, 0.7, c.view);
  };
  o.expected = [c](const Arrays& in, Params&) {
    std::vector<double> y(in[2].size());
    for (Index b = 0; b < c.B; ++b)
      for (Index h = 0; h < c.heads; ++h) {
        std::vector<double> S(static_cast<std::size_t>(c.K * c.V), 0.0);
        for (Index t = 0; t < c.T; ++t) {
          const Index row = (b * c.T + t) * c.heads + h;
          const double decay = c.gated ? std::exp(in[4][row]) : 1;
          for (Index j = 0; j < c.V; ++j) {
            double error = in[2][row * c.V + j], sum = 0;
            for (Index i = 0; i < c.K; ++i) error -= (S[i * c.V + j] *= decay) * in[1][row * c.K + i];
            for (Index i = 0; i < c.K; ++i) {
              S[i * c.V + j] += in[3][row] * in[1][row * c.K + i] * error;
              sum += 0.7 * in[0][row * c.K + i] * S[i * c.V + j];
            }
            y[row * c.V + j] = sum;
          }
        }
      }
    return y;
  };
  return o;
}

class DeltaRule : public ::testing::TestWithParam<RuleCase> {};
TEST_P(DeltaRule, ValuesAndGradients) { check_op(op_case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Shapes, DeltaRule,
                         ::testing::Values(RuleCase{"one", 1, 1, 1, 1, 1}, RuleCase{"two_chunks", 2, 35, 2, 3, 2},
                                           RuleCase{"whole_chunk", 1, 32, 1, 2, 3, true}, RuleCase{"gated", 2, 35, 2, 3, 2, true},
                                           RuleCase{"wide", 1, 5, 1, 17, 18, true}, RuleCase{"three_chunks", 1, 67, 1, 2, 2, true},
                                           RuleCase{"scan", 2, 18, 2, 3, 2, false, "scan"},
                                           RuleCase{"scan_gated", 1, 35, 2, 3, 17, true, "scan"}),
                         [](const auto& each) { return each.param.name; });

bool has_tf32() {
  try {
    set_gemm_precision("tf32");
    set_gemm_precision("fp32");
    return true;
  } catch (const Unsupported&) {
    return false;
  }
}

constexpr bool kManySequences = !kEmulated;  // there the states of a segment are few

// Both views of heads of all widths that a device's kernels are made for, with whole and cut rows, lengths that end inside a chunk, and rows
// of several segments. times_beta 2.2: beta up to 2; times_gate 90: all is forgotten at once.
void expect_views_agree(const RuleCase& c, double times_beta = 1, double times_gate = 1) {
  const auto run = [&](const std::string& view) {
    RuleCase other = c;
    other.view = view;
    OpCase o = op_case(other);
    for (double& beta : o.values_of_inputs[3]) beta *= times_beta;
    if (c.gated)
      for (double& gate : o.values_of_inputs[4]) gate *= times_gate;
    Probe probe(test_device().exec(), o);
    Arrays all{probe.forward(o.values_of_inputs)};
    for (auto& dx : probe.backward(test_values("dy", static_cast<Index>(all[0].size())))) all.push_back(dx);
    return all;
  };
  const Arrays plain = run("scan");
  const auto expect_near = [&](const Arrays& found, double allowed, const char* precision) {
    for (std::size_t i = 0; i < plain.size(); ++i)
      EXPECT_LT(relative_error(found[i], plain[i]), allowed) << c.name << ", array " << i << ", " << precision;
  };
  const Arrays first = run("chunked");
  expect_near(first, kDouble ? 1e-12 : 1e-5, "full precision");
  EXPECT_EQ(first, run("chunked")) << c.name << ": not the same bits";
  if (!has_tf32()) return;
  set_gemm_precision("tf32");
  expect_near(run("chunked"), 0.01, "TF32");
  set_gemm_precision("fp32");
}
class DeltaRuleViews : public ::testing::TestWithParam<RuleCase> {};
TEST_P(DeltaRuleViews, Agree) { expect_views_agree(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Shapes, DeltaRuleViews,
                         ::testing::Values(RuleCase{"narrow", 2, 70, 2, 20, 32}, RuleCase{"half", 1, 97, 2, 64, 48},
                                           RuleCase{"half_gated", 1, 130, 1, 40, 64, true}, RuleCase{"uneven_gated", 1, 66, 2, 33, 7, true},
                                           RuleCase{"wide", 1, 67, 2, 128, 20}, RuleCase{"wide_gated", 1, 70, 1, 36, 128, true},
                                           RuleCase{"wider", 1, 33, 1, 132, 4}, RuleCase{"head_96", 2, 1, 2, 96, 40, true},
                                           RuleCase{"head_192", 1, 65, 2, 192, 96}, RuleCase{"head_256", 1, 130, 1, 256, 256, true},
                                           RuleCase{"uneven_keys", 1, 66, 1, 201, 33, true},
                                           RuleCase{"segments", kManySequences ? 64 : 2, 300, kManySequences ? 16 : 1, 1, 2, true},
                                           RuleCase{"wide_segments", kManySequences ? 32 : 1, 270, kManySequences ? 8 : 1, 129, 1, true},
                                           RuleCase{"too_wide", 1, 33, 1, 260, 4}),
                         [](const auto& each) { return each.param.name; });
TEST(DeltaRule, ViewsAgreeAtExtremes) {
  for (const RuleCase& c : {RuleCase{"reflecting", 1, 150, 2, 64, 32}, RuleCase{"reflecting_wide", 1, 150, 1, 256, 32}})
    expect_views_agree(c, 2.2);
  for (const RuleCase& c : {RuleCase{"strong", 1, 150, 2, 36, 32, true}, RuleCase{"strong_wide", 1, 150, 1, 160, 32, true}})
    expect_views_agree(c, 1, 90);
}

// beta = 1, no gate, orthonormal keys: what was written under a key is read back exactly; a second value under a key replaces the first.
TEST(DeltaRule, RecallsAndReplaces) {
  for (const char* view : {"chunked", "scan"}) {
    OpCase o = op_case({"recall", 1, 6, 1, 4, 3, false, view});
    const Index key[6] = {0, 1, 2, 1, 0, 1}, read[6] = {0, 0, 1, 1, 2, 1};
    Arrays& in = o.values_of_inputs;
    for (Index t = 0; t < 6; ++t)
      for (Index i = 0; i < 4; ++i) {
        in[0][static_cast<std::size_t>(t * 4 + i)] = i == read[t] ? 1 / 0.7 : 0;
        in[1][static_cast<std::size_t>(t * 4 + i)] = i == key[t];
      }
    for (double& beta : in[3]) beta = 1;
    const std::vector<double> y = Probe(test_device().exec(), o).forward(in);
    const Index last[6] = {0, 0, 1, 3, 2, 5};  // the step that last wrote the key that step t reads
    for (Index t = 0; t < 6; ++t)
      for (Index j = 0; j < 3; ++j)
        EXPECT_NEAR(y[static_cast<std::size_t>(t * 3 + j)], in[2][static_cast<std::size_t>(last[t] * 3 + j)], kDouble ? 1e-14 : 1e-6)
            << view << ", step " << t;
  }
}

}  // namespace
