// mamba2.cpp - state space duality (Mamba-2: Dao, Gu 2024): the selective state space whose heads decay by one number per step.
//
//   [z; x; B; C; dt] = W_in h     [x; B; C] <- silu(conv1d([x; B; C]))     delta = softplus(dt + dt_bias)     A = -exp(A_log)
//   S_t = exp(delta_t A) S_{t-1} + delta_t B_t x_t^T     y_t = S_t^T C_t + D x_t     out = W_out rms(y silu(z))
//
// h, out (B,T,D)    z, x, y (B,T,E), E = expand D, in H heads of P = headdim channels    B, C (B,T,G N) shared by the heads of a group
// dt, delta (B,T,H)    A_log, D (H), or D (E). The norm runs over all E channels. projections = sequential, as in Mamba:
// [z; x] = W_in h     x <- silu(conv1d(x))     [B; C; dt] = W_x x
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "ops/gated_norm.hpp"
#include "ops/skip_channels.hpp"
#include "ops/starts.hpp"
#include "plain_heads.hpp"
#include "starts.hpp"

namespace ssm::mamba2 {

struct Mamba2 final : Variant, KeepsApart {
  int d_state = 64, headdim = 64, expand = 2, n_groups = 1, d_conv = 4;
  double dt_min = 1e-3, dt_max = 0.1, dt_limit = 0, A_min = 1, A_max = 16;
  bool skip = true, D_has_hdim = false;
  std::string norm = "after_gate", projections = "parallel", view = "chunked";

  std::string about() const override { return "Mamba-2: state space duality, one decay per head and step, chunked (Dao & Gu 2024)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {16, 64, 128}).range(1, 1024).note("states N per channel", "more helps; needs more than S6");
    k("headdim", headdim, {4, 32, 64}).range(1, 4096).note("channels P of a head, at most E / n_groups");
    k("expand", expand, {1, 2}).range(1, 16).note("inner width E over D");
    k("n_groups", n_groups, {1, 2}).range(1, 256).note("groups of heads with B and C of their own");
    k("d_conv", d_conv, {2, 4}).range(1, 16).note("width of the causal convolution");
    k("norm", norm, {"after_gate", "before_gate", "none"}).note("RMS norm before out_proj", "perplexity 11.49 with, 11.66 without");
    k("projections", projections, {"parallel", "sequential"})
        .note("B, C and delta from the input of the block, or from x after the convolution", "sequential 11.54 with norm, 11.76 without");
    k("skip", skip).note("D x is added to the output of the scan");
    k("D_has_hdim", D_has_hdim).note("D per channel, else per head");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("dt_limit", dt_limit, {0, 0.05}).range(0, 100).note("steps are cut to this; 0: no limit");
    k("A_min", A_min, {1}).range(1e-3, 1e3).note("least -A at the start");
    k("A_max", A_max, {2, 16}).range(1e-3, 1e3).note("most -A at the start");
    k.view("view", view, {"chunked", "scan"});
  }
  Block block() const override { return {"rms", "pre", 0}; }

  Index head_width(Index E) const {
    const Index P = std::min<Index>(headdim, E / n_groups);
    if (P < 1 || E % (P * n_groups))
      throw BadInput("mamba2.headdim = " + std::to_string(headdim) + ": " + std::to_string(n_groups) + " groups of whole heads must fill " +
                     std::to_string(E) + " channels");
    return P;
  }

  Tensor build(Net& n, Tensor h) override {
    const Index E = expand * h.D(), P = head_width(E), H = E / P, states = n_groups * d_state;
    const bool parallel = projections == "parallel";
    const std::vector<Index> sizes = parallel ? std::vector<Index>{E, E + 2 * states, H} : std::vector<Index>{E, E};
    const auto parts = linear_split(n, n.as(h, Order::BTD), sizes, "in_proj");
    MatrixStateInputs in;
    Tensor dt;
    if (parallel) {
      const auto mixed = causal_conv_split(n, parts[1], d_conv, "conv1d", "silu", {E, states, states}, starts);
      in.v = mixed[0], in.k = mixed[1], in.q = mixed[2], dt = parts[2];
    } else {
      const Tensor mixed = causal_conv(n, parts[1], d_conv, "conv1d", "silu", starts);
      const auto low = linear_split(n, mixed, {states, states, H}, "x_proj");
      in.v = mixed, in.k = low[0], in.q = low[1], dt = low[2];
    }
    DecayGateOptions gate;
    if (dt_limit > 0) gate.delta_highest = dt_limit;
    gate.A_low = A_min, gate.A_high = A_max, gate.dt_low = dt_min, gate.dt_high = dt_max;
    const DecayGate decay = decay_gate(n, dt, gate);
    MatrixStateOptions s;
    s.heads = H, s.groups = n_groups, s.skip = skip && !D_has_hdim, s.view = apart() ? "scan" : view;
    in.gate = cut_gate(n, decay.gate, starts, {.width = H});
    in.delta = decay.delta;
    Tensor y = matrix_state(n, in, s);
    if (skip && D_has_hdim) y = skip_channels(n, y, in.v, n.param("D", {E}, init::constant(1), no_decay()));
    if (norm == "before_gate")
      y = norm_then_gate(
          n, y, [&] { return parts[0]; }, 1, "norm");
    else if (norm == "after_gate") y = gate_then_norm(n, y, parts[0], 1, "norm");
    else y = silu_gate(n, y, parts[0]);
    LinearOptions o;
    o.bias = false;
    const double bound = 1 / std::sqrt(static_cast<double>(E * depth));
    o.weight = init::uniform(-bound, bound);
    return linear(n, y, h.D(), "out_proj", o);
  }

  void reference(Case& c) const override {
    const bool parallel = projections == "parallel";
    const Index E = expand * c.D, P = head_width(E), H = E / P, N = d_state, states = n_groups * N;
    const Index conv = parallel ? E + 2 * states : E, wide = E + conv + (parallel ? H : 0), low_wide = 2 * states + H;
    for (Index b = 0; b < c.B; ++b) {
      const auto rows = plain_dense(c.x.data() + b * c.T * c.D, c.T, c.D, c.p("in_proj.weight"));
      std::vector<double> mixed(static_cast<std::size_t>(c.T * conv)), y(static_cast<std::size_t>(c.T * E)), low;
      for (Index t = 0; t < c.T; ++t) std::copy_n(&rows[t * wide + E], conv, &mixed[t * conv]);
      mixed = plain_short_conv(mixed, c.T, conv, c.p("conv1d.weight"), c.p("conv1d.bias"));
      if (!parallel) low = plain_dense(mixed.data(), c.T, E, c.p("x_proj.weight"));
      for (Index h = 0; h < H; ++h) {
        PlainHead state(N, P);
        const Index group = h / (H / n_groups);
        for (Index t = 0; t < c.T; ++t) {
          const double* B = parallel ? &mixed[t * conv + E] : &low[t * low_wide];
          double delta = plain_softplus((parallel ? rows[t * wide + E + conv + h] : B[2 * states + h]) + c.p("dt_bias")[h]);
          if (dt_limit > 0) delta = std::min(delta, dt_limit);
          const double decay = std::exp(-delta * std::exp(c.p("A_log")[h]));
          const double* x = &mixed[t * conv + h * P];
          std::vector<double> scaled(x, x + P);
          for (double& v : scaled) v *= delta;
          state.take(B + group * N, scaled.data(), &decay, 0);
          double* out = &y[t * E + h * P];
          state.read(B + states + group * N, 1, out);
          for (Index p = 0; skip && p < P; ++p) out[p] += c.p("D")[D_has_hdim ? h * P + p : h] * x[p];
        }
      }
      for (Index t = 0; t < c.T; ++t) {
        double* row = &y[t * E];
        if (norm == "before_gate") plain_rms(row, E, c.p("norm.weight"), 1e-5);
        for (Index e = 0; e < E; ++e) row[e] *= plain_silu(rows[t * wide + e]);
        if (norm == "after_gate") plain_rms(row, E, c.p("norm.weight"), 1e-5);
        dense_row(row, E, c.p("out_proj.weight"), nullptr, &c.y[(b * c.T + t) * c.D]);
      }
    }
  }
};
SSM_VARIANT(Mamba2, "mamba2");

}  // namespace ssm::mamba2
