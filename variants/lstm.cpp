// lstm.cpp - long short-term memory (Hochreiter, Schmidhuber 1997; forget gate: Gers et al. 2000), as torch.nn.LSTM computes it.
//
//   [i f g o] = W x_t + b_ih + U h_{t-1} + b_hh      c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)      h_t = sigmoid(o) tanh(c_t)
//
// x (B,T,D)   h, c (B,T,H), H = hidden or D   weight_ih_l0 (4H,D)  weight_hh_l0 (4H,H)  bias_ih_l0, bias_hh_l0 (4H); layers l1, .. read h.
// layer_norm: [i f g o] = LN(W x_t) + LN(U h_{t-1}), h_t = sigmoid(o) tanh(LN(c_t)), ih_l0.weight (4H,D), norm_ih_l0, norm_hh_l0, norm_c_l0
// instead of weight_ih_l0 and both biases (Ba, Kiros, Hinton 2016); plain kernels on every device.
// out = h_t, or out_proj (D,H) h_t where H is not D.
#include <cmath>

#include "error.hpp"
#include "ops/rnn.hpp"
#include "starts.hpp"

namespace ssm::lstm {

struct Lstm final : Variant, KeepsApart {
  int hidden = 0, layers = 1;
  double forget_bias = 0;
  bool learn_start = false, layer_norm = false;

  std::string about() const override { return "LSTM: gated recurrence with a cell, one position after the other (Hochreiter 1997)"; }
  void knobs(Knobs& k) override {
    k("hidden", hidden, {0, 32}).range(0, 65536).note("width H of the state; 0: D, else a projection leads back to D");
    k("layers", layers, {1, 2}).range(1, 16).note("recurrent layers in one mixer");
    k("forget_bias", forget_bias, {0, 1})
        .range(-20, 20)
        .note("added to the forget gate's first bias", "torch 0; 1 remembers longer at first");
    k("learn_start", learn_start).note("h and c before the first position are trained");
    k("layer_norm", layer_norm).note("both sums of the gates and the cell are normalised; slow on a GPU");
  }
  Block block() const override { return {"layer", "pre", 0}; }

  Answer keeps_apart() const override {
    if (layer_norm) return Answer::no("lstm.layer_norm walks whole rows; allowed is false");
    return learn_start ? Answer::no("lstm.learn_start is the start of a row; allowed is false") : Answer{};
  }

  Tensor build(Net& n, Tensor x) override {
    if (layer_norm && learn_start) throw BadInput("lstm.layer_norm = true starts at 0; lstm.learn_start is true, allowed is false");
    return rnn(n, x, {"lstm", hidden, layers, forget_bias, learn_start, layer_norm}, starts);
  }

  static double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

  static void normalise(const Case& c, const std::string& name, std::vector<double>& x) {
    double mean = 0, square = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) square += (v - mean) * (v - mean) / static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = (x[i] - mean) / std::sqrt(square + 1e-5) * c.p(name + ".weight")[i] + c.p(name + ".bias")[i];
  }

  void reference(Case& c) const override {
    const Index H = hidden > 0 ? hidden : c.D;
    std::vector<double> x = c.x, y;
    for (int k = 0; k < layers; ++k, x.swap(y)) {
      const std::string l = "_l" + std::to_string(k);
      const Index I = k ? H : c.D;
      std::vector<double> from_x(4 * H), from_h(4 * H), h, cell;
      y.assign(c.B * c.T * H, 0);
      for (Index row = 0; row < c.B * c.T; ++row) {
        if (row % c.T == 0) h = learn_start ? c.p("h0" + l) : std::vector<double>(H), cell = learn_start ? c.p("c0" + l) : h;
        dense_row(&x[row * I], I, c.p(layer_norm ? "ih" + l + ".weight" : "weight_ih" + l), layer_norm ? nullptr : &c.p("bias_ih" + l),
                  from_x.data());
        dense_row(h.data(), H, c.p("weight_hh" + l), layer_norm ? nullptr : &c.p("bias_hh" + l), from_h.data());
        if (layer_norm) normalise(c, "norm_ih" + l, from_x), normalise(c, "norm_hh" + l, from_h);
        for (Index j = 0; j < H; ++j) {
          const auto gate = [&](Index g) { return from_x[g * H + j] + from_h[g * H + j]; };
          cell[j] = sigmoid(gate(1)) * cell[j] + sigmoid(gate(0)) * std::tanh(gate(2));
          h[j] = sigmoid(gate(3));
        }
        std::vector<double> shown = cell;
        if (layer_norm) normalise(c, "norm_c" + l, shown);
        for (Index j = 0; j < H; ++j) y[row * H + j] = h[j] *= std::tanh(shown[j]);
      }
    }
    if (H == c.D) c.y = x;
    else
      for (Index row = 0; row < c.B * c.T; ++row) dense_row(&x[row * H], H, c.p("out_proj.weight"), &c.p("out_proj.bias"), &c.y[row * c.D]);
  }
};
SSM_VARIANT(Lstm, "lstm");

}  // namespace ssm::lstm
