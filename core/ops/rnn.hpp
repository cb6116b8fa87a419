// rnn.hpp - recurrent networks with torch's parameters.
#pragma once
#include <string>

#include "net.hpp"

namespace ssm {

struct RnnOptions {
  std::string cell = "lstm";  // gates i, f, g, o; "gru": r, z, n
  Index hidden = 0;           // H; 0: the width D of x, else out_proj (D,H) with bias leads back to it
  int layers = 1;
  double forget_bias = 0;    // added to the first values of the forget gate's bias_ih; LSTM only
  bool learn_start = false;  // parameters h0_l0, c0_l0 (H) instead of zeros
  bool layer_norm = false;   // lstm_norm() instead; LSTM without learn_start and without several sequences a row
};
// x (B,T,D) -> (B,T,D) through layers of weight_ih_l0 (gates H, in), weight_hh_l0 (gates H, H), bias_ih_l0, bias_hh_l0, then l1, ...
Tensor rnn(Net& n, Tensor x, const RnnOptions& options);

// The LSTM with normalised sums and cell (Ba et al. 2016), x (B,T,4H) what the input gives to the gates -> h (B,T,H):
//   [i f g o] = [sigmoid sigmoid tanh sigmoid](x_t + LN(U h_{t-1}))     c_t = f c_{t-1} + i g     h_t = o tanh(LN(c_t))
// weight_hh_<layer> (4H,H)   norm_hh_<layer>.{weight,bias} (4H), forget_bias included   norm_c_<layer>.{weight,bias} (H)
Tensor lstm_norm(Net& n, Tensor x, const std::string& layer, double forget_bias);

}  // namespace ssm
