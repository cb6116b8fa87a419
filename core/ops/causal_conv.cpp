// causal_conv.cpp - depthwise causal convolution of a few taps, then SiLU or nothing; the short convolution of Mamba, Hyena and others.
//
//   pre_t = b + sum_k W_k x_{t-(w-1-k)}      y = act(pre)                                     x, y (B,T,D)   W (D,1,w)   b (D)
//   g_t = dy_t act'(pre_t)      dx_t = sum_k W_k g_{t+(w-1-k)}      dW_k = sum_{b,t} g_t x_{t-(w-1-k)}      db = sum_{b,t} g_t
//
// pre is recomputed in the backward pass. y may be several tensors, blocks of the channels. One work item takes a lane group of channels over a run of positions of one sequence; a GPU holds
// the window of 2 to 4 taps in registers.
#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/finish.hpp"
#include "ops/causal_conv_gpu.hpp"
#include "ops/causal_conv_kernels.hpp"

namespace ssm {
namespace causal_conv_op {

struct CausalConv final : Op {
  Tensor x, y, starts;
  std::vector<Tensor> outputs;  // y, or blocks of its channels
  int w;
  bool silu;
  Index run, runs;
  Param W, b;
  Scratch parts;
  State past;

  CausalConv(Net& net, Tensor x_, int width, const std::string& name, const std::string& act, Tensor starts_ = {},
             const std::vector<Index>& sizes = {})
      : Op(net), x(x_), starts(starts_), w(width), silu(act == "silu") {
    if (starts.id >= 0) in(starts, save);
    if (width < 1 || width > kMaxWidth) throw BadInput("a causal convolution has 1 to 16 taps, not " + std::to_string(width));
    if (!silu && act != "id") throw BadInput("unknown activation '" + act + "' of a causal convolution; allowed are silu, id");
    in(x, save);
    for (const Index size : sizes.empty() ? std::vector<Index>{x.D()} : sizes) {
      Tensor part = x;
      part.n[2] = size;
      outputs.push_back(out(part, drop));
    }
    y = outputs.front();
    W = param(name + ".weight", {x.D(), 1, w}, init::torch_linear(w));
    b = param(name + ".bias", {x.D()}, init::torch_linear(w));
    const Index chunks = (x.T() + kRun - 1) / kRun, wanted = (256 + x.B() - 1) / x.B();  // about 256 partial sums of the weights
    run = kRun * (wanted < chunks ? (chunks + wanted - 1) / wanted : 1);
    runs = (x.T() + run - 1) / run;
    if (n.mode == Mode::train) parts = scratch(x.B() * runs * x.D() * (w + 1));
    past = state((w - 1) * x.D());
  }
  const char* name() const override { return "causal_conv"; }

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
         .run = run,
         .runs = runs,
         .w = w,
         .silu = silu,
         .starts = cut() ? v(starts) : nullptr},
        part, first);
      first += part.D();
    }
  }
  bool cut() const { return starts.id >= 0; }
  void forward(const Run& r) override {
    each_output([&](const Arguments& a, const Tensor&, Index) {
      if (cut()) launch_lanes("ssm::causal_conv", r, x.B() * runs, a.D, Forward<true>{a});
#if defined(SSM_GPU_CODE)
      else if (few_taps(w)) forward_on_gpu(r, x.B(), a);
#endif
      else launch_lanes("ssm::causal_conv", r, x.B() * runs, a.D, Forward<false>{a});
    });
  }
  void backward(const Run& r) override {
    const Grad to = g(x);
    each_output([&](Arguments a, const Tensor& part, Index first) {
      a.dy = d(part);
      a.dx = {to.p + first, to.add};
      a.parts = v(parts);
      if (cut()) launch_lanes("ssm::causal_conv_bwd", r, x.B() * runs, a.D, Backward<true>{a});
#if defined(SSM_GPU_CODE)
      else if (few_taps(w)) backward_on_gpu(r, x.B(), a);
#endif
      else launch_lanes("ssm::causal_conv_bwd", r, x.B() * runs, a.D, Backward<false>{a});
      const Index all = x.B() * runs, stride = a.D * (w + 1);
      plain::add_parts(r, a.parts, all, stride, a.D * w, 1, d(W) + first * w);
      plain::add_parts(r, a.parts + a.D * w, all, stride, a.D, 1, d(b) + first);
    });
  }
  void step(const Run& r) override {
    each_output([&](Arguments a, const Tensor&, Index first) {
      a.state = v(past) + first;
      launch_lanes("ssm::causal_conv_step", r, x.B(), a.D, Step{a});
    });
  }
  Follows follows(Tensor) const override {
    return cut() || w > Finish::kTaps ? Follows::no : outputs.size() > 1 ? Follows::parts : Follows::entries;
  }
  int finish(Tensor, Finish* to) const override {
    Index first = 0;
    for (const Tensor& part : outputs) {
      Finish& f = *to++ = {};
      f.kind = Finish::Kind::conv;
      f.y = v(part), f.ld = f.count = part.D();
      f.taps = v(W) + first * w, f.at = v(b) + first, f.w = w, f.silu = silu;
      f.state = v(past) + first, f.wide = x.D();
      first += part.D();
    }
    return static_cast<int>(outputs.size());
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(x.size()), e = silu ? numbers : 0;
    return {{2 * w * numbers + 3 * e, e, 2 * sizeof(Real) * numbers},
            {(silu ? 6 : 4) * w * numbers + 8 * e, e, 3 * sizeof(Real) * numbers}};
  }
};

}  // namespace causal_conv_op

Tensor causal_conv(Net& n, Tensor x, int width, const std::string& name, const std::string& act) {
  return n.add<causal_conv_op::CausalConv>(n.as(x, Order::BTD), width, name, act);
}
Tensor causal_conv(Net& n, Tensor x, int width, const std::string& name, const std::string& act, Tensor starts) {
  return n.add<causal_conv_op::CausalConv>(n.as(x, Order::BTD), width, name, act, starts);
}

std::vector<Tensor> causal_conv_split(Net& n, Tensor x, int width, const std::string& name, const std::string& act,
                                      const std::vector<Index>& sizes, Tensor starts) {
  return n.push(std::make_unique<causal_conv_op::CausalConv>(n, n.as(x, Order::BTD), width, name, act, starts, sizes))->outputs;
}

}  // namespace ssm
