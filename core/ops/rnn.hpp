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
};
// x (B,T,D) -> (B,T,D) through layers of weight_ih_l0 (gates H, in), weight_hh_l0 (gates H, H), bias_ih_l0, bias_hh_l0, then l1, ...
Tensor rnn(Net& n, Tensor x, const RnnOptions& options);

}  // namespace ssm
