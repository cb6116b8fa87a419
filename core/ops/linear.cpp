// linear.cpp - y = x W^T + b over the last extent (or the channels of a BDT tensor), any order in, any order out.
//
// Per sequence, with X (T,in) and Y (T,out) stored as they are or transposed:
//   Y = X W^T + b     dX = dY W     dW += sum dY^T X     db += sum dY         (and Y += what residual_add() hands over)
#include "lib/blas.hpp"
#include "lib/few_rows.hpp"
#include "ops.hpp"

namespace ssm {
namespace linear_op {

struct Linear final : Op {
  Tensor x, y, added;
  Index in_size, out_size;
  Index batch, T;               // matrices and rows of each; one matrix where neither side is transposed
  bool tx = false, ty = false;  // stored (channels, T)
  Param W, b;
  Scratch parts;

  Linear(Net& net, Tensor x_, Index out_, const std::string& name, const LinearOptions& o) : Op(net), x(x_), out_size(out_) {
    const bool sequence = x.rank == 3;
    in_size = sequence ? x.D() : x.last();
    batch = sequence ? x.B() : 1;
    T = sequence ? x.T() : x.rows();
    Tensor shape = x;
    shape.order = sequence ? o.order : Order::BTD;
    if (sequence) shape.n[1] = shape.order == Order::BTD ? T : out_size, shape.n[2] = shape.order == Order::BTD ? out_size : T;
    else shape.n[shape.rank - 1] = out_size;
    if (sequence && T > 1) tx = x.order == Order::BDT, ty = shape.order == Order::BDT;
    if (!tx && !ty) T *= batch, batch = 1;
    in(x, save);
    y = out(shape, drop);
    const Init fallback = init::torch_linear(in_size);
    W = param(name + ".weight", {out_size, in_size}, o.weight ? o.weight : fallback, o.group);
    if (o.bias) b = param(name + ".bias", {out_size}, o.bias_init ? o.bias_init : fallback, o.group);
    if (n.mode == Mode::train) parts = scratch(gemm_sum_scratch(out_size, in_size, T, batch));
  }
  const char* name() const override { return "linear"; }
  bool adds(Tensor more) override {
    added = in(more, drop), passes(added, y);
    return true;
  }

  // The smaller view of a matrix stored (T, channels), or (channels, T) when transposed.
  static Index ld(bool transposed, Index rows, Index channels) { return transposed ? rows : channels; }

  void forward(const Run& r) override {
    Gemm g{.K = in_size,
           .C = v(y),
           .ldc = ld(ty, T, out_size),
           .stride_c = T * out_size,
           .batch = batch,
           .bias = b.id < 0 ? nullptr : v(b),
           .bias_per_row = ty,
           .onto = added.id < 0 ? nullptr : v(added),
           .fixed = n.mode == Mode::stream};
    if (ty) {  // Y^T = W X^T
      g.tb = !tx, g.M = out_size, g.N = T;
      g.A = v(W), g.lda = in_size;
      g.B = v(x), g.ldb = ld(tx, T, in_size), g.stride_b = T * in_size;
    } else {
      g.ta = tx, g.tb = true, g.M = T, g.N = out_size;
      g.A = v(x), g.lda = ld(tx, T, in_size), g.stride_a = T * in_size;
      g.B = v(W), g.ldb = in_size;
    }
    gemm(r, g);
  }

  // One position: with the op that follows and the norm before it.
  bool leads(Tensor, Follows) const override { return added.id < 0 && takes_few_rows(T); }
  bool scales(const ScaledRows& rows) const override { return takes_few_rows(T) && rows.weight.size == in_size; }
  void step(const Run& r) override {
    if (!takes_few_rows(T)) return forward(r);
    FewRows p;
    p.rows = T, p.K = in_size, p.x = v(x), p.ldx = in_size, p.W = v(W), p.ldw = in_size, p.fixed = true;
    p.parts = ends(y, p.part);
    p.part[0].bias = b.id < 0 ? nullptr : v(b);
    p.part[0].onto = added.id < 0 ? nullptr : v(added);
    if (const ScaledRows* rows = rows_of(x)) p.x = v(rows->x), p.weight = v(rows->weight), p.eps = static_cast<Real>(rows->eps);
    few_rows(r, &p);
  }

  void backward(const Run& r) override {
    const Grad dx = g(x);
    Gemm to_x{
        .K = out_size, .beta = dx.add ? Real(1) : Real(0), .C = dx.p, .ldc = ld(tx, T, in_size), .stride_c = T * in_size, .batch = batch};
    if (tx) {  // dX^T = W^T dY^T
      to_x.ta = true, to_x.tb = !ty, to_x.M = in_size, to_x.N = T;
      to_x.A = v(W), to_x.lda = in_size;
      to_x.B = d(y), to_x.ldb = ld(ty, T, out_size), to_x.stride_b = T * out_size;
    } else {
      to_x.ta = ty, to_x.M = T, to_x.N = in_size;
      to_x.A = d(y), to_x.lda = ld(ty, T, out_size), to_x.stride_a = T * out_size;
      to_x.B = v(W), to_x.ldb = in_size;
    }
    gemm(r, to_x);
    const Gemm to_W{.ta = !ty,
                    .tb = tx,
                    .M = out_size,
                    .N = in_size,
                    .K = T,
                    .A = d(y),
                    .lda = ld(ty, T, out_size),
                    .stride_a = T * out_size,
                    .B = v(x),
                    .ldb = ld(tx, T, in_size),
                    .stride_b = T * in_size,
                    .beta = 1,
                    .C = d(W),
                    .ldc = in_size,
                    .batch = batch};
    gemm_sum(r, to_W, b.id < 0 ? nullptr : d(b), room(parts));
    if (added.id >= 0) pass(r, y, added);
  }

  Cost cost() const override {
    const double rows = static_cast<double>(batch * T), wide = static_cast<double>(in_size + out_size),
                 weights = static_cast<double>(W.size);
    const double bias = b.id < 0 ? 0 : rows * static_cast<double>(out_size), more = added.id < 0 ? 0 : rows * static_cast<double>(out_size);
    return {{2 * rows * weights + bias + more, 0, sizeof(Real) * (rows * wide + more + weights)},
            {4 * rows * weights + bias, 0, sizeof(Real) * (2 * rows * wide + 3 * weights)}};
  }
};

}  // namespace linear_op

Tensor linear(Net& n, Tensor x, Index out, const std::string& name, const LinearOptions& options) {
  return n.add<linear_op::Linear>(x, out, name, options);
}

}  // namespace ssm
