// train_step.hpp - one optimiser step of a run, from the making of its batches to the update: what `train` repeats and `bench` times.
#pragma once
#include <memory>
#include <string>

#include "config.hpp"
#include "train/curriculum.hpp"
#include "train/optimizer.hpp"
#include "train/replay.hpp"

namespace ssm {

class TrainStep {
 public:
  // Of `net`, a training net of `model`; all outlive this, and `net` is allocated before a step (to ask for bytes() it need not be).
  // `task` is open; `lengths`: of the examples of every step. Throws BadInput where run.data asks for what the task cannot.
  TrainStep(Model& model, ModelNet& net, const Task& task, const Config& config, const Curriculum& lengths);

  // Threads of the host, where they make the batches, begin with those of `step`. Before the first step of this process.
  void start_at(Index step);
  // Positions of batches of the host, without and with padding. Those of a device are counted there: maker()->read_tokens().
  struct Tokens {
    Index real = 0, padded = 0;
  };
  // Launches the next step on batches of its own: load or make, zero, forward, backward, clip, AdamW, running statistics. Does not wait
  // for the device. There all of it is replayed as a graph, but for the loading of batches that the host makes.
  Tokens operator()(const Run& r);

  Optimizer& optimizer() { return optimizer_; }
  Replay& replay() { return replay_; }
  const Replay& replay() const { return replay_; }
  // Who makes the batches: "device", a kernel of the step, or "host: <why>", threads ahead of it.
  const std::string& data() const { return data_; }
  Index bytes() const { return optimizer_.bytes() + (maker_ ? maker_->bytes() : 0); }  // on the device; linear in the net's examples
  // One of the two; batches() from start_at() on.
  BatchMaker* maker() const { return maker_.get(); }
  const Prefetcher* batches() const { return batches_.get(); }

 private:
  Tokens load(const Run& r);
  void micro(const Run& r);

  const Config& config_;
  const Task& task_;
  ModelNet& net_;
  Curriculum lengths_;
  std::string data_;
  std::unique_ptr<BatchMaker> maker_;
  std::unique_ptr<Prefetcher> batches_;
  Optimizer optimizer_;
  Replay replay_;
};

}  // namespace ssm
