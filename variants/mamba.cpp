// mamba.cpp - S6, the selective state space (Mamba: Gu, Dao 2023).
//
//   [x; z] = W_in h     x <- silu(conv1d(x))     [delta_r; B; C] = W_x x     delta = softplus(W_dt delta_r + b)
//   s_t = exp(delta_t A) s_{t-1} + delta_t x_t B_t     y_t = s_t . C_t + D x_t     out = W_out (y silu(z))
//
// h, out (B,T,D)    x, z, delta, y (B,T,E), E = expand D    B_t, C_t (B,T,N) shared by the channels    A = -exp(A_log) (E,N)
// Where delta, B or C does not select it is a parameter: b alone, B (E,N), C (E,N).
// A_init = complex, as the authors' kernel: N complex modes, A = -exp(A_log) + i A_imag, A_imag (E,N), y_t = 2 Re(s_t . C_t) + D x_t;
// B_t, C_t (B,T,2N) or B, C (E,N,2) hold (re, im), and a stream carries 2 E N numbers: half the d_state has the same state in bytes.
#include <algorithm>
#include <cmath>
#include <complex>

#include "ops/complex_selective_scan.hpp"
#include "ops/gaps.hpp"
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
        .note("states N per channel, complex ones where A_init is", "350M LM perplexity, N 1 to 16: 9.73 9.40 9.09 8.84 8.71");
    k("expand", expand, {1, 2, 4}).range(1, 16).note("inner width E over D");
    k("d_conv", d_conv, {2, 3, 4}).range(1, 16).note("width of the causal convolution");
    k("dt_rank", dt_rank, {0, 1, 2, 4, 8}).range(0, 65536).note("rank of the projection to delta, 0: D/16", "rank 1 8.97, 4 8.91, 64 8.71");
    k("gate", gate).note("the output is multiplied by silu(z)");
    k("conv", conv).note("the causal convolution before the scan");
    k("select_delta", select_delta).note("delta depends on the input", "none 10.93, only delta 9.81, all 8.71");
    k("select_B", select_B).note("B depends on the input", "only B 10.15");
    k("select_C", select_C).note("C depends on the input", "only C 9.98");
    k("A_init", A_init, {"real", "half", "random", "complex"})
        .note("A at the start: -(n+1), -1/2, -exp(normal), -1/2 + n i", "8.71, 8.85, 8.71, 9.16");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("dt_scale", dt_scale, {0.1, 1}).range(1e-3, 100).note("scale of the initial projection to delta");
  }
  Block block() const override { return {"rms", "pre", 0}; }
  Answer takes_gaps() const override { return {}; }

  Index rank(Index D) const { return dt_rank > 0 ? dt_rank : (D + 15) / 16; }
  bool complex() const { return A_init == "complex"; }
  Index numbers() const { return complex() ? 2 * d_state : d_state; }  // of B_t, and of C_t

  // softplus^-1(delta), delta log-uniform on [dt_min, dt_max], at least 1e-4
  Init bias_init() const {
    const double low = std::log(std::min(dt_min, dt_max)), high = std::log(dt_max);
    return [=](const Draw& draw, Index i) {
      const double dt = std::max(std::exp(draw.uniform(i, low, high)), 1e-4);
      return dt + std::log(-std::expm1(-dt));
    };
  }
  Init A_log_init() const {
    if (A_init == "random") return init::normal(1);
    if (A_init == "half" || complex()) return init::constant(std::log(0.5));
    const Index N = d_state;
    return [N](const Draw&, Index i) { return std::log(static_cast<double>(i % N + 1)); };
  }

  Tensor build(Net& n, Tensor h) override {
    const Index D = h.D(), E = expand * D, R = rank(D), N = numbers();
    std::vector<Index> halves = {E};
    if (gate) halves.push_back(E);
    const auto xz = linear_split(n, n.as(h, Order::BTD), halves, "in_proj");
    SelectiveScanInputs in;
    in.u = conv ? causal_conv(n, xz[0], d_conv, "conv1d", "silu", starts) : activation(n, xz[0], "silu");
    if (gate) in.z = xz[1];
    std::vector<Index> sizes;
    if (select_delta) sizes.push_back(R);
    if (select_B) sizes.push_back(N);
    if (select_C) sizes.push_back(N);
    if (!sizes.empty()) {
      const auto parts = linear_split(n, in.u, sizes, "x_proj");
      auto part = parts.begin();
      if (select_delta) {
        LinearOptions o;
        o.bias = false;
        const double bound = dt_scale / std::sqrt(static_cast<double>(R));
        o.weight = init::uniform(-bound, bound);
        in.raw = linear(n, *part++, E, "dt_proj", o);
      }
      if (select_B) in.B = *part++;
      if (select_C) in.C = *part++;
    }
    ComplexScanOptions s;
    if (gaps.id >= 0) in.raw = stretch_steps(n, in.raw, gaps, E, s.bias_name, bias_init());
    s.d_state = d_state;
    s.A_log_init = A_log_init();
    s.A_imag_init = [count = d_state](const Draw&, Index i) { return static_cast<double>(i % count); };
    s.bias_init = bias_init();
    s.B_init = complex() ? Init([](const Draw&, Index i) { return i % 2 ? 0.0 : 1.0; }) : init::constant(1);
    s.C_init = init::normal(complex() ? std::sqrt(0.5) : 1);
    LinearOptions o;
    o.bias = false;
    const double bound = 1 / std::sqrt(static_cast<double>(E * depth));
    o.weight = init::uniform(-bound, bound);
    return linear(n, complex() ? complex_selective_scan(n, in, s, starts) : selective_scan(n, in, s, starts), D, "out_proj", o);
  }

  void reference(Case& c) const override {
    for (Index b = 0; b < c.B; ++b) sequence(c, b, c.x.data() + b * c.T * c.D, c.y.data() + b * c.T * c.D);
  }

  static double silu(double v) { return v / (1 + std::exp(-v)); }

  void sequence(const Case& c, Index b, const double* h, double* out) const {
    const Index E = expand * c.D, R = rank(c.D), N = numbers(), w = d_conv, wide = gate ? 2 * E : E;
    const Index columns = (select_delta ? R : 0) + (select_B ? N : 0) + (select_C ? N : 0);
    std::vector<double> xz(static_cast<std::size_t>(c.T * wide)), u(E), parts(columns), y(E);
    std::vector<std::complex<double>> state(E * d_state);
    const auto number = [this](const double* from, Index i) {
      return complex() ? std::complex(from[2 * i], from[2 * i + 1]) : std::complex(from[i]);
    };
    for (Index t = 0; t < c.T; ++t) dense_row(h + t * c.D, c.D, c.p("in_proj.weight"), nullptr, &xz[t * wide]);
    for (Index t = 0; t < c.T; ++t) {
      for (Index e = 0; e < E; ++e) {
        double sum = conv ? c.p("conv1d.bias")[e] : xz[t * wide + e];
        for (Index k = 0; conv && k < w; ++k)
          if (t - (w - 1 - k) >= 0) sum += c.p("conv1d.weight")[e * w + k] * xz[(t - (w - 1 - k)) * wide + e];
        u[e] = silu(sum);
      }
      if (columns > 0) dense_row(u.data(), E, c.p("x_proj.weight"), nullptr, parts.data());
      const double *Bt = parts.data() + (select_delta ? R : 0), *Ct = Bt + (select_B ? N : 0);
      for (Index e = 0; e < E; ++e) {
        double raw = c.p("dt_proj.bias")[e];
        for (Index k = 0; select_delta && k < R; ++k) raw += c.p("dt_proj.weight")[e * R + k] * parts[k];
        const double delta = c.gap(b, t) * (raw > 20 ? raw : std::log1p(std::exp(raw)));
        y[e] = c.p("D")[e] * u[e];
        for (Index k = 0; k < d_state; ++k) {
          const Index i = e * d_state + k;
          const std::complex A(-std::exp(c.p("A_log")[i]), complex() ? c.p("A_imag")[i] : 0);
          state[i] = std::exp(delta * A) * state[i] + delta * u[e] * (select_B ? number(Bt, k) : number(c.p("B").data(), i));
          y[e] += (complex() ? 2 : 1) * (state[i] * (select_C ? number(Ct, k) : number(c.p("C").data(), i))).real();
        }
        if (gate) y[e] *= silu(xz[t * wide + E + e]);
      }
      dense_row(y.data(), E, c.p("out_proj.weight"), nullptr, out + t * c.D);
    }
  }
};

SSM_VARIANT(Mamba, "mamba");

}  // namespace ssm::mamba
