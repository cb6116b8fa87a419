// The recurrence with complex modes alone: plain loops and central differences, every mixture of sequences and parameters; sine and cosine.
#include <cmath>
#include <complex>

#include "op_check.hpp"
#include "ops/complex_selective_scan.hpp"
#include "sine_cosine.hpp"

using namespace ssm;

namespace {

using Cx = std::complex<double>;

struct ScanCase {
  const char* name;
  Index B, T, E, N;
  bool raw = true, Bt = true, Ct = true, z = false;
};
std::ostream& operator<<(std::ostream& out, const ScanCase& c) { return out << c.name; }

std::vector<double> expected(const ScanCase& c, const Arrays& in, Params& p) {
  const auto A_log = p.get("A_log"), A_imag = p.get("A_imag"), D = p.get("D"), bias = p.get("dt_proj.bias");
  std::size_t next = 1;
  const std::vector<double> raw = c.raw ? in[next++] : std::vector<double>(in[0].size(), 0.0);
  const std::vector<double> B = c.Bt ? in[next++] : p.get("B"), C = c.Ct ? in[next++] : p.get("C"), &u = in[0];
  std::vector<double> y(u.size());
  for (Index b = 0; b < c.B; ++b)
    for (Index e = 0; e < c.E; ++e) {
      std::vector<Cx> h(static_cast<std::size_t>(c.N));
      for (Index t = 0; t < c.T; ++t) {
        const Index row = b * c.T + t, i = row * c.E + e;
        const double delta = std::log1p(std::exp(raw[i] + bias[e]));
        const auto number = [&](const std::vector<double>& from, bool selects, Index k) {
          const Index at = 2 * ((selects ? row : e) * c.N + k);
          return Cx(from[at], from[at + 1]);
        };
        y[i] = D[e] * u[i];
        for (Index k = 0; k < c.N; ++k) {
          const Cx A(-std::exp(A_log[e * c.N + k]), A_imag[e * c.N + k]);
          h[k] = std::exp(delta * A) * h[k] + delta * u[i] * number(B, c.Bt, k);
          y[i] += 2 * (h[k] * number(C, c.Ct, k)).real();
        }
        if (c.z) y[i] *= in[next][i] / (1 + std::exp(-in[next][i]));
      }
    }
  return y;
}

OpCase op_case(const ScanCase& c) {
  OpCase o;
  o.B = c.B, o.T = c.T, o.D = c.E;
  const Tensor channels = shaped({c.B, c.T, c.E}), modes = shaped({c.B, c.T, 2 * c.N});
  o.inputs = {channels};
  if (c.raw) o.inputs.push_back(channels);
  if (c.Bt) o.inputs.push_back(modes);
  if (c.Ct) o.inputs.push_back(modes);
  if (c.z) o.inputs.push_back(channels);
  o.build = [c](Net& n, const std::vector<Tensor>& in) {
    SelectiveScanInputs from;
    auto next = in.begin();
    from.u = *next++;
    if (c.raw) from.raw = *next++;
    if (c.Bt) from.B = *next++;
    if (c.Ct) from.C = *next++;
    if (c.z) from.z = *next++;
    const Init any = init::uniform(-1, 1);
    ComplexScanOptions options{{c.N, "dt_proj.bias", any, any, any, any}, init::uniform(-9, 9)};
    return complex_selective_scan(n, from, options);
  };
  o.expected = [c](const Arrays& in, Params& p) { return expected(c, in, p); };
  return o;
}

class ComplexSelectiveScan : public ::testing::TestWithParam<ScanCase> {};
TEST_P(ComplexSelectiveScan, ValuesAndGradients) { check_op(op_case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Shapes, ComplexSelectiveScan,
                         ::testing::Values(ScanCase{"one", 1, 1, 1, 1}, ScanCase{"tail_lanes", 2, 3, 17, 3},
                                           ScanCase{"three_chunks", 1, 67, 2, 2}, ScanCase{"many_groups", 1, 2, 150, 1},
                                           ScanCase{"gate", 2, 5, 3, 3, true, true, true, true},
                                           ScanCase{"constant_delta", 2, 33, 2, 3, false}, ScanCase{"constant_B", 2, 33, 2, 3, true, false},
                                           ScanCase{"constant_C", 2, 33, 2, 3, true, true, false},
                                           ScanCase{"time_invariant", 1, 3, 17, 3, false, false, false}),
                         [](const auto& each) { return each.param.name; });

TEST(ComplexSelectiveScan, LongMemory) {  // slow modes that turn: their phase must not drift with the length
  OpCase o = op_case({"slow", 1, 1000, 16, 4});
  o.gradients = false;
  o.values_of_inputs = {test_values("u", 16000), std::vector<double>(16000, -7.0)};
  check_op(o);
}

TEST(Math, SineAndCosine) {
  const auto angles = [](double most, int count, int i) { return most * std::sin(static_cast<double>(i) * 3.9 / count); };
  for (int i = -100000; i <= 100000; ++i) {
    const double far = angles(1e5, 100000, i), x = static_cast<float>(angles(1e4, 100000, i));
    const SineCosine<double> wide = sine_cosine(far);
    const SineCosine<float> single = sine_cosine(static_cast<float>(x));
    EXPECT_NEAR(wide.sine, std::sin(far), 3e-16) << far;
    EXPECT_NEAR(wide.cosine, std::cos(far), 3e-16) << far;
    EXPECT_NEAR(single.sine, std::sin(x), 1e-7) << x;
    EXPECT_NEAR(single.cosine, std::cos(x), 1e-7) << x;
  }
}

}  // namespace
