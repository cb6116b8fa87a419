// dense_scan.cpp - x_t = A x_{t-1} + w_t with a dense A (p,p), one position after the other; a work item owns a sequence.
//
//   l_t = dx_t + A^T l_{t+1}     dw_t = l_t     dA = sum_t l_t x_{t-1}^T
//
// The way back is the same walk from the other end, over A instead of its transpose.
#include "ops/dense_scan.hpp"

#include <algorithm>

#include "lib/blas.hpp"
#include "lib/into.hpp"
#include "lib/tile.hpp"

namespace ssm {
namespace dense_scan_op {

// to_t = from_t + M^T to_{t-1}: rows (B,T,p), entry (j,i) of M weighs what state j gives to state i.
struct Walk {
  const Real *M, *from;
  Real *to, *carried;  // carried (B,p) of a stream, or null
  Index T, p;
  bool back;

  KOKKOS_FUNCTION void operator()(const Team& team, Index b) const {
    const Real* before = carried ? carried + b * p : nullptr;
    for (Index k = 0; k < T; ++k) {
      const Index at = (b * T + (back ? T - 1 - k : k)) * p;
      advance(team, before, from + at, to + at);
      team.sync();
      before = to + at;
    }
    if (!carried) return;
    Real* kept = carried + b * p;
    team.grid(1, p, [&](const Index, const Index i) { kept[i] = before[i]; });
  }

  KOKKOS_FUNCTION void advance(const Team& team, const Real* before, const Real* in, Real* out) const {
    const Index count = before ? p : 0, size = p;
    const Real* weights = M;
    if (kOnHost) {  // SIMD over the states that take
      team.grid(1, size, [&](const Index, const Index i) { out[i] = in[i]; });
      for (Index j = 0; j < count; ++j) {
        const Real give = before[j];
        team.grid(1, size, [&](const Index, const Index i) { out[i] += weights[j * size + i] * give; });
      }
      return;
    }
    team.grid(1, size, [&](const Index, const Index i) {
      Real sum = in[i];
      for (Index j = 0; j < count; ++j) sum += weights[j * size + i] * before[j];
      out[i] = sum;
    });
  }
};

struct DenseScan final : Op {
  Tensor w, y;
  Param A;
  bool back;
  State carried;
  Scratch turned, adjoint, parts;
  Index B, T, p;

  DenseScan(Net& net, Tensor w_, Param transition, bool from_end)
      : Op(net), w(in(w_, drop)), y(out(w_, save)), A(transition), back(from_end), B(w_.B()), T(w_.T()), p(w_.D()) {
    if (w.order != Order::BTD || A.size != p * p) throw std::logic_error("dense_scan takes (B,T,p) and (p,p)");
    if (n.mode == Mode::stream && back) throw std::logic_error("dense_scan cannot stream from the end");
    carried = state(p);
    turned = scratch(p * p);
    if (n.mode != Mode::train) return;
    adjoint = scratch(w.size());
    parts = scratch(gemm_sum_scratch(p, p, std::max<Index>(T - 1, 1), B));
  }
  const char* name() const override { return "dense_scan"; }
  std::string slow_because() const override { return kOnHost ? "" : "a dense transition: one block walks each sequence"; }

  void walk(const Run& r, Real* state_) {
    const Real* from = v(A);
    Real* to = v(turned);
    const Index size = p;
    each_row(
        "ssm::dense_scan_turn", r, p, p, KOKKOS_LAMBDA(const Index j, const Index i) { to[j * size + i] = from[i * size + j]; });
    launch_teams("ssm::dense_scan", r, B, Walk{v(turned), v(w), v(y), state_, T, p, back});
  }
  void forward(const Run& r) override { walk(r, nullptr); }
  void step(const Run& r) override { walk(r, v(carried)); }

  void backward(const Run& r) override {
    Real* l = v(adjoint);
    launch_teams("ssm::dense_scan_back", r, B, Walk{v(A), d(y), l, nullptr, T, p, !back});
    each_into(
        "ssm::dense_scan_dw", r, w.size(), g(w), KOKKOS_LAMBDA(const Index i) { return l[i]; });
    if (T == 1) return;
    const Real* x = v(y);
    gemm_sum(r,
             Gemm{.ta = true,
                  .M = p,
                  .N = p,
                  .K = T - 1,
                  .A = back ? l : l + p,
                  .lda = p,
                  .stride_a = T * p,
                  .B = back ? x + p : x,
                  .ldb = p,
                  .stride_b = T * p,
                  .beta = 1,
                  .C = d(A),
                  .ldc = p,
                  .batch = B},
             nullptr, room(parts));
  }
  Cost cost() const override {
    const double rows = static_cast<double>(w.size()), product = 2 * rows * static_cast<double>(p), real = sizeof(Real);
    return {{product, 0, 2 * real * rows}, {2 * product, 0, 3 * real * rows}};
  }
};

}  // namespace dense_scan_op

Tensor dense_scan(Net& n, Tensor w, Param A, bool back) { return n.add<dense_scan_op::DenseScan>(w, A, back); }

}  // namespace ssm
