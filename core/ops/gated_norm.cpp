// gated_norm.cpp - RMS norm and SiLU gate as one op, per row of a head's channels; nothing between the two is stored.
//
//   norm, gate: y = x s w silu(z),   s = 1/sqrt(mean x^2 + eps)      gate, norm: y = u s w,   u = x silu(z),   s = 1/sqrt(mean u^2 + eps)
//   with e = x s silu(z) and g = dy w:   dw = sum_rows dy e,   m = s mean(g e), and
//   norm, gate: dx = s (g silu(z) - x m)   dz = s g x silu'(z)       gate, norm: du = s (g - u m)   dx = du silu(z)   dz = du x silu'(z)
#include "ops/gated_norm.hpp"

#include "lib/into.hpp"
#include "lib/reduce.hpp"
#include "math.hpp"
#include "ops.hpp"
#include "ops/gated_norm_gpu.hpp"

namespace ssm {
namespace gated_norm_op {

// Piece k of `pieces` of the rows, one row after another.
template <bool gate_first, class To>
struct Backward {
  const Real *x, *z, *weight, *dy, *scale;
  To to;       // dx and dz
  Real* part;  // (2,pieces,D): sums of the weight's gradient; a row's gates
  Index rows, pieces, D;

  KOKKOS_FUNCTION void operator()(const Row& row, const Index k) const {
    Real *dw = part + k * D, *gate = part + (pieces + k) * D;
    const Real* w = weight;
    const Real per = 1 / static_cast<Real>(D);
    row.each(D, [&](const Index c) { dw[c] = 0; });
    for (Index i = rows * k / pieces; i < rows * (k + 1) / pieces; ++i) {
      const Real *from = x + i * D, *by = z + i * D, *up = dy + i * D, s = scale[i];
      row.each(D, [&](const Index c) { gate[c] = sigmoid(by[c]); });
      const Real m = s * s * per * row.sum(D, [&](const Index c) { return up[c] * w[c] * from[c] * (by[c] * gate[c]); });
      row.each(D, [&](const Index c) {
        const Real q = gate[c], silu = by[c] * q, slope = q * (1 + by[c] * (1 - q)), v = from[c], g = up[c] * w[c];
        const Real du = s * (gate_first ? g - v * silu * m : g * silu - v * m);
        dw[c] += up[c] * v * s * silu;
        to.put(i * D + c, {gate_first ? du * silu : du, (gate_first ? du : g * s) * v * slope}, to.old(i * D + c));
      });
    }
  }
};

struct GatedNorm final : Op {
  bool gate_first;
  double eps;
  Tensor x, z, y, scale;
  Param weight;
  Index D, rows, pieces;  // pieces: sums of the weight's gradient
  Scratch parts;          // these, (pieces,D); where rows are not held, a row's gates for each, too

  GatedNorm(Net& net, Tensor x_, Tensor z_, Param weight_, bool gate_first_, double eps_)
      : Op(net), gate_first(gate_first_), eps(eps_), x(in(x_, save)), z(in(z_, save)), y(out(x_, drop)), weight(weight_), D(weight_.size) {
    if (x.size() != z.size() || x.order != z.order) throw std::logic_error("a gated norm needs two tensors of one shape");
    if (x.order == Order::BDT) throw std::logic_error("a norm over channels needs order BTD");
    rows = x.size() / D;
    pieces = row_splits(rows, 1);
    Index numbers = 2 * pieces * D;
#if defined(SSM_GPU_CODE)
    if (D <= kHeld) pieces = blocks_back(rows, D), numbers = pieces * D;
#endif
    if (n.mode == Mode::train) scale = keep(shaped({rows})), parts = scratch(numbers);
  }
  const char* name() const override { return gate_first ? "gate_norm" : "norm_gate"; }

  void forward(const Run& r) override {
    const Real *X = v(x), *Z = v(z), *W = v(weight);
    Real *Y = v(y), *S = scale.id < 0 ? nullptr : v(scale);
    const Index width = D;
    const Real small = static_cast<Real>(eps);
    const bool gated = gate_first;
#if defined(SSM_GPU_CODE)
    if (D <= kHeld) {
      const HeldArguments a = {.x = X, .z = Z, .weight = W, .y = Y, .scale = S, .rows = rows, .D = static_cast<int>(D), .eps = small};
      return gate_first ? forward_held<true>(r, a) : forward_held<false>(r, a);
    }
#endif
    launch_rows(
        "ssm::gated_norm", r, rows, KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real *in_row = X + i * width, *by = Z + i * width;
          Real* to = Y + i * width;
          if (gated) row.each(width, [&](const Index c) { to[c] = in_row[c] * silu(by[c]); });
          const Real* from = gated ? to : in_row;
          const Real s =
              1 / Kokkos::sqrt(row.sum(width, [&](const Index c) { return from[c] * from[c]; }) / static_cast<Real>(width) + small);
          row.once([&] {
            if (S) S[i] = s;
          });
          if (gated) row.each(width, [&](const Index c) { to[c] = to[c] * s * W[c]; });
          else row.each(width, [&](const Index c) { to[c] = in_row[c] * s * W[c] * silu(by[c]); });
        });
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *Z = v(z), *W = v(weight), *dY = d(y), *S = v(scale);
    const Grad dX = g(x), dZ = g(z);
    const Index splits = pieces;
    Real* part = v(parts);
#if defined(SSM_GPU_CODE)
    if (D <= kHeld) {
      const HeldArguments a = {.x = X,
                               .z = Z,
                               .weight = W,
                               .dy = dY,
                               .scale = v(scale),
                               .dx = dX,
                               .dz = dZ,
                               .dweight = part,
                               .rows = rows,
                               .D = static_cast<int>(D)};
      if (gate_first) backward_held<true>(r, a);
      else backward_held<false>(r, a);
      return sum_pieces<Real>("ssm::gated_norm_weight", r, pieces, D, part, Grad{d(weight), true});
    }
#endif
    with_targets(dX, dZ, [&](const auto& to) {
      const auto rows_of = [&](auto order) {
        launch_rows("ssm::gated_norm_backward", r, splits,
                    Backward<decltype(order)::value, std::decay_t<decltype(to)>>{X, Z, W, dY, S, to, part, rows, splits, D});
      };
      if (gate_first) rows_of(std::true_type{});
      else rows_of(std::false_type{});
    });
    sum_pieces<Real>("ssm::gated_norm_weight", r, splits, D, part, Grad{d(weight), true});
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{9 * n_, n_, 3 * real * n_}, {20 * n_, n_, 5 * real * n_}};
  }
};

Param weight_of(Net& n, Tensor x, Index heads, const std::string& name) {
  return n.param(name + ".weight", {x.last() / heads}, init::constant(1), no_decay());
}
Tensor norm_alone(Net& n, Tensor x, Index heads, const std::string& name, double eps) {
  return heads == 1 ? rms_norm(n, x, name, eps) : head_norm(n, x, heads, name, eps);
}

}  // namespace gated_norm_op

Tensor norm_then_gate(Net& n, Tensor x, const std::function<Tensor()>& z, Index heads, const std::string& name, double eps) {
  if (n.mode == Mode::stream) {
    const Tensor h = gated_norm_op::norm_alone(n, x, heads, name, eps);
    return silu_gate(n, h, z());
  }
  const Param weight = gated_norm_op::weight_of(n, x, heads, name);
  return n.add<gated_norm_op::GatedNorm>(x, z(), weight, false, eps);
}
Tensor gate_then_norm(Net& n, Tensor x, Tensor z, Index heads, const std::string& name, double eps) {
  if (n.mode == Mode::stream) return gated_norm_op::norm_alone(n, silu_gate(n, x, z), heads, name, eps);
  return n.add<gated_norm_op::GatedNorm>(x, z, gated_norm_op::weight_of(n, x, heads, name), true, eps);
}

}  // namespace ssm
