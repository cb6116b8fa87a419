// trainer.hpp - the training loop of one run: batches, steps, evaluation, checkpoints, and what of it goes into the record.
#pragma once
#include <memory>

#include "config.hpp"
#include "energy.hpp"
#include "exec.hpp"
#include "record/record.hpp"
#include "train/curriculum.hpp"
#include "train/evaluate.hpp"
#include "train/progress.hpp"
#include "train/train_step.hpp"

namespace ssm {

struct Outcome {
  std::string state = "complete", reason;  // as in /status
};

// T of a training batch: train.length, or the task's longest example. Throws BadInput when train.length is shorter than that.
Index length_of(const Config& config, const TaskInfo& info);

class Trainer {
 public:
  // Builds and plans; throws Unsupported when the plan does not fit the device. `config`'s task must be open.
  Trainer(Config& config, Device& device, Record& record);
  Outcome run();

  // One optimiser step on the next batches, counted.
  void step();

  Model model;
  ModelNet& train_net() { return *train_; }
  Optimizer& optimizer() { return step_->optimizer(); }

 private:
  struct State {  // what a checkpoint carries beside arrays
    Index step = 0, total = 0, tokens_real = 0, tokens_padded = 0, stale = 0;
    double seconds = 0, best = 0, best_loss = 0, lr_scale = 1;
    bool has_best = false;
    double joules = 0;  // of the training steps; NaN where they are not counted
  };
  void allocate();
  void time_data();
  void report(Index from, double seconds, double joules);
  void fix_total_steps();
  void validate();
  void test();
  void profile();
  void save() const;
  bool restore();
  std::string checkpoint_path() const;
  std::vector<std::vector<double>> values() const;

  Config& config_;
  Device& device_;
  Record& record_;
  TaskInfo info_;
  Run run_;
  std::unique_ptr<ModelNet> train_, eval_;
  Curriculum lengths_;
  std::unique_ptr<TrainStep> step_;
  EnergyMeter energy_;
  State now_;
  std::vector<std::vector<double>> best_values_;
  std::vector<double> step_seconds_;
  std::vector<std::pair<Index, Index>> step_tokens_;  // real and padded tokens after each step since the last report
  double last_loss_ = 0, first_call_ = 0;
  double here_seconds_ = 0, here_cpu_ = 0;  // of the steps of this process: wall clock, CPU time of all threads
  std::string validation_text_;
  Progress progress_;
};

}  // namespace ssm
