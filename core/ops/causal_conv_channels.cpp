// causal_conv_channels.cpp - the short causal convolution of (B,T,C) whose channels long convolutions take on, block by block, as (B,size,T).
//
//   y_k (B,size_k,T) = rows [first_k, first_k + size_k) of (b + sum_k W_k x_{t-(w-1-k)})^T
//
// On a GPU one kernel convolves and turns; elsewhere, in a stream and with other numbers of taps these are two ops.
#include "lib/blas.hpp"
#include "ops.hpp"
#include "ops/causal_conv_gpu.hpp"
#include "ops/causal_conv_turned.hpp"
#include "ops/filters.hpp"

namespace ssm {

#if defined(SSM_GPU)
namespace causal_conv_op {

struct CausalConvChannels final : Op {
  Tensor x, y;
  std::vector<Tensor> outputs;
  int w;
  Param W, b;
  Scratch parts;

  CausalConvChannels(Net& net, Tensor x_, int width, const std::string& name, const std::vector<Index>& sizes)
      : Op(net), x(in(x_, save)), w(width) {
    Index sum = 0;
    for (const Index size : sizes) outputs.push_back(out(shaped({x.B(), size, x.T()}, Order::BDT), drop)), sum += size;
    if (sum != x.D()) throw std::logic_error("causal_conv_channels takes all channels");
    y = outputs.front();
    W = param(name + ".weight", {x.D(), 1, w}, init::torch_linear(w));
    b = param(name + ".bias", {x.D()}, init::torch_linear(w));
    if (n.mode == Mode::train) parts = scratch(x.B() * runs() * x.D() * (w + 1));
  }
  const char* name() const override { return "causal_conv_channels"; }
  Index runs() const { return (x.T() + kTurnedRun - 1) / kTurnedRun; }

  // f(arguments of one output, that output, its first channel)
  template <class F>
  void each_output(const F& f) const {
    Index first = 0;
    for (const Tensor& part : outputs) {
      f({.x = v(x) + first,
         .W = v(W) + first * w,
         .b = v(b) + first,
         .y = v(part),
         .T = x.T(),
         .D = part.D(),
         .wide = x.D(),
         .run = kTurnedRun,
         .runs = runs(),
         .w = w,
         .silu = false,
         .starts = nullptr},
        part, first);
      first += part.D();
    }
  }
  void forward(const Run& r) override {
    const Index tiles = (x.T() + kTurned - 1) / kTurned;
    each_output(
        [&](const Arguments& a, const Tensor&, Index) { launch_turned<TurnedForward>("ssm::causal_conv_turned", r, x.B(), tiles, a); });
  }
  void backward(const Run& r) override {
    const Grad to = g(x);
    each_output([&](Arguments a, const Tensor& part, Index first) {
      a.dy = d(part);
      a.dx = {to.p + first, to.add};
      a.parts = v(parts);
      launch_turned<TurnedBackward>("ssm::causal_conv_turned_bwd", r, x.B(), runs(), a);
      const Index all = x.B() * runs(), stride = a.D * (w + 1);
      plain::add_parts(r, a.parts, all, stride, a.D * w, 1, d(W) + first * w);
      plain::add_parts(r, a.parts + a.D * w, all, stride, a.D, 1, d(b) + first);
    });
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(x.size());
    return {{2 * w * numbers, 0, 2 * sizeof(Real) * numbers}, {4 * w * numbers, 0, 3 * sizeof(Real) * numbers}};
  }
};

}  // namespace causal_conv_op
#endif

std::vector<Tensor> causal_conv_channels(Net& n, Tensor x, int width, const std::string& name, const std::vector<Index>& sizes) {
#if defined(SSM_GPU)
  if (n.mode != Mode::stream && causal_conv_op::few_taps(width))
    return n.push(std::make_unique<causal_conv_op::CausalConvChannels>(n, n.as(x, Order::BTD), width, name, sizes))->outputs;
#endif
  return split_channels(n, causal_conv(n, x, width, name, "id"), sizes);
}

}  // namespace ssm
