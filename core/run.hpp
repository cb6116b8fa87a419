// run.hpp - what every op is told when it runs.
#pragma once
#include "real.hpp"

namespace ssm {

struct Exec;  // an execution-space instance; defined in launch.hpp

enum class Mode { train, evaluate, stream };

// Everything that changes from step to step. It lives in device memory, so that a captured step can be replayed.
struct StepState {
  std::uint64_t seed_dropout;
  Index step, micro;       // optimiser steps done; micro-batch within the step
  double loss_sum, valid;  // summed over the micro-batches of the step: loss and number of labels
  double grad_norm;        // global norm of the mean gradient, before clipping
  double grad_scale;       // 1/valid, times the clipping factor
  double lr, lr_scale;     // learning rate of this step; factor set by the plateau schedule
  double bias1, bias2;     // 1 - beta^t of AdamW
};

struct Run {
  Exec& exec;
  Mode mode = Mode::evaluate;
  StepState* state = nullptr;  // device memory
};

}  // namespace ssm
