// feature_maps.hpp - maps of linear attention that make more features than they are given. Both act on the last extent, K entries.
#pragma once
#include "net.hpp"

namespace ssm {

// softmax([x; -x]): (.., K) -> (.., 2K), positive, of sum 1 (Hedgehog: Zhang et al. 2024).
Tensor softmax_of_signs(Net& n, Tensor x);
// z = relu([x; -x]), y_{(j-1) 2K + i} = z_i z_{i-j} for j = 1..nu, indices modulo 2K: (.., K) -> (.., 2K nu) (DPFP: Schlag et al. 2021).
Tensor rolled_products(Net& n, Tensor x, int nu);

}  // namespace ssm
