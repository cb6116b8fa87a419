// optimizer.hpp - gradient norm, clipping, AdamW with parameter groups, schedules: all on the device, all from device memory, so that a
// captured step can be replayed.
//
//   g <- sum over labels / number of labels;  norm = |g|;  g <- g min(1, clip / norm)
//   m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  p <- p - lr_group (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + decay p)
//   lr_group = min(lr_factor lr, lr_max) / lr * schedule(t)
#pragma once
#include <vector>

#include "params.hpp"
#include "run.hpp"
#include "train/settings.hpp"

namespace ssm {

// One row of the device history, written at the end of every step.
struct HistoryRow {
  double step, loss, grad_norm, lr, valid;
};

class Optimizer {
 public:
  struct Schedule {
    double lr, lr_min, warmup, total;
    int kind;  // 0 constant (and plateau, through lr_scale), 1 cosine
  };
  struct GroupRow {
    double lr_ratio, decay;
  };

  // `history` rows are kept: read_history() must be called at least every that many steps.
  Optimizer(Params& params, const TrainSettings& settings, const Seeds& seeds, Index history);

  StepState* state() const { return state_.as<StepState>(); }
  void begin_step(const Run& r);  // zero gradients and sums
  void end_micro(const Run& r);
  void update(const Run& r);  // norm, clip, AdamW, history, ++step

  // The rows of steps [from, to), which must be among the last `history` ones. Waits for the device.
  std::vector<HistoryRow> read_history(Index from, Index to) const;
  StepState read_state() const;
  void write_state(const StepState& s);
  // Total steps of the schedule; for a wall-clock budget it is known only after some steps.
  void set_total_steps(Index steps);
  void set_lr_scale(const Run& r, double scale);  // plateau

  Index bytes() const {
    return state_.bytes() + history_.bytes() + partial_.bytes() + groups_.bytes() + block_group_.bytes() + schedule_.bytes();
  }

 private:
  Params& params_;
  TrainSettings settings_;
  Index rows_;
  Memory state_, history_, partial_, groups_, block_group_, schedule_;
};

}  // namespace ssm
