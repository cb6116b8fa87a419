// gla.cpp - gated linear attention: every key channel decays by a gate that the input sets (Yang et al. 2023).
//
//   S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T     o_t = K^{-1/2} S_t^T q_t     g = log sigmoid(W_2 W_1 x + b) / 16     y = W_o (rms_h(o) silu(W_g x))
//
// q, k, g (B,T,H K)    v (B,T,H V)    K = expand_k D / H, V = expand_v D / H, rounded down
// gate_kind "scalar": g (B,T,H); "constant": RetNet's decays; "none": linear attention.
#include <algorithm>
#include <cmath>

#include "ops/gated_norm.hpp"
#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::gla {

struct Gla final : Variant, KeepsApart {
  int heads = 2, gate_rank = 16, d_conv = 0;
  double expand_k = 0.5, expand_v = 1, gate_normalizer = 16, clamp_min = 0;
  std::string gate_kind = "vector", view = "chunked";
  bool gate = true;

  std::string about() const override { return "GLA: linear attention with a data-dependent decay per key channel (Yang 2023)"; }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 256).note("heads, each with a state of its own", "340M perplexity 14.77; head width 64 15.29");
    k("expand_k", expand_k, {0.5, 1}).range(0.01, 16).note("width of all queries over D");
    k("expand_v", expand_v, {1, 2}).range(0.01, 16).note("width of all values over D");
    k("gate_kind", gate_kind, {"vector", "scalar", "constant", "none"})
        .note("what decays: channels, heads, heads at fixed rates, nothing", "14.77, 15.56, 16.55, 23.21");
    k("gate_rank", gate_rank, {1, 16}).range(1, 65536).note("width between the two maps of the gate");
    k("gate_normalizer", gate_normalizer, {1, 16}).range(0.01, 1e4).note("divides the log gates", "at the start -0.043 a step; 1: -0.69");
    k("clamp_min", clamp_min, {-0.05, 0}).range(-100, 0).note("log gates are not below this; 0: no limit");
    k("gate", gate).note("the output is multiplied by silu(W_g x)");
    k("d_conv", d_conv, {0, 4}).range(0, 16).note("width of short convolutions of q, k, v; 0: none");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"rms", "pre", 4}; }

  Index key(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_k * static_cast<double>(D)) / heads); }
  Index value(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_v * static_cast<double>(D)) / heads); }
  bool learned() const { return gate_kind == "vector" || gate_kind == "scalar"; }

  Tensor project(Net& n, Tensor x, Index width, const std::string& name) const {
    LinearOptions o;
    o.bias = false;
    const Tensor y = linear(n, x, width, name + "_proj", o);
    return d_conv ? causal_conv(n, y, d_conv, name + "_conv1d", "silu", starts) : y;
  }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D(), K = key(D), V = value(D);
    x = n.as(x, Order::BTD);
    MatrixStateInputs in{project(n, x, heads * K, "q"), project(n, x, heads * K, "k"), project(n, x, heads * V, "v"), {}, {}};
    LinearOptions o;
    o.bias = false;
    if (learned()) {
      LinearOptions with_bias;
      with_bias.bias_init = init::constant(0);
      const Tensor low = linear(n, x, gate_rank, "gk_proj.0", o);
      const Tensor raw = linear(n, low, gate_kind == "vector" ? heads * K : heads, "gk_proj.1", with_bias);
      in.gate = log_sigmoid(n, raw, gate_normalizer, clamp_min);
    }
    MatrixStateOptions s;
    s.heads = heads;
    s.scale = 1 / std::sqrt(static_cast<double>(K));
    if (gate_kind == "constant") s.decay_first = 5, s.decay_step = 1;
    s.view = apart() ? "scan" : view;
    in.gate = cut_gate(n, in.gate, starts,
                       {.width = gate_kind == "vector" ? heads * K : heads, .decay_first = s.decay_first, .decay_step = s.decay_step});
    Tensor y = matrix_state(n, in, s);
    if (gate)
      y = norm_then_gate(
          n, y, [&] { return linear(n, x, heads * V, "g_proj", o); }, heads, "g_norm");
    else y = head_norm(n, y, heads, "g_norm");
    return linear(n, y, D, "o_proj", o);
  }

  std::vector<double> projected(const Case& c, const double* x, const std::string& name) const {
    auto y = plain_dense(x, c.T, c.D, c.p(name + "_proj.weight"));
    const Index width = static_cast<Index>(y.size()) / c.T;
    return d_conv ? plain_short_conv(y, c.T, width, c.p(name + "_conv1d.weight"), c.p(name + "_conv1d.bias")) : y;
  }

  void reference(Case& c) const override {
    const Index K = key(c.D), V = value(c.D), gates = gate_kind == "vector" ? heads * K : heads;
    for (Index b = 0; b < c.B; ++b) {
      const double* x = c.x.data() + b * c.T * c.D;
      const auto q = projected(c, x, "q"), k = projected(c, x, "k");
      auto v = projected(c, x, "v");
      std::vector<double> decay(static_cast<std::size_t>(c.T * gates), 1.0);
      if (learned()) decay = plain_dense(plain_dense(x, c.T, c.D, c.p("gk_proj.0.weight")).data(), c.T, gate_rank, c.p("gk_proj.1.weight"));
      for (Index i = 0; i < c.T * gates; ++i) {
        if (gate_kind == "constant") decay[i] = 1 - std::exp2(-5.0 - static_cast<double>(i % heads));
        if (!learned()) continue;
        const double g = -plain_softplus(-decay[i] - c.p("gk_proj.1.bias")[i % gates]) / gate_normalizer;
        decay[i] = std::exp(clamp_min < 0 ? std::max(g, clamp_min) : g);
      }
      for (Index h = 0; h < heads; ++h) {
        PlainHead state(K, V);
        for (Index t = 0; t < c.T; ++t) {
          const Index row = t * heads + h;
          state.take(&k[row * K], &v[row * V], &decay[gate_kind == "vector" ? row * K : row], gate_kind == "vector" ? 1 : 0);
          state.read(&q[row * K], 1 / std::sqrt(static_cast<double>(K)), &v[row * V]);
          plain_rms(&v[row * V], V, c.p("g_norm.weight"), 1e-5);
        }
      }
      plain_output(c, b, std::move(v), gate);
    }
  }
};
SSM_VARIANT(Gla, "gla");

}  // namespace ssm::gla
