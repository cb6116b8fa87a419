// norm.cpp - layer and RMS normalisation over the last extent.
//
//   layer: y = (x - mean) s w + b,  s = 1/sqrt(var + eps)      rms: y = x s w,  s = 1/sqrt(mean x^2 + eps)
//   with g = dy w and h = the normalised x:   dx = s (g - mean g - h mean(g h))   (rms: without mean g)     (variants.md 1.5)
#include "error.hpp"
#include "launch.hpp"
#include "lib/reduce.hpp"
#include "lib/rows.hpp"
#include "ops.hpp"
#include "ops/norm_gpu.hpp"

namespace ssm::norm_op {

struct Norm final : Op {
  bool centred;
  double eps;
  Tensor x, y, mean, scale;
  Param weight, bias;
  Scratch parts;
  ScaledRows rows_;

  Norm(Net& net, Tensor x_, const std::string& local, bool centred_, double eps_)
      : Op(net), centred(centred_), eps(eps_), x(in(x_, save)), y(out(x_, drop)), scale(keep(shaped({x_.rows()}))) {
    if (x.rank == 3 && x.order == Order::BDT) throw std::logic_error("a norm over channels needs order BTD");
    weight = param(local + ".weight", {x.last()}, init::constant(1), no_decay());
    if (centred) {
      mean = keep(shaped({x.rows()}));
      bias = param(local + ".bias", {x.last()}, init::constant(0), no_decay());
    }
    rows_ = {x, weight, eps};
    parts = scratch((centred ? 2 : 1) * sum_columns_scratch(x.rows(), x.last()));
  }
  const char* name() const override { return centred ? "layer_norm" : "rms_norm"; }

  void forward(const Run& r) override {
    const Real *X = v(x), *W = v(weight), *B = centred ? v(bias) : nullptr;
    Real *Y = v(y), *M = centred ? v(mean) : nullptr, *S = v(scale);
    const Index D = x.last();
    const Real small = static_cast<Real>(eps);
#if defined(SSM_GPU_CODE)
    if (D <= kHeld) return forward_on_gpu(r, {X, W, B, nullptr, Y, M, S, {}, nullptr, nullptr, x.rows(), static_cast<int>(D), small});
#endif
    launch_rows(
        "ssm::norm", r, x.rows(), KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real* in_row = X + i * D;
          Real* out_row = Y + i * D;
          const Real m = M ? row.sum(D, [&](const Index c) { return in_row[c]; }) / static_cast<Real>(D) : Real(0);
          const Real square = row.sum(D, [&](const Index c) { return (in_row[c] - m) * (in_row[c] - m); });
          const Real s = 1 / Kokkos::sqrt(square / static_cast<Real>(D) + small);
          row.once([&] {
            S[i] = s;
            if (M) M[i] = m;
          });
          if (B) row.each(D, [&](const Index c) { out_row[c] = (in_row[c] - m) * s * W[c] + B[c]; });
          else row.each(D, [&](const Index c) { out_row[c] = in_row[c] * s * W[c]; });
        });
  }
  const ScaledRows* scaled() const override { return centred ? nullptr : &rows_; }
  void backward(const Run& r) override {
    const Real *X = v(x), *W = v(weight), *dY = d(y), *M = centred ? v(mean) : nullptr, *S = v(scale);
    const Grad dX = g(x);
    const Index D = x.last();
    Real* part = v(parts);
#if defined(SSM_GPU_CODE)
    if (D <= kHeld) {
      const Index blocks = row_splits(x.rows());
      Real* part_of_bias = centred ? part + blocks * D : nullptr;
      backward_on_gpu(r,
                      {X, W, nullptr, dY, nullptr, centred ? v(mean) : nullptr, v(scale), dX, part, part_of_bias, x.rows(),
                       static_cast<int>(D), Real(0)},
                      blocks);
      sum_pieces<Real>("ssm::norm_weight", r, blocks, D, part, Grad{d(weight), true});
      if (centred) sum_pieces<Real>("ssm::norm_bias", r, blocks, D, part_of_bias, Grad{d(bias), true});
      return;
    }
#endif
    launch_rows(
        "ssm::norm_backward", r, x.rows(), KOKKOS_LAMBDA(const Row& row, const Index i) {
          const Real *in_row = X + i * D, *dy = dY + i * D;
          const Real m = M ? M[i] : Real(0), s = S[i], per = 1 / static_cast<Real>(D);
          const Real g1 = M ? per * row.sum(D, [&](const Index c) { return dy[c] * W[c]; }) : Real(0);
          const Real g2 = per * s * row.sum(D, [&](const Index c) { return dy[c] * W[c] * (in_row[c] - m); });
          row.each(D, [&](const Index c) { dX(i * D + c, s * (dy[c] * W[c] - g1 - (in_row[c] - m) * s * g2)); });
        });
    sum_columns(
        "ssm::norm_weight", r, x.rows(), D, part,
        KOKKOS_LAMBDA(const Index i, const Index c) { return dY[i * D + c] * (X[i * D + c] - (M ? M[i] : Real(0))) * S[i]; },
        Grad{d(weight), true});
    if (centred)
      sum_columns(
          "ssm::norm_bias", r, x.rows(), D, part, KOKKOS_LAMBDA(const Index i, const Index c) { return dY[i * D + c]; },
          Grad{d(bias), true});
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{(centred ? 8.0 : 5.0) * n_, 0, 2 * real * n_}, {(centred ? 15.0 : 12.0) * n_, 0, 3 * real * n_}};
  }
};

}  // namespace ssm::norm_op

namespace ssm {

Tensor layer_norm(Net& n, Tensor x, const std::string& name, double eps) { return n.add<norm_op::Norm>(x, name, true, eps); }
Tensor rms_norm(Net& n, Tensor x, const std::string& name, double eps) { return n.add<norm_op::Norm>(x, name, false, eps); }

Tensor norm(Net& n, Tensor x, const std::string& kind, const std::string& name) {
  if (kind == "none") return x;
  if (kind == "layer") return layer_norm(n, x, name);
  if (kind == "rms") return rms_norm(n, x, name);
  if (kind == "batch") return batch_norm(n, x, name);
  unknown("norm", kind, {"layer", "rms", "batch", "none"});
}

}  // namespace ssm
