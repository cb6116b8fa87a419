// gated_norm.hpp - RMS norm and SiLU gate as one op, in both orders; what mixers end with.
//
// One weight <name>.weight (last / heads), 1 at the start, for the channels of each head.  x, z, y of one shape, order BTD.
// A stream has the two ops one after the other: there each is a part of the products before and behind it (Net::join_steps).
#pragma once
#include <functional>
#include <string>

#include "net.hpp"

namespace ssm {

// y = rms(x) silu(z). `z` adds to the net what makes z, after the norm's weight was declared.
Tensor norm_then_gate(Net& n, Tensor x, const std::function<Tensor()>& z, Index heads, const std::string& name, double eps = 1e-5);
// y = rms(x silu(z))
Tensor gate_then_norm(Net& n, Tensor x, Tensor z, Index heads, const std::string& name, double eps = 1e-5);

}  // namespace ssm
