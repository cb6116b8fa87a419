// selective_dplr.cpp - heads of diagonal-plus-low-rank state spaces with a gate on the state and a step from the mean input. No public
// reference exists: this file is the definition.
//
//   Delta_r = softplus(w_r . mean_t(x) + b_r)     g_t = sigmoid(W_g x_t + b_g)     A_r = diag(lambda_r) - sum_k P_{r,k} P_{r,k}^H
//   h_t = Abar_r (g_t h_{t-1}) + Bbar u_t (bilinear)     y_t = 2 Re C h_t + D u_t     out = GLU(Linear(GELU(y)))
//
// x, y (B,T,D); head r owns D/R channels and one A; per channel M = d_state/2 complex modes. A_real, A_imag (R,M)  P (R,M,2), of rank 2
// (2,R,M,2)  B, C (D,M,2) or (R,M,2)  D (D)  dt_proj.weight (R,D)  dt_bias (R)  gate_proj.weight (R,D) or (R M,D), .bias. The mean over all
// positions sees the future: such a model is not causal and does not stream; delta = running takes the mean so far, and streams.
// bidirectional adds the same from the end, with parameters of its own (back.*).
#include <cmath>
#include <complex>

#include "hippo.hpp"
#include "ops/dplr_scan.hpp"
#include "ssm_layer.hpp"
#include "starts.hpp"

namespace ssm::selective_dplr {

struct SelectiveDplr final : Variant, KeepsApart {
  int heads = 2, d_state = 16, rank = 1;
  std::string init = "legs", gate = "scalar", delta = "mean", BC = "channel";
  double dt_min = 1e-3, dt_max = 0.1, gate_bias = 3;
  bool bidirectional = false, glu = true;

  std::string about() const override { return "selective DPLR: S4 heads, a gate on the state, a step from the mean input"; }
  void knobs(Knobs& k) override {
    k("heads", heads, {1, 2, 4}).range(1, 65536).note("heads with an A of their own; they divide D");
    k("d_state", d_state, {4, 16, 64}).range(2, 1024).note("state size N of a channel; M = N/2 complex modes");
    k("rank", rank, {0, 1, 2})
        .range(0, 2)
        .note("rank of the correction; 0: diagonal A; a column that init does not give starts small and random",
              "HiPPO is rank 1 in legs and fout, 2 in legt; a second column of zeros, as published for S4, gets no gradient");
    k("init", init, {"legs", "legt", "fout", "random", "real"})
        .note("initial A, legt with as many of its two columns as rank; real: -(n+1), and frequencies stay 0",
              "S4, LRA average: legs 86.1, fout 84");
    k("BC", BC, {"channel", "head"}).note("B and C of every channel, or shared by those of a head");
    k("gate", gate, {"off", "scalar", "mode"}).note("forgetting before each step: none, per head, per head and mode");
    k("delta", delta, {"mean", "running", "constant", "fixed"})
        .note("step from the mean input, from the mean so far, learned alone, or not even learned", "mean is not causal");
    k("gate_bias", gate_bias, {0, 3}).range(-20, 20).note("first bias of the gate: sigmoid(3) keeps 95 %");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step", "long memory needs 1e-4");
    k("dt_max", dt_max, {0.1, 1}).range(1e-6, 10).note("largest initial step");
    k("bidirectional", bidirectional).note("a second system reads from the end");
    k("glu", glu).note("output Linear D->2D with GLU, else D->D");
  }
  Answer causal() const override {
    if (bidirectional) return Answer::no("selective_dplr.bidirectional reads the future");
    return delta == "mean" ? Answer::no("selective_dplr.delta = mean reads the whole sequence; running does not") : Answer{};
  }
  Answer streams() const override { return causal(); }
  Answer keeps_apart() const override {
    if (bidirectional) return Answer::no("selective_dplr.bidirectional reads the future; allowed is false");
    if (delta == "constant" || delta == "fixed") return {};
    return Answer::no("selective_dplr.delta = " + delta + " takes a mean over the row; allowed are constant, fixed");
  }

  Tensor build(Net& n, Tensor x) override {
    const Index D = x.D();
    if (D % heads) throw BadInput("selective_dplr.heads = " + std::to_string(heads) + " must divide the width " + std::to_string(D));
    if (d_state % 2) throw BadInput("selective_dplr.d_state = " + std::to_string(d_state) + " must be even: modes come in conjugate pairs");
    x = n.as(x, Order::BTD);
    Tensor y = one_way(n, x);
    if (bidirectional) {
      const auto back = n.scope("back");
      y = add(n, y, reverse(n, one_way(n, reverse(n, x))));
    }
    return ssm_output(n, y, glu);
  }

  Tensor one_way(Net& n, Tensor x) const {
    const Index D = x.D(), M = d_state / 2;
    DplrScanInputs in;
    in.u = x;
    LinearOptions step;
    step.bias = false;
    step.weight = init::constant(0);
    if (delta == "mean") in.raw = linear(n, pool(n, x, "mean"), heads, "dt_proj", step);
    if (delta == "running") in.raw = linear(n, x, heads, "dt_proj", step);
    LinearOptions open;
    open.weight = init::normal(1 / std::sqrt(static_cast<double>(D)));
    open.bias_init = init::constant(gate_bias);
    if (gate != "off") in.gate = activation(n, linear(n, x, gate == "mode" ? heads * M : heads, "gate_proj", open), "sigmoid");
    in.gate = cut_gate(n, in.gate, starts, {.width = gate == "mode" ? heads * M : heads, .closed = 0, .open = 1});
    DplrScanOptions o;
    o.heads = heads, o.rank = rank;
    o.dt_min = dt_min, o.dt_max = dt_max;
    o.train_step = delta != "fixed", o.train_imag = init != "real", o.per_head = BC == "head";
    if (init == "random" || init == "real") {
      for (Index m = 0; m < M; ++m) o.lambda.emplace_back(init == "real" ? -static_cast<double>(m + 1) : -0.5, 0);
      if (init == "random") o.A_imag = [](const Draw& draw, Index i) { return std::exp(draw.normal(i)); };
      o.B.assign(o.lambda.size(), 1);
      o.P.assign(o.lambda.size(), std::sqrt(0.5));
    } else {
      const Dplr d = dplr(init, d_state, false);
      o.lambda = d.lambda, o.B = d.B, o.P = d.P;
      for (auto& l : o.lambda) l = {std::min(l.real(), -1e-4), l.imag()};
    }
    return dplr_scan(n, in, o);
  }

  using Cx = std::complex<double>;
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  // P^H z over all 2M conjugate modes.
  static double along(const std::vector<Cx>& P, const std::vector<Cx>& z) {
    double sum = 0;
    for (std::size_t m = 0; m < z.size(); ++m) sum += 2 * (std::conj(P[m]) * z[m]).real();
    return sum;
  }
  // Solves (I - dt/2 A) h = (I + dt/2 A) z + dt b u, A = diag(lambda) - sum P P^H: one column after the other by Sherman and Morrison.
  static void advance(const std::vector<Cx>& lambda, const std::vector<std::vector<Cx>>& P, const std::vector<Cx>& B, double dt, double u,
                      std::vector<Cx>& z) {
    std::vector<Cx> right = z;
    for (std::size_t m = 0; m < z.size(); ++m) right[m] += dt / 2 * lambda[m] * z[m] + dt * B[m] * u;
    for (const auto& p : P) {
      const double pull = dt / 2 * along(p, z);
      for (std::size_t m = 0; m < z.size(); ++m) right[m] -= pull * p[m];
    }
    std::vector<std::vector<Cx>> solved;  // columns of P by the matrix without them and those behind
    const auto solve = [&](std::vector<Cx> x) {
      for (std::size_t m = 0; m < x.size(); ++m) x[m] /= 1.0 - dt / 2 * lambda[m];
      for (std::size_t k = 0; k < solved.size(); ++k) {
        const double part = dt / 2 * along(P[k], x) / (1 + dt / 2 * along(P[k], solved[k]));
        for (std::size_t m = 0; m < x.size(); ++m) x[m] -= part * solved[k][m];
      }
      return x;
    };
    for (const auto& p : P) solved.push_back(solve(p));
    z = solve(right);
  }

  // Delta (T, R) of one sequence.
  std::vector<double> steps(const Case& c, const std::string& scope, const double* x, Index length) const {
    std::vector<double> out, sum(at(c.D)), row(at(heads), 0.0);
    for (Index t = 0; t < c.T; ++t) {
      const Index count = delta == "mean" ? length : t + 1;
      std::fill(sum.begin(), sum.end(), 0.0);
      for (Index s = 0; s < count; ++s)
        for (Index d = 0; d < c.D; ++d) sum[at(d)] += x[s * c.D + d] / static_cast<double>(count);
      if (delta == "mean" || delta == "running") dense_row(sum.data(), c.D, c.p(scope + "dt_proj.weight"), nullptr, row.data());
      for (Index r = 0; r < heads; ++r) out.push_back(std::log1p(std::exp(row[at(r)] + c.p(scope + "dt_bias")[at(r)])));
    }
    return out;
  }

  // Adds what one direction gives: x, y (T,D) of a sequence.
  void one_way_reference(const Case& c, const std::string& scope, const double* x, Index length, double* y) const {
    const Index M = d_state / 2, gates = gate == "mode" ? M : 1;
    const std::vector<double> dt = steps(c, scope, x, length);
    std::vector<double> open(at(c.T * heads * gates), 1.0);
    for (Index t = 0; gate != "off" && t < c.T; ++t)
      dense_row(x + t * c.D, c.D, c.p(scope + "gate_proj.weight"), &c.p(scope + "gate_proj.bias"), &open[at(t * heads * gates)]);
    for (double& v : open) v = gate == "off" ? 1 : 1 / (1 + std::exp(-v));
    for (Index d = 0; d < c.D; ++d) {
      const Index r = d / (c.D / heads), own = BC == "head" ? r : d;
      std::vector<Cx> lambda, B, C, h(at(M));
      std::vector<std::vector<Cx>> P(at(rank));
      for (Index m = 0; m < M; ++m) {
        const auto pair = [&](const char* name, Index i) { return Cx(c.p(scope + name)[at(2 * i)], c.p(scope + name)[at(2 * i + 1)]); };
        lambda.emplace_back(-std::exp(c.p(scope + "A_real")[at(r * M + m)]), c.p(scope + "A_imag")[at(r * M + m)]);
        for (Index k = 0; k < rank; ++k) P[at(k)].push_back(pair("P", (k * heads + r) * M + m));
        B.push_back(pair("B", own * M + m));
        C.push_back(pair("C", own * M + m));
      }
      for (Index t = 0; t < c.T; ++t) {
        for (Index m = 0; m < M; ++m) h[at(m)] *= open[at((t * heads + r) * gates + (gates > 1 ? m : 0))];
        advance(lambda, P, B, dt[at(t * heads + r)], x[t * c.D + d], h);
        double sum = c.p(scope + "D")[at(d)] * x[t * c.D + d];
        for (Index m = 0; m < M; ++m) sum += 2 * (C[at(m)] * h[at(m)]).real();
        y[t * c.D + d] += sum;
      }
    }
  }

  void reference(Case& c) const override {
    const Index row = c.T * c.D;
    std::vector<double> y(c.x.size());
    for (Index b = 0; b < c.B; ++b) {
      const Index length = c.lengths[at(b)];
      one_way_reference(c, "", &c.x[at(b * row)], length, &y[at(b * row)]);
      if (!bidirectional) continue;
      const auto turned = [&](const double* from) {
        std::vector<double> to(from, from + row);
        for (Index i = 0; i < length * c.D; ++i) to[at((length - 1 - i / c.D) * c.D + i % c.D)] = from[i];
        return to;
      };
      std::vector<double> back(at(row));
      one_way_reference(c, "back.", turned(&c.x[at(b * row)]).data(), length, back.data());
      back = turned(back.data());
      for (Index i = 0; i < row; ++i) y[at(b * row + i)] += back[at(i)];
    }
    ssm_output_reference(c, y, glu);
  }
};
SSM_VARIANT(SelectiveDplr, "selective_dplr");

}  // namespace ssm::selective_dplr
