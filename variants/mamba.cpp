// mamba.cpp - S6, the selective state space (Mamba: Gu, Dao 2023).
//
//   [x; z] = W_in h     x <- silu(conv1d(x))     [delta_r; B; C] = W_x x     delta = softplus(W_dt delta_r + b)
//   s_t = exp(delta_t A) s_{t-1} + delta_t x_t B_t     y_t = s_t . C_t + D x_t     out = W_out (y silu(z))
//
// h, out (B,T,D)    x, z, delta, y (B,T,E), E = expand D    B_t, C_t (B,T,N) shared by the channels    A = -exp(A_log) (E,N)
// Where delta, B or C does not select it is a parameter: b alone, B (E,N), C (E,N).
// A_init = complex, as the authors' kernel: N complex modes, A = -exp(A_log) + i A_imag, A_imag (E,N), y_t = 2 Re(s_t . C_t) + D x_t;
// B_t, C_t (B,T,2N) or B, C (E,N,2) hold (re, im), and a stream carries 2 E N numbers: half the d_state has the same state in bytes.
// Another inner layer takes the scan's place, y = layer(x): a diagonal state space per channel, kernel.* as in S4D (zoh; N/2 complex modes,
// A = -1/2 + pi n i, or N real ones, A = -(n+1)) and D (E), or Hyena's implicit filter, filter_fn.*, whose bias stands for D. It has no
// use for x_proj, dt_proj and their knobs, nor for A_init. Only hyena streams without a constant state: it keeps l_max inputs.
#include <algorithm>
#include <cmath>
#include <complex>

#include "error.hpp"
#include "hippo.hpp"
#include "ops/filters.hpp"
#include "plain_filters.hpp"
#include "plain_heads.hpp"
#include "selective_layer.hpp"
#include "ssm_layer.hpp"
#include "starts.hpp"

namespace ssm::mamba {

using Cx = std::complex<double>;

struct Mamba final : Variant, KeepsApart {
  int d_state = 16, expand = 2, d_conv = 4, dt_rank = 0;
  bool gate = true, conv = true, select_delta = true, select_B = true, select_C = true;
  std::string A_init = "real", inner = "s6";
  double dt_min = 1e-3, dt_max = 0.1, dt_scale = 1;

  std::string about() const override { return "Mamba: selective state space S6, gated, with a short convolution (Gu & Dao 2023)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {1, 2, 4, 8, 16, 64})
        .range(1, 1024)
        .note("states N per channel, complex ones where A_init is; N/2 pairs with inner = s4d",
              "350M LM perplexity, N 1 to 16: 9.73 9.40 9.09 8.84 8.71");
    k("expand", expand, {1, 2, 4}).range(1, 16).note("inner width E over D");
    k("d_conv", d_conv, {2, 3, 4}).range(1, 16).note("width of the causal convolution");
    k("dt_rank", dt_rank, {0, 1, 2, 4, 8})
        .range(0, 65536)
        .note("rank of the projection to delta, 0: D/16 rounded up", "rank 1 8.97, 4 8.91, 64 8.71");
    k("gate", gate).note("the output is multiplied by silu(z)");
    k("conv", conv).note("the causal convolution before the scan");
    k("select_delta", select_delta).note("delta depends on the input", "none 10.93, only delta 9.81, all 8.71");
    k("select_B", select_B).note("B depends on the input", "only B 10.15");
    k("select_C", select_C).note("C depends on the input", "only C 9.98");
    k("A_init", A_init, {"real", "half", "random", "complex"})
        .note("A at the start: -(n+1), -1/2, -exp(normal), -1/2 + n i", "8.71, 8.85, 8.71, 9.16");
    k("inner", inner, {"s6", "s4d", "s4d_real", "hyena"})
        .note("the layer within the block; select_*, dt_rank, dt_scale and A_init are s6's alone, hyena has neither d_state nor steps",
              "8.69, 10.54, 10.56, 10.75");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step, of s6 at least 1e-4");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("dt_scale", dt_scale, {0.1, 1}).range(1e-3, 100).note("scale of the initial projection to delta");
  }
  Block block() const override { return {"rms", "pre", 0}; }
  Answer takes_gaps() const override { return position_by_position(); }
  Answer keeps_apart() const override { return position_by_position(); }
  Answer position_by_position() const {
    return inner == "hyena" ? Answer::no("mamba.inner = hyena has one kernel for a whole row; allowed are s6, s4d, s4d_real") : Answer{};
  }

  bool real_modes() const { return inner == "s4d_real"; }

  SelectiveOptions selection(Index D) const {
    SelectiveOptions o;
    o.d_state = d_state, o.rank = dt_rank > 0 ? dt_rank : (D + 15) / 16;
    o.delta = select_delta, o.B = select_B, o.C = select_C, o.complex = A_init == "complex";
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
    const Tensor z = gate ? xz[1] : Tensor{};
    const Tensor y = inner == "s6" ? selective_layer(n, u, z, selection(D), gaps, starts) : invariant(n, u, z);
    LinearOptions o;
    o.bias = false;
    const double bound = 1 / std::sqrt(static_cast<double>(E * depth));
    o.weight = init::uniform(-bound, bound);
    return linear(n, y, D, "out_proj", o);
  }

  // y silu(z) of the layer that treats all positions of u alike
  Tensor invariant(Net& n, Tensor u, Tensor z) const {
    const Tensor y = inner == "hyena" ? implicit(n, u) : diagonal(n, u);
    return gate ? silu_gate(n, n.as(y, Order::BTD), z) : y;
  }
  Tensor implicit(Net& n, Tensor u) const {
    const auto scope = n.scope("filter_fn");
    HyenaFilterOptions o;
    o.d = u.D(), o.freq = 10;
    return long_conv(n, n.as(u, Order::BDT), hyena_filter(n, o)[0], {}, "conv");
  }
  Tensor diagonal(Net& n, Tensor u) const {
    const Index E = u.D();
    SsmOptions o;
    o.n_ssm = 0;
    o.dt_min = dt_min, o.dt_max = dt_max;
    o.real = real_modes();
    if (d_state % 2 && !o.real)
      throw BadInput("mamba.d_state is " + std::to_string(d_state) +
                     "; mamba.inner = s4d needs an even one: conjugate pairs; s4d_real and s6 take any");
    o.lambda = diagonal_init(o.real ? "real" : "lin", d_state);
    const SsmParams p = declare_ssm(n, E, o, "mamba");
    const Param D = n.param("D", {E}, init::constant(1), no_decay());
    if (gaps.id >= 0) return diag_gap_scan(n, u, gaps, p, D);
    if (apart()) return diag_scan(n, u, p, D, starts);
    return diagonal_system(n, u, p, D, "conv");
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
    std::vector<double> y = inner == "s6" ? plain_selective(c, b, u, selection(c.D)) : inner == "hyena" ? convolved(c, u) : walked(c, b, u);
    for (Index t = 0; t < c.T; ++t) {
      for (Index e = 0; gate && e < E; ++e) y[t * E + e] *= plain_silu(xz[t * wide + E + e]);
      dense_row(&y[t * E], E, c.p("out_proj.weight"), nullptr, out + t * c.D);
    }
  }

  // What the layer makes of u (T,E).
  std::vector<double> walked(const Case& c, Index b, const std::vector<double>& u) const {
    const Index E = expand * c.D, M = real_modes() ? d_state : d_state / 2;
    const SsmReader r{c, E, M, E, false, real_modes()};
    std::vector<double> y(u.size());
    for (Index e = 0; e < E; ++e) {
      std::vector<Cx> state(M);
      for (Index t = 0; t < c.T; ++t) {
        double& sum = y[t * E + e] = c.p("D")[e] * u[t * E + e];
        for (Index k = 0; k < M; ++k) {
          const Cx a = r.a(e, k), factor = std::exp(c.gap(b, t) * r.delta(e) * a);
          state[k] = factor * state[k] + (factor - 1.0) / a * r.b(e, k) * u[t * E + e];
          sum += 2 * (r.out(0, e, k) * state[k]).real();
        }
      }
    }
    return y;
  }
  std::vector<double> convolved(const Case& c, const std::vector<double>& u) const {
    const Index E = expand * c.D;
    std::vector<double> y(u.size());
    for (Index e = 0; e < E; ++e)
      for (Index lag = 0; lag < std::min(c.T, c.l_max); ++lag) {
        const double tap = plain_hyena_tap(c, "filter_fn", e, lag, true, 0);
        for (Index t = lag; t < c.T; ++t) y[t * E + e] += tap * u[(t - lag) * E + e];
      }
    return y;
  }
};

SSM_VARIANT(Mamba, "mamba");

}  // namespace ssm::mamba
