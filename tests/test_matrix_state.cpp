// The matrix state alone: golden numbers, plain loops and central differences for every gate, both views, shared keys, tails of chunks.
#include <cmath>

#include "error.hpp"
#include "lib/blas.hpp"
#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

struct StateCase {
  const char* name;
  Index B, T, heads, groups, K, V;
  std::string gate = "none";  // none, head, time, channel
  bool delta = false, skip = false, normalise = false;
  std::string view = "chunked";
  double steep = 1;  // times the gates' logs
};
std::ostream& operator<<(std::ostream& out, const StateCase& c) { return out << c.name; }

MatrixStateOptions options(const StateCase& c, double scale) {
  MatrixStateOptions o;
  o.heads = c.heads, o.groups = c.groups, o.scale = scale;
  if (c.gate == "head") o.decay_first = 2, o.decay_step = 1;
  o.normalise = c.normalise, o.skip = c.skip, o.view = c.view;
  return o;
}

// Inputs q, k, v, then gate and delta where they are; gates come as logs, delta as it is.
OpCase op_case(const StateCase& c) {
  OpCase o;
  o.B = c.B, o.T = c.T, o.D = c.heads * c.V;
  const Index gates = c.gate == "channel" ? c.heads * c.K : c.heads;
  o.inputs = {shaped({c.B, c.T, c.groups * c.K}), shaped({c.B, c.T, c.groups * c.K}), shaped({c.B, c.T, c.heads * c.V})};
  for (const Tensor& t : o.inputs) o.values_of_inputs.push_back(test_values("input" + std::to_string(o.values_of_inputs.size()), t.size()));
  if (c.normalise)  // positive scores
    for (int i = 0; i < 2; ++i)
      for (double& v : o.values_of_inputs[static_cast<std::size_t>(i)]) v = std::abs(v) + 0.1;
  const bool gated = c.gate == "time" || c.gate == "channel";
  if (gated) {
    o.inputs.push_back(shaped({c.B, c.T, gates}));
    o.values_of_inputs.push_back(test_values("gate", c.B * c.T * gates));
    for (double& g : o.values_of_inputs.back()) g = -0.7 * c.steep * (1 + g) - 0.01;
  }
  if (c.delta) {
    o.inputs.push_back(shaped({c.B, c.T, c.heads}));
    o.values_of_inputs.push_back(test_values("delta", c.B * c.T * c.heads));
  }
  o.build = [c, gated](Net& n, const std::vector<Tensor>& in) {
    MatrixStateInputs i{in[0], in[1], in[2], {}, {}};
    if (gated) i.gate = in[3];
    if (c.delta) i.delta = in.back();
    return matrix_state(n, i, options(c, 0.7));
  };
  o.expected = [c, gated, gates](const Arrays& in, Params& p) {
    const std::vector<double> D = c.skip ? p.get("D") : std::vector<double>{};
    std::vector<double> y(in[2].size());
    for (Index b = 0; b < c.B; ++b)
      for (Index h = 0; h < c.heads; ++h) {
        const Index group = h / (c.heads / c.groups);
        std::vector<double> S(static_cast<std::size_t>(c.K * (c.V + 1)), 0.0);
        for (Index t = 0; t < c.T; ++t) {
          const Index row = b * c.T + t;
          const double *q = &in[0][(row * c.groups + group) * c.K], *k = &in[1][(row * c.groups + group) * c.K];
          const double *v = &in[2][(row * c.heads + h) * c.V], delta = c.delta ? in.back()[row * c.heads + h] : 1;
          double den = c.normalise ? 1e-10 : 1;
          for (Index i = 0; i < c.K; ++i) {
            double decay = c.gate == "head" ? 1 - std::exp2(-2.0 - static_cast<double>(h)) : 1;
            if (gated) decay = std::exp(in[3][row * gates + (gates == c.heads ? h : h * c.K + i)]);
            for (Index j = 0; j <= c.V; ++j) {
              double& s = S[i * (c.V + 1) + j];
              s = decay * s + k[i] * (j < c.V ? delta * v[j] : 1);
            }
            if (c.normalise) den += 0.7 * q[i] * S[i * (c.V + 1) + c.V];
          }
          for (Index j = 0; j < c.V; ++j) {
            double sum = 0;
            for (Index i = 0; i < c.K; ++i) sum += 0.7 * q[i] * S[i * (c.V + 1) + j];
            y[(row * c.heads + h) * c.V + j] = sum / den + (c.skip ? D[h] * v[j] : 0);
          }
        }
      }
    return y;
  };
  return o;
}

class MatrixState : public ::testing::TestWithParam<StateCase> {};
TEST_P(MatrixState, ValuesAndGradients) { check_op(op_case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Shapes, MatrixState,
                         ::testing::Values(StateCase{"one", 1, 1, 1, 1, 1, 1}, StateCase{"two_chunks", 2, 37, 2, 2, 3, 2},
                                           StateCase{"wide", 1, 3, 1, 1, 17, 18}, StateCase{"whole_chunk", 1, 32, 1, 1, 2, 3, "time"},
                                           StateCase{"head", 2, 34, 2, 2, 2, 3, "head"}, StateCase{"time", 2, 35, 2, 2, 3, 2, "time"},
                                           StateCase{"channel", 2, 35, 2, 2, 3, 2, "channel"},
                                           StateCase{"wide_channel", 1, 3, 1, 1, 17, 2, "channel"},
                                           StateCase{"three_chunks", 1, 67, 1, 1, 2, 2, "channel"},
                                           StateCase{"normalised", 2, 33, 2, 2, 3, 2, "none", false, false, true},
                                           StateCase{"normalised_wide", 1, 3, 1, 1, 2, 16, "time", false, false, true},
                                           StateCase{"normalised_skip", 2, 5, 2, 2, 3, 2, "time", false, true, true},
                                           StateCase{"ssd", 1, 33, 4, 1, 3, 2, "time", true, true},
                                           StateCase{"ssd_groups", 2, 9, 6, 2, 2, 3, "time", true, true},
                                           StateCase{"many_items", 9, 3, 4, 2, 2, 3, "time", true, true},
                                           StateCase{"scan_time", 2, 18, 2, 1, 3, 2, "time", true, true, false, "scan"},
                                           StateCase{"scan_channel", 1, 35, 2, 2, 3, 17, "channel", false, false, false, "scan"},
                                           StateCase{"scan_normalised", 1, 17, 2, 2, 3, 2, "head", false, false, true, "scan"}),
                         [](const auto& each) { return each.param.name; });

// Strong decays: the state vanishes within a few steps, factors underflow, nothing becomes NaN, and gradients still hold.
TEST(MatrixState, StrongDecays) {
  for (const char* gate : {"time", "channel"}) {
    OpCase o = op_case({"strong", 1, 40, 1, 1, 2, 2, gate});
    for (double& g : o.values_of_inputs[3]) g = 90 * g - 1;
    check_op(o);
  }
}

bool has_tf32() {
  try {
    set_gemm_precision("tf32");
    set_gemm_precision("fp32");
    return true;
  } catch (const Unsupported&) {
    return false;
  }
}

// Heads wider than a GPU's tiles, or several in a block, in both views, whose kernels share nothing there: outputs and every gradient.
TEST(MatrixState, WideHeads) {
  for (StateCase c :
       {StateCase{"keys", 1, 70, 2, 1, 140, 3, "time", true, true}, StateCase{"values", 1, 70, 2, 2, 5, 68, "time", true, true},
        StateCase{"both", 1, 66, 1, 1, 68, 70, "time", false, true, true}, StateCase{"rates", 1, 66, 2, 2, 66, 66, "head"},
        StateCase{"channels", 1, 130, 1, 1, 36, 68, "channel"}, StateCase{"many_channels", 1, 66, 1, 1, 60, 8, "channel"},
        StateCase{"more_channels", 1, 130, 2, 2, 101, 66, "channel", false, true},
        // Where a GPU cuts every chunk, some, and none, for the channels' decays are steep.
        StateCase{"cut_channels", 1, 130, 2, 2, 101, 66, "channel", false, true, false, "chunked", 30},
        StateCase{"some_cut", 1, 150, 1, 1, 128, 130, "channel", false, false, false, "chunked", 1.25},
        StateCase{"slow_channels", 2, 130, 2, 2, 128, 130, "channel", false, false, false, "chunked", 0.05},
        StateCase{"whole_tiles", 2, 192, 4, 2, 128, 64, "time", true, true},
        StateCase{"all_keys", 1, 130, 1, 1, 256, 130, "none", false, false, true},
        StateCase{"far_keys", 1, 129, 4, 2, 130, 66, "time", true, true, true},
        StateCase{"shared", 32, 1030, 3, 1, 3, 5, "time", true, true},
        StateCase{"shared_values", 16, 2048, 3, 1, 1, 65, "time", true, true}}) {
    const auto run = [&](const char* view) {
      c.view = view;
      const OpCase o = op_case(c);
      Probe probe(test_device().exec(), o);
      Arrays all{probe.forward(o.values_of_inputs)};
      for (auto& dx : probe.backward(test_values("dy", static_cast<Index>(all[0].size())))) all.push_back(dx);
      if (c.skip) all.push_back(probe.params().get_grad("D"));
      return all;
    };
    const Arrays plain = run("scan");
    const auto expect_near = [&](const Arrays& found, double allowed, const char* precision) {
      for (std::size_t i = 0; i < plain.size(); ++i)
        EXPECT_LT(relative_error(found[i], plain[i]), allowed) << c.name << ", array " << i << ", " << precision;
    };
    expect_near(run("chunked"), kDouble ? 1e-11 : 1e-5, "full precision");
    if (!has_tf32()) continue;
    set_gemm_precision("tf32");
    expect_near(run("chunked"), 0.01, "TF32");
    set_gemm_precision("fp32");
  }
}

TEST(MatrixState, LongMemory) {  // slow gates: rounding of a decay must not grow with the length
  for (const char* view : {"chunked", "scan"})
    for (const char* gate : {"time", "channel"}) {
      OpCase o = op_case({"slow", 1, 1000, 1, 1, 4, 4, gate, false, false, false, view});
      for (double& g : o.values_of_inputs[3]) g = -1e-3;
      o.gradients = false;
      check_op(o);
    }
}

std::vector<double> grid(double (*f)(double, double)) {
  std::vector<double> out;
  for (int t = 1; t <= 4; ++t)
    for (int k = 1; k <= 2; ++k) out.push_back(f(t, k));
  return out;
}

void expect_golden(const StateCase& c, double scale, const Arrays& inputs, const std::vector<double>& golden) {
  ProbeSpec s = op_case(c);
  s.build = [=](Net& n, const std::vector<Tensor>& in) {
    MatrixStateInputs i{in[0], in[1], in[2], {}, {}};
    if (in.size() > 3) i.gate = in[3];
    if (c.delta) i.delta = in[4];
    MatrixStateOptions o = options(c, scale);
    if (c.gate == "head") o.decay_first = 5;
    return matrix_state(n, i, o);
  };
  const std::vector<double> y = Probe(test_device().exec(), s).forward(inputs);
  ASSERT_EQ(y.size(), golden.size());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], golden[i], kDouble ? 1e-9 : 1e-6) << c.name << ", entry " << i;
}

TEST(MatrixState, GoldenNumbers) {
  const auto q = grid([](double t, double n) { return std::sin(t * n); }), k = grid([](double t, double n) { return std::cos(t + n); });
  const auto v = grid([](double t, double n) { return std::sin(t + 2 * n); });
  const auto gate = grid([](double t, double n) { return -std::log1p(std::exp(-std::cos(t * n))) / 16; });
  for (const char* view : {"chunked", "scan"}) {
    expect_golden({"gla", 1, 4, 1, 1, 2, 2, "channel", false, false, false, view}, std::sqrt(0.5), {q, k, v, gate},
                  {-.124770876, .847830319, .25128197, -.152765559, .109612756, -.226839377, -.722455245, 1.251649085});
    expect_golden({"retention", 1, 4, 1, 1, 2, 2, "head", false, false, false, view}, std::sqrt(0.5), {q, k, v},
                  {-.124770876, .847830319, .252856615, -.163465423, .114438113, -.226544706, -.766344955, 1.253947817});
    std::vector<double> delta, log_decay;
    for (int t = 1; t <= 4; ++t) delta.push_back(std::log1p(std::exp(std::cos(t) - 1.0))), log_decay.push_back(-1.5 * delta.back());
    const auto x = grid([](double t, double d) { return std::sin(0.7 * t * d); });
    const auto B = grid([](double t, double n) { return std::sin(0.3 * t + n); });
    const auto C = grid([](double t, double n) { return std::cos(0.2 * t * n); });
    expect_golden({"ssd", 1, 4, 1, 1, 2, 2, "time", true, false, false, view}, 1, {C, B, x, log_decay, delta},
                  {.514370668, .786824774, .594285876, .583092585, .474835609, .270002817, .275008558, .056525722});
  }
}

}  // namespace
