// s4_step.cpp - one position of a stream through a diagonal-plus-low-rank system, O(M) per channel (variants.md 4.5). With C recovered from
// C~, D_n = 1/(2/Delta - lambda_n), E_n = 2/Delta + lambda_n and r = (I + 2 Re sum Q D P^T)^-1:
//
//   alpha = 2 Re sum Q x   w = E x - P alpha + 2 u B   beta = r 2 Re sum Q D w   x' = D (w - P beta)   y = 2 Re sum C x' + D u
//
// In Wide: single precision loses 1e-4 of the phase that the fast modes of LegS gather over their memory.
#include "launch.hpp"
#include "memory.hpp"
#include "ops/ssm.hpp"
#include "s4_transform.hpp"

namespace ssm::s4_step_op {

constexpr int kMaxRank = 2;
// Fields of a mode: D, E, 2B, then 2C, then Q and Q D of every rank, then P of every rank where it is not conj(Q). Each is a pair.
SSM_FN Index fields(int rank, bool free) { return 2 * (4 + (free ? 3 : 2) * rank); }

// table (M, fields, H); the matrices r (rank^2, H) follow.
struct Tabulate {
  SsmView view;
  const Wide* C;  // (H, M, 2)
  Wide* table;

  SSM_FN void put(Wide* out, int field, ComplexW z) const {
    out[2 * field * view.H] = z.re;
    out[(2 * field + 1) * view.H] = z.im;
  }
  SSM_FN void operator()(const Index h) const {
    const Index s = h % view.S, row = fields(view.rank, view.Q != nullptr) * view.H;
    const Wide rate = 2 / view.delta(h);
    Wide w[kMaxRank][kMaxRank] = {{1, 0}, {0, 1}};
    for (Index n = 0; n < view.M; ++n) {
      const ComplexW lambda = view.a(s, n), up{rate + lambda.re, lambda.im}, down = ComplexW{1, 0} / ComplexW{rate - lambda.re, -lambda.im};
      Wide* out = table + n * row + h;
      put(out, 0, down);
      put(out, 1, up);
      put(out, 2, 2.0 * view.b(s, n));
      put(out, 3, {2 * C[2 * (h * view.M + n)], 2 * C[2 * (h * view.M + n) + 1]});
      for (int r = 0; r < view.rank; ++r) {
        const ComplexW q = view.q(r, s, n), qd = q * down;
        put(out, 4 + 2 * r, q);
        put(out, 5 + 2 * r, qd);
        if (view.Q) put(out, 4 + 2 * view.rank + r, view.p(r, s, n));
        for (int k = 0; k < view.rank; ++k) w[r][k] += 2 * (qd * view.p(k, s, n)).re;
      }
    }
    Wide* out = table + view.M * row + h;
    if (view.rank == 1) {
      out[0] = 1 / w[0][0];
    } else {
      const Wide det = w[0][0] * w[1][1] - w[0][1] * w[1][0];
      out[0] = w[1][1] / det;
      out[view.H] = -w[0][1] / det;
      out[2 * view.H] = -w[1][0] / det;
      out[3 * view.H] = w[0][0] / det;
    }
  }
};

// state (B, M, 2, H) in Wide. Free: P is not conj(Q).
template <int Rank, bool Free>
struct Step {
  const Real *u, *D;
  const Wide* table;
  Real* y;
  Wide* state;
  Index H, M;

  // P_r is this field, its imaginary part times kSign.
  SSM_FN static constexpr int p_field(int r) { return Free ? 4 + 2 * Rank + r : 4 + 2 * r; }
  static constexpr Wide kSign = Free ? 1 : -1;

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index h0) const {
    const Index row = fields(Rank, Free) * H;
    Wide in[W], alpha[Rank][W], sums[Rank][W], beta[Rank][W], out[W];
    for (int l = 0; l < W; ++l) {
      in[l] = static_cast<Wide>(u[b * H + h0 + l]);
      out[l] = static_cast<Wide>(D[h0 + l]) * in[l];
      for (int r = 0; r < Rank; ++r) alpha[r][l] = sums[r][l] = beta[r][l] = 0;
    }
    for (Index n = 0; n < M; ++n) {
      const Wide *p = table + n * row + h0, *xr = state + (b * M + n) * 2 * H + h0, *xi = xr + H;
      for (int r = 0; r < Rank; ++r) {
        const Wide *qr = p + 2 * (4 + 2 * r) * H, *qi = qr + H;
        for (int l = 0; l < W; ++l) alpha[r][l] += 2 * (qr[l] * xr[l] - qi[l] * xi[l]);
      }
    }
    for (Index n = 0; n < M; ++n) {
      const Wide* p = table + n * row + h0;
      Wide wr[W], wi[W];
      drive<W>(p, b, n, h0, in, alpha, wr, wi);
      for (int r = 0; r < Rank; ++r) {
        const Wide *qr = p + 2 * (5 + 2 * r) * H, *qi = qr + H;
        for (int l = 0; l < W; ++l) sums[r][l] += 2 * (qr[l] * wr[l] - qi[l] * wi[l]);
      }
    }
    const Wide* matrix = table + M * row + h0;
    for (int r = 0; r < Rank; ++r)
      for (int q = 0; q < Rank; ++q)
        for (int l = 0; l < W; ++l) beta[r][l] += matrix[(r * Rank + q) * H + l] * sums[q][l];
    for (Index n = 0; n < M; ++n) {
      const Wide* p = table + n * row + h0;
      Wide wr[W], wi[W];
      drive<W>(p, b, n, h0, in, alpha, wr, wi);
      Wide *xr = state + (b * M + n) * 2 * H + h0, *xi = xr + H;
      for (int l = 0; l < W; ++l) {
        for (int r = 0; r < Rank; ++r) {
          wr[l] -= p[2 * p_field(r) * H + l] * beta[r][l];
          wi[l] -= kSign * p[(2 * p_field(r) + 1) * H + l] * beta[r][l];
        }
        xr[l] = p[l] * wr[l] - p[H + l] * wi[l];
        xi[l] = p[l] * wi[l] + p[H + l] * wr[l];
        out[l] += p[6 * H + l] * xr[l] - p[7 * H + l] * xi[l];
      }
    }
    for (int l = 0; l < W; ++l) y[b * H + h0 + l] = static_cast<Real>(out[l]);
  }
  // w = E x - P alpha + 2 u B
  template <int W>
  KOKKOS_FUNCTION void drive(const Wide* p, Index b, Index n, Index h0, const Wide* in, const Wide (&alpha)[Rank][W], Wide* wr,
                             Wide* wi) const {
    const Wide *xr = state + (b * M + n) * 2 * H + h0, *xi = xr + H;
    for (int l = 0; l < W; ++l) {
      wr[l] = p[2 * H + l] * xr[l] - p[3 * H + l] * xi[l] + p[4 * H + l] * in[l];
      wi[l] = p[2 * H + l] * xi[l] + p[3 * H + l] * xr[l] + p[5 * H + l] * in[l];
      for (int r = 0; r < Rank; ++r) {
        wr[l] -= p[2 * p_field(r) * H + l] * alpha[r][l];
        wi[l] -= kSign * p[(2 * p_field(r) + 1) * H + l] * alpha[r][l];
      }
    }
  }
};

struct S4Step final : Op {
  SsmParams p;
  Tensor u, y, modes, outputs;
  Param D;
  State carried;
  S4Names names;

  S4Step(Net& net, Tensor u_, const SsmParams& params, Param skip)
      : Op(net), p(params), u(in(u_, save)), y(out(u_, drop)), D(skip), names(s4_names(net)) {
    if (n.mode != Mode::stream || p.kernels != 1) throw std::logic_error("s4_step is for streams in one direction");
    constexpr Index wide = sizeof(Wide) / sizeof(Real);
    modes = Op::table(shaped({wide * p.H * (p.M * fields_of_mode() + p.rank * p.rank)}));
    outputs = Op::table(shaped({wide * p.H * p.M * 2}));
    carried = state(wide * 2 * p.H * p.M);
  }
  const char* name() const override { return "s4_step"; }
  bool free() const { return p.Q.id >= 0; }
  Index fields_of_mode() const { return fields(static_cast<int>(p.rank), free()); }
  Wide* wide(Tensor t) const { return reinterpret_cast<Wide*>(v(t)); }

  void prepare(const Run& r) override {
    S4Host host = s4_host(p, names, n.params);
    s4_transform(host, n.l_max, S4Map::to_plain);
    copy_in(wide(outputs), host.C.data(), static_cast<Index>(host.C.size() * sizeof(double)));
    launch("ssm::s4_step_table", r, p.H, Tabulate{view_of(*this, p), wide(outputs), wide(modes)});
  }
  void forward(const Run& r) override { step(r); }
  void backward(const Run&) override { throw std::logic_error("s4_step has no gradient: streams are not trained"); }
  void step(const Run& r) override {
    if (p.rank == 1 && free()) walk<1, true>(r);
    else if (p.rank == 1) walk<1, false>(r);
    else if (free()) walk<2, true>(r);
    else walk<2, false>(r);
  }
  template <int Rank, bool Free>
  void walk(const Run& r) {
    Wide* x = reinterpret_cast<Wide*>(v(carried));
    launch_lanes("ssm::s4_step", r, u.B(), p.H, Step<Rank, Free>{v(u), v(D), wide(modes), v(y), x, p.H, p.M});
  }
  Cost cost() const override {
    const double modes_ = static_cast<double>(u.size() * p.M), R = static_cast<double>(p.rank);
    return {{modes_ * (28 + 20 * R), 0, modes_ * sizeof(Wide) * (4 + static_cast<double>(fields_of_mode()))}, {}};
  }
};

}  // namespace ssm::s4_step_op

namespace ssm {

Tensor s4_step(Net& n, Tensor u, const SsmParams& p, Param D) { return n.add<s4_step_op::S4Step>(u, p, D); }

}  // namespace ssm
