// transpose.cpp - moves entries of sequence tensors without arithmetic: BTD <-> BDT, reversal, zeros on padding.
#include "launch.hpp"
#include "lib/each.hpp"
#include "lib/turn_gpu.hpp"
#include "ops.hpp"

namespace ssm::transpose_op {

struct Transpose final : Op {
  Tensor x, y;
  static Tensor turned(Tensor x) {
    if (x.rank != 3) throw std::logic_error("transpose needs a tensor of rank 3");
    std::swap(x.n[1], x.n[2]);
    x.order = x.order == Order::BTD ? Order::BDT : Order::BTD;
    return x;
  }
  Transpose(Net& net, Tensor x_) : Op(net), x(in(x_, drop)), y(out(turned(x_), drop)) {}
  const char* name() const override { return "transpose"; }

  void forward(const Run& r) override { turn("ssm::transpose", r, v(x), {v(y), false}, x.n[1], x.n[2]); }
  void backward(const Run& r) override { turn("ssm::transpose_backward", r, d(y), g(x), x.n[2], x.n[1]); }

  // to (B,C,R) = from (B,R,C)
  void turn(const char* label, const Run& r, const Real* from, Grad to, Index R, Index C) {
#if defined(SSM_GPU_CODE)
    turn_tiles(label, r, x.B(), {from, to, R, C, R * C, C, R * C, R});
#else
    constexpr Index kTile = 32;  // a tile of kTile x kTile entries stays in the first-level cache of a CPU
    const Index down = (R + kTile - 1) / kTile, across = (C + kTile - 1) / kTile, tiles = down * across;
    launch(
        label, r, x.B() * tiles, KOKKOS_LAMBDA(const Index k) {
          const Index b = k / tiles, tile = k - b * tiles, i0 = tile % down * kTile, j0 = tile / down * kTile;
          const Index i1 = i0 + kTile < R ? i0 + kTile : R, j1 = j0 + kTile < C ? j0 + kTile : C;
          for (Index j = j0; j < j1; ++j) {
            SSM_INDEPENDENT
            for (Index i = i0; i < i1; ++i) to((b * C + j) * R + i, from[(b * R + i) * C + j]);
          }
        });
#endif
  }
  Cost cost() const override {
    const double bytes = 2.0 * sizeof(Real) * static_cast<double>(x.size());
    return {{0, 0, bytes}, {0, 0, bytes}};
  }
};

// Ops along time that are their own adjoint.
struct SelfAdjoint : Op {
  Tensor x, y;
  SelfAdjoint(Net& net, Tensor x_) : Op(net), x(in(x_, drop)), y(out(x_, drop)) {}
  virtual void apply(const Run& r, const Real* from, Grad to) = 0;
  void forward(const Run& r) override { apply(r, v(x), {v(y), false}); }
  void backward(const Run& r) override { apply(r, d(y), g(x)); }
  Cost cost() const override {
    const double bytes = 2.0 * sizeof(Real) * static_cast<double>(x.size());
    return {{0, 0, bytes}, {0, 0, bytes}};
  }
};

// y_t = x_{length-1-t} for t < length; positions of padding keep their place.
struct Reverse final : SelfAdjoint {
  using SelfAdjoint::SelfAdjoint;
  const char* name() const override { return "reverse"; }
  void apply(const Run& r, const Real* from, Grad to) override {
    const Index T = x.T(), D = x.D();
    const std::int32_t* lengths = n.batch.lengths;
    if (x.order == Order::BTD)
      each_row(
          "ssm::reverse", r, x.B() * T, D, KOKKOS_LAMBDA(const Index row, const Index c) {
            const Index b = row / T, t = row - b * T, length = lengths ? lengths[b] : T, s = t < length ? length - 1 - t : t;
            to(row * D + c, from[(b * T + s) * D + c]);
          });
    else
      each_row(
          "ssm::reverse", r, x.B() * D, T, KOKKOS_LAMBDA(const Index row, const Index t) {
            const Index length = lengths ? lengths[row / D] : T;
            to(row * T + t, from[row * T + (t < length ? length - 1 - t : t)]);
          });
  }
};

struct MaskPadding final : SelfAdjoint {
  using SelfAdjoint::SelfAdjoint;
  const char* name() const override { return "mask_padding"; }
  void apply(const Run& r, const Real* from, Grad to) override {
    const Index T = x.T(), D = x.D();
    const std::int32_t* lengths = n.batch.lengths;
    if (x.order == Order::BTD)
      each_row(
          "ssm::mask_padding", r, x.B() * T, D, KOKKOS_LAMBDA(const Index row, const Index c) {
            const bool valid = !lengths || row % T < lengths[row / T];
            to(row * D + c, valid ? from[row * D + c] : Real(0));
          });
    else
      each_row(
          "ssm::mask_padding", r, x.B() * D, T, KOKKOS_LAMBDA(const Index row, const Index t) {
            to(row * T + t, !lengths || t < lengths[row / D] ? from[row * T + t] : Real(0));
          });
  }
};

}  // namespace ssm::transpose_op

namespace ssm {

Tensor transpose(Net& n, Tensor x) { return n.add<transpose_op::Transpose>(x); }
Tensor reverse(Net& n, Tensor x) { return n.add<transpose_op::Reverse>(x); }
Tensor mask_padding(Net& n, Tensor x) { return n.add<transpose_op::MaskPadding>(x); }

}  // namespace ssm
