// checked.hpp - nothing is measured that does not agree with its reference in the same process.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "config.hpp"
#include "exec.hpp"
#include "record/record.hpp"

namespace ssm {

// Compares every variant with its reference; into the record: table /check/variants and /check. Variant -> reason of those that disagree.
std::map<std::string, std::string> refused_variants(const std::vector<std::string>& names, const Config& config, Device& device,
                                                    Record& record);

}  // namespace ssm
