// The recurrence alone: golden numbers, plain loops and central differences, every mixture of sequences and parameters.
#include <cmath>
#include <map>

#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

std::vector<double> grid(Index T, Index n, double (*f)(double, double)) {
  std::vector<double> out;
  for (Index t = 1; t <= T; ++t)
    for (Index k = 1; k <= n; ++k) out.push_back(f(static_cast<double>(t), static_cast<double>(k)));
  return out;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& golden, const char* what) {
  ASSERT_EQ(found.size(), golden.size()) << what;
  const double tolerance = kDouble ? 1e-9 : 1e-6;  // the golden numbers have nine decimals
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], golden[i], tolerance) << what << ", entry " << i;
}

struct ScanCase {
  const char* name;
  Index B, T, E, N;
  bool raw = true, Bt = true, Ct = true, z = true;
};
std::ostream& operator<<(std::ostream& out, const ScanCase& c) { return out << c.name; }

SelectiveScanInputs take(const ScanCase& c, const std::vector<Tensor>& in) {
  SelectiveScanInputs out;
  std::size_t k = 0;
  out.u = in[k++];
  if (c.raw) out.raw = in[k++];
  if (c.Bt) out.B = in[k++];
  if (c.Ct) out.C = in[k++];
  if (c.z) out.z = in[k++];
  return out;
}

OpCase op_case(const ScanCase& c) {
  OpCase o;
  o.B = c.B;
  o.T = c.T;
  o.D = c.E;
  o.inputs = {shaped({c.B, c.T, c.E})};
  if (c.raw) o.inputs.push_back(shaped({c.B, c.T, c.E}));
  if (c.Bt) o.inputs.push_back(shaped({c.B, c.T, c.N}));
  if (c.Ct) o.inputs.push_back(shaped({c.B, c.T, c.N}));
  if (c.z) o.inputs.push_back(shaped({c.B, c.T, c.E}));
  o.build = [c](Net& n, const std::vector<Tensor>& in) {
    const Init any = init::uniform(-1, 1);
    return selective_scan(n, take(c, in), {c.N, "dt_proj.bias", any, any, any, any});
  };
  o.expected = [c](const Arrays& in, Params& p) {
    const auto A_log = p.get("A_log"), D = p.get("D"), bias = p.get("dt_proj.bias");
    const auto Bc = c.Bt ? std::vector<double>{} : p.get("B"), Cc = c.Ct ? std::vector<double>{} : p.get("C");
    std::size_t k = 1;
    const double *u = in[0].data(), *raw = c.raw ? in[k++].data() : nullptr, *Bt = c.Bt ? in[k++].data() : nullptr;
    const double *Ct = c.Ct ? in[k++].data() : nullptr, *z = c.z ? in[k++].data() : nullptr;
    std::vector<double> y(in[0].size());
    for (Index b = 0; b < c.B; ++b)
      for (Index e = 0; e < c.E; ++e) {
        std::vector<double> h(static_cast<std::size_t>(c.N), 0.0);
        for (Index t = 0; t < c.T; ++t) {
          const Index i = (b * c.T + t) * c.E + e;
          const double delta = std::log1p(std::exp((raw ? raw[i] : 0) + bias[e]));
          double sum = D[e] * u[i];
          for (Index j = 0; j < c.N; ++j) {
            const Index s = (b * c.T + t) * c.N + j, own = e * c.N + j;
            h[j] = std::exp(-delta * std::exp(A_log[own])) * h[j] + delta * u[i] * (Bt ? Bt[s] : Bc[own]);
            sum += h[j] * (Ct ? Ct[s] : Cc[own]);
          }
          y[i] = z ? sum * z[i] / (1 + std::exp(-z[i])) : sum;
        }
      }
    return y;
  };
  return o;
}

class SelectiveScan : public ::testing::TestWithParam<ScanCase> {};
TEST_P(SelectiveScan, ValuesAndGradients) { check_op(op_case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, SelectiveScan,
    ::testing::Values(ScanCase{"one", 1, 1, 1, 1}, ScanCase{"two_steps", 2, 2, 3, 3}, ScanCase{"tail_lanes", 2, 3, 17, 3},
                      ScanCase{"defaults", 1, 2, 18, 16}, ScanCase{"many_states", 1, 3, 2, 64}, ScanCase{"three_chunks", 1, 67, 2, 2},
                      ScanCase{"many_groups", 1, 2, 150, 1}, ScanCase{"constant_delta", 2, 33, 2, 3, false},
                      ScanCase{"constant_B", 2, 33, 2, 3, true, false}, ScanCase{"constant_C", 2, 33, 2, 3, true, true, false},
                      ScanCase{"time_invariant", 1, 3, 17, 3, false, false, false},
                      ScanCase{"no_gate", 1, 31, 3, 3, true, true, true, false}, ScanCase{"bare", 2, 3, 17, 1, false, false, false, false}),
    [](const auto& each) { return each.param.name; });

// Gradients of <dy, y> by plain loops over all states of a whole row: for lengths and widths that central differences cannot afford.
struct PlainGradients {
  Arrays inputs;
  std::map<std::string, std::vector<double>> parameters;
};
PlainGradients plain_gradients(const ScanCase& c, const Arrays& in, const std::vector<double>& dy, Params& p) {
  const auto A_log = p.get("A_log"), D = p.get("D"), bias = p.get("dt_proj.bias");
  const auto B_own = c.Bt ? std::vector<double>{} : p.get("B"), C_own = c.Ct ? std::vector<double>{} : p.get("C");
  std::size_t k = 1;
  const std::size_t raw_at = c.raw ? k++ : 0, B_at = c.Bt ? k++ : 0, C_at = c.Ct ? k++ : 0, z_at = c.z ? k++ : 0;
  PlainGradients g;
  for (const auto& x : in) g.inputs.emplace_back(x.size());
  for (const auto& [name, like] : {std::pair{"A_log", &A_log}, {"D", &D}, {"dt_proj.bias", &bias}, {"B", &B_own}, {"C", &C_own}})
    if (!like->empty()) g.parameters[name].resize(like->size());
  std::vector<double> h(static_cast<std::size_t>(c.T * c.N));
  for (Index b = 0; b < c.B; ++b)
    for (Index e = 0; e < c.E; ++e) {
      const auto place = [&](Index t) { return (b * c.T + t) * c.E + e; };
      const auto x_of = [&](Index t) { return (c.raw ? in[raw_at][place(t)] : 0) + bias[e]; };
      const auto rate = [&](Index j) { return -std::exp(A_log[e * c.N + j]); };
      const auto row = [&](bool rows, Index t, Index j) { return rows ? (b * c.T + t) * c.N + j : e * c.N + j; };
      const auto& Bs = c.Bt ? in[B_at] : B_own;
      const auto& Cs = c.Ct ? in[C_at] : C_own;
      auto& dB = c.Bt ? g.inputs[B_at] : g.parameters["B"];
      auto& dC = c.Ct ? g.inputs[C_at] : g.parameters["C"];
      for (Index t = 0; t < c.T; ++t)
        for (Index j = 0; j < c.N; ++j) {
          const double delta = std::log1p(std::exp(x_of(t)));
          h[t * c.N + j] = std::exp(delta * rate(j)) * (t ? h[(t - 1) * c.N + j] : 0) + delta * in[0][place(t)] * Bs[row(c.Bt, t, j)];
        }
      std::vector<double> lambda(static_cast<std::size_t>(c.N), 0.0);
      for (Index t = c.T; t-- > 0;) {
        const Index i = place(t);
        const double u = in[0][i], delta = std::log1p(std::exp(x_of(t)));
        double up = dy[i], sum = D[e] * u, ddelta = 0, du = 0;
        for (Index j = 0; j < c.N; ++j) sum += h[t * c.N + j] * Cs[row(c.Ct, t, j)];
        if (c.z) {
          const double z = in[z_at][i], s = 1 / (1 + std::exp(-z));
          g.inputs[z_at][i] += up * sum * s * (1 + z * (1 - s));
          up *= z * s;
        }
        for (Index j = 0; j < c.N; ++j) {
          const double Bt = Bs[row(c.Bt, t, j)], decay = std::exp(delta * rate(j)), before = t ? h[(t - 1) * c.N + j] : 0;
          dC[row(c.Ct, t, j)] += up * h[t * c.N + j];
          lambda[j] += up * Cs[row(c.Ct, t, j)];
          dB[row(c.Bt, t, j)] += lambda[j] * delta * u;
          du += lambda[j] * delta * Bt;
          ddelta += lambda[j] * (u * Bt + rate(j) * decay * before);
          g.parameters["A_log"][e * c.N + j] += lambda[j] * delta * decay * before * rate(j);
          lambda[j] *= decay;
        }
        g.inputs[0][i] += D[e] * up + du;
        g.parameters["D"][e] += up * u;
        const double draw = ddelta / (1 + std::exp(-x_of(t)));
        g.parameters["dt_proj.bias"][e] += draw;
        if (c.raw) g.inputs[raw_at][i] += draw;
      }
    }
  if (c.Bt) g.parameters.erase("B");
  if (c.Ct) g.parameters.erase("C");
  return g;
}

class LongSelectiveScan : public ::testing::TestWithParam<ScanCase> {};
TEST_P(LongSelectiveScan, PlainLoops) {  // segments of time, every number of lanes a channel, groups of channels that are not full
  const ScanCase c = GetParam();
  const double tolerance = kDouble ? 1e-10 : 2e-5;
  const OpCase o = op_case(c);
  Probe probe(test_device().exec(), o);
  Arrays inputs;
  for (std::size_t k = 0; k < o.inputs.size(); ++k) inputs.push_back(test_values("input" + std::to_string(k), o.inputs[k].size()));
  const auto y = probe.forward(inputs), dy = test_values("dy", static_cast<Index>(y.size()));
  EXPECT_LT(relative_error(y, o.expected(inputs, probe.params())), tolerance) << "y";
  const Arrays dx = probe.backward(dy);
  const PlainGradients plain = plain_gradients(c, inputs, dy, probe.params());
  for (std::size_t k = 0; k < dx.size(); ++k) EXPECT_LT(relative_error(dx[k], plain.inputs[k]), tolerance) << "gradient of input " << k;
  for (const auto& [name, gradient] : plain.parameters)
    EXPECT_LT(relative_error(probe.params().get_grad(name), gradient), tolerance) << "gradient of " << name;
}
INSTANTIATE_TEST_SUITE_P(Shapes, LongSelectiveScan,
                         ::testing::Values(ScanCase{"segments", 2, 300, 40, 16}, ScanCase{"odd_channels", 1, 410, 37, 13},
                                           ScanCase{"few_states", 1, 400, 36, 6}, ScanCase{"eight_lanes", 1, 290, 20, 20},
                                           ScanCase{"sixteen_lanes", 1, 300, 12, 64}, ScanCase{"constant_B", 2, 300, 33, 7, true, false},
                                           ScanCase{"constant_C", 1, 300, 9, 40, true, true, false},
                                           ScanCase{"constant_both", 1, 270, 34, 24, false, false, false},
                                           ScanCase{"no_gate", 1, 300, 36, 16, true, true, true, false},
                                           ScanCase{"whole", 8, 20, 1300, 16}),
                         [](const auto& each) { return each.param.name; });

TEST(SelectiveScan, LongMemory) {  // slow modes: a rounding of the decay must not grow with the length
  ScanCase c{"slow", 1, 1000, 16, 4};
  OpCase o = op_case(c);
  o.gradients = false;
  o.values_of_inputs = {test_values("u", 16000), std::vector<double>(16000, -7.0)};
  check_op(o);
}

TEST(SelectiveScan, GoldenNumbers) {
  ProbeSpec s = op_case({"golden", 1, 4, 2, 2});
  Probe probe(test_device().exec(), s);
  probe.params().set("A_log", {0, std::log(2.0), 0, std::log(2.0)});
  probe.params().set("D", {1, 0.5});
  probe.params().set("dt_proj.bias", {0.1, -0.2});
  const Arrays inputs = {grid(4, 2, [](double t, double d) { return std::sin(0.7 * t * d); }),
                         grid(4, 2, [](double t, double d) { return std::cos(0.5 * t + d) - 1; }),
                         grid(4, 2, [](double t, double n) { return std::sin(0.3 * t + n); }),
                         grid(4, 2, [](double t, double n) { return std::cos(0.2 * t * n); }),
                         grid(4, 2, [](double t, double d) { return std::sin(0.4 * t - d); })};
  expect_near(probe.forward(inputs), {-.209733394, -.18730619, -.136370153, -.09616371, .145753781, .091025475, .23420935, .054516864},
              "out");
  const Arrays g = probe.backward(std::vector<double>(8, 1.0));
  expect_near(g[0], {-.283254295, -.264145397, -.052091333, -.198386353, .159286623, -.150335087, .388588957, -.091566865}, "du");
  expect_near(g[1], {-.04247324, -.12003275, .027957537, -.01197384, .021702888, .032184612, -.00450607, .008018445}, "ddelta");
  expect_near(g[2], {-.103265675, -.105842312, .023875773, -.01814849, .072662805, .012534658, .021887122, -.000917306}, "dB");
  expect_near(g[3], {-.078380967, -.060659643, -.074671816, -.045149669, .044313716, .009491091, .172011776, .045964508}, "dC");
  expect_near(g[4], {.237734094, .050469998, .611481711, .034179235, .79931154, -.06571887, .49968709, -.107495796}, "dz");
  expect_near(probe.params().get_grad("A_log"), {-.040308857, .000749773, .010405021, .005296889}, "dA_log");
  expect_near(probe.params().get_grad("D"), {-.005224808, -.048864947}, "dD");

  ScanCase bare{"golden", 1, 4, 2, 2};
  bare.z = false;
  Probe ungated(test_device().exec(), op_case(bare), probe.shared());
  expect_near(ungated.forward({inputs[0], inputs[1], inputs[2], inputs[3]}),
              {1.024748345, .696537148, 1.523695379, .365208936, 1.335111875, -.386889389, .650628013, -.346646238}, "y");
}

}  // namespace
