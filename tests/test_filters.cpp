// Hyena, H3, LongConv: golden numbers of features, windows and the shift kernel; a stream longer than its ring; kernels shorter than T.
#include <cmath>

#include "model.hpp"
#include "op_check.hpp"
#include "ops/filters.hpp"
#include "variant.hpp"

using namespace ssm;

namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }
const double kNear = kDouble ? 2e-9 : 2e-7;

// emb 5, l_max 8, four channels: row 1 of the features, |delta|, row 1 of the window.
TEST(Filters, HyenaGoldenNumbers) {
  ProbeSpec s;
  s.B = 1, s.T = 8, s.D = 4, s.l_max = 8;
  s.build = [](Net& n, const std::vector<Tensor>&) {
    HyenaFilterOptions o;
    o.d = 4, o.width = 2;
    return hyena_filter(n, o)[0];
  };
  Probe probe(test_device().exec(), s);
  Params& p = probe.params();
  const std::vector<double> z = {.142857143, .999999997, .707106781, -.00007854, -.707106781};
  for (std::size_t k = 0; k < 5; ++k) EXPECT_NEAR(p.get("pos_emb.z")[5 + k], z[k], kNear);
  const std::vector<double> deltas = {3.070113457, 7.163598067, 11.257082677, 15.350567287};
  for (std::size_t k = 0; k < 4; ++k) EXPECT_NEAR(std::abs(p.get("modulation.deltas")[k]), deltas[k], 10 * kNear);
  // With W = 0 but one weight and sin(pi/2) = 1 in the last layer the kernel is the window itself.
  p.set("implicit_filter.4.weight", std::vector<double>(4, 0));
  p.set("implicit_filter.4.bias", std::vector<double>(2, std::acos(0.0)));
  p.set("implicit_filter.6.weight", {1, 0, 1, 0, 1, 0, 1, 0});
  p.set("bias", std::vector<double>(4, 0));
  const std::vector<double> K = probe.forward({}), window = {.644946677, .359381366, .200256814, .111588399};
  for (std::size_t k = 0; k < 4; ++k) EXPECT_NEAR(K[k * 8 + 1], window[k], kNear);
}

TEST(Filters, ShiftGoldenNumbers) {
  ProbeSpec s;
  s.B = 1, s.T = 6, s.D = 1;
  s.build = [](Net& n, const std::vector<Tensor>&) { return shift_kernel(n, 1, 4, "shift"); };
  Probe probe(test_device().exec(), s);
  probe.params().set("shift.B", {1, .5, 0, -.2});
  probe.params().set("shift.C", {.3, -.1, .7, .2});
  const std::vector<double> K = probe.forward({}), golden = {.21, .25, .8, .2};
  ASSERT_EQ(K.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(K[i], golden[i], kNear);
}

// 100 positions through a kernel of 37 taps: the ring turns more than twice, and starts anew after reset().
TEST(Filters, StreamsBeyondTheirRing) {
  const Index B = 2, H = 3, L = 37, T = 100;
  ProbeSpec s;
  s.B = B, s.T = 1, s.D = H, s.l_max = L, s.mode = Mode::stream;
  s.inputs = {shaped({B, H, 1}, Order::BDT)};
  s.build = [](Net& n, const std::vector<Tensor>& in) {
    LongKernelOptions o;
    o.length = L, o.init = init::normal(1);
    return long_conv(n, in[0], long_kernel(n, H, "kernel", o), n.param("D", {H}, init::normal(1)), "conv");
  };
  Probe probe(test_device().exec(), s);
  const std::vector<double> K = probe.params().get("kernel"), D = probe.params().get("D"), u = test_values("u", T * B * H);
  probe.prepare();
  for (int pass = 0; pass < 2; ++pass) {
    probe.reset();
    std::vector<double> y, expected;
    for (Index t = 0; t < T; ++t) {
      const auto out = probe.step({{u.begin() + t * B * H, u.begin() + (t + 1) * B * H}});
      y.insert(y.end(), out.begin(), out.end());
      for (Index i = 0; i < B * H; ++i) {
        double sum = D[at(i % H)] * u[at(t * B * H + i)];
        for (Index q = 0; q < L && q <= t; ++q) sum += K[at(i % H * L + q)] * u[at((t - q) * B * H + i)];
        expected.push_back(sum);
      }
    }
    EXPECT_LT(relative_error(y, expected), kDouble ? 1e-13 : 1e-5) << "pass " << pass;
  }
}

// A net longer than l_max: kernels end, and the layer goes on.
class Longer : public ::testing::TestWithParam<const char*> {};
TEST_P(Longer, MatchesItsReference) {
  const Index B = 1, T = 24, D = 4, L = 10;
  const auto variant = make_variant(GetParam(), {});
  ProbeSpec s;
  s.B = B, s.T = T, s.D = D, s.l_max = L, s.mode = Mode::evaluate;
  s.inputs = {shaped({B, T, D})};
  s.build = [&](Net& n, const std::vector<Tensor>& in) { return variant->build(n, in[0]); };
  Probe probe(test_device().exec(), s);
  Case c;
  c.B = B, c.T = T, c.D = D, c.l_max = L;
  c.x = test_values("x", B * T * D);
  c.y.resize(c.x.size());
  for (const ParamInfo& p : probe.params().all()) c.params[p.name] = probe.params().get(p.name);
  variant->reference(c);
  EXPECT_LT(relative_error(probe.forward({c.x}), c.y), kDouble ? 1e-10 : 1e-5);
}
INSTANTIATE_TEST_SUITE_P(Filters, Longer, ::testing::Values("longconv", "hyena", "h3"));

}  // namespace
