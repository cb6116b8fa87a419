// curriculum.hpp - the keys train.curriculum and train.curriculum_from: short training examples first.
#pragma once
#include "config.hpp"
#include "loader.hpp"

namespace ssm {

// Which lengths the steps of a run take; all, when train.curriculum is 0. Throws BadInput when the task has but one length, and when so few
// training examples are as short as the first step wants that it would wait for them. `config`'s task must be open.
Curriculum curriculum_of(const Config& config, const TaskInfo& info);

}  // namespace ssm
