// checked.hpp - nothing is measured that does not agree with its reference in the same process.
#pragma once
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "bench/grid.hpp"
#include "record/record.hpp"

namespace ssm {

// Compares every setting of the cases (variant, N, view, on the threads and with the precision that they ask for) with its reference; into the
// record: table /check/variants and /check. Returns, by setting, why its cases must not be timed: what disagrees, and what cannot be here.
std::map<std::string, std::exception_ptr> refused_settings(const std::vector<BenchCase>& cases, const Config& config, Device& device,
                                                           Record& record);

}  // namespace ssm
