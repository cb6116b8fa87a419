// longconv.cpp - a convolution as long as the sequence whose taps are the parameters (LongConv: Fu et al. 2023).
//
//   K = squash(smooth(kernel))     y = K * u + D u     out = GLU(Linear(GELU(y)))            squash(k) = sign(k) max(|k| - lambda, 0)
//
// u (B,T,H), H = D    y (B,T,cH), c = channels    kernel (c,H,L), or (2c,H,L) in both directions: the last c read the future from the next
// sample on    D (c,H)    output_linear (2H,cH)    L = l_max, or `taps`
// There is no constant state: a stream keeps the last L inputs, and a step costs O(L) per channel.
#include <algorithm>
#include <cmath>

#include "ops/filters.hpp"
#include "ssm_layer.hpp"

namespace ssm::longconv {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct LongConv final : Variant {
  int channels = 1, smooth = 0, taps = 0;
  double squash = 0.003, kernel_dropout = 0;
  std::string init = "random", view = "conv";
  bool bidirectional = false, glu = true;

  std::string about() const override {
    return "LongConv: explicit kernels of the sequence's length, squashed (Fu 2023); streams keep l_max inputs";
  }
  void knobs(Knobs& k) override {
    k("channels", channels, {1, 2}).range(1, 64).note("kernels c per channel", "published configuration: 2");
    k("init", init, {"random", "double_exp"}).note("initial taps: N(0, .002^2), or N(0, .02^2) under a decay that depends on the channel");
    k("squash", squash, {0, 0.001, 0.003}).range(0, 1).note("taps below lambda are 0", "far worse without; LRA uses .001 to .004");
    k("kernel_dropout", kernel_dropout, {0, 0.2}).range(0, 0.99).note("dropout of taps", "LRA uses .1 to .3");
    k("smooth", smooth, {0, 3}).range(0, 64).note("taps are means over this many neighbours on each side");
    k("taps", taps, {0, 16}).range(0, 1 << 24).note("length of the kernels, 0: l_max");
    k("bidirectional", bidirectional).note("a second kernel reads the future, from the next sample on");
    k("glu", glu).note("output Linear cH->2H with GLU, else cH->H");
    k.view("view", view, {"conv", "direct", "library"});
  }
  Answer causal() const override { return bidirectional ? Answer::no("longconv.bidirectional reads the future") : Answer{}; }
  Answer streams() const override { return causal(); }

  Index length(Index l_max) const { return taps ? std::min<Index>(taps, l_max) : l_max; }

  Tensor build(Net& n, Tensor x) override {
    const Index H = x.D(), L = length(n.l_max);
    LongKernelOptions o;
    o.channels = channels, o.directions = bidirectional ? 2 : 1, o.length = L, o.squash = squash, o.smooth = smooth;
    o.init = init == "random" ? init::normal(0.002) : Init([H, L](const Draw& draw, Index i) {
      const double share = static_cast<double>(i / L % H) / static_cast<double>(H), t = static_cast<double>(i % L) / static_cast<double>(L);
      return 0.02 * draw.normal(i) * std::exp(-t * std::pow(static_cast<double>(H) / 2, share));
    });
    const Tensor K = dropout(n, long_kernel(n, H, "kernel", o), kernel_dropout, false);
    const Param D = n.param("D", {channels, H}, init::normal(1));
    return ssm_output(n, long_conv(n, repeat_channels(n, n.as(x, Order::BDT), channels), K, D, view), glu, H);
  }

  void reference(Case& c) const override { ssm_output_reference(c, convolved(c), glu); }

  // K * u + D u, (B,T,cH)
  std::vector<double> convolved(const Case& c) const {
    const Index H = c.D, L = length(c.l_max), rows = channels * H;
    const auto tap = [&](Index row, Index q) {
      double s = 0;
      for (Index i = std::max<Index>(0, q - smooth); i <= std::min(L - 1, q + smooth); ++i) s += c.p("kernel")[at(row * L + i)];
      s /= 2 * smooth + 1;
      return std::copysign(std::max(std::abs(s) - squash, 0.0), s);
    };
    std::vector<double> y(at(c.B * c.T * rows));
    for (Index row = 0; row < rows; ++row) {
      std::vector<double> forth(at(L)), back(at(L));
      for (Index q = 0; q < L; ++q) forth[at(q)] = tap(row, q), back[at(q)] = bidirectional ? tap(rows + row, q) : 0;
      for (Index b = 0; b < c.B; ++b) {
        const auto u = [&](Index t) { return c.x[at((b * c.T + t) * H + row % H)]; };
        for (Index t = 0; t < c.T; ++t) {
          double sum = c.p("D")[at(row)] * u(t);
          for (Index q = 0; q < L && q <= t; ++q) sum += forth[at(q)] * u(t - q);
          for (Index q = 0; q < L && t + 1 + q < c.T; ++q) sum += back[at(q)] * u(t + 1 + q);
          y[at((b * c.T + t) * rows + row)] = sum;
        }
      }
    }
    return y;
  }
};

SSM_VARIANT(LongConv, "longconv");

}  // namespace ssm::longconv
