// stream_state.hpp - what a model carries from position to position when it streams.
#pragma once
#include "model.hpp"

namespace ssm {

struct StreamState {
  Index bytes = -1;    // of one sequence, after as many positions as `l_max`; -1: the model does not stream
  std::string growth;  // "constant", "grows: of model.l_max = 1024 positions", "does not stream: <why>"
};

// Of the model's stream net; nothing is allocated. Growth is found by planning the same model for twice the length.
StreamState stream_state(const ModelConfig& config, const TaskInfo& task, const VariantKnobs& knobs);

}  // namespace ssm
