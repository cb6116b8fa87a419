// causal_conv.cpp - depthwise causal convolution of a few taps, then SiLU or nothing; the short convolution of Mamba, Hyena and others.
//
//   pre_t = b + sum_k W_k x_{t-(w-1-k)}      y = act(pre)                                     x, y (B,T,D)   W (D,1,w)   b (D)
//   g_t = dy_t act'(pre_t)      dx_t = sum_k W_k g_{t+(w-1-k)}      dW_k = sum_{b,t} g_t x_{t-(w-1-k)}      db = sum_{b,t} g_t
//
// pre is recomputed in the backward pass. One work item takes a lane group of channels over a run of positions of one sequence.
#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm {
namespace causal_conv_op {

constexpr int kMaxWidth = 16, kChunk = 64;  // taps; positions whose g a work item holds at once

struct Arguments {
  const Real *x, *W, *b, *dy;
  Real *y, *parts, *state;
  Grad dx;
  Index T, D, run, runs;  // positions of a work item, items of a sequence
  int w;
  bool silu;
};

// Weights of W channels, tap by tap.
template <int W>
struct Taps {
  Real tap[kMaxWidth][W], bias[W];

  KOKKOS_FUNCTION Taps(const Arguments& a, Index c) {
    for (int l = 0; l < W; ++l) bias[l] = a.b[c + l];
    for (int k = 0; k < a.w; ++k)
      for (int l = 0; l < W; ++l) tap[k][l] = a.W[(c + l) * a.w + k];
  }
  // pre at position t of a sequence that starts at x (channel c).
  KOKKOS_FUNCTION void at(const Arguments& a, const Real* x, Index t, Real* pre) const {
    for (int l = 0; l < W; ++l) pre[l] = bias[l];
    for (int k = t < a.w - 1 ? a.w - 1 - static_cast<int>(t) : 0; k < a.w; ++k) {
      const Real* from = x + (t - (a.w - 1 - k)) * a.D;
      for (int l = 0; l < W; ++l) pre[l] += tap[k][l] * from[l];
    }
  }
};

struct Forward {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index c) const {
    const Index b = row / a.runs, first = (row - b * a.runs) * a.run, last = first + a.run < a.T ? first + a.run : a.T;
    const Taps<W> taps(a, c);
    const Real* x = a.x + b * a.T * a.D + c;
    Real* y = a.y + b * a.T * a.D + c;
    for (Index t = first; t < last; ++t) {
      Real pre[W];
      taps.at(a, x, t, pre);
      if (a.silu)
        for (int l = 0; l < W; ++l) pre[l] = silu(pre[l]);
      for (int l = 0; l < W; ++l) y[t * a.D + l] = pre[l];
    }
  }
};

struct Backward {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index c) const {
    const Index b = row / a.runs, begin = (row - b * a.runs) * a.run, end = begin + a.run < a.T ? begin + a.run : a.T;
    const Taps<W> taps(a, c);
    const Real *x = a.x + b * a.T * a.D + c, *dy = a.dy + b * a.T * a.D + c;
    const Index origin = b * a.T * a.D + c;
    Real dW[kMaxWidth][W], db[W];
    for (int l = 0; l < W; ++l) db[l] = 0;
    for (int k = 0; k < a.w; ++k)
      for (int l = 0; l < W; ++l) dW[k][l] = 0;
    for (Index first = begin; first < end; first += kChunk) {
      const int count = static_cast<int>(end - first < kChunk ? end - first : kChunk);
      const int ahead = static_cast<int>(a.T - first < count + a.w - 1 ? a.T - first : count + a.w - 1);
      Real g[kChunk + kMaxWidth][W];
      for (int s = 0; s < ahead; ++s) {
        const Index t = first + s;
        for (int l = 0; l < W; ++l) g[s][l] = dy[t * a.D + l];
        if (!a.silu) continue;
        Real pre[W];
        taps.at(a, x, t, pre);
        for (int l = 0; l < W; ++l) g[s][l] *= silu_slope(pre[l]);
      }
      for (int s = 0; s < count; ++s) {
        const Index t = first + s;
        Real dx[W];
        for (int l = 0; l < W; ++l) dx[l] = 0;
        for (int k = 0; k < a.w; ++k) {
          const int later = s + a.w - 1 - k;
          if (later < ahead)
            for (int l = 0; l < W; ++l) dx[l] += taps.tap[k][l] * g[later][l];
          if (t >= a.w - 1 - k)
            for (int l = 0; l < W; ++l) dW[k][l] += g[s][l] * x[(t - (a.w - 1 - k)) * a.D + l];
        }
        for (int l = 0; l < W; ++l) db[l] += g[s][l];
        for (int l = 0; l < W; ++l) a.dx(origin + t * a.D + l, dx[l]);
      }
    }
    Real* part = a.parts + row * a.D * (a.w + 1);
    for (int k = 0; k < a.w; ++k)
      for (int l = 0; l < W; ++l) part[(c + l) * a.w + k] = dW[k][l];
    for (int l = 0; l < W; ++l) part[a.D * a.w + c + l] = db[l];
  }
};

// One position; state (B, w-1, D) holds the inputs before it, oldest first.
struct Step {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index c) const {
    const Taps<W> taps(a, c);
    Real* past = a.state + b * (a.w - 1) * a.D + c;
    Real pre[W], now[W];
    for (int l = 0; l < W; ++l) now[l] = a.x[b * a.D + c + l];
    for (int l = 0; l < W; ++l) pre[l] = taps.bias[l] + taps.tap[a.w - 1][l] * now[l];
    for (int k = 0; k < a.w - 1; ++k)
      for (int l = 0; l < W; ++l) {
        pre[l] += taps.tap[k][l] * past[k * a.D + l];
        past[k * a.D + l] = k + 1 < a.w - 1 ? past[(k + 1) * a.D + l] : now[l];
      }
    for (int l = 0; l < W; ++l) a.y[b * a.D + c + l] = a.silu ? silu(pre[l]) : pre[l];
  }
};

struct CausalConv final : Op {
  Tensor x, y;
  int w;
  bool silu;
  Index run, runs;
  Param W, b;
  Scratch parts;
  State past;

  CausalConv(Net& net, Tensor x_, int width, const std::string& name, const std::string& act)
      : Op(net), x(x_), w(width), silu(act == "silu") {
    if (width < 1 || width > kMaxWidth) throw BadInput("a causal convolution has 1 to 16 taps, not " + std::to_string(width));
    if (!silu && act != "id") throw BadInput("unknown activation '" + act + "' of a causal convolution; allowed are silu, id");
    in(x, save);
    y = out(x, drop);
    W = param(name + ".weight", {x.D(), 1, w}, init::torch_linear(w));
    b = param(name + ".bias", {x.D()}, init::torch_linear(w));
    const Index chunks = (x.T() + kChunk - 1) / kChunk, wanted = (256 + x.B() - 1) / x.B();  // about 256 partial sums of the weights
    run = kChunk * (wanted < chunks ? (chunks + wanted - 1) / wanted : 1);
    runs = (x.T() + run - 1) / run;
    if (n.mode == Mode::train) parts = scratch(x.B() * runs * x.D() * (w + 1));
    past = state((w - 1) * x.D());
  }
  const char* name() const override { return "causal_conv"; }

  Arguments arguments() const { return {v(x), v(W), v(b), nullptr, v(y), nullptr, nullptr, {}, x.T(), x.D(), run, runs, w, silu}; }
  void forward(const Run& r) override { launch_lanes("ssm::causal_conv", r, x.B() * runs, x.D(), Forward{arguments()}); }
  void backward(const Run& r) override {
    Arguments a = arguments();
    a.dy = d(y);
    a.dx = g(x);
    a.parts = v(parts);
    launch_lanes("ssm::causal_conv_bwd", r, x.B() * runs, x.D(), Backward{a});
    const Index all = x.B() * runs, stride = x.D() * (w + 1);
    plain::add_parts(r, a.parts, all, stride, W.size, 1, d(W));
    plain::add_parts(r, a.parts + W.size, all, stride, b.size, 1, d(b));
  }
  void step(const Run& r) override {
    Arguments a = arguments();
    a.state = v(past);
    launch_lanes("ssm::causal_conv_step", r, x.B(), x.D(), Step{a});
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

}  // namespace ssm
