// strided_conv.cpp - windows of the features side by side, then one matrix product.
//
//   window (B T, width F): row (b,t) holds positions (t+1) stride - width .. (t+1) stride - 1 of sequence b, zero before its start
//   y = window W^T + b      dW = dy^T window      db = sum dy
//
// Windows are made again for backward: they are `width / stride` times the input.
#include "ops/strided_conv.hpp"

#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"

namespace ssm {
namespace strided_conv_op {

struct StridedConv final : Op {
  Tensor y;
  Index width, stride, F;
  Param W, b;
  Scratch windows, parts;

  StridedConv(Net& net, Index width_, Index stride_, Index features, Index D, const std::string& name)
      : Op(net), width(width_), stride(stride_), F(features) {
    y = out(shaped({n.B, n.T, D}), drop);
    W = param(name + ".weight", {D, width * F}, init::torch_linear(width * F));
    b = param(name + ".bias", {D}, init::torch_linear(width * F));
    windows = scratch(y.rows() * width * F);
    if (n.mode == Mode::train) parts = scratch(gemm_sum_scratch(D, width * F, y.rows(), 1));
  }
  const char* name() const override { return "strided_conv"; }

  const Real* unfold(const Run& r) {
    const Real* X = n.batch.features;
    Real* to = v(windows);
    const Index T = n.T, row_size = width * F, length = T * stride * F, back = width * F, hop = stride * F;
    each_row(
        "ssm::strided_windows", r, y.rows(), row_size, KOKKOS_LAMBDA(const Index row, const Index i) {
          const Index sequence = row / T, from = (row - sequence * T + 1) * hop - back + i;
          to[row * row_size + i] = from >= 0 ? X[sequence * length + from] : Real(0);
        });
    return to;
  }
  void forward(const Run& r) override {
    const Real* X = unfold(r);
    Gemm product{.tb = true, .M = y.rows(), .N = y.D(), .K = width * F, .A = X, .lda = width * F, .B = v(W), .ldb = width * F};
    product.C = v(y), product.ldc = y.D(), product.bias = v(b);
    gemm(r, product);
  }
  void backward(const Run& r) override {
    const Real* X = unfold(r);
    Gemm to_W{.ta = true, .M = y.D(), .N = width * F, .K = y.rows(), .A = d(y), .lda = y.D(), .B = X, .ldb = width * F};
    to_W.beta = 1, to_W.C = d(W), to_W.ldc = width * F;
    gemm_sum(r, to_W, d(b), room(parts));
  }
  Cost cost() const override {
    const double rows = static_cast<double>(y.rows()), weights = static_cast<double>(W.size), numbers = static_cast<double>(y.size());
    const double io = rows * static_cast<double>(stride * F) + numbers, real = sizeof(Real);
    return {{2 * rows * weights + numbers, 0, real * (io + weights)}, {2 * rows * weights + numbers, 0, real * (io + 2 * weights)}};
  }
};

}  // namespace strided_conv_op

Tensor strided_conv(Net& n, Index width, Index stride, Index features, Index d, const std::string& name) {
  if (width < stride)
    throw BadInput("a strided convolution of width " + std::to_string(width) + " and stride " + std::to_string(stride) +
                   " leaves positions out; allowed is a width of at least the stride");
  return n.add<strided_conv_op::StridedConv>(width, stride, features, d, name);
}

}  // namespace ssm
