// lru.cpp - the linear recurrent unit: a diagonal recurrence without a time step (LRU: Orvieto et al. 2023).
//
//   lambda = exp(-e^nu_log + i e^theta_log)     x_t = lambda x_{t-1} + e^gamma_log (B u_t)     y_t = Re(C x_t) + D u_t     out = gate(y)
//
// u, y (B,T,H), H = D    x (B,T,p), p = d_state unpaired modes    B_re, B_im (p,H)  C_re, C_im (H,p)  D (H)
// lambda starts uniform by area on the ring r_min <= |lambda| <= r_max, with phases up to max_phase; gamma = sqrt(1 - |lambda|^2) at first.
// Other parametrisations: exp, lambda = exp(-nu + i theta); re_im, lambda = lambda_re + i lambda_im. Both directions: C2_re, C2_im go back.
// lambda = dense is the plain linear recurrence that the paper starts from: real A (p,p), B.weight (p,H), C.weight (H,p), without gamma.
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "mimo_layer.hpp"
#include "ops/dense_scan.hpp"
#include "ops/skip_channels.hpp"
#include "starts.hpp"

namespace ssm::lru {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Where the modes start: the same draws whatever parameters hold them.
struct Ring {
  double r_min, r_max, max_phase;
  std::uint64_t stream;

  double area(const Draw& draw, Index n) const {  // |lambda|^2
    const double u = std::max(Draw{draw.seed, stream}.uniform(2 * n), 1e-12);
    return u * (r_max * r_max - r_min * r_min) + r_min * r_min;
  }
  double nu(const Draw& draw, Index n) const { return -0.5 * std::log(area(draw, n)); }
  double phase(const Draw& draw, Index n) const { return max_phase * std::max(Draw{draw.seed, stream}.uniform(2 * n + 1), 1e-12); }
};

struct Lru final : Variant, KeepsApart {
  int d_state = 64;
  double r_min = 0, r_max = 1, max_phase = 6.28;
  std::string lambda = "stable_exp", activation = "full_glu", view = "chunked";
  bool gamma = true, bidirectional = false;

  std::string about() const override { return "LRU: linear recurrent unit, a diagonal recurrence without a time step (Orvieto 2023)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {16, 64, 256}).range(1, 65536).note("unpaired complex modes p");
    k("lambda", lambda, {"stable_exp", "exp", "re_im", "dense"})
        .note("parameters of lambda; dense: of a whole matrix instead",
              "sCIFAR / ListOps / Pathfinder without ring and gamma: stable_exp 87.2/59.4/93.5, exp 85.4/60.5/65.4, "
              "re_im 86.5/58.8/fails, dense 72.2/50.4/fails");
    k("r_min", r_min, {0, 0.9}).range(0, 1).note("inner radius of the ring", "ring instead of disc: 88.1/59.4/94.4");
    k("r_max", r_max, {1, 0.999}).range(1e-6, 1).note("outer radius of the ring; dense: of the disc");
    k("max_phase", max_phase, {6.28, 0.314}).range(1e-6, 6.2832).note("largest initial phase", "Path-X needs 0.314");
    k("gamma", gamma).note("input scaled by e^gamma_log", "with it 89.0/60.2/95.1; Path-X does not train without");
    k("activation", activation, {"full_glu", "half_glu1", "half_glu2", "gelu"}).note("output gate");
    k("bidirectional", bidirectional).note("a second scan from the end with its own C");
    k.view("view", view, {"chunked", "sequential"});
  }
  Answer causal() const override { return bidirectional ? Answer::no("lru.bidirectional reads the future") : Answer{}; }
  Answer streams() const override { return causal(); }

  Answer keeps_apart() const override {
    if (lambda == "dense") return Answer::no("lru.lambda = dense carries its state through the row; allowed are stable_exp, exp, re_im");
    return bidirectional ? Answer::no("lru.bidirectional reads the future; allowed is false") : Answer{};
  }

  Tensor build(Net& n, Tensor u) override {
    if (r_min >= r_max) throw BadInput("lru.r_min is " + number_text(r_min) + "; it must be below lru.r_max = " + number_text(r_max));
    if (lambda == "dense") return dense(n, n.as(u, Order::BTD));
    const Index H = u.D(), p = d_state;
    const Ring ring{r_min, r_max, max_phase, hash_name(n.full("ring"))};
    const bool stable = lambda == "stable_exp", polar = stable || lambda == "exp";
    MimoParams s;
    s.p = p, s.H = H, s.kind = lambda;
    const auto radius = [=](const Draw& draw, Index i) {
      const double nu = ring.nu(draw, i);
      return stable ? std::log(nu) : polar ? nu : std::exp(-nu) * std::cos(ring.phase(draw, i));
    };
    const auto angle = [=](const Draw& draw, Index i) {
      const double phase = ring.phase(draw, i);
      return stable ? std::log(phase) : polar ? phase : std::exp(-ring.nu(draw, i)) * std::sin(phase);
    };
    const std::string log = stable ? "_log" : "";
    s.a = n.param(polar ? "nu" + log : "lambda_re", {p}, radius, ssm_group());
    s.b = n.param(polar ? "theta" + log : "lambda_im", {p}, angle, ssm_group());
    if (gamma) {
      const auto scale = [=](const Draw& draw, Index i) { return 0.5 * std::log(-std::expm1(-2 * ring.nu(draw, i))); };
      s.c = n.param("gamma_log", {p}, scale, ssm_group());
    }
    const Init B = init::normal(1 / std::sqrt(2.0 * static_cast<double>(H))), C = init::normal(1 / std::sqrt(static_cast<double>(p)));
    s.B = {n.param("B_re", {p, H}, B, ssm_group()), n.param("B_im", {p, H}, B, ssm_group()), H, 0};
    s.C = {{n.param("C_re", {H, p}, C), n.param("C_im", {H, p}, C), p, 0}};
    if (bidirectional) s.C.push_back({n.param("C2_re", {H, p}, C), n.param("C2_im", {H, p}, C), p, 0});
    const Param D = n.param("D", {H}, init::normal(1));
    return gelu_gate(n, mimo_scan(n, n.as(u, Order::BTD), mimo_system(n, s), D, view, starts), activation);
  }

  // The eigenvalues of a random A lie all over the disc of radius r_max.
  Tensor dense(Net& n, Tensor u) const {
    const Index H = u.D(), p = d_state;
    const double per_state = 1 / std::sqrt(static_cast<double>(p));
    LinearOptions in, out;
    in.bias = out.bias = false;
    in.weight = init::normal(1 / std::sqrt(static_cast<double>(H))), in.group = ssm_group();
    out.weight = init::normal(per_state);
    const Tensor w = linear(n, u, p, "B", in);
    const Param A = n.param("A", {p, p}, init::normal(r_max * per_state), ssm_group());
    Tensor y = linear(n, dense_scan(n, w, A, false), H, "C", out);
    if (bidirectional) y = add(n, y, linear(n, dense_scan(n, w, A, true), H, "C2", out));
    return gelu_gate(n, skip_channels(n, y, u, n.param("D", {H}, init::normal(1))), activation);
  }
  void dense_reference(Case& c) const {
    const Index H = c.D, p = d_state;
    std::vector<double> y(c.x.size()), next(at(p)), row(at(H));
    for (Index b = 0; b < c.B; ++b)
      for (const bool back : {false, true}) {
        std::vector<double> now(at(p), 0.0);
        for (Index k = 0; k < c.T && (bidirectional || !back); ++k) {
          const Index first = (b * c.T + (back ? c.T - 1 - k : k)) * H;
          dense_row(&c.x[at(first)], H, c.p("B.weight"), nullptr, next.data());
          for (Index i = 0; i < p; ++i)
            for (Index j = 0; j < p; ++j) next[at(i)] += c.p("A")[at(i * p + j)] * now[at(j)];
          now = next;
          dense_row(now.data(), p, c.p(back ? "C2.weight" : "C.weight"), nullptr, row.data());
          for (Index h = 0; h < H; ++h) y[at(first + h)] += row[at(h)] + (back ? 0 : c.p("D")[at(h)] * c.x[at(first + h)]);
        }
      }
    gelu_gate_reference(c, y, activation);
  }

  void reference(Case& c) const override {
    if (lambda == "dense") return dense_reference(c);
    using Cx = std::complex<double>;
    MimoLoops m;
    for (Index k = 0; k < d_state; ++k) {
      if (lambda == "re_im") m.lambda.emplace_back(c.p("lambda_re")[at(k)], c.p("lambda_im")[at(k)]);
      else if (lambda == "exp") m.lambda.push_back(std::exp(Cx(-c.p("nu")[at(k)], c.p("theta")[at(k)])));
      else m.lambda.push_back(std::exp(Cx(-std::exp(c.p("nu_log")[at(k)]), std::exp(c.p("theta_log")[at(k)]))));
      const double scale = gamma ? std::exp(c.p("gamma_log")[at(k)]) : 1;
      for (Index h = 0; h < c.D; ++h) m.B.push_back(scale * Cx(c.p("B_re")[at(k * c.D + h)], c.p("B_im")[at(k * c.D + h)]));
    }
    for (const std::string name : {"C", "C2"}) {
      if (name == "C2" && !bidirectional) continue;
      const auto &re = c.p(name + "_re"), &im = c.p(name + "_im");
      std::vector<Cx> C;
      for (std::size_t i = 0; i < re.size(); ++i) C.emplace_back(re[i], im[i]);
      m.C.push_back(C);
    }
    mimo_reference(c, m, activation);
  }
};

SSM_VARIANT(Lru, "lru");

}  // namespace ssm::lru
