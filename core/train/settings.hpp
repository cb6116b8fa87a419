// settings.hpp - the keys train.* and run.*: how a run is trained, and what it does that cannot change its result.
#pragma once
#include <string>

#include "knobs.hpp"

namespace ssm {

struct TrainSettings {
  int steps = 1000, batch = 16, accumulate = 1, length = 0, curriculum_from = 0;
  double curriculum = 0;
  double seconds = 0;  // wall-clock budget: fixes `steps` after a short measurement
  double lr = 1e-3, lr_min = 0, warmup = 0.1, weight_decay = 0.05, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, clip = 1;
  std::string schedule = "cosine";
  double plateau_factor = 0.5;
  int plateau_patience = 5;
  int eval_every = 500, eval_examples = 500, test_examples = 2000, eval_batch = 0;
  std::string select = "last";
  void knobs(Knobs& k);
};

struct RunSettings {
  std::string out = "results", gemm = "fp32", data = "auto", recompute = "none", cache;
  int threads = 0, loader_threads = 1, report_every = 10, checkpoint_every = 500;
  bool resume = true, check = true, quiet = false, profile = false, graph = true;
  void knobs(Knobs& k);
};

struct Seeds {
  int init = 1, data = 1, dropout = 1;
  void knobs(Knobs& k);
};

}  // namespace ssm
