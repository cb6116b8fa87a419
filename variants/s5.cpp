// s5.cpp - one diagonal state space for all channels, evaluated as a scan (S5: Smith, Warrington, Linderman 2023).
//
//   x_t = Lambda_bar x_{t-1} + B_bar u_t      y_t = 2 Re(C x_t) + D u_t      out = gate(y)
//
// u, y (B,T,H), H = D    x (B,T,p), p = d_state/2 conjugate pairs    Lambda_re, Lambda_im (p)  B (p,H,2)  C (H,p,2)  D (H)  log_step (p,1)
// Lambda starts as `blocks` copies of the spectrum of HiPPO-LegS' normal part; B and C are drawn in real space and turned into its
// eigenbasis V (a block's modes are half of its spectrum, negative frequencies first). Both directions: C1 forth, C2 back, or for
// complex_normal one C (H,2p,2) side by side. param = discrete learns Lambda_bar and B_bar themselves.
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "hippo.hpp"
#include "mimo_layer.hpp"
#include "starts.hpp"

namespace ssm::s5 {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::vector<double> pairs(const std::vector<Cx>& z) {
  std::vector<double> out;
  for (const Cx v : z) out.push_back(v.real()), out.push_back(v.imag());
  return out;
}

struct S5 final : Variant, KeepsApart {
  int d_state = 64, blocks = 8;
  double dt_min = 1e-3, dt_max = 0.1;
  std::string init = "legs", disc = "zoh", C_init = "trunc_standard_normal", dt = "vector", activation = "half_glu1",
              opt_config = "standard";
  std::string param = "continuous", view = "chunked";
  bool bidirectional = false, clip_eigs = false, dt_global = false;

  std::string about() const override { return "S5: one diagonal state space for all channels, as a scan (Smith 2023)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {16, 64, 256}).range(2, 65536).note("state size P; P/2 complex modes", "LRA runs use 16 to 384");
    k("blocks", blocks, {1, 8}).range(1, 32768).note("copies J of the spectrum of size P/J", "LRA runs use 3 to 16");
    k("init", init, {"legs", "antisymmetric", "gaussian"})
        .note("initial A of a block: HiPPO-LegS, a random skew matrix - 1/2, or a random matrix shifted until Re Lambda <= -1/2");
    k("disc", disc, {"zoh", "bilinear"}).note("discretisation");
    k("param", param, {"continuous", "discrete"}).note("parameters are Lambda, B and a step, or what these are in discrete time at first");
    k("dt", dt, {"vector", "scalar"}).note("a step size per mode, or one");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step", "Path-X needs 1e-4");
    k("dt_max", dt_max, {0.1}).range(1e-6, 10).note("largest initial step");
    k("C_init", C_init, {"trunc_standard_normal", "lecun_normal", "complex_normal"})
        .note("initial C", "Text, Image lecun; Retrieval, Pathfinder trunc; Path-X complex");
    k("activation", activation, {"half_glu1", "half_glu2", "full_glu", "gelu"}).note("output gate", "ListOps half_glu2");
    k("opt_config", opt_config, {"standard", "BandCdecay", "BfastandCdecay", "noBCdecay"}).note("which of B, C decay and at which rate");
    k("dt_global", dt_global).note("steps learn at the rate of the rest and decay", "LRA Text, Retrieval");
    k("bidirectional", bidirectional).note("a second scan from the end with its own C", "all published LRA runs");
    k("clip_eigs", clip_eigs).note("Re Lambda <= -1e-4", "only LRA Image");
    k.view("view", view, {"chunked", "sequential"});
  }
  Block block() const override { return {"batch", "pre", 0}; }
  Answer causal() const override { return bidirectional ? Answer::no("s5.bidirectional reads the future") : Answer{}; }
  Answer streams() const override { return causal(); }

  Answer takes_gaps() const override {
    if (bidirectional) return Answer::no("s5.bidirectional reads the times backwards; allowed is false");
    return param == "continuous" ? Answer{} : Answer::no("s5.param = discrete has no time step; allowed is continuous");
  }

  Answer keeps_apart() const override {
    return bidirectional ? Answer::no("s5.bidirectional reads the future; allowed is false") : Answer{};
  }

  Index size() const { return d_state / blocks; }  // of a block
  Index modes() const { return d_state / 2; }
  void check() const {
    if (d_state % blocks == 0 && size() % 2 == 0) return;
    throw BadInput("s5.d_state is " + std::to_string(d_state) + " in s5.blocks = " + std::to_string(blocks) +
                   " blocks; it must be an even multiple of the blocks, such as " +
                   std::to_string(2 * blocks * ((d_state - 1) / (2 * blocks) + 1)));
  }

  // The eigenbasis of a block at the start. All blocks have the same.
  using Basis = std::function<const Eigenbasis&(const Draw&)>;
  Basis basis(const std::string& matrix) const {
    if (init == "legs") return [e = eigenbasis(hippo("legs", size()))](const Draw&) -> const Eigenbasis& { return e; };
    struct Made {
      std::uint64_t seed = 0;
      Eigenbasis e;
    };
    return [dense = init == "gaussian", N = size(), stream = hash_name(matrix),
            made = std::make_shared<Made>()](const Draw& draw) -> const Eigenbasis& {
      if (made->e.lambda.empty() || made->seed != draw.seed) {
        const Draw own{draw.seed, stream};
        *made = {draw.seed, dense ? gaussian(own, N) : eigenbasis(skew(own, N))};
      }
      return made->e;
    };
  }
  // Entries of deviation 1 below the diagonal, their negatives above it, -1/2 on it.
  static Hippo skew(const Draw& draw, Index N) {
    Hippo h;
    h.N = N;
    h.A.assign(at(N * N), -0.5);
    for (Index i = 0; i < N; ++i)
      for (Index k = 0; k < i; ++k) h.A[at(k * N + i)] = -(h.A[at(i * N + k)] = draw.normal(i * N + k));
    return h;
  }

  // Entries of deviation 1, less what puts the slowest mode at -1/2.
  static Eigenbasis gaussian(const Draw& draw, Index N) {
    std::vector<double> A(at(N * N));
    for (Index i = 0; i < N * N; ++i) A[at(i)] = draw.normal(i);
    Eigenbasis e = eigenbasis(N, A);
    double slowest = e.lambda[0].real();
    for (const Cx l : e.lambda) slowest = std::max(slowest, l.real());
    for (Cx& l : e.lambda) l -= slowest + 0.5;
    return e;
  }

  // Lambda_bar and the factor of B (ZOH) that mode k starts with, and Lambda and 1 where a step size is a parameter.
  struct Start {
    Cx lambda, gain;
  };
  std::function<Start(const Draw&, Index)> starts(const Basis& e, const std::string& step) const {
    const Index M = size() / 2;
    const double low = std::log(dt_min), high = std::log(dt_max);
    const bool keep = param == "continuous", one = dt == "scalar";
    return [=, stream = hash_name(step)](const Draw& draw, Index k) -> Start {
      const Cx a = e(draw).lambda[at(k % M)], z = std::exp(Draw{draw.seed, stream}.uniform(one ? 0 : k, low, high)) * a;
      return keep ? Start{a, 1} : Start{std::exp(z), (std::exp(z) - 1.0) / a};
    };
  }

  // B (p,H): V^-1 B0, B0 real with deviation 1/sqrt(P).
  Init B_init(const Basis& basis_of, Index H, const std::function<Start(const Draw&, Index)>& start) const {
    const Index P = d_state, N = size(), M = N / 2;
    return whole([=](const Draw& draw) {
      const Eigenbasis& e = basis_of(draw);
      std::vector<Cx> B(at(P / 2 * H));
      for (Index row = 0; row < P; ++row)
        for (Index h = 0; h < H; ++h) {
          const double b = truncated_normal(draw, row * H + h) / std::sqrt(static_cast<double>(P));
          for (Index k = 0; k < M; ++k) B[at((row / N * M + k) * H + h)] += e.inverse[at(k * N + row % N)] * b;
        }
      for (Index i = 0; i < P / 2 * H; ++i) B[at(i)] *= start(draw, i / H).gain;
      return pairs(B);
    });
  }
  // C (H,p): C0 V, C0 (H,P) complex; complex_normal is drawn as it is.
  Init C_values(const Basis& basis_of, Index H) const {
    if (C_init == "complex_normal") return init::normal(std::sqrt(0.5));
    const Index P = d_state, N = size(), M = N / 2;
    const double fan_in = static_cast<double>(C_init == "lecun_normal" ? H * P : P);
    return whole([=](const Draw& draw) {
      const Eigenbasis& e = basis_of(draw);
      std::vector<Cx> C(at(H * P / 2));
      for (Index h = 0; h < H; ++h)
        for (Index row = 0; row < P; ++row) {
          const Index i = 2 * (h * P + row);
          const Cx c = Cx(truncated_normal(draw, i), truncated_normal(draw, i + 1)) / std::sqrt(fan_in);
          for (Index k = 0; k < M; ++k) C[at(h * P / 2 + row / N * M + k)] += c * e.V[at(row % N * N + k)];
        }
      return pairs(C);
    });
  }

  Tensor build(Net& n, Tensor u) override {
    check();
    const Index H = u.D();
    const Basis e = basis(n.full("A"));
    const auto start = starts(e, n.full("log_step"));
    const Group outer = opt_config == "noBCdecay" ? ssm_group() : Group{};
    const Group inner = opt_config == "BandCdecay"       ? Group{"ssm_decay", 1, 1e-3, true}
                        : opt_config == "BfastandCdecay" ? Group{}
                                                         : ssm_group();
    MimoParams s;
    s.p = modes(), s.H = H, s.disc = disc, s.clip = clip_eigs, s.scale = 2;
    s.a = n.param(
        "Lambda_re", {s.p}, [=](const Draw& draw, Index k) { return start(draw, k).lambda.real(); }, ssm_group());
    s.b = n.param(
        "Lambda_im", {s.p}, [=](const Draw& draw, Index k) { return start(draw, k).lambda.imag(); }, ssm_group());
    if (param == "discrete") s.kind = "re_im";
    else s.c = n.param("log_step", {dt == "scalar" ? 1 : s.p, 1}, init::log_uniform(dt_min, dt_max), dt_global ? Group{} : ssm_group());
    s.B = {n.param("B", {s.p, H, 2}, B_init(e, H, start), inner), {}, H, 0};
    const Index row = bidirectional && C_init == "complex_normal" ? 2 * s.p : s.p;
    const Param C = n.param(bidirectional && row == s.p ? "C1" : "C", {H, row, 2}, C_values(e, H), outer);
    s.C = {{C, {}, row, 0}};
    if (bidirectional) s.C.push_back({row == s.p ? n.param("C2", {H, row, 2}, C_values(e, H), outer) : C, {}, row, row - s.p});
    const Param D = n.param("D", {H}, init::normal(1), outer);
    u = n.as(u, Order::BTD);
    if (gaps.id < 0) return gelu_gate(n, mimo_scan(n, u, mimo_system(n, s), D, view, KeepsApart::starts), activation);
    s.kind = "pole";
    return gelu_gate(n, mimo_gap_scan(n, u, gaps, mimo_system(n, s), D, disc), activation);
  }

  void reference(Case& c) const override {
    const Index p = modes(), H = c.D;
    const bool discrete = param == "discrete";
    // Lambda_bar and the gain of B of mode k at `gap` times its step.
    const auto mode = [this, &c, discrete](Index k, double gap) -> std::pair<Cx, Cx> {
      const double re = c.p("Lambda_re")[at(k)], step = discrete ? 0 : gap * std::exp(c.p("log_step")[at(dt == "scalar" ? 0 : k)]);
      const Cx a(clip_eigs && !discrete ? std::min(re, -1e-4) : re, c.p("Lambda_im")[at(k)]), z = step * a;
      if (discrete) return {a, 1};
      if (disc == "zoh") return {std::exp(z), (std::exp(z) - 1.0) / a};
      return {(1.0 + z / 2.0) / (1.0 - z / 2.0), step / (1.0 - z / 2.0)};
    };
    MimoLoops m;
    m.scale = 2;
    if (!c.gaps.empty()) m.at_gap = mode;
    for (Index k = 0; k < p; ++k) {
      const auto [next, gain] = m.at_gap ? std::pair<Cx, Cx>{1, 1} : mode(k, 1);
      m.lambda.push_back(next);
      for (Index h = 0; h < H; ++h) {
        const double* b = &c.p("B")[at(2 * (k * H + h))];
        m.B.push_back(gain * Cx(b[0], b[1]));
      }
    }
    const bool wide = bidirectional && C_init == "complex_normal";
    for (Index q = 0; q < (bidirectional ? 2 : 1); ++q) {
      const auto& C = c.p(!bidirectional || wide ? "C" : q ? "C2" : "C1");
      std::vector<Cx> rows;
      for (Index h = 0; h < H; ++h)
        for (Index k = 0; k < p; ++k) {
          const Index i = wide ? h * 2 * p + q * p + k : h * p + k;
          rows.emplace_back(C[at(2 * i)], C[at(2 * i + 1)]);
        }
      m.C.push_back(rows);
    }
    mimo_reference(c, m, activation);
  }
};

SSM_VARIANT(S5, "s5");

}  // namespace ssm::s5
