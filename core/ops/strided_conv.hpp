// strided_conv.hpp - a front end: a causal convolution over the features of the batch that keeps every stride-th position.
#pragma once
#include <string>

#include "net.hpp"

namespace ssm {

// y_t = sum_k W_k x_{(t+1) stride - width + k} + b, zero before the start: x (B, T*stride, F) features of the batch -> (B,T,d).
// <name>.weight (d, width*F), position by position; <name>.bias (d). width = stride: patch_embedding. Throws BadInput for width < stride.
Tensor strided_conv(Net& n, Index width, Index stride, Index features, Index d, const std::string& name);

}  // namespace ssm
