// linear_attention.cpp - attention without softmax: a sum of outer products instead of a score per pair (Katharopoulos et al. 2020).
//
//   S_t = S_{t-1} + phi(k_t) v_t^T     z_t = z_{t-1} + phi(k_t)     o_t = S_t^T phi(q_t) / (z_t . phi(q_t))     y = W_o concat_h o
//
// q, k (B,T,H K)    v (B,T,H V)    K = expand_k D / H, V = expand_v D / H, rounded down    optional: short convolutions, gate silu(W_g x)
// Learned maps have one set of weights for all heads, feature_map_{q,k}.layer (K,K):
//   t2r relu(W x + b)    hedgehog softmax([W x + b; -(W x + b)])    hadamard (W_1 x) (W_2 x)    dpfp: products of relu([x; -x]), no weights
// Signed feature maps (identity, hadamard) have no normaliser: they read K^{-1/2} S^T phi(q).
#include <algorithm>
#include <cmath>

#include "ops/feature_maps.hpp"
#include "ops/gated_norm.hpp"
#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::linear_attention {

struct LinearAttention final : Variant, KeepsApart {
  int heads = 2, nu = 3, d_conv = 0;
  double expand_k = 1, expand_v = 1;
  std::string feature_map = "elu1", view = "chunked";
  bool normalise = true, output_norm = false, gate = false;

  std::string about() const override {
    return "linear attention: softmax replaced by a feature map and a running sum (Katharopoulos 2020)";
  }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 256).note("heads, each with a state of its own");
    k("expand_k", expand_k, {0.5, 1}).range(0.01, 16).note("width of all queries over D");
    k("expand_v", expand_v, {1, 2}).range(0.01, 16).note("width of all values over D");
    k("feature_map", feature_map, {"elu1", "relu", "hadamard", "identity", "t2r", "hedgehog", "dpfp"})
        .note("phi; t2r, hedgehog, hadamard are learned; hedgehog makes 2 K features of K, dpfp 2 K nu");
    k("nu", nu, {1, 3}).range(1, 64).note("rolls of dpfp");
    k("normalise", normalise).note("divide by the sum of scores; positive feature maps only");
    k("output_norm", output_norm).note("RMS norm of every head's output");
    k("gate", gate).note("the output is multiplied by silu(W_g x)");
    k("d_conv", d_conv, {0, 4}).range(0, 16).note("width of short convolutions of q, k, v, before phi; 0: none");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"layer", "pre", 2}; }

  Index key(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_k * static_cast<double>(D)) / heads); }
  Index value(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_v * static_cast<double>(D)) / heads); }
  bool divides() const { return normalise && feature_map != "hadamard" && feature_map != "identity"; }

  Tensor projected(Net& n, Tensor x, Index width, const std::string& name) const {
    LinearOptions o;
    o.bias = false;
    x = linear(n, x, width, name + "_proj", o);
    if (d_conv > 0) x = causal_conv(n, x, d_conv, name + "_conv1d", "silu", starts);
    return x;
  }

  Tensor joined(Tensor split) const {
    split.rank = 3, split.n[2] *= split.n[3], split.n[3] = 1;
    return split;
  }
  // phi(x), (B,T,H F) with F features a head
  Tensor features(Net& n, Tensor x, Index K, const std::string& name) const {
    Tensor split = x;
    split.rank = 4, split.n[2] = heads, split.n[3] = K;
    LinearOptions o;
    if (feature_map == "t2r") return activation(n, joined(linear(n, split, K, name + ".layer", o)), "relu");
    if (feature_map == "hedgehog") {  // starts with W = 1, b = 0
      o.weight = [K](const Draw&, Index i) { return i / K == i % K ? 1.0 : 0.0; };
      o.bias_init = init::constant(0);
      return joined(softmax_of_signs(n, linear(n, split, K, name + ".layer", o)));
    }
    if (feature_map == "dpfp") return joined(rolled_products(n, split, nu));
    if (feature_map != "hadamard") return activation(n, x, feature_map == "identity" ? "id" : feature_map);
    o.bias = false;
    const Tensor first = linear(n, split, K, name + ".layer1", o);
    return joined(multiply(n, first, linear(n, split, K, name + ".layer2", o)));
  }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D(), K = key(D), V = value(D);
    x = n.as(x, Order::BTD);
    LinearOptions o;
    o.bias = false;
    MatrixStateInputs in;
    in.q = features(n, projected(n, x, heads * K, "q"), K, "feature_map_q");
    in.k = features(n, projected(n, x, heads * K, "k"), K, "feature_map_k");
    in.v = projected(n, x, heads * V, "v");
    in.gate = cut_gate(n, {}, starts, {.width = heads});
    MatrixStateOptions s;
    s.heads = heads;
    s.scale = divides() ? 1 : 1 / std::sqrt(static_cast<double>(K));
    s.normalise = divides();
    s.view = apart() ? "scan" : view;
    Tensor y = matrix_state(n, in, s);
    const auto gates = [&] { return linear(n, x, heads * V, "g_proj", o); };
    if (output_norm && gate) y = norm_then_gate(n, y, gates, heads, "norm");
    else if (output_norm) y = head_norm(n, y, heads, "norm");
    else if (gate) y = silu_gate(n, y, gates());
    return linear(n, y, D, "o_proj", o);
  }

  std::vector<double> convolved(const Case& c, const double* x, const std::string& name) const {
    const auto y = plain_dense(x, c.T, c.D, c.p(name + "_proj.weight"));
    if (d_conv == 0) return y;
    return plain_short_conv(y, c.T, static_cast<Index>(y.size()) / c.T, c.p(name + "_conv1d.weight"), c.p(name + "_conv1d.bias"));
  }

  std::vector<double> phi(const Case& c, const double* x, Index K, const std::string& name) const {
    std::vector<double> y(x, x + K);
    if (feature_map == "elu1")
      for (double& v : y) v = v > 0 ? v + 1 : std::exp(v);
    if (feature_map == "t2r" || feature_map == "hedgehog")
      dense_row(x, K, c.p(name + ".layer.weight"), &c.p(name + ".layer.bias"), y.data());
    if (feature_map == "relu" || feature_map == "t2r")
      for (double& v : y) v = std::max(v, 0.0);
    if (feature_map == "hedgehog") {
      double sum = 0;
      for (Index i = 0; i < K; ++i) y.push_back(std::exp(-y[i])), y[i] = std::exp(y[i]), sum += y[i] + y[K + i];
      for (double& v : y) v /= sum;
    }
    if (feature_map == "dpfp") {
      std::vector<double> z;
      for (const double sign : {1.0, -1.0})
        for (Index i = 0; i < K; ++i) z.push_back(std::max(sign * x[i], 0.0));
      y.clear();
      for (Index j = 1; j <= nu; ++j)
        for (Index i = 0; i < 2 * K; ++i) y.push_back(z[i] * z[((i - j) % (2 * K) + 2 * K) % (2 * K)]);
    }
    if (feature_map == "hadamard") {
      const auto a = plain_dense(x, 1, K, c.p(name + ".layer1.weight")), b = plain_dense(x, 1, K, c.p(name + ".layer2.weight"));
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = a[i] * b[i];
    }
    return y;
  }

  void reference(Case& c) const override {
    const Index K = key(c.D), V = value(c.D);
    const double one = 1, scale = 1 / std::sqrt(static_cast<double>(K));
    for (Index b = 0; b < c.B; ++b) {
      const double* x = c.x.data() + b * c.T * c.D;
      const auto q = convolved(c, x, "q"), k = convolved(c, x, "k"), v = convolved(c, x, "v");
      std::vector<double> o(static_cast<std::size_t>(c.T * heads * V));
      for (Index h = 0; h < heads; ++h) {
        const Index F = static_cast<Index>(phi(c, q.data(), K, "feature_map_q").size());
        PlainHead state(F, V), sums(F, 1);
        for (Index t = 0; t < c.T; ++t) {
          const Index row = t * heads + h;
          const auto key_t = phi(c, &k[row * K], K, "feature_map_k"), query = phi(c, &q[row * K], K, "feature_map_q");
          double* out = &o[row * V];
          state.take(key_t.data(), &v[row * V], &one, 0);
          sums.take(key_t.data(), &one, &one, 0);
          state.read(query.data(), divides() ? 1 : scale, out);
          double sum = 0;
          sums.read(query.data(), 1, &sum);
          for (Index j = 0; divides() && j < V; ++j) out[j] /= sum + 1e-10;
          if (output_norm) plain_rms(out, V, c.p("norm.weight"), 1e-5);
        }
      }
      plain_output(c, b, std::move(o), gate);
    }
  }
};
SSM_VARIANT(LinearAttention, "linear_attention");

}  // namespace ssm::linear_attention
