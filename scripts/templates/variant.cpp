// new_variant.cpp - a short convolution, gated: replace this by what your mixer computes, with its source.
//
//   h_t = b + sum_j w_j x_{t - (width-1-j)}      y = W_out (h * silu(W_gate x))                       x, h, y (B,T,D), per channel w (width)
//
// build() composes ops (core/ops.hpp) and is all that training needs; reference() says the same in plain loops and double. Tests hold the two
// to each other, check every gradient, streaming, causality and each value of each knob: build/double/tests/test_variants
// --gtest_filter='new_variant.*'
#include <cmath>

#include "variant.hpp"

namespace ssm::new_variant {

struct NewVariant final : Variant {
  int width = 4;

  std::string about() const override { return "a short convolution, gated (template of scripts/new_variant)"; }
  // Every knob: name, variable, values worth trying. Sweeps, `list` and the tests read them from here.
  void knobs(Knobs& k) override { k("width", width, {2, 4, 8}).range(1, 64).note("taps of the convolution"); }

  Tensor build(Net& n, Tensor x) override {
    x = n.as(x, Order::BTD);
    const Tensor h = causal_conv(n, x, width, "conv1d", "id");
    const Tensor gate = linear(n, x, n.D, "gate_proj");
    return linear(n, silu_gate(n, h, gate), n.D, "out_proj");
  }

  void reference(Case& c) const override {
    const std::vector<double>&w = c.p("conv1d.weight"), &bias = c.p("conv1d.bias");
    std::vector<double> gate(c.D), mixed(c.D);
    for (Index b = 0; b < c.B; ++b)
      for (Index t = 0; t < c.T; ++t) {
        const Index row = (b * c.T + t) * c.D;
        dense_row(&c.x[row], c.D, c.p("gate_proj.weight"), &c.p("gate_proj.bias"), gate.data());
        for (Index i = 0; i < c.D; ++i) {
          double h = bias[i];
          for (Index j = 0; j < width; ++j) {
            const Index from = t - (width - 1 - j);
            if (from >= 0) h += w[i * width + j] * c.x[(b * c.T + from) * c.D + i];
          }
          mixed[i] = h * gate[i] / (1 + std::exp(-gate[i]));
        }
        dense_row(mixed.data(), c.D, c.p("out_proj.weight"), &c.p("out_proj.bias"), &c.y[row]);
      }
  }
};
SSM_VARIANT(NewVariant, "new_variant");

}  // namespace ssm::new_variant
