// json.hpp - the JSON form of declarations, shared by the commands that print them.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "knobs.hpp"

namespace ssm {

nlohmann::json knob_json(const std::string& name, const Knob& k);

}  // namespace ssm
