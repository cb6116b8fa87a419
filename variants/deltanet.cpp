// deltanet.cpp - linear attention whose state corrects what it recalls (DeltaNet: Yang et al. 2024), and its gated form (2024).
//
//   S~_t = e^{g_t} S_{t-1}     S_t = S~_t + beta_t k_t (v_t - S~_t^T k_t)^T     o_t = K^{-1/2} S_t^T q_t     y = W_o rms_h(o) [silu(W_g x)]
//
// q, k (B,T,H K) short convolution, silu, unit length per head    v (B,T,H V) short convolution, silu    beta = sigmoid(W_b x) (B,T,H)
// gated: g = -e^{A_log} softplus(W_a x + dt_bias) (B,T,H), else 0    K = expand_k D / H, V = expand_v D / H, rounded down
#include <algorithm>
#include <cmath>

#include "ops/gated_norm.hpp"
#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::deltanet {

struct DeltaNet final : Variant, KeepsApart {
  int heads = 2, d_conv = 4;
  double expand_k = 1, expand_v = 1;
  bool gated = false, gate = false, negative = false, learned_beta = true;
  std::string view = "chunked";

  std::string about() const override { return "DeltaNet: linear attention with the delta rule, plain or gated (Yang 2024)"; }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 256).note("heads, each with a state of its own");
    k("expand_k", expand_k, {0.5, 1}).range(0.01, 16).note("width of all queries over D");
    k("expand_v", expand_v, {1, 2}).range(0.01, 16).note("width of all values over D");
    k("gated", gated).note("the state decays by a gate per head and step (Gated DeltaNet)");
    k("learned_beta", learned_beta).note("the strength of a correction depends on the input, else it is 1");
    k("negative", negative).note("beta reaches 2: negative eigenvalues of the transition");
    k("gate", gate).note("the output is multiplied by silu(W_g x)");
    k("d_conv", d_conv, {0, 4}).range(0, 16).note("width of short convolutions of q, k, v; 0: silu alone");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"rms", "pre", 4}; }

  Index key(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_k * static_cast<double>(D)) / heads); }
  Index value(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_v * static_cast<double>(D)) / heads); }

  Tensor project(Net& n, Tensor x, Index width, const std::string& name) const {
    LinearOptions o;
    o.bias = false;
    const Tensor y = linear(n, x, width, name + "_proj", o);
    if (d_conv == 0) return activation(n, y, "silu");
    return causal_conv(n, y, d_conv, name + "_conv1d", "silu", starts);
  }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D(), K = key(D), V = value(D);
    LinearOptions o;
    o.bias = false;
    x = n.as(x, Order::BTD);
    DeltaRuleInputs in;
    in.q = unit_heads(n, project(n, x, heads * K, "q"), heads);
    in.k = unit_heads(n, project(n, x, heads * K, "k"), heads);
    in.v = project(n, x, heads * V, "v");
    if (learned_beta) in.beta = activation(n, linear(n, x, heads, "b_proj", o), negative ? "sigmoid2" : "sigmoid");
    if (gated) {
      DecayGateOptions decay;
      decay.with_delta = false;
      decay.A_low = 0;
      in.gate = decay_gate(n, linear(n, x, heads, "a_proj", o), decay).gate;
    }
    in.gate = cut_gate(n, in.gate, starts, {.width = heads});
    Tensor y = delta_rule(n, in, heads, 1 / std::sqrt(static_cast<double>(K)), apart() ? "scan" : view);
    if (gate)
      y = norm_then_gate(
          n, y, [&] { return linear(n, x, heads * V, "g_proj", o); }, heads, "o_norm");
    else y = head_norm(n, y, heads, "o_norm");
    return linear(n, y, D, "o_proj", o);
  }

  std::vector<double> projected(const Case& c, const double* x, const std::string& name, bool unit, Index K) const {
    auto y = plain_dense(x, c.T, c.D, c.p(name + "_proj.weight"));
    if (d_conv) y = plain_short_conv(y, c.T, heads * K, c.p(name + "_conv1d.weight"), c.p(name + "_conv1d.bias"));
    for (double& value : y) value = d_conv ? value : plain_silu(value);
    for (Index row = 0; unit && row < c.T * heads; ++row) {
      double square = 0;
      for (Index k = 0; k < K; ++k) square += y[row * K + k] * y[row * K + k];
      for (Index k = 0; k < K; ++k) y[row * K + k] /= std::sqrt(square + 1e-6);
    }
    return y;
  }

  void reference(Case& c) const override {
    const Index K = key(c.D), V = value(c.D);
    for (Index b = 0; b < c.B; ++b) {
      const double* x = c.x.data() + b * c.T * c.D;
      const auto q = projected(c, x, "q", true, K), k = projected(c, x, "k", true, K);
      auto values = projected(c, x, "v", false, V);
      std::vector<double> raw(static_cast<std::size_t>(c.T * heads)), strength(raw.size(), 1.0);
      if (learned_beta) strength = plain_dense(x, c.T, c.D, c.p("b_proj.weight"));
      if (gated) raw = plain_dense(x, c.T, c.D, c.p("a_proj.weight"));
      for (Index h = 0; h < heads; ++h) {
        PlainHead state(K, V);
        for (Index t = 0; t < c.T; ++t) {
          const Index row = t * heads + h;
          const double beta = learned_beta ? (negative ? 2 : 1) / (1 + std::exp(-strength[row])) : 1;
          const double decay = gated ? std::exp(-std::exp(c.p("A_log")[h]) * plain_softplus(raw[row] + c.p("dt_bias")[h])) : 1;
          state.correct(&k[row * K], &values[row * V], decay, beta);
          state.read(&q[row * K], 1 / std::sqrt(static_cast<double>(K)), &values[row * V]);
          plain_rms(&values[row * V], V, c.p("o_norm.weight"), 1e-5);
        }
      }
      plain_output(c, b, std::move(values), gate);
    }
  }
};
SSM_VARIANT(DeltaNet, "deltanet");

}  // namespace ssm::deltanet
