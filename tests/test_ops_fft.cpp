// The long convolution: every view against plain loops and central differences, one- and two-sided, and the adjoint in long cases.
#include <cmath>

#include "lib/fft.hpp"
#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

struct ConvCase {
  const char* view;
  Index B, T, H, taps;
  bool two_sided = false, skip = true, add = false;
};
std::ostream& operator<<(std::ostream& out, const ConvCase& c) {
  return out << c.view << " B" << c.B << " T" << c.T << " H" << c.H << " taps" << c.taps << (c.two_sided ? " two-sided" : "");
}
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::vector<double> plain_conv(const ConvCase& c, const Arrays& in, const std::vector<double>* D) {
  const auto &u = in[0], &K = in[1];
  std::vector<double> y(u.size());
  for (Index b = 0; b < c.B; ++b)
    for (Index h = 0; h < c.H; ++h)
      for (Index t = 0; t < c.T; ++t) {
        const Index row = (b * c.H + h) * c.T;
        double sum = D ? (*D)[at(h)] * u[at(row + t)] : 0;
        for (Index q = 0; q < c.taps && q <= t; ++q) sum += K[at(h * c.taps + q)] * u[at(row + t - q)];
        for (Index q = 0; c.two_sided && q < c.taps && t + 1 + q < c.T; ++q) sum += K[at((c.H + h) * c.taps + q)] * u[at(row + t + 1 + q)];
        y[at(row + t)] = sum;
      }
  return y;
}

OpCase op_case(const ConvCase& c) {
  OpCase o;
  o.B = c.B, o.T = c.T, o.D = c.H;
  o.inputs = {shaped({c.B, c.H, c.T}, Order::BDT), c.two_sided ? shaped({2, c.H, c.taps}) : shaped({c.H, c.taps})};
  o.build = [c](Net& n, const std::vector<Tensor>& in) {
    const Param D = c.skip ? n.param("D", {1, c.H}, init::normal(1)) : Param{};
    const Tensor y = fft_conv(n, in[0], in[1], D, c.view);
    return c.add ? multiply(n, y, in[0]) : y;  // u is used twice: its gradient is added to, not set
  };
  o.expected = [c](const Arrays& in, Params& p) {
    const auto D = c.skip ? p.get("D") : std::vector<double>{};
    auto y = plain_conv(c, in, c.skip ? &D : nullptr);
    for (std::size_t i = 0; c.add && i < y.size(); ++i) y[i] *= in[0][i];
    return y;
  };
  return o;
}

class FftConv : public ::testing::TestWithParam<ConvCase> {};
TEST_P(FftConv, ValuesAndGradients) { check_op(op_case(GetParam())); }

std::vector<ConvCase> cases() {
  std::vector<ConvCase> all;
  for (const char* view : {"fft", "plain", "direct"}) {
    all.insert(all.end(), {ConvCase{view, 1, 1, 1, 1}, ConvCase{view, 2, 2, 3, 2}, ConvCase{view, 3, 3, 1, 3}, ConvCase{view, 3, 31, 2, 31},
                           ConvCase{view, 2, 33, 2, 4}, ConvCase{view, 1, 3, 65, 3}, ConvCase{view, 2, 1, 3, 1, true},
                           ConvCase{view, 3, 2, 1, 2, true}, ConvCase{view, 2, 31, 1, 31, true}, ConvCase{view, 3, 16, 2, 16, true, false},
                           ConvCase{view, 2, 9, 2, 9, false, true, true}, ConvCase{view, 3, 9, 2, 9, true, true, true}});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, FftConv, ::testing::ValuesIn(cases()));

TEST(FftConv, LongRows) {
  for (const char* view : {"fft", "plain", "direct"}) {
    OpCase o = op_case({view, 3, 1000, 3, 1000, true});
    o.gradients = false;
    check_op(o);
  }
}

// The gradients of the fft view equal those of the direct sums, in float too.
TEST(FftConv, ViewsAgreeInGradients) {
  std::vector<Arrays> found;
  for (const char* view : {"direct", "fft", "plain"}) {
    const OpCase o = op_case({view, 5, 500, 3, 500, true});
    Probe probe(test_device().exec(), o);
    const Arrays inputs = {test_values("u", 5 * 500 * 3), test_values("K", 2 * 500 * 3)};
    probe.forward(inputs);
    found.push_back(probe.backward(test_values("dy", 5 * 500 * 3)));
    found.back().push_back(probe.params().get_grad("D"));
  }
  for (std::size_t view = 1; view < found.size(); ++view)
    for (std::size_t k = 0; k < 3; ++k) EXPECT_LT(relative_error(found[view][k], found[0][k]), kDouble ? 1e-12 : 2e-6) << view << ' ' << k;
}

struct Gradients {
  std::vector<double> du, dK, dD;
};
Gradients plain_gradients(const ConvCase& c, const Arrays& in, const std::vector<double>& D, const std::vector<double>& dy) {
  const auto &u = in[0], &K = in[1];
  Gradients g{std::vector<double>(u.size()), std::vector<double>(K.size()), std::vector<double>(D.size())};
  for (Index b = 0; b < c.B; ++b)
    for (Index h = 0; h < c.H; ++h)
      for (Index t = 0; t < c.T; ++t) {
        const Index row = (b * c.H + h) * c.T;
        const double d = dy[at(row + t)];
        const auto term = [&](Index tap, Index from) {
          g.du[at(from)] += K[at(tap)] * d;
          g.dK[at(tap)] += u[at(from)] * d;
        };
        g.du[at(row + t)] += D[at(h)] * d;
        g.dD[at(h)] += u[at(row + t)] * d;
        for (Index q = 0; q < c.taps && q <= t; ++q) term(h * c.taps + q, row + t - q);
        for (Index q = 0; c.two_sided && q < c.taps && t + 1 + q < c.T; ++q) term((c.H + h) * c.taps + q, row + t + 1 + q);
      }
  return g;
}

// Values and gradients against plain loops, where du is set and where it is added to, D a tap of its own.
TEST(FftConv, OddSizes) {
  const double tolerance = kDouble ? 1e-12 : 4e-6;
  for (const Index T : {1, 3, 33, 100, 1000})
    for (const ConvCase& c :
         {ConvCase{"fft", 1, T, 3, T}, ConvCase{"fft", 2, T, 1, (T + 2) / 3, true}, ConvCase{"fft", 5, T, 3, T, true, true, true}}) {
      const OpCase o = op_case(c);
      Probe probe(test_device().exec(), o);
      const Arrays in = {test_values("u", o.inputs[0].size()), test_values("K", o.inputs[1].size())};
      const auto D = probe.params().get("D"), dy = test_values("dy", o.inputs[0].size());
      EXPECT_LT(relative_error(probe.forward(in), o.expected(in, probe.params())), tolerance) << c;
      std::vector<double> inner = dy, outer(dy.size());
      if (c.add) {
        outer = plain_conv(c, in, &D);
        for (std::size_t i = 0; i < dy.size(); ++i) inner[i] *= in[0][i], outer[i] *= dy[i];
      }
      Gradients expected = plain_gradients(c, in, D, inner);
      for (std::size_t i = 0; i < dy.size(); ++i) expected.du[i] += outer[i];
      const Arrays found = probe.backward(dy);
      EXPECT_LT(relative_error(found[0], expected.du), tolerance) << "du of " << c;
      EXPECT_LT(relative_error(found[1], expected.dK), tolerance) << "dK of " << c;
      EXPECT_LT(relative_error(probe.params().get_grad("D"), expected.dD), tolerance) << "dD of " << c;
    }
}

// A GPU's own kernels against the library's: y, du, dK and, with a skip, dD.
void expect_as_library(const ConvCase& c) {
  std::vector<Arrays> found;
  for (const char* view : {"library", "fft"}) {
    ConvCase of = c;
    of.view = view;
    const OpCase o = op_case(of);
    Probe probe(test_device().exec(), o);
    const Arrays in = {test_values("u", o.inputs[0].size()), test_values("K", o.inputs[1].size())};
    found.push_back({probe.forward(in)});
    for (const auto& gradient : probe.backward(test_values("dy", o.inputs[0].size()))) found.back().push_back(gradient);
    if (c.skip) found.back().push_back(probe.params().get_grad("D"));
  }
  ASSERT_EQ(found[0].size(), c.skip ? 4u : 3u);
  for (std::size_t k = 0; k < found[0].size(); ++k) EXPECT_LT(relative_error(found[1][k], found[0][k]), 4e-6) << c << ": " << k;
}
bool own_kernels() { return fft_name().rfind("cuFFT", 0) == 0; }

TEST(FftConv, EverySizeOnChip) {
  if (!own_kernels()) GTEST_SKIP() << "only CUDA has such kernels";
  for (const Index T : {255, 512, 513, 2047, 4096, 5001, 8192, 8193, 16384}) expect_as_library({"", 7, T, 3, T, true});
}

// Rows of 8 to 256 lines, one and several pieces of the batch, blocks of several channels, channels in turns; the last are too long for these kernels.
TEST(FftConv, EverySizeBeyondTheChip) {
  if (!own_kernels()) GTEST_SKIP() << "only CUDA has such kernels";
  for (const Index T : {16385, 20000, 32768, 40001, 65536, 131072}) {
    expect_as_library({"", 1, T, 2, T, false, false});
    expect_as_library({"", 2, T, 3, T / 3, true, true, true});
    expect_as_library({"", 3, T, 2, T, true, true});
  }
  for (const Index T : {131073, 500000, 1048576, 1048577}) expect_as_library({"", 3, T, 4, T, true, true, true});
  expect_as_library({"", 20, 17000, 2, 17000, true});
  expect_as_library({"", 1, 20000, 600, 20000, false});
}

TEST(Fft, SmoothSizes) {
  EXPECT_EQ(smooth_size(1), 1);
  EXPECT_EQ(smooth_size(7), 8);
  EXPECT_EQ(smooth_size(61), 64);
  EXPECT_EQ(smooth_size(2047), 2048);
  EXPECT_EQ(smooth_size(1999), 2000);
  EXPECT_EQ(smooth_size(121), 125);
}

}  // namespace
