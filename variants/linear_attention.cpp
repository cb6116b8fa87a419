// linear_attention.cpp - attention without softmax: a sum of outer products instead of a score per pair (Katharopoulos et al. 2020).
//
//   S_t = S_{t-1} + phi(k_t) v_t^T     z_t = z_{t-1} + phi(k_t)     o_t = S_t^T phi(q_t) / (z_t . phi(q_t))     y = W_o concat_h o
//
// q, k (B,T,H K)    v (B,T,H V)    K = expand_k D / H, V = expand_v D / H, rounded down
// Signed feature maps (identity, hadamard) have no normaliser: they read K^{-1/2} S^T phi(q).
#include <algorithm>
#include <cmath>

#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::linear_attention {

struct LinearAttention final : Variant, KeepsApart {
  int heads = 2;
  double expand_k = 1, expand_v = 1;
  std::string feature_map = "elu1", view = "chunked";
  bool normalise = true, output_norm = false;

  std::string about() const override {
    return "linear attention: softmax replaced by a feature map and a running sum (Katharopoulos 2020)";
  }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 256).note("heads, each with a state of its own");
    k("expand_k", expand_k, {0.5, 1}).range(0.01, 16).note("width of all queries over D");
    k("expand_v", expand_v, {1, 2}).range(0.01, 16).note("width of all values over D");
    k("feature_map", feature_map, {"elu1", "relu", "hadamard", "identity"}).note("phi; hadamard: the product of two learned maps per head");
    k("normalise", normalise).note("divide by the sum of scores; positive feature maps only");
    k("output_norm", output_norm).note("RMS norm of every head's output");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"layer", "pre", 2}; }

  Index key(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_k * static_cast<double>(D)) / heads); }
  Index value(Index D) const { return std::max<Index>(1, static_cast<Index>(expand_v * static_cast<double>(D)) / heads); }
  bool divides() const { return normalise && (feature_map == "elu1" || feature_map == "relu"); }

  Tensor features(Net& n, Tensor x, Index K, const std::string& name) const {
    if (feature_map == "identity") return x;
    if (feature_map != "hadamard") return activation(n, x, feature_map);
    Tensor split = x;
    split.rank = 4, split.n[2] = heads, split.n[3] = K;
    LinearOptions o;
    o.bias = false;
    const Tensor first = linear(n, split, K, name + ".layer1", o);
    x.id = multiply(n, first, linear(n, split, K, name + ".layer2", o)).id;
    return x;
  }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D(), K = key(D), V = value(D);
    x = n.as(x, Order::BTD);
    LinearOptions o;
    o.bias = false;
    MatrixStateInputs in;
    in.q = features(n, linear(n, x, heads * K, "q_proj", o), K, "feature_map_q");
    in.k = features(n, linear(n, x, heads * K, "k_proj", o), K, "feature_map_k");
    in.v = linear(n, x, heads * V, "v_proj", o);
    in.gate = cut_gate(n, {}, starts, {.width = heads});
    MatrixStateOptions s;
    s.heads = heads;
    s.scale = divides() ? 1 : 1 / std::sqrt(static_cast<double>(K));
    s.normalise = divides();
    s.view = apart() ? "scan" : view;
    Tensor y = matrix_state(n, in, s);
    if (output_norm) y = head_norm(n, y, heads, "norm");
    return linear(n, y, D, "o_proj", o);
  }

  std::vector<double> phi(const Case& c, const double* x, Index K, const std::string& name) const {
    std::vector<double> y(x, x + K);
    if (feature_map == "elu1")
      for (double& v : y) v = v > 0 ? v + 1 : std::exp(v);
    if (feature_map == "relu")
      for (double& v : y) v = std::max(v, 0.0);
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
      const auto q = plain_dense(x, c.T, c.D, c.p("q_proj.weight")), k = plain_dense(x, c.T, c.D, c.p("k_proj.weight"));
      const auto v = plain_dense(x, c.T, c.D, c.p("v_proj.weight"));
      std::vector<double> o(static_cast<std::size_t>(c.T * heads * V));
      for (Index h = 0; h < heads; ++h) {
        PlainHead state(K, V), sums(K, 1);
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
      plain_output(c, b, std::move(o), false);
    }
  }
};
SSM_VARIANT(LinearAttention, "linear_attention");

}  // namespace ssm::linear_attention
