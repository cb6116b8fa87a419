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
#include "ops/complex_selective_scan.hpp"
#include "ops/filters.hpp"
#include "ops/gaps.hpp"
#include "plain_filters.hpp"
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
    k("inner", inner, {"s6", "s4d", "s4d_real", "hyena"})
        .note("the layer within the block; of the others select_*, dt_rank, dt_scale and A_init say nothing", "8.69, 10.54, 10.56, 10.75");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("dt_scale", dt_scale, {0.1, 1}).range(1e-3, 100).note("scale of the initial projection to delta");
  }
  Block block() const override { return {"rms", "pre", 0}; }
  Answer takes_gaps() const override { return position_by_position(); }
  Answer keeps_apart() const override { return position_by_position(); }
  Answer position_by_position() const {
    return inner == "hyena" ? Answer::no("mamba.inner = hyena has one kernel for a whole row; allowed are s6, s4d, s4d_real") : Answer{};
  }

  Index rank(Index D) const { return dt_rank > 0 ? dt_rank : (D + 15) / 16; }
  bool complex() const { return A_init == "complex"; }
  bool real_modes() const { return inner == "s4d_real"; }
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
    const Index D = h.D(), E = expand * D, R = rank(D);
    std::vector<Index> halves = {E};
    if (gate) halves.push_back(E);
    const auto xz = linear_split(n, n.as(h, Order::BTD), halves, "in_proj");
    const Tensor u = conv ? causal_conv(n, xz[0], d_conv, "conv1d", "silu", starts) : activation(n, xz[0], "silu");
    const Tensor z = gate ? xz[1] : Tensor{};
    const Tensor y = inner == "s6" ? selective(n, u, z, R) : invariant(n, u, z);
    LinearOptions o;
    o.bias = false;
    const double bound = 1 / std::sqrt(static_cast<double>(E * depth));
    o.weight = init::uniform(-bound, bound);
    return linear(n, y, D, "out_proj", o);
  }

  // y silu(z) of the scan of u
  Tensor selective(Net& n, Tensor u, Tensor z, Index R) const {
    const Index E = u.D(), N = numbers();
    SelectiveScanInputs in;
    in.u = u, in.z = z;
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
    return complex() ? complex_selective_scan(n, in, s, starts) : selective_scan(n, in, s, starts);
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
    if (n.mode == Mode::stream) return diag_scan(n, u, p, D);
    return long_conv(n, n.as(u, Order::BDT), s4d_kernel(n, p, u.T()), D, "conv");
  }

  void reference(Case& c) const override {
    for (Index b = 0; b < c.B; ++b) sequence(c, b, c.x.data() + b * c.T * c.D, c.y.data() + b * c.T * c.D);
  }

  static double silu(double v) { return v / (1 + std::exp(-v)); }

  void sequence(const Case& c, Index b, const double* h, double* out) const {
    const Index E = expand * c.D, w = d_conv, wide = gate ? 2 * E : E;
    std::vector<double> xz(static_cast<std::size_t>(c.T * wide)), u(static_cast<std::size_t>(c.T * E));
    for (Index t = 0; t < c.T; ++t) dense_row(h + t * c.D, c.D, c.p("in_proj.weight"), nullptr, &xz[t * wide]);
    for (Index t = 0; t < c.T; ++t)
      for (Index e = 0; e < E; ++e) {
        double sum = conv ? c.p("conv1d.bias")[e] : xz[t * wide + e];
        for (Index k = 0; conv && k < w; ++k)
          if (t - (w - 1 - k) >= 0) sum += c.p("conv1d.weight")[e * w + k] * xz[(t - (w - 1 - k)) * wide + e];
        u[t * E + e] = silu(sum);
      }
    std::vector<double> y = inner == "s6" ? scanned(c, b, u) : inner == "hyena" ? convolved(c, u) : walked(c, b, u);
    for (Index t = 0; t < c.T; ++t) {
      for (Index e = 0; gate && e < E; ++e) y[t * E + e] *= silu(xz[t * wide + E + e]);
      dense_row(&y[t * E], E, c.p("out_proj.weight"), nullptr, out + t * c.D);
    }
  }

  // What the layer makes of u (T,E).
  std::vector<double> scanned(const Case& c, Index b, const std::vector<double>& u) const {
    const Index E = expand * c.D, R = rank(c.D), N = numbers();
    const Index columns = (select_delta ? R : 0) + (select_B ? N : 0) + (select_C ? N : 0);
    std::vector<double> parts(columns), y(u.size());
    std::vector<Cx> state(E * d_state);
    const auto number = [this](const double* from, Index i) { return complex() ? Cx(from[2 * i], from[2 * i + 1]) : Cx(from[i]); };
    for (Index t = 0; t < c.T; ++t) {
      if (columns > 0) dense_row(&u[t * E], E, c.p("x_proj.weight"), nullptr, parts.data());
      const double *Bt = parts.data() + (select_delta ? R : 0), *Ct = Bt + (select_B ? N : 0);
      for (Index e = 0; e < E; ++e) {
        double raw = c.p("dt_proj.bias")[e];
        for (Index k = 0; select_delta && k < R; ++k) raw += c.p("dt_proj.weight")[e * R + k] * parts[k];
        const double delta = c.gap(b, t) * (raw > 20 ? raw : std::log1p(std::exp(raw))), into = delta * u[t * E + e];
        double& sum = y[t * E + e] = c.p("D")[e] * u[t * E + e];
        for (Index k = 0; k < d_state; ++k) {
          const Index i = e * d_state + k;
          const Cx A(-std::exp(c.p("A_log")[i]), complex() ? c.p("A_imag")[i] : 0);
          state[i] = std::exp(delta * A) * state[i] + into * (select_B ? number(Bt, k) : number(c.p("B").data(), i));
          sum += (complex() ? 2 : 1) * (state[i] * (select_C ? number(Ct, k) : number(c.p("C").data(), i))).real();
        }
      }
    }
    return y;
  }
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
