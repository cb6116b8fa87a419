// s4.cpp - structured state spaces with a diagonal-plus-low-rank transition (S4: Gu, Goel, Re 2022).
//
//   x' = A x + B u   y = C x + D u   per channel, A = diag(lambda) - P Q^T, Q = P*, from a HiPPO matrix      out = GLU(Linear(GELU(y)))
//
// kernel.{inv_dt, A_real, A_imag, B, C} and D as in s4d.cpp; kernel.P (rank,S,M,2), and kernel.Q where low_rank = free. kernel.C holds
// C~ = (I - A^L)^T C for L = l_max, with the discrete (bilinear) A of the initial parameters; from then on C~ itself is learned.
// kernel.l_kernel = L.
#include <cmath>

#include "error.hpp"
#include "hippo.hpp"
#include "s4_transform.hpp"
#include "ssm_layer.hpp"

namespace ssm::s4 {

struct S4 final : Variant {
  int d_state = 64, n_ssm = 1;
  std::string init = "legs", dt_transform = "exp", low_rank = "tied", view = "fft";
  double dt_min = 1e-3, dt_max = 0.1;
  bool bidirectional = false, train_B = true, correct_C = true, glu = true;

  std::string about() const override { return "S4: diagonal-plus-low-rank state spaces, trained as a long convolution (Gu 2022)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {4, 16, 64, 256}).range(2, 1024).note("state size N; M = N/2 complex modes", "text tasks 4, images 64");
    k("init", init, {"legs", "legt", "fout", "random"})
        .note("HiPPO matrix, or frequencies exp(normal)",
              "LRA average: legs 86.1; fout 84 and fails Path-X; random loses 15 points on sCIFAR");
    k("n_ssm", n_ssm, {1, 0}).range(0, 65536).note("sets of (A,B,P) shared by the channels, 0: one per channel", "LRA: 1, Pathfinder 0");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step", "Path-X needs 1e-4");
    k("dt_max", dt_max, {0.1}).range(1e-6, 10).note("largest initial step");
    k("dt_transform", dt_transform, {"exp", "softplus"}).note("how the step is kept positive");
    k("low_rank", low_rank, {"tied", "free", "fixed"})
        .note("the correction P Q^T: Q = P*, Q learned of its own, or Q = P* and not learned", "published: tied, for stability");
    k("train_B", train_B).note("B is trained");
    k("correct_C", correct_C).note("C~ starts as (I - A^L)^T C; else as C itself, whose kernel wraps around");
    k("bidirectional", bidirectional).note("a second kernel reads the future, from the next sample on", "all published LRA runs");
    k("glu", glu).note("output Linear H->2H with GLU, else H->H");
    k.view("view", view, {"fft", "direct", "library"});
  }
  Answer causal() const override { return bidirectional ? Answer::no("s4.bidirectional reads the future") : Answer{}; }
  Answer streams() const override { return causal(); }

  Tensor build(Net& n, Tensor x) override {
    if (d_state % 2) throw BadInput("s4.d_state = " + std::to_string(d_state) + " must be even: modes come in conjugate pairs");
    SsmOptions o;
    Dplr d;
    if (init == "random") {
      const std::size_t M = at(d_state / 2);
      d.lambda.assign(M, -0.5), d.B.assign(M, 1), d.P.assign(M, std::sqrt(0.5));
      o.A_imag = [](const Draw& draw, Index i) { return std::exp(draw.normal(i)); };
    } else {
      d = dplr(init, d_state, true);
    }
    o.n_ssm = n_ssm;
    o.bidirectional = bidirectional;
    o.train_B = train_B;
    o.low_rank = low_rank;
    o.dt_min = dt_min;
    o.dt_max = dt_max;
    o.dt_transform = dt_transform;
    o.disc = "bilinear";
    o.lambda = d.lambda;
    o.B = d.B;
    o.P = d.P;
    SsmParams p = declare_ssm(n, x.D(), o, "s4");
    p.wide = init == "legt" || init == "fout";  // undamped modes
    n.param("kernel.l_kernel", {1}, init::constant(static_cast<double>(n.l_max)), no_decay(), false);
    const Param D = declare_skip(n, x.D());
    if (correct_C) {
      n.params.after_init(n.full("kernel.C"), [p, names = s4_names(n), L = n.l_max](HostParams& params) {
        S4Host host = s4_host(p, names, params);
        s4_transform(host, L, S4Map::to_tilde);
        params.at(names.C) = host.C;
      });
    }
    if (n.mode == Mode::stream) return ssm_output(n, s4_step(n, n.as(x, Order::BTD), p, D), glu);
    const Tensor u = n.as(x, Order::BDT);
    return ssm_output(n, fft_conv(n, u, s4_kernel(n, p, u.T()), D, view), glu);
  }

  // Dense powers over the reals: a mode x = a + ib is two coordinates (all a, then all b), a pair of conjugate modes counts twice.
  using Matrix = std::vector<double>;
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  static Matrix product(const Matrix& a, const Matrix& b, Index N) {
    Matrix c(at(N * N));
    for (Index i = 0; i < N; ++i)
      for (Index k = 0; k < N; ++k)
        for (Index j = 0; j < N; ++j) c[at(i * N + j)] += a[at(i * N + k)] * b[at(k * N + j)];
    return c;
  }
  // X with M X = R, R (N, columns): elimination with row exchange.
  static Matrix solve(Matrix m, Matrix r, Index N, Index columns) {
    for (Index k = 0; k < N; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < N; ++i)
        if (std::abs(m[at(i * N + k)]) > std::abs(m[at(pivot * N + k)])) pivot = i;
      for (Index j = 0; j < N; ++j) std::swap(m[at(k * N + j)], m[at(pivot * N + j)]);
      for (Index j = 0; j < columns; ++j) std::swap(r[at(k * columns + j)], r[at(pivot * columns + j)]);
      for (Index i = 0; i < N; ++i) {
        if (i == k) continue;
        const double f = m[at(i * N + k)] / m[at(k * N + k)];
        for (Index j = k; j < N; ++j) m[at(i * N + j)] -= f * m[at(k * N + j)];
        for (Index j = 0; j < columns; ++j) r[at(i * columns + j)] -= f * r[at(k * columns + j)];
      }
    }
    for (Index i = 0; i < N; ++i)
      for (Index j = 0; j < columns; ++j) r[at(i * columns + j)] /= m[at(i * N + i)];
    return r;
  }

  // The kernels of channel h, T taps each, from C~ of length l_max.
  std::vector<Matrix> dense_kernels(const SsmReader& r, Index h, Index T, Index l_max) const {
    const Index M = r.M, N = 2 * M, ranks = init == "legt" ? 2 : 1;
    const double dt = r.delta(h);
    Matrix a(at(N * N)), minus(at(N * N)), plus(at(N * N)), B(at(N));
    for (Index n = 0; n < M; ++n) {
      const std::complex<double> lambda = r.a(h, n), b = r.b(h, n);
      a[at(n * N + n)] = a[at((M + n) * N + M + n)] = lambda.real();
      a[at(n * N + M + n)] = -lambda.imag();
      a[at((M + n) * N + n)] = lambda.imag();
      B[at(n)] = dt * b.real();
      B[at(M + n)] = dt * b.imag();
    }
    for (Index k = 0; k < ranks; ++k) {
      const auto P = [&](Index i) { return i < M ? r.p(k, h, i).real() : r.p(k, h, i - M).imag(); };
      const auto Q = [&](Index i) {
        if (low_rank != "free") return P(i);
        return i < M ? r.p(k, h, i, "kernel.Q").real() : -r.p(k, h, i - M, "kernel.Q").imag();
      };
      for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j) a[at(i * N + j)] -= 2 * P(i) * Q(j);
    }
    for (Index i = 0; i < N * N; ++i) {
      minus[at(i)] = (i % (N + 1) == 0 ? 1 : 0) - dt / 2 * a[at(i)];
      plus[at(i)] = (i % (N + 1) == 0 ? 1 : 0) + dt / 2 * a[at(i)];
    }
    const Matrix A = solve(minus, plus, N, N), drive = solve(minus, B, N, 1);
    Matrix power, base = A;
    for (Index e = l_max;;) {
      if (e % 2) power = power.empty() ? base : product(power, base, N);
      if ((e /= 2) == 0) break;
      base = product(base, base, N);
    }
    std::vector<Matrix> kernels;
    for (Index k = 0; k < (bidirectional ? 2 : 1); ++k) {
      Matrix system(at(N * N)), tilde(at(N)), state = drive, K;
      for (Index n = 0; n < M; ++n) {
        tilde[at(n)] = 2 * r.out(k, h, n).real();
        tilde[at(M + n)] = -2 * r.out(k, h, n).imag();
      }
      for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j) system[at(i * N + j)] = (i == j ? 1 : 0) - power[at(j * N + i)];
      const Matrix C = solve(system, tilde, N, 1);
      for (Index t = 0; t < T; ++t) {
        Matrix next(at(N));
        double sum = 0;
        for (Index i = 0; i < N; ++i) {
          sum += C[at(i)] * state[at(i)];
          for (Index j = 0; j < N; ++j) next[at(i)] += A[at(i * N + j)] * state[at(j)];
        }
        K.push_back(sum);
        state = next;
      }
      kernels.push_back(K);
    }
    return kernels;
  }

  void reference(Case& c) const override {
    const Index H = c.D;
    const SsmReader r{c, H, d_state / 2, n_ssm ? n_ssm : H, dt_transform == "softplus", false};
    std::vector<double> y(c.x.size());
    for (Index h = 0; h < H; ++h) {
      const std::vector<Matrix> K = dense_kernels(r, h, c.T, c.l_max);
      for (Index b = 0; b < c.B; ++b)
        for (Index t = 0; t < c.T; ++t) {
          const auto x = [&](Index s) { return c.x[at((b * c.T + s) * H + h)]; };
          double sum = c.p("D")[at(h)] * x(t);
          for (Index s = 0; s <= t; ++s) sum += K[0][at(t - s)] * x(s);
          for (Index s = t + 1; s < c.T && bidirectional; ++s) sum += K[1][at(s - t - 1)] * x(s);
          y[at((b * c.T + t) * H + h)] = sum;
        }
    }
    ssm_output_reference(c, y, glu);
  }
};

SSM_VARIANT(S4, "s4");

}  // namespace ssm::s4
