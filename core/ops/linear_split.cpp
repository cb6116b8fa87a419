// linear_split.cpp - one weight, several outputs: y_p = x W_p^T, W_p a block of rows of W. Saves the copies of a slice and lets every
// part live and die on its own.
//
//   dx = sum_p dy_p W_p     dW_p += dy_p^T x
//
// Narrow parts are one product, that goes through scratch: x is read once, not once a part. Wide ones are products of their own.
#include <algorithm>

#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "lib/few_rows.hpp"
#include "ops.hpp"

namespace ssm {
namespace linear_split_op {

constexpr std::size_t kMostOfStep = 3;  // outputs; one of them may be cut further
constexpr Index kNarrow = 256;          // columns of all parts together that are worth one product and a copy
constexpr int kMostJoined = 4;

// Column c of all parts beside each other.
template <class Number>
struct Columns {
  Number* at[kMostJoined];
  Index first[kMostJoined + 1];
  SSM_FN Number& operator()(Index row, Index c) const {
    int p = 0;
    while (c >= first[p + 1]) ++p;
    return at[p][row * (first[p + 1] - first[p]) + c - first[p]];
  }
};

struct LinearSplit final : Op {
  Tensor x, y;  // y: the first part
  std::vector<Tensor> parts;
  Index rows, in_size, total = 0;
  Param W;
  Scratch sums, joint;  // joint (rows, total)

  LinearSplit(Net& net, Tensor x_, const std::vector<Index>& sizes, const std::string& name, const LinearOptions& o)
      : Op(net), x(in(x_, save)), rows(x.rows()), in_size(x.last()) {
    if (x.order != Order::BTD || o.order != Order::BTD || o.bias) throw std::logic_error("linear_split: BTD in and out, no bias");
    Index sum = 0;
    for (const Index size : sizes) {
      Tensor shape = x;
      shape.n[shape.rank - 1] = size;
      parts.push_back(out(shape, drop));
      total += size;
      sum = std::max(sum, gemm_sum_scratch(size, in_size, rows, 1));
    }
    y = parts.at(0);
    W = param(name + ".weight", {total, in_size}, o.weight ? o.weight : init::torch_linear(in_size), o.group);
    if (narrow()) joint = scratch(rows * total), sum = gemm_sum_scratch(total, in_size, rows, 1);
    if (n.mode == Mode::train) sums = scratch(sum);
  }
  bool narrow() const { return parts.size() > 1 && parts.size() <= kMostJoined && total <= kNarrow; }
  template <class Number, class Of>
  Columns<Number> columns(const Of& of) const {
    Columns<Number> c{};
    for (std::size_t p = 0; p < parts.size(); ++p) c.at[p] = of(parts[p]), c.first[p + 1] = c.first[p] + parts[p].last();
    return c;
  }
  const char* name() const override { return "linear_split"; }

  void forward(const Run& r) override {
    const Real* weight = v(W);
    if (narrow()) {
      const Real* from = v(joint);
      const auto to = columns<Real>([&](Tensor part) { return v(part); });
      const Index width = total;
      gemm(r, false, true, rows, total, in_size, 1, v(x), in_size, weight, in_size, 0, v(joint), total);
      each_row(
          "ssm::linear_split", r, rows, total, KOKKOS_LAMBDA(const Index row, const Index c) { to(row, c) = from[row * width + c]; });
      return;
    }
    for (const Tensor& part : parts) {
      const Index size = part.last();
      gemm(r, false, true, rows, size, in_size, 1, v(x), in_size, weight, in_size, 0, v(part), size);
      weight += size * in_size;
    }
  }

  // One position: all parts in one kernel, each with the op that follows.
  bool together() const { return takes_few_rows(rows) && parts.size() <= kMostOfStep; }
  bool leads(Tensor, Follows how) const override { return together() && how != Follows::pairs; }
  bool scales(const ScaledRows& scaled_rows) const override { return together() && scaled_rows.weight.size == in_size; }
  void step(const Run& r) override {
    if (!together()) return forward(r);
    FewRows p;
    p.rows = rows, p.K = in_size, p.x = v(x), p.ldx = in_size, p.W = v(W), p.ldw = in_size, p.fixed = true;
    for (const Tensor& part : parts) {
      Finish of_part[kMostFinishes];
      const int count = ends(part, of_part);
      if (p.parts + count > kMostParts) throw std::logic_error("linear_split: too many outputs end one step");
      std::copy_n(of_part, count, p.part + p.parts);
      p.parts += count;
    }
    if (const ScaledRows* scaled_x = rows_of(x))
      p.x = v(scaled_x->x), p.weight = v(scaled_x->weight), p.eps = static_cast<Real>(scaled_x->eps);
    few_rows(r, &p);
  }

  void backward(const Run& r) override {
    const Grad dx = g(x);
    const Real* weight = v(W);
    Real *dweight = d(W), beta = dx.add ? 1 : 0;
    const auto one = [&](const Real* dy, Index size) {
      gemm(r, false, false, rows, in_size, size, 1, dy, size, weight, in_size, beta, dx.p, in_size);
      const Gemm to_W{.ta = true,
                      .M = size,
                      .N = in_size,
                      .K = rows,
                      .A = dy,
                      .lda = size,
                      .B = v(x),
                      .ldb = in_size,
                      .beta = 1,
                      .C = dweight,
                      .ldc = in_size};
      gemm_sum(r, to_W, nullptr, room(sums));
    };
    if (narrow()) {
      Real* to = v(joint);
      const auto from = columns<const Real>([&](Tensor part) { return d(part); });
      const Index width = total;
      each_row(
          "ssm::linear_split_back", r, rows, total, KOKKOS_LAMBDA(const Index row, const Index c) { to[row * width + c] = from(row, c); });
      return one(to, total);
    }
    for (const Tensor& part : parts) {
      const Index size = part.last();
      one(d(part), size);
      weight += size * in_size;
      dweight += size * in_size;
      beta = 1;
    }
  }

  Cost cost() const override {
    const double places = static_cast<double>(rows), weights = static_cast<double>(W.size);
    const double wide = static_cast<double>(in_size) + weights / static_cast<double>(in_size);
    return {{2 * places * weights, 0, sizeof(Real) * (places * wide + weights)},
            {4 * places * weights, 0, sizeof(Real) * (2 * places * wide + 3 * weights)}};
  }
};

}  // namespace linear_split_op

std::vector<Tensor> linear_split(Net& n, Tensor x, const std::vector<Index>& sizes, const std::string& name, LinearOptions options) {
  options.bias = false;
  return n.push(std::make_unique<linear_split_op::LinearSplit>(n, x, sizes, name, options))->parts;
}

}  // namespace ssm
