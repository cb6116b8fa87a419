// s4d.cpp - diagonal state spaces, one per channel (S4D: Gu, Gupta, Goel, Re 2022).
//
//   x' = a x + b u      y = 2 Re sum_n c_n x_n + D u      per channel, M = d_state/2 complex modes
//   out = GLU(Linear(GELU(y)))
//
// u, y (B,T,H), H = D    kernel.inv_dt (H,1) or (H,M)  kernel.A_real, kernel.A_imag (S,M)  kernel.B (1,S,M,2)  kernel.C (kernels,H,M,2)
// D (1,H)
// Training convolves with K_l = 2 Re sum_n C_n B_n A_n^l; streaming and the scan view run the recurrence.
#include <cmath>

#include "error.hpp"
#include "hippo.hpp"
#include "ssm_layer.hpp"
#include "starts.hpp"

namespace ssm::s4d {

struct S4D final : Variant, KeepsApart {
  int d_state = 64, n_ssm = 1;
  std::string init = "legs", disc = "zoh", dt_transform = "exp", decay = "exp", view = "conv";
  double dt_min = 1e-3, dt_max = 0.1;
  bool bidirectional = false, train_B = true, dt_tie = true, glu = true;

  std::string about() const override { return "S4D: diagonal state spaces per channel, trained as a long convolution (Gu 2022)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {4, 16, 64, 256}).range(2, 4096).note("state size N; M = N/2 complex modes", "text tasks 4, images 64");
    k("init", init, {"legs", "lin", "inv", "inv2", "quad", "real", "rand"})
        .note("initial A", "LRA average: legs 84.9; inv as good; lin fails Path-X; real fine on text, worse on signals");
    k("disc", disc, {"zoh", "bilinear", "exp_euler", "backward_euler", "dss"})
        .note("discretisation; dss: zoh whose weights sum to one over l_max, as in DSS", "no significant difference reported");
    k("n_ssm", n_ssm, {1, 0}).range(0, 65536).note("sets of (A,B) shared by the channels, 0: one per channel", "LRA: 1, Pathfinder 0");
    k("dt_min", dt_min, {1e-4, 1e-3, 1e-2}).range(1e-6, 10).note("smallest initial step", "Path-X needs 1e-4");
    k("dt_max", dt_max, {0.1}).range(1e-6, 10).note("largest initial step");
    k("dt_transform", dt_transform, {"exp", "softplus"}).note("how the step is kept positive");
    k("dt_tie", dt_tie).note("one step per channel, else one per mode");
    k("decay", decay, {"exp", "relu", "none", "fixed"})
        .note("how Re A is kept negative: -exp, -relu - 1e-4, not at all; fixed: -exp, not trained", "small effect");
    k("train_B", train_B).note("B is trained", "slightly better than fixed");
    k("bidirectional", bidirectional).note("a second kernel reads the future, from the next sample on", "all published LRA runs");
    k("glu", glu).note("output Linear H->2H with GLU, else H->H");
    k.view("view", view, {"conv", "direct", "library", "scan"});
  }
  Answer causal() const override { return bidirectional ? Answer::no("s4d.bidirectional reads the future") : Answer{}; }
  Answer streams() const override { return causal(); }

  Answer takes_gaps() const override {
    if (bidirectional) return Answer::no("s4d.bidirectional reads the times backwards; allowed is false");
    if (disc == "dss") return Answer::no("s4d.disc = dss sums over even steps; allowed are zoh, bilinear, exp_euler, backward_euler");
    return view == "scan" ? Answer{} : Answer::no("s4d.view = " + view + " has one kernel for all positions; allowed is scan");
  }

  Answer keeps_apart() const override {
    return bidirectional ? Answer::no("s4d.bidirectional reads the future; allowed is false") : Answer{};
  }

  SsmOptions options() const {
    if (d_state % 2 && init != "real")
      throw BadInput("s4d.d_state = " + std::to_string(d_state) +
                     " must be even: modes come in conjugate pairs, except with s4d.init = real");
    SsmOptions o;
    o.n_ssm = n_ssm;
    o.bidirectional = bidirectional;
    o.real = init == "real";
    o.train_B = train_B;
    o.dt_tie = dt_tie;
    o.dt_min = dt_min;
    o.dt_max = dt_max;
    o.dt_transform = dt_transform;
    o.disc = disc;
    o.decay = decay;
    if (init == "legs") {
      const Dplr d = dplr("legs", d_state, true);
      o.lambda = d.lambda;
      o.B = d.B;
    } else if (init == "rand") {
      o.lambda.assign(static_cast<std::size_t>(d_state / 2), -0.5);
      o.A_imag = [](const Draw& draw, Index i) { return std::exp(draw.normal(i)); };
    } else {
      o.lambda = diagonal_init(init, d_state);
    }
    return o;
  }

  Tensor build(Net& n, Tensor x) override {
    const SsmParams p = declare_ssm(n, x.D(), options(), "s4d");
    const Param D = declare_skip(n, x.D());
    if (gaps.id >= 0) return ssm_output(n, diag_gap_scan(n, n.as(x, Order::BTD), gaps, p, D), glu);
    if (apart()) return ssm_output(n, diag_scan(n, n.as(x, Order::BTD), p, D, starts), glu);
    if (n.mode == Mode::stream || view == "scan") return ssm_output(n, diag_scan(n, n.as(x, Order::BTD), p, D), glu);
    const Tensor u = n.as(x, Order::BDT);
    return ssm_output(n, fft_conv(n, u, s4d_kernel(n, p, u.T()), D, view == "conv" ? "fft" : view), glu);
  }

  using Cx = std::complex<double>;
  // x_t = A x_{t-1} + B u_t for one channel of one sequence; `late`: the output reads the state before u_t.
  struct Mode1 {
    Cx A, B;
  };
  Mode1 discrete(const SsmReader& r, Index h, Index n, double gap) const {
    const double dt = gap * r.delta(h, n);
    const Cx a = r.a(h, n), b = r.b(h, n), z = dt * a;
    if (disc == "zoh") return {std::exp(z), (std::exp(z) - 1.0) / a * b};
    if (disc == "dss") return {std::exp(z), (std::exp(z) - 1.0) / a * b / (std::exp(static_cast<double>(r.c.l_max) * z) - 1.0)};
    if (disc == "exp_euler") return {std::exp(z), dt * b};
    if (disc == "bilinear") return {(1.0 + z / 2.0) / (1.0 - z / 2.0), dt * b / (1.0 - z / 2.0)};
    return {1.0 / (1.0 - z), dt * b / (1.0 - z)};
  }
  void reference(Case& c) const override {
    const bool real = init == "real";
    const Index H = c.D, M = real ? d_state : d_state / 2;
    const SsmReader r{c, H, M, n_ssm ? n_ssm : H, dt_transform == "softplus", real, decay};
    std::vector<double> y(c.x.size());
    for (Index b = 0; b < c.B; ++b)
      for (Index h = 0; h < H; ++h) {
        const auto at = [&](Index t) { return static_cast<std::size_t>((b * c.T + t) * H + h); };
        for (Index t = 0; t < c.T; ++t) y[at(t)] = c.p("D")[static_cast<std::size_t>(h)] * c.x[at(t)];
        for (Index n = 0; n < M; ++n) {
          Mode1 m = discrete(r, h, n, 1);
          Cx state = 0;
          for (Index t = 0; t < c.T; ++t) {
            if (!c.gaps.empty()) m = discrete(r, h, n, c.gap(b, t));
            state = m.A * state + m.B * c.x[at(t)];
            y[at(t)] += 2 * (r.out(0, h, n) * state).real();
          }
          if (!bidirectional) continue;
          state = 0;
          for (Index t = c.T - 1; t >= 0; --t) {
            y[at(t)] += 2 * (r.out(1, h, n) * state).real();
            state = m.A * state + m.B * c.x[at(t)];
          }
        }
      }
    ssm_output_reference(c, y, glu);
  }
};

SSM_VARIANT(S4D, "s4d");

}  // namespace ssm::s4d
