// causal_conv_channels.cpp - the short causal convolution with its channels in blocks of the order BDT, of which the last two may come multiplied:
// what stands before Hyena's long convolutions.
//
//   z_t = b + sum_k W_k x_{t-(w-1-k)}, cut in blocks; product: .., z_{n-2} z_{n-1}         x (B,T,C)   y_i (B,size_i,T)   W (C,1,w)   b (C)
//   backward: dz_{n-2} = dy z_{n-1}, dz_{n-1} = dy z_{n-2}, with z made again from x; then as in causal_conv.cpp
//
// One kernel on a GPU for 2 to 4 taps and whole sequences; else causal_conv, split_channels and multiply, with the same parameters.
#include <numeric>

#include "ops.hpp"
#include "ops/causal_conv_kernels.hpp"
#include "ops/causal_conv_turned_gpu.hpp"
#include "ops/filters.hpp"

namespace ssm {
#if defined(SSM_GPU_CODE)
namespace causal_conv_op {

struct CausalConvChannels final : Op {
  Tensor x;
  std::vector<Tensor> outputs;
  int w;
  bool product;
  Index pieces;
  Param W, b;
  Scratch parts;

  CausalConvChannels(Net& net, Tensor x_, int width, const std::string& name, const std::vector<Index>& sizes, bool product_)
      : Op(net), x(in(x_, save)), w(width), product(product_) {
    const Index total = std::accumulate(sizes.begin(), sizes.end(), Index{0});
    if (total != x.D()) throw std::logic_error("causal_conv_channels takes all channels of x");
    for (std::size_t i = 0; i + (product ? 1 : 0) < sizes.size(); ++i)
      outputs.push_back(out(shaped({x.B(), sizes[i], x.T()}, Order::BDT), drop));
    W = param(name + ".weight", {x.D(), 1, w}, init::torch_linear(w));
    b = param(name + ".bias", {x.D()}, init::torch_linear(w));
    pieces = (x.T() + kTurnedSteps - 1) / kTurnedSteps;
    if (n.mode == Mode::train) parts = scratch(x.B() * pieces * x.D() * (w + 1));
  }
  const char* name() const override { return "causal_conv"; }

  TurnedArguments arguments() const {
    const auto narrow = [](Index i) { return static_cast<int>(i); };
    TurnedArguments a{.x = v(x), .W = v(W), .b = v(b), .T = narrow(x.T()), .C = narrow(x.D()), .pieces = narrow(pieces)};
    int first = 0;
    for (const Tensor& y : outputs) {
      const int size = narrow(y.D());
      TurnedOutput& o = a.outputs[a.count++];
      o = {.y = v(y), .first = first, .size = size, .product = product && a.count == narrow(std::ssize(outputs))};
      a.tiles += (size + kWarp - 1) / kWarp;
      first += size;
    }
    return a;
  }
  void forward(const Run& r) override { launch_turned<TurnedForward>("ssm::causal_conv_turned", r, x.B(), w, arguments()); }
  void backward(const Run& r) override {
    TurnedArguments a = arguments();
    for (int i = 0; i < a.count; ++i) a.outputs[i].dy = d(outputs[static_cast<std::size_t>(i)]);
    a.dx = g(x), a.parts = v(parts);
    launch_turned<TurnedBackward>("ssm::causal_conv_turned_bwd", r, x.B(), w, a);
    const TurnedSums sums{{}, a.parts, x.B() * pieces, d(W), d(b), a.C * w, a.C * (w + 1)};
    launch_shared("ssm::causal_conv_sums", r, (sums.numbers + kWarp - 1) / kWarp, TurnedSums::kBytes, sums);
  }
  Cost cost() const override {
    double read = static_cast<double>(x.size()), written = 0;
    for (const Tensor& y : outputs) written += static_cast<double>(y.size());
    const double multiplied = product ? static_cast<double>(outputs.back().size()) : 0, real = sizeof(Real);
    return {{2 * w * read + multiplied, 0, real * (read + written)},
            {4 * w * read + (4 * w + 2) * multiplied, 0, real * (2 * read + written)}};
  }
};

}  // namespace causal_conv_op
#endif

std::vector<Tensor> causal_conv_channels(Net& n, Tensor x, int width, const std::string& name, const std::vector<Index>& sizes,
                                         bool product) {
  if (product && (sizes.size() < 2 || sizes.back() != sizes[sizes.size() - 2]))
    throw std::logic_error("causal_conv_channels multiplies two blocks of one size");
#if defined(SSM_GPU_CODE)
  using namespace causal_conv_op;
  if (n.mode != Mode::stream && few_taps(width) && sizes.size() <= TurnedArguments::kMost)
    return n.push(std::make_unique<CausalConvChannels>(n, n.as(x, Order::BTD), width, name, sizes, product))->outputs;
#endif
  std::vector<Tensor> parts = split_channels(n, causal_conv(n, x, width, name, "id"), sizes);
  if (product) {
    const Tensor last = parts.back();
    parts.pop_back();
    parts.back() = multiply(n, last, parts.back());
  }
  return parts;
}

}  // namespace ssm
