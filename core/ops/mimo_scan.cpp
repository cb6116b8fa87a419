// mimo_scan.cpp - a shared diagonal system over u (B,T,H): two matrix products around a scan.
//
//   w = u B^T     x_t = lambda x_{t-1} + w_t     y = x C^T + u D            x (B,T,2p) or, with a second direction from the end, (B,T,4p)
//   g = dy C      l_t = g_t + conj(lambda) l_{t+1}      du = l B + dy D     dlambda = sum l_t conj(x_{t-1})   dB = l^T u   dC = dy^T x
//
// Complex numbers are planes: row t of x is [re (p); im (p)] of each direction. x is what backward keeps. Time is cut into chunks: each is
// run from 0 for its last state, these are carried over the chunks by lambda^chunk, then each is run from the state before it.
// lambda is a sum of two numbers: one alone would lose 1e-5 over the memory of a slow mode.
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/few_rows.hpp"
#include "lib/into.hpp"
#include "lib/reduce.hpp"
#include "math.hpp"
#include "ops/mimo.hpp"
#include "ops/mimo_gaps.hpp"
#include "ops/mimo_scan_gpu.hpp"
#include "ops/mimo_sweep.hpp"

namespace ssm::mimo_scan_op {

struct MimoScan final : Op {
  MimoSystem m;
  Tensor u, x, y, gaps, starts;
  Disc disc = Disc::zoh;
  Param D;
  State carried;
  Scratch carry, dx, parts, sums, skips, inputs, apart;
  Index p, H, S, rows, chunk, chunks, directions;
  bool tiled = false;  // mimo_scan_gpu.hpp has room for what it needs

  // gaps_ absent (id -1): even steps
  MimoScan(Net& net, Tensor u_, const MimoSystem& system, Param skip, bool chunked, Tensor gaps_ = {}, Disc disc_ = Disc::zoh,
           Tensor starts_ = {})
      : Op(net),
        m(system),
        u(in(u_, save)),
        gaps(gaps_),
        starts(starts_),
        disc(disc_),
        D(skip),
        p(system.lambda.last()),
        H(u_.D()),
        S(system.C.last()),
        rows(u_.rows()) {
    if (u.order != Order::BTD || u.rank != 3 || m.B.last() != H)
      throw std::logic_error("mimo_scan takes (B,T,H) and a system of H channels");
    for (const Tensor t : {m.lambda, m.B, m.C}) in(t, save);
    if (uneven()) in(gaps, save);
    if (starts.id >= 0) in(starts, save);
    directions = S / (2 * p);
    if (uneven() && directions > 1) throw std::logic_error("mimo_gap_scan goes one way");
    if (starts.id >= 0 && directions > 1) throw std::logic_error("mimo_scan keeps sequences of a row apart one way only");
    chunk = chunked && starts.id < 0 ? kChunk : u.T();
    chunks = (u.T() + chunk - 1) / chunk;
    y = out(u, drop);
    x = keep(shaped({u.B(), u.T(), S}));
#if defined(SSM_MIMO_ON_TILES)
    tiled = chunked && n.mode != Mode::stream && directions == 1 && starts.id < 0 && !uneven() && takes_tiles(p, H) && tf32_products();
    if (tiled) {
      carry = scratch(u.B() * pieces_of(u.T()) * S);
      if (parts_of(p, H) > 1) apart = scratch(rows * S);
    }
#endif
    if (!tiled) carry = scratch(u.B() * chunks * 2 * p);
    if (n.mode == Mode::stream) carried = state(2 * p);
    if (n.mode == Mode::stream && directions > 1) throw std::logic_error("mimo_scan: two directions cannot stream");
    if (n.mode != Mode::train) return;
    dx = scratch(rows * S);
    parts = scratch(uneven() ? u.B() * 3 * p : tiled ? walk_sums() * S : directions * u.B() * chunks * 2 * p);
    if (uneven()) inputs = scratch(rows * 2 * p);
    sums = scratch(std::max(gemm_sum_scratch(2 * p, H, rows, 1), gemm_sum_scratch(H, S, rows, 1)));
    skips = scratch(tiled ? walk_sums() * H : sum_columns_scratch(rows, H));
  }
  const char* name() const override { return uneven() ? "mimo_gap_scan" : "mimo_scan"; }
  bool uneven() const { return gaps.id >= 0; }

  // Direction 0 runs forth; an adjoint runs the other way.
  void sweep(const Run& r, Index direction, bool adjoint, const Real* from, Index from_row, Real* to) {
    if (uneven()) {
      GapSweep g{v(m.lambda), v(gaps), from, to, nullptr, nullptr, nullptr, nullptr, u.T(), p, disc};
      if (adjoint) g.seen = v(x), g.in = v(inputs), g.parts = v(parts);
      return launch("ssm::mimo_gaps", r, u.B() * p, g);
    }
    Sweep s{};
    s.lambda = v(m.lambda);
    s.from = from;
    s.to = to;
    s.carry = v(carry);
    s.T = u.T(), s.p = p, s.from_row = from_row, s.to_row = S, s.chunk = chunk, s.chunks = chunks;
    s.reversed = (direction == 1) != adjoint;
    s.adjoint = adjoint;
    s.starts = starts.id < 0 ? nullptr : v(starts);
    if (adjoint) {
      s.seen = v(x) + direction * 2 * p;
      s.parts = v(parts) + direction * u.B() * chunks * 2 * p;
    }
    if (chunks > 1) {
      launch_lanes("ssm::mimo_ends", r, u.B() * chunks, p, Ends{s});
      launch("ssm::mimo_carry", r, u.B() * p, Carry{s});
    }
    launch_lanes("ssm::mimo_scan", r, u.B() * chunks, p, Fill{s});
  }

#if defined(SSM_MIMO_ON_TILES)
  // Rows of sums that the walk on tiles leaves.
  Index walk_sums() const { return kMostSums; }
  Walking walking(Real* from, Real* to, bool back) const {
    Walking a{};
    a.s = {v(m.lambda), from, v(carry), u.B(), u.T(), p, back};
    a.weights = v(back ? m.B : m.C), a.D = v(D), a.in = back ? d(y) : v(u), a.states = to, a.H = H;
    return a;
  }
  // Blocks that share columns read all states: what they write lies apart.
  void forward_on_tiles(const Run& r) {
    Real* w = apart.size ? v(apart) : v(x);
    Walking a = walking(w, v(x), false);
    a.s.carry = lead_tiles<false>(r, {a.s, v(u), v(m.B), w, H}, [&] { gemm(r, false, true, rows, S, H, 1, v(u), H, v(m.B), H, 0, w, S); });
    a.out = {v(y), false};
    walk_tiles<false>(r, a);
  }
  // The sum for dC first: what comes between G and the walk would take its place in the cache.
  void backward_on_tiles(const Run& r) {
    Real *G = v(dx), *L = apart.size ? v(apart) : G;
    sum_of(r, H, S, d(y), H, v(x), S, g(m.C));
    Walking a = walking(G, L, true);
    a.s.carry = lead_tiles<true>(r, {a.s, d(y), v(m.C), G, H}, [&] { gemm(r, false, false, rows, S, H, 1, d(y), H, v(m.C), S, 0, G, S); });
    a.out = g(u), a.x = v(x), a.u = v(u), a.dlambda = v(parts), a.dD = v(skips);
    walk_tiles<true>(r, a, g(m.lambda), {d(D), true});
    sum_of(r, S, H, L, S, v(u), H, g(m.B));
  }
#else
  Index walk_sums() const { return 0; }
  void forward_on_tiles(const Run&) {}
  void backward_on_tiles(const Run&) {}
#endif
  // y = u D + x C^T
  void outputs(const Run& r) {
    const Real *U = v(u), *skip = v(D);
    Real* Y = v(y);
    const Index width = H;
    each_row_into(
        "ssm::mimo_skip", r, rows, H, H, Y, KOKKOS_LAMBDA(const Index row, const Index h) { return skip[h] * U[row * width + h]; });
    gemm(r, false, true, rows, H, S, 1, v(x), S, v(m.C), S, 1, Y, H);
  }
  void forward(const Run& r) override {
    if (tiled && tf32_products()) return forward_on_tiles(r);
    Real* X = v(x);
    gemm(r, false, true, rows, 2 * p, H, 1, v(u), H, v(m.B), H, 0, X, S);
    if (directions == 2) sweep(r, 1, false, X, S, X + 2 * p);
    sweep(r, 0, false, X, S, X);
    outputs(r);
  }

  // Two products: the first ends with the step of the modes, the second with what skips them.
  bool joined() const { return n.mode == Mode::stream && !uneven() && takes_few_rows(rows); }
  bool leads(Tensor, Follows how) const override { return joined() && how == Follows::entries; }
  void joined_step(const Run& r) {
    FewRows in;
    in.rows = rows, in.K = H, in.x = v(u), in.ldx = H, in.W = v(m.B), in.ldw = H, in.parts = 1, in.fixed = true;
    Finish& modes = in.part[0];
    modes.kind = Finish::Kind::modes;
    modes.y = v(x), modes.ld = modes.count = 2 * p, modes.taps = v(m.lambda), modes.state = v(carried);
    few_rows(r, &in);
    FewRows out;
    out.rows = rows, out.K = S, out.x = v(x), out.ldx = S, out.W = v(m.C), out.ldw = S, out.fixed = true;
    out.parts = ends(y, out.part);
    out.part[0].skip = v(D), out.part[0].in = v(u);
    few_rows(r, &out);
  }
  void step(const Run& r) override {
    if (joined()) return joined_step(r);
    Real *X = v(x), *state_ = v(carried);
    const Real* a = v(m.lambda);
    const Index P = p;
    gemm(r, false, true, rows, 2 * p, H, 1, v(u), H, v(m.B), H, 0, X, S);
    if (uneven()) {
      launch("ssm::mimo_gap_step", r, rows * p, GapSweep{a, v(gaps), X, X, nullptr, nullptr, nullptr, state_, 1, p, disc});
      return outputs(r);
    }
    launch(
        "ssm::mimo_step", r, rows * p, KOKKOS_LAMBDA(const Index i) {
          const Index b = i / P, k = i - b * P;
          Real *z = state_ + b * 2 * P + k, *w = X + b * 2 * P + k;
          const Real re = z[0], im = z[P];
          z[0] = w[0] += a[k] * re - a[P + k] * im + (a[2 * P + k] * re - a[3 * P + k] * im);
          z[P] = w[P] += a[k] * im + a[P + k] * re + (a[2 * P + k] * im + a[3 * P + k] * re);
        });
    outputs(r);
  }

  void backward(const Run& r) override {
    if (tiled && tf32_products()) return backward_on_tiles(r);
    const Real *U = v(u), *dY = d(y), *skip = v(D);
    const Index P = p, wide = S, all = directions * u.B() * chunks;
    const Grad du = g(u), dlambda = g(m.lambda);
    Real *L = v(dx), *dD = d(D);
    gemm(r, false, false, rows, S, H, 1, dY, H, v(m.C), S, 0, L, S);
    sum_of(r, H, S, dY, H, v(x), S, g(m.C));
    if (uneven()) gemm(r, false, true, rows, 2 * p, H, 1, U, H, v(m.B), H, 0, v(inputs), 2 * p);
    for (Index q = 0; q < directions; ++q) sweep(r, q, true, L + q * 2 * p, S, L + q * 2 * p);
    if (directions == 2)
      each_row_into(
          "ssm::mimo_both", r, rows, 2 * p, S, Grad{L, true},
          KOKKOS_LAMBDA(const Index row, const Index k) { return L[row * wide + 2 * P + k]; });
    const Real* part = v(parts);
    if (uneven()) add_pole_gradients(r, part, u.B(), p, dlambda);
    else
      sum_pieces<Wide>(
          "ssm::mimo_dlambda", r, all, 2 * p, part, KOKKOS_LAMBDA(const Index k, const Wide sum) {
            dlambda(k, static_cast<Real>(sum));
            dlambda(2 * P + k, static_cast<Real>(sum));
          });
    sum_of(r, 2 * p, H, L, S, U, H, g(m.B));
    const Skip through{skip, dY, U, du, v(skips), rows, H, row_splits(rows)};
    launch("ssm::mimo_skip_backward", r, through.items(), through);
    sum_pieces<Real>("ssm::mimo_dD", r, through.splits, H, v(skips), Grad{dD, true});
    gemm(r, false, false, rows, H, 2 * p, 1, L, S, v(m.B), H, 1, du.p, H);
  }
  // to (M,N) = sum over rows of a^T b
  void sum_of(const Run& r, Index M, Index N, const Real* a, Index lda, const Real* b, Index ldb, Grad to) {
    const Gemm product{.ta = true,
                       .M = M,
                       .N = N,
                       .K = rows,
                       .A = a,
                       .lda = lda,
                       .B = b,
                       .ldb = ldb,
                       .beta = to.add ? Real(1) : Real(0),
                       .C = to.p,
                       .ldc = N};
    gemm_sum(r, product, nullptr, room(sums));
  }

  Cost cost() const override {
    const double places = static_cast<double>(rows), h = static_cast<double>(H), s = static_cast<double>(S), w = 2 * static_cast<double>(p);
    const double gemms = 2 * h * (w + s) + 2 * h, scans = 8 * s, real = sizeof(Real),
                 weights = real * static_cast<double>(m.B.size() + m.C.size());
    const double steps = uneven() ? 40 * s : 0, exps = uneven() ? places * 3 * s / 2 : 0;  // e^z, sin, cos of every mode
    return {{places * (gemms + scans + steps), exps, real * places * (2 * h + s) + weights},
            {places * (2 * gemms + 2 * scans + 2 * steps), exps, real * places * (3 * h + s) + 2 * weights}};
  }
};

}  // namespace ssm::mimo_scan_op

namespace ssm {

Tensor mimo_scan(Net& n, Tensor u, const MimoSystem& system, Param D, const std::string& view) {
  return n.add<mimo_scan_op::MimoScan>(u, system, D, view == "chunked");
}
Tensor mimo_scan(Net& n, Tensor u, const MimoSystem& system, Param D, const std::string& view, Tensor starts) {
  return n.add<mimo_scan_op::MimoScan>(u, system, D, view == "chunked", Tensor{}, Disc::zoh, starts);
}
Tensor mimo_gap_scan(Net& n, Tensor u, Tensor gaps, const MimoSystem& system, Param D, const std::string& disc) {
  return n.add<mimo_scan_op::MimoScan>(u, system, D, false, gaps, disc_of(disc));
}

}  // namespace ssm
