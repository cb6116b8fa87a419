// skip_channels.hpp - a path around a mixer with a factor per channel.
#pragma once
#include "net.hpp"

namespace ssm {

// y + D x, channels last: D (channels).
Tensor skip_channels(Net& n, Tensor y, Tensor x, Param D);

}  // namespace ssm
