// plain_filters.hpp - plain loops in double that the references of Hyena and of what takes its filters share. No code of the kernels.
#pragma once
#include <string>

#include "variant.hpp"

namespace ssm {

// Tap t of kernel `row` of ops/filters.hpp's hyena_filter whose parameters stand under `scope`, bias included.
double plain_hyena_tap(const Case& c, const std::string& scope, Index row, Index t, bool window, double shift);

}  // namespace ssm
