// gaps.hpp - positions at uneven times: mixers with a time step multiply it by the time between positions (variants.md 17).
#pragma once
#include <string>

#include "net.hpp"

namespace ssm {

// gaps (B,T), without a gradient: feature `which` of the batch's `features` over `unit`, and 1 where a sequence starts.
Tensor time_gaps(Net& n, Index features, Index which, double unit);
// What a selective scan of bias `bias_name` (E) must be given so that its delta is gaps_t softplus(raw + bias). raw (B,T,E), or absent
// (id -1): 0. The scan declares the bias as well, with the same initial values.
Tensor stretch_steps(Net& n, Tensor raw, Tensor gaps, Index E, const std::string& bias_name, const Init& bias_init);

}  // namespace ssm
