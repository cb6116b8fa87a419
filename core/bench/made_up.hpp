// made_up.hpp - what a training step is timed on where no task is named.
#pragma once
#include <memory>

#include "task.hpp"

namespace ssm {

// Classification of T tokens that mean nothing. A kernel of the step makes the batches, four tokens a work item, so that they cost little at
// any length; with run.data = host, threads make the same ones.
std::unique_ptr<Task> made_up_tokens(Index T);

}  // namespace ssm
