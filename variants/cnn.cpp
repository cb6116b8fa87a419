// cnn.cpp - temporal convolutional network (TCN: Bai, Kolter, Koltun 2018): one of its blocks as a mixer.
//
//   h = relu(norm(conv1(x)))     h = relu(norm(conv2(h)))     y = relu(x + h)                                       x, h, y (B,T,D)
//   conv(x)_t = b + sum_j W_j x_{t - (k-1-j) delta},  W_o = g_o v_o / |v_o|     centred: taps on both sides of t
//
// delta = dilation_base^(layer modulo dilation_cycle), so that with base 2 n layers see 1 + 2 (k-1) (2^n - 1) positions; dropout belongs to
// the model.
// The published stack has no norm and no outer residual; here the block is pre-norm as for the other families (it trains at any depth), and
// model.norm = none gives the published one around the mixer.
// inner_norm = batch (conv1_norm.*, conv2_norm.*) takes shift and length out of every output of conv: there are no b, and weight_g is
// not trained. Statistics are those of the batch in training, so that an output then depends on every position and sequence of it, as
// with model.norm = batch; they are the running ones in evaluation and in a stream, where `causal` holds.
#include <algorithm>
#include <cmath>

#include "variant.hpp"

namespace ssm::cnn {

struct Cnn final : Variant {
  int kernel = 3, dilation = 0, dilation_base = 2, dilation_cycle = 8;
  bool weight_norm = true, residual = true, causal_taps = true;
  std::string inner_norm = "none";

  std::string about() const override { return "TCN: two dilated convolutions with ReLU and a residual (Bai et al. 2018)"; }
  void knobs(Knobs& k) override {
    k("kernel", kernel, {2, 3, 7}).range(1, 64).note("taps of each convolution");
    k("dilation", dilation, {0, 1, 4}).range(0, 1 << 20).note("distance of the taps; 0: dilation_base^(layer modulo dilation_cycle)");
    k("dilation_base", dilation_base, {2, 3}).range(1, 64).note("factor of the dilation from layer to layer, up to 2^20");
    k("dilation_cycle", dilation_cycle, {4, 8}).range(1, 20).note("layers after which the dilation starts again at 1");
    k("weight_norm", weight_norm).note("weights are a direction times a length");
    k("inner_norm", inner_norm, {"none", "layer", "batch"})
        .note("norm after each convolution; batch replaces its bias and the length of its weights, and evaluates with running statistics");
    k("residual", residual).note("the input is added before the last ReLU");
    k("causal", causal_taps).note("taps at and before t, or centred on t");
  }
  Block block() const override { return {"layer", "pre", 0}; }
  Answer causal() const override { return causal_taps ? Answer{} : Answer::no("its taps are centred (causal = false)"); }
  Answer streams() const override { return causal(); }

  bool batch() const { return inner_norm == "batch"; }

  int distance() const {
    Index delta = dilation > 0 ? dilation : 1;
    for (int i = 0; dilation == 0 && i < layer % dilation_cycle; ++i) delta = std::min<Index>(delta * dilation_base, 1 << 20);
    return static_cast<int>(delta);
  }

  Tensor build(Net& n, Tensor x) override {
    Tensor h = x = n.as(x, Order::BTD);
    DilatedConvOptions o;
    o.taps = kernel, o.dilation = distance(), o.causal = causal_taps, o.weight_norm = weight_norm, o.affine = !batch();
    for (const char* name : {"conv1", "conv2"}) {
      h = dilated_conv(n, h, n.D, name, o);
      h = norm(n, h, inner_norm, std::string(name) + "_norm");
      h = activation(n, h, "relu");
    }
    return residual ? activation(n, add(n, h, x), "relu") : h;
  }

  void reference(Case& c) const override {
    std::vector<double> h = c.x;
    for (const std::string name : {"conv1", "conv2"}) {
      h = convolve(c, h, name);
      if (inner_norm == "layer") normalise(c, h, name + "_norm");
      if (batch()) rescale(c, h, name + "_norm");
      for (double& value : h) value = std::max(value, 0.0);
    }
    for (std::size_t i = 0; i < h.size(); ++i) c.y[i] = residual ? std::max(c.x[i] + h[i], 0.0) : h[i];
  }

  std::vector<double> convolve(const Case& c, const std::vector<double>& x, const std::string& name) const {
    const std::vector<double>& v = c.p(name + (weight_norm ? ".weight_v" : ".weight"));
    const Index D = c.D, k = kernel, delta = distance(), left = (causal_taps ? k - 1 : (k - 1) / 2) * delta;
    std::vector<double> y(x.size());
    for (Index o = 0; o < D; ++o) {
      double scale = 1, sum = 0;
      for (Index q = 0; q < D * k; ++q) sum += v[o * D * k + q] * v[o * D * k + q];
      if (weight_norm) scale = c.p(name + ".weight_g")[o] / std::sqrt(sum);
      for (Index b = 0; b < c.B; ++b)
        for (Index t = 0; t < c.T; ++t) {
          double value = batch() ? 0 : c.p(name + ".bias")[o];
          for (Index j = 0; j < k; ++j) {
            const Index from = t + j * delta - left;
            for (Index i = 0; from >= 0 && from < c.T && i < D; ++i) value += scale * v[(o * D + i) * k + j] * x[(b * c.T + from) * D + i];
          }
          y[(b * c.T + t) * D + o] = value;
        }
    }
    return y;
  }

  void normalise(const Case& c, std::vector<double>& h, const std::string& name) const {
    for (Index row = 0; row < c.B * c.T; ++row) {
      double* x = h.data() + row * c.D;
      double mean = 0, square = 0;
      for (Index i = 0; i < c.D; ++i) mean += x[i] / static_cast<double>(c.D);
      for (Index i = 0; i < c.D; ++i) square += (x[i] - mean) * (x[i] - mean) / static_cast<double>(c.D);
      for (Index i = 0; i < c.D; ++i) x[i] = (x[i] - mean) / std::sqrt(square + 1e-5) * c.p(name + ".weight")[i] + c.p(name + ".bias")[i];
    }
  }

  // A batch norm in evaluation.
  void rescale(const Case& c, std::vector<double>& h, const std::string& name) const {
    for (Index row = 0; row < c.B * c.T; ++row)
      for (Index i = 0; i < c.D; ++i) {
        double& value = h[row * c.D + i];
        value = (value - c.p(name + ".running_mean")[i]) / std::sqrt(c.p(name + ".running_var")[i] + 1e-5);
        value = value * c.p(name + ".weight")[i] + c.p(name + ".bias")[i];
      }
  }
};
SSM_VARIANT(Cnn, "cnn");

}  // namespace ssm::cnn
