// gru.cpp - gated recurrent unit (Cho et al. 2014), as torch.nn.GRU computes it: the reset gate acts after the product with U_n.
//
//   r = sigmoid(W_r x_t + b_ir + U_r h_{t-1} + b_hr)      z = sigmoid(W_z x_t + b_iz + U_z h_{t-1} + b_hz)
//   n = tanh(W_n x_t + b_in + r (U_n h_{t-1} + b_hn))     h_t = (1 - z) n + z h_{t-1}
//
// x (B,T,D)   h (B,T,H), H = hidden or D   weight_ih_l0 (3H,D)  weight_hh_l0 (3H,H)  bias_ih_l0, bias_hh_l0 (3H); layers l1, .. read h.
#include <cmath>

#include "ops/rnn.hpp"
#include "starts.hpp"

namespace ssm::gru {

struct Gru final : Variant, KeepsApart {
  int hidden = 0, layers = 1;
  bool learn_start = false;

  std::string about() const override { return "GRU: gated recurrence without a cell, three quarters of an LSTM (Cho 2014)"; }
  void knobs(Knobs& k) override {
    k("hidden", hidden, {0, 32}).range(0, 65536).note("width H of the state; 0: that of the model, else out_proj leads back to it");
    k("layers", layers, {1, 2}).range(1, 16).note("recurrent layers stacked in one mixer");
    k("learn_start", learn_start).note("h before the first position is trained");
  }
  Block block() const override { return {"layer", "pre", 0}; }

  Answer keeps_apart() const override {
    return learn_start ? Answer::no("gru.learn_start is the start of a row; allowed is false") : Answer{};
  }

  Tensor build(Net& n, Tensor x) override {
    RnnOptions o;
    o.cell = "gru";
    o.hidden = hidden;
    o.layers = layers;
    o.learn_start = learn_start;
    return rnn(n, x, o, starts);
  }

  // One layer over one sequence: x (T, I) -> (T, H).
  std::vector<double> run(const Case& c, const std::vector<double>& x, const std::string& l, Index H) const {
    const Index I = static_cast<Index>(x.size()) / c.T;
    std::vector<double> y, gates(3 * H), past(3 * H), h(H, 0.0);
    if (learn_start) h = c.p("h0" + l);
    for (Index t = 0; t < c.T; ++t) {
      dense_row(&x[t * I], I, c.p("weight_ih" + l), &c.p("bias_ih" + l), gates.data());
      dense_row(h.data(), H, c.p("weight_hh" + l), &c.p("bias_hh" + l), past.data());
      for (Index k = 0; k < H; ++k) {
        const double r = 1 / (1 + std::exp(-gates[k] - past[k])), z = 1 / (1 + std::exp(-gates[H + k] - past[H + k]));
        h[k] = (1 - z) * std::tanh(gates[2 * H + k] + r * past[2 * H + k]) + z * h[k];
      }
      y.insert(y.end(), h.begin(), h.end());
    }
    return y;
  }

  void reference(Case& c) const override {
    const Index H = hidden > 0 ? hidden : c.D;
    for (Index b = 0; b < c.B; ++b) {
      std::vector<double> h(c.x.begin() + b * c.T * c.D, c.x.begin() + (b + 1) * c.T * c.D), out(c.D);
      for (int i = 0; i < layers; ++i) h = run(c, h, "_l" + std::to_string(i), H);
      for (Index t = 0; t < c.T; ++t) {
        if (H != c.D) dense_row(&h[t * H], H, c.p("out_proj.weight"), &c.p("out_proj.bias"), out.data());
        for (Index d = 0; d < c.D; ++d) c.y[(b * c.T + t) * c.D + d] = H == c.D ? h[t * H + d] : out[d];
      }
    }
  }
};
SSM_VARIANT(Gru, "gru");

}  // namespace ssm::gru
