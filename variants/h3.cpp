// h3.cpp - two state spaces and two products: shift to remember tokens, a diagonal one to keep what they match (H3: Fu, Dao et al. 2023).
//
//   q, k, v = linear(u)     k <- K_shift * k + D_k k     s_{i,j,h} = k_{hm+i} v_{hm+j}     s <- K_h * s + D_h s
//   o_{hm+j} = sum_i q_{hm+i} s_{i,j,h}     y = output_linear(o)
//
// u, y (B,T,D)    m = head_dim, H = D/m heads of one kernel each, m^2 products a head    K_shift of N = d_state taps, ops/filters.hpp
// q_proj, k_proj, v_proj, output_linear (D,D)   ssm_k_kernel.B (D,N)  .C (1,D,N)   ssm_k_D (D)   kernel.* as in S4D, one set a head   D (H)
// Streaming carries N inputs of k, and the diagonal states of all products; with long kernels, inner = longconv or hyena, l_max inputs instead.
// inner = hyena has filter_fn.* as in Hyena, whose bias stands for D.
// inner = s6 has Mamba's selective scan instead (selective_layer.hpp): of all heads of one (i,j), with delta, B and C from their products
// s_{i,j} alone, N real states a product, A = -(1..N) at the start, delta of rank H/16 rounded up. It is a scan whatever the view; init and disc are the
// diagonal system's.
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "hippo.hpp"
#include "ops/filters.hpp"
#include "plain_filters.hpp"
#include "selective_layer.hpp"
#include "ssm_layer.hpp"

namespace ssm::h3 {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct H3 final : Variant {
  int d_state = 64, head_dim = 1;
  std::string inner = "s4d", init = "lin", disc = "bilinear", view = "conv";
  double dt_min = 1e-3, dt_max = 0.1;
  bool shift = true;

  std::string about() const override { return "H3: shift and diagonal state spaces between three projections (Fu, Dao 2023)"; }
  void knobs(Knobs& k) override {
    k("d_state", d_state, {16, 64}).range(2, 4096).note("states N of the shift and of the diagonal system or S6");
    k("head_dim", head_dim, {1, 2}).range(1, 256).note("channels m of a head");
    k("shift", shift).note("the shift state space on k", "with both: associative recall 99.8, S4D alone 86.0");
    k("inner", inner, {"s4d", "longconv", "hyena", "s6"})
        .note("what remembers products: diagonal state space, a parameter per tap, an MLP over time, or Mamba's selective scan",
              "350M LM perplexity: S4 10.30, Hyena 10.24, S6 8.95");
    k("init", init, {"lin", "inv", "legs"}).note("initial A of the diagonal system");
    k("disc", disc, {"bilinear", "zoh"}).note("its discretisation");
    k("dt_min", dt_min, {1e-4, 1e-3}).range(1e-6, 10).note("smallest initial step of s4d and s6");
    k("dt_max", dt_max, {0.1}).range(1e-6, 10).note("largest initial step of s4d and s6");
    k.view("view", view, {"conv", "direct", "library", "scan"});
  }
  Block block() const override { return {"layer", "pre", 4}; }
  Answer takes_gaps() const override {
    return inner == "s6" ? Answer::no("h3.inner = s6 has a step a position, but the shift before it takes positions as even")
                         : Variant::takes_gaps();
  }

  SsmOptions options() const {
    SsmOptions o;
    o.n_ssm = 0;
    o.dt_min = dt_min, o.dt_max = dt_max, o.disc = disc;
    o.lambda = init == "legs" ? dplr("legs", d_state, false).lambda : diagonal_init(init, d_state);
    return o;
  }

  SelectiveOptions selection(Index H) const {
    SelectiveOptions o;
    o.d_state = d_state, o.rank = (H + 15) / 16;
    o.dt_min = dt_min, o.dt_max = dt_max;
    return o;
  }

  // y = K_h * s + D_h s, or S6, for every product s (B m m, H, T).
  Tensor long_memory(Net& n, Tensor s, Index H) const {
    if (inner == "s6") return n.as(selective_layer(n, n.as(s, Order::BTD), {}, selection(H)), Order::BDT);
    if (inner == "hyena") {
      const auto scope = n.scope("filter_fn");
      HyenaFilterOptions o;
      o.d = H, o.freq = 10;
      return long_conv(n, s, hyena_filter(n, o)[0], {}, view);
    }
    if (inner == "longconv") {
      LongKernelOptions o;
      o.length = n.l_max;
      o.init = init::normal(1 / std::sqrt(static_cast<double>(H * n.l_max)));
      const Tensor K = long_kernel(n, H, "kernel", o);
      return long_conv(n, s, K, n.param("D", {H}, init::normal(1)), view);
    }
    const SsmParams p = declare_ssm(n, H, options(), "h3");
    const Param D = n.param("D", {H}, init::normal(1));
    return n.as(diagonal_system(n, s, p, D, view), Order::BDT);
  }

  Tensor build(Net& n, Tensor u) override {
    const Index D = u.D(), m = head_dim;
    if (D % m) throw BadInput("h3.head_dim is " + std::to_string(m) + ", which does not divide the " + std::to_string(D) + " channels");
    if (inner == "s4d" && d_state % 2) throw BadInput("h3.d_state is " + std::to_string(d_state) + "; it must be even: conjugate pairs");
    LinearOptions turned;
    turned.order = Order::BDT;
    const Tensor q = linear(n, u, D, "q_proj", turned), v = linear(n, u, D, "v_proj", turned);
    Tensor k = linear(n, u, D, "k_proj", turned);
    if (shift) {
      const Tensor K = shift_kernel(n, D, d_state, "ssm_k_kernel");
      k = long_conv(n, k, K, n.param("ssm_k_D", {D}, init::normal(1)), d_state <= 32 ? "direct" : view);
    }
    return linear(n, contract_heads(n, q, long_memory(n, outer_heads(n, k, v, m), D / m), m), D, "output_linear");
  }

  // y += K * x + skip x
  static std::vector<double> convolve(const std::vector<double>& K, double skip, const std::vector<double>& x) {
    std::vector<double> y(x.size());
    for (std::size_t t = 0; t < x.size(); ++t) {
      y[t] = skip * x[t];
      for (std::size_t i = 0; i <= t && i < K.size(); ++i) y[t] += K[i] * x[t - i];
    }
    return y;
  }
  std::vector<double> shift_taps(const Case& c, Index d) const {
    const Index N = d_state;
    std::vector<double> K(at(N));
    for (Index i = 0; i < N; ++i)
      for (Index j = 0; j + i < N; ++j) K[at(i)] += c.p("ssm_k_kernel.C")[at(d * N + j + i)] * c.p("ssm_k_kernel.B")[at(d * N + j)];
    return K;
  }
  // The diagonal system by its recurrence, or the taps themselves.
  std::vector<double> remember(const Case& c, Index h, const std::vector<double>& x) const {
    if (inner == "hyena") {
      std::vector<double> taps;
      for (Index t = 0; t < std::min(c.T, c.l_max); ++t) taps.push_back(plain_hyena_tap(c, "filter_fn", h, t, true, 0));
      return convolve(taps, 0, x);
    }
    const double skip = c.p("D")[at(h)];
    if (inner == "longconv") {
      const auto first = c.p("kernel").begin() + h * c.l_max;
      return convolve({first, first + c.l_max}, skip, x);
    }
    const SsmReader r{c, c.D / head_dim, d_state / 2, c.D / head_dim, false, false};
    std::vector<double> y = convolve({}, skip, x);
    for (Index n = 0; n < d_state / 2; ++n) {
      const Cx a = r.a(h, n), z = r.delta(h) * a, half = 1.0 - z / 2.0;
      const Cx step = disc == "zoh" ? std::exp(z) : (1.0 + z / 2.0) / half;
      const Cx gain = r.b(h, n) * (disc == "zoh" ? (std::exp(z) - 1.0) / a : r.delta(h) / half);
      Cx state = 0;
      for (std::size_t t = 0; t < x.size(); ++t) {
        state = step * state + gain * x[t];
        y[t] += 2 * (r.out(0, h, n) * state).real();
      }
    }
    return y;
  }

  using Rows = std::vector<std::vector<double>>;

  // What becomes of the products s (H,T) of one (i,j) of sequence b.
  Rows long_memory(const Case& c, Index b, Rows s) const {
    const Index H = c.D / head_dim;
    if (inner != "s6") {
      for (Index h = 0; h < H; ++h) s[at(h)] = remember(c, h, s[at(h)]);
      return s;
    }
    std::vector<double> u(at(c.T * H));
    for (Index i = 0; i < c.T * H; ++i) u[at(i)] = s[at(i % H)][at(i / H)];
    u = plain_selective(c, b, u, selection(H));
    for (Index i = 0; i < c.T * H; ++i) s[at(i % H)][at(i / H)] = u[at(i)];
    return s;
  }

  void reference(Case& c) const override {
    const Index D = c.D, m = head_dim, T = c.T;
    for (Index b = 0; b < c.B; ++b) {
      Rows q(at(D), std::vector<double>(at(T))), k = q, v = q, o = q;
      std::vector<double> row(at(D));
      for (Index t = 0; t < T; ++t)
        for (const auto& [name, to] : {std::pair("q_proj", &q), std::pair("k_proj", &k), std::pair("v_proj", &v)}) {
          const std::string proj = name;
          dense_row(&c.x[at((b * T + t) * D)], D, c.p(proj + ".weight"), &c.p(proj + ".bias"), row.data());
          for (Index d = 0; d < D; ++d) (*to)[at(d)][at(t)] = row[at(d)];
        }
      for (Index d = 0; shift && d < D; ++d) k[at(d)] = convolve(shift_taps(c, d), c.p("ssm_k_D")[at(d)], k[at(d)]);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < m; ++j) {
          Rows s(at(D / m), std::vector<double>(at(T)));
          for (Index h = 0; h < D / m; ++h)
            for (Index t = 0; t < T; ++t) s[at(h)][at(t)] = k[at(h * m + i)][at(t)] * v[at(h * m + j)][at(t)];
          s = long_memory(c, b, s);
          for (Index h = 0; h < D / m; ++h)
            for (Index t = 0; t < T; ++t) o[at(h * m + j)][at(t)] += q[at(h * m + i)][at(t)] * s[at(h)][at(t)];
        }
      for (Index t = 0; t < T; ++t) {
        for (Index d = 0; d < D; ++d) row[at(d)] = o[at(d)][at(t)];
        dense_row(row.data(), D, c.p("output_linear.weight"), &c.p("output_linear.bias"), &c.y[at((b * T + t) * D)]);
      }
    }
  }
};

SSM_VARIANT(H3, "h3");

}  // namespace ssm::h3
