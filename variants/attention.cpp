// attention.cpp - softmax multi-head attention (Vaswani et al. 2017), with RoPE (Su et al. 2021) or ALiBi (Press et al. 2022) positions.
//
//   [q | k | v] = x W_in,   s_ij = q_i k_j / sqrt(dh) [- slope_h |i - j|],   y = concat_h(softmax(s) v) W_out,   dh = head_dim or D / heads
//
// in_proj.weight ((heads + 2 kv_heads) dh, D)   out_proj.weight (D, heads dh)   positions.weight (l_max, D) where learned
// Default block: GPT style, pre-norm with an MLP of twice the width. State: keys and values of l_max (or window) positions.
#include <cmath>

#include "error.hpp"
#include "starts.hpp"

namespace ssm::attention_variant {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Attention final : Variant, KeepsApart {
  int heads = 2, kv_heads = 0, head_dim = 0, window = 0;
  std::string positions = "rope", view = "tiled";
  bool causal_mask = true, bias = false;

  std::string about() const override { return "softmax attention: every position looks at every earlier one (Vaswani 2017)"; }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4, 8})
        .range(1, 256)
        .note("heads, of width D / heads unless head_dim says", "LRA baselines: 8 at width 512, 4 at 256");
    k("head_dim", head_dim, {0, 16, 64}).range(0, 1024).note("width of a head; 0: D / heads", "LRA Image baseline: 8 of 8 at width 128");
    k("kv_heads", kv_heads, {0, 1}).range(0, 256).note("heads of keys and values, shared by groups of queries; 0: as many as heads");
    k("positions", positions, {"rope", "alibi", "learned", "sin", "none"})
        .note("how order is seen; learned and sin are added to the mixer's input",
              "LRA baselines: learned or sin; no comparison published");
    k("window", window, {0, 16, 64}).range(0, 1 << 20).note("positions a query looks back, itself included; 0: all");
    k("causal", causal_mask)
        .note("a position does not see later ones", "LRA baselines are not causal: average 54.4, after self-pretraining 81.8");
    k("bias", bias).note("biases of in_proj and out_proj");
    k.view("view", view, {"tiled", "plain"});
  }
  Answer causal() const override { return causal_mask ? Answer{} : Answer::no("attention.causal = false sees later positions"); }
  Answer streams() const override { return causal(); }
  Answer keeps_apart() const override {
    if (!causal_mask) return Answer::no("attention.causal = false sees all of a row; allowed is true");
    return positions == "learned" || positions == "sin"
               ? Answer::no("attention.positions = " + positions + " counts from the start of a row; allowed are rope, alibi, none")
               : Answer{};
  }
  Block block() const override { return {"layer", "pre", 2}; }

  Index width(Index D) const { return head_dim ? head_dim : D / heads; }
  Index keys() const { return kv_heads ? kv_heads : heads; }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D();
    if (head_dim == 0 && D % heads)
      throw BadInput("attention.heads = " + std::to_string(heads) + " must divide the model width " + std::to_string(D));
    if (positions == "learned") x = add_positions(n, x, "positions");
    if (positions == "sin") x = add_sinusoids(n, x);
    AttentionOptions o;
    o.heads = heads;
    o.kv_heads = static_cast<int>(keys());
    o.causal = causal_mask;
    o.positions = positions == "rope" || positions == "alibi" ? positions : "none";
    o.window = window;
    o.view = view;
    LinearOptions projection;
    projection.bias = bias;
    const Tensor y = attention(n, linear(n, x, (heads + 2 * keys()) * width(D), "in_proj", projection), o, starts);
    return linear(n, y, D, "out_proj", projection);
  }

  // Numbers of heads that are no power of two take every second slope of the next one.
  static double slope(Index h, Index H) {
    const double c = std::exp2(std::floor(std::log2(static_cast<double>(H))));
    const double k = static_cast<double>(h);
    return k < c ? std::exp2(-8 * (k + 1) / c) : std::exp2(-8 * (2 * (k - c) + 1) / (2 * c));
  }

  void reference(Case& c) const override {
    const Index T = c.T, D = c.D, dh = width(D), wide = (heads + 2 * keys()) * dh;
    const std::vector<double>*b_in = bias ? &c.p("in_proj.bias") : nullptr, *b_out = bias ? &c.p("out_proj.bias") : nullptr;
    for (Index b = 0; b < c.B; ++b) {
      std::vector<double> rows(at(T * wide)), x(at(D)), mixed(at(heads * dh)), p(at(T));
      for (Index t = 0; t < T; ++t) {
        for (Index d = 0; d < D; ++d) {
          const Index even = d - d % 2;
          const double angle = static_cast<double>(t) * std::pow(1e4, -static_cast<double>(even) / static_cast<double>(D));
          x[at(d)] = c.x[at((b * T + t) * D + d)];
          if (positions == "learned") x[at(d)] += c.p("positions.weight")[at(t * D + d)];
          if (positions == "sin") x[at(d)] += d % 2 ? std::cos(angle) : std::sin(angle);
        }
        dense_row(x.data(), D, c.p("in_proj.weight"), b_in, &rows[at(t * wide)]);
        for (Index h = 0; positions == "rope" && h < heads + keys(); ++h)
          for (Index k = 0; k < dh / 2; ++k) {
            const double angle = static_cast<double>(t) * std::pow(1e4, -2.0 * static_cast<double>(k) / static_cast<double>(dh));
            double &u = rows[at(t * wide + h * dh + k)], &v = rows[at(t * wide + h * dh + k + dh / 2)];
            const double turned = u * std::cos(angle) - v * std::sin(angle);
            v = v * std::cos(angle) + u * std::sin(angle);
            u = turned;
          }
      }
      for (Index i = 0; i < T; ++i) {
        for (Index h = 0; h < heads; ++h) {
          const Index g = h / (heads / keys());
          const double *q = &rows[at(i * wide + h * dh)], *k = &rows[at((heads + g) * dh)], *v = &rows[at((heads + keys() + g) * dh)];
          double top = -1e300, sum = 0;
          const auto seen = [&](Index j) {
            return (!causal_mask || j <= i) && (causal_mask || j < c.lengths[at(b)]) && (!window || std::abs(i - j) < window);
          };
          for (Index j = 0; j < T; ++j) {
            double s = 0;
            for (Index d = 0; d < dh; ++d) s += q[d] * k[j * wide + d] / std::sqrt(static_cast<double>(dh));
            if (positions == "alibi") s -= slope(h, heads) * static_cast<double>(std::abs(i - j));
            p[at(j)] = s;
            if (seen(j)) top = std::max(top, s);
          }
          for (Index j = 0; j < T; ++j) sum += p[at(j)] = seen(j) ? std::exp(p[at(j)] - top) : 0;
          for (Index d = 0; d < dh; ++d) {
            double y = 0;
            for (Index j = 0; j < T; ++j) y += p[at(j)] * v[j * wide + d];
            mixed[at(h * dh + d)] = sum > 0 ? y / sum : 0;
          }
        }
        dense_row(mixed.data(), heads * dh, c.p("out_proj.weight"), b_out, &c.y[at((b * T + i) * D)]);
      }
    }
  }
};
SSM_VARIANT(Attention, "attention");

}  // namespace ssm::attention_variant
