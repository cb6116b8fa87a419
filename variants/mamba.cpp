// mamba.cpp - S6, the selective state space (Mamba: Gu, Dao 2023).
//
//   [x; z] = W_in h     x <- silu(conv1d(x))     [delta_r; B; C] = W_x x     delta = softplus(W_dt delta_r + b)
//   s_t = exp(delta_t A) s_{t-1} + delta_t x_t B_t     y_t = s_t . C_t + D x_t     out = W_out (y silu(z))
//
// h, out (B,T,D)    x, z, delta, y (B,T,E), E = expand D    B_t, C_t (B,T,N) shared by the channels    A = -exp(A_log) (E,N)
// Where delta, B or C does not select it is a parameter: b alone, B (E,N), C (E,N).
#include <cmath>

#include "plain_heads.hpp"
#include "selective_layer.hpp"
#include "starts.hpp"

namespace ssm::mamba {

struct Mamba final : Variant, KeepsApart {
  int d_state = 16, expand = 2, d_conv = 4, dt_rank = 0;
  bool gate = true, conv = true, select_delta = true, select_B = true, select_C = true;
  std::string A_init = "real";
  double dt_min = 1e-3, dt_max = 0.1, dt_scale = 1;

  std::string about() const override { return "Mamba: selective state space S6, gated, with a short convolution (Gu & Dao 2023)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {1, 2, 4, 8, 16, 64})
        .range(1, 1024)
        .note("states N per channel", "350M LM perplexity, N 1 to 16: 9.73 9.40 9.09 8.84 8.71");
    k("expand", expand, {1, 2, 4}).range(1, 16).note("inner width E over D");
    k("d_conv", d_conv, {2, 3, 4}).range(1, 16).note("width of the causal convolution");
    k("dt_rank", dt_rank, {0, 1, 2, 4, 8}).range(0, 65536).note("rank of the projection to delta, 0: D/16", "rank 1 8.97, 4 8.91, 64 8.71");
    k("gate", gate).note("the output is multiplied by silu(z)");
    k("conv", conv).note("the causal convolution before the scan");
    k("select_delta", select_delta).note("delta depends on the input", "none 10.93, only delta 9.81, all 8.71");
    k("select_B", select_B).note("B depends on the input", "only B 10.15");
    k("select_C", select_C).note("C depends on the input", "only C 9.98");
    k("A_init", A_init, {"real", "half", "random"}).note("A at the start: -(n+1), -1/2, -exp(normal)", "8.71, 8.85, 8.71");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("dt_scale", dt_scale, {0.1, 1}).range(1e-3, 100).note("scale of the initial projection to delta");
  }
  Block block() const override { return {"rms", "pre", 0}; }
  Answer takes_gaps() const override { return {}; }

  SelectiveOptions selection(Index D) const {
    SelectiveOptions o;
    o.d_state = d_state, o.rank = dt_rank > 0 ? dt_rank : (D + 15) / 16;
    o.delta = select_delta, o.B = select_B, o.C = select_C;
    o.dt_min = dt_min, o.dt_max = dt_max, o.dt_scale = dt_scale;
    if (A_init == "random") o.A_log = init::normal(1);
    if (A_init == "half") o.A_log = init::constant(std::log(0.5));
    return o;
  }

  Tensor build(Net& n, Tensor h) override {
    const Index D = h.D(), E = expand * D;
    std::vector<Index> halves = {E};
    if (gate) halves.push_back(E);
    const auto xz = linear_split(n, n.as(h, Order::BTD), halves, "in_proj");
    const Tensor u = conv ? causal_conv(n, xz[0], d_conv, "conv1d", "silu", starts) : activation(n, xz[0], "silu");
    const Tensor y = selective_layer(n, u, gate ? xz[1] : Tensor{}, selection(D), gaps, starts);
    LinearOptions o;
    o.bias = false;
    const double bound = 1 / std::sqrt(static_cast<double>(E * depth));
    o.weight = init::uniform(-bound, bound);
    return linear(n, y, D, "out_proj", o);
  }

  void reference(Case& c) const override {
    for (Index b = 0; b < c.B; ++b) sequence(c, b, c.x.data() + b * c.T * c.D, c.y.data() + b * c.T * c.D);
  }

  void sequence(const Case& c, Index b, const double* h, double* out) const {
    const Index E = expand * c.D, w = d_conv, wide = gate ? 2 * E : E;
    std::vector<double> xz(static_cast<std::size_t>(c.T * wide)), u(static_cast<std::size_t>(c.T * E));
    for (Index t = 0; t < c.T; ++t) dense_row(h + t * c.D, c.D, c.p("in_proj.weight"), nullptr, &xz[t * wide]);
    for (Index t = 0; t < c.T; ++t)
      for (Index e = 0; e < E; ++e) {
        double sum = conv ? c.p("conv1d.bias")[e] : xz[t * wide + e];
        for (Index k = 0; conv && k < w; ++k)
          if (t - (w - 1 - k) >= 0) sum += c.p("conv1d.weight")[e * w + k] * xz[(t - (w - 1 - k)) * wide + e];
        u[t * E + e] = plain_silu(sum);
      }
    std::vector<double> y = plain_selective(c, b, u, selection(c.D));
    for (Index t = 0; t < c.T; ++t) {
      for (Index e = 0; gate && e < E; ++e) y[t * E + e] *= plain_silu(xz[t * wide + E + e]);
      dense_row(&y[t * E], E, c.p("out_proj.weight"), nullptr, out + t * c.D);
    }
  }
};

SSM_VARIANT(Mamba, "mamba");

}  // namespace ssm::mamba
