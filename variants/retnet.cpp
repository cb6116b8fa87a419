// retnet.cpp - retention: linear attention whose heads forget at fixed rates (Sun et al. 2023).
//
//   S_t = gamma_h S_{t-1} + k_t v_t^T     o_t = K^{-1/2} S_t^T q_t     gamma_h = 1 - 2^{-5-h}     y = W_o (rms_h(o) silu(W_g x))
//
// q, k (B,T,H K), rotated by their positions    v, g (B,T,H V)    K = expand_k D / H, V = expand_v D / H, rounded down
// Optional short convolutions of q, k, v stand before the rotation.
// Without the official scalings of q, k and the scores, which the norm of each head cancels but for its epsilon.
#include <algorithm>
#include <cmath>

#include "ops/gated_norm.hpp"
#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::retnet {

struct RetNet final : Variant, KeepsApart {
  int heads = 4, d_conv = 0;
  double expand_k = 1, expand_v = 2;
  std::string decay = "multi_scale", rotation = "half", view = "chunked";
  bool gate = true, output_norm = true;

  std::string about() const override { return "RetNet: linear attention with a fixed decay per head and rotary positions (Sun 2023)"; }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 256).note("heads, each with a decay of its own", "perplexity 26.05; small heads 27.68");
    k("expand_k", expand_k, {0.5, 1}).range(0.01, 16).note("width of all queries over D");
    k("expand_v", expand_v, {1, 2}).range(0.01, 16).note("width of all values over D");
    k("decay", decay, {"multi_scale", "single", "none"})
        .note("gamma of head h: 1 - 2^(-5-h), 1 - 2^-5 for all, or 1", "single 27.02, none 27.86");
    k("rotary", rotation, {"half", "interleaved", "none"}).note("which channels of q and k turn together");
    k("gate", gate).note("the output is multiplied by silu(W_g x)", "off 27.84");
    k("d_conv", d_conv, {0, 4}).range(0, 16).note("width of short convolutions of q, k, v, before they turn; 0: none");
    k("output_norm", output_norm).note("RMS norm of every head's output", "off 27.54");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"rms", "pre", 2}; }

  Index key(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_k * static_cast<double>(D)) / heads); }
  Index value(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_v * static_cast<double>(D)) / heads); }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D(), K = key(D), V = value(D);
    x = n.as(x, Order::BTD);
    LinearOptions no_bias;
    no_bias.bias = false;
    const auto project = [&](Index width, const std::string& name) {
      const Tensor y = linear(n, x, heads * width, name + "_proj", no_bias);
      return d_conv > 0 ? causal_conv(n, y, d_conv, name + "_conv1d", "silu", starts) : y;
    };
    Tensor q = project(K, "q"), k = project(K, "k");
    if (rotation != "none") q = rotary(n, q, heads, rotation == "interleaved"), k = rotary(n, k, heads, rotation == "interleaved");
    MatrixStateOptions s;
    s.heads = heads;
    s.scale = 1 / std::sqrt(static_cast<double>(K));
    if (decay != "none") s.decay_first = 5, s.decay_step = decay == "single" ? 0 : 1;
    s.view = apart() ? "scan" : view;
    const Tensor closed = cut_gate(n, {}, starts, {.width = heads, .decay_first = s.decay_first, .decay_step = s.decay_step});
    Tensor y = matrix_state(n, {q, k, project(V, "v"), closed, {}}, s);
    const auto gates = [&] { return linear(n, x, heads * V, "g_proj", no_bias); };
    if (output_norm && gate) y = norm_then_gate(n, y, gates, heads, "g_norm");
    else if (output_norm) y = head_norm(n, y, heads, "g_norm");
    else if (gate) y = silu_gate(n, y, gates());
    return linear(n, y, D, "o_proj", no_bias);
  }

  void reference(Case& c) const override {
    const Index K = key(c.D), V = value(c.D);
    for (Index b = 0; b < c.B; ++b) {
      const double* x = c.x.data() + b * c.T * c.D;
      const auto project = [&](const std::string& name, Index width) {
        const auto y = plain_dense(x, c.T, c.D, c.p(name + "_proj.weight"));
        return d_conv > 0 ? plain_short_conv(y, c.T, heads * width, c.p(name + "_conv1d.weight"), c.p(name + "_conv1d.bias")) : y;
      };
      auto q = project("q", K), k = project("k", K), o = project("v", V);
      for (Index h = 0; h < heads; ++h) {
        PlainHead state(K, V);
        const double gamma = decay == "none" ? 1 : 1 - std::exp2(decay == "single" ? -5.0 : -5.0 - static_cast<double>(h));
        for (Index t = 0; t < c.T; ++t) {
          const Index row = t * heads + h;
          for (double* turned : {&q[row * K], &k[row * K]})
            if (rotation != "none") plain_rotary(turned, K, t, rotation == "interleaved");
          state.take(&k[row * K], &o[row * V], &gamma, 0);
          state.read(&q[row * K], 1 / std::sqrt(static_cast<double>(K)), &o[row * V]);
          if (output_norm) plain_rms(&o[row * V], V, c.p("g_norm.weight"), 1e-5);
        }
      }
      plain_output(c, b, std::move(o), gate);
    }
  }
};
SSM_VARIANT(RetNet, "retnet");

}  // namespace ssm::retnet
