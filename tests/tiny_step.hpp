// tiny_step.hpp - one whole training step of a two-layer model on the tiny task: what test_step.cpp and test_replay.cpp run.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "model.hpp"
#include "testing.hpp"
#include "tiny_task.hpp"
#include "train/optimizer.hpp"

namespace ssm {

struct TinyStep {
  TinyTask task{Target::classes};
  Model model;
  std::unique_ptr<ModelNet> net;
  std::unique_ptr<Optimizer> optimizer;
  Run run{test_device().exec(), Mode::train, nullptr};
  HostBatch batch;
  Index batches = 0;

  static ModelConfig config(const std::string& variant, double dropout) {
    ModelConfig c;
    c.variant = variant;
    c.depth = 2;
    c.d_model = 16;
    c.dropout = dropout;
    return c;
  }
  explicit TinyStep(const std::string& variant, double dropout = 0.1) : TinyStep(config(variant, dropout)) {}
  explicit TinyStep(const ModelConfig& config, const std::string& recompute = "none") : model(config, task.info(), {}) {
    model.recompute = recompute;
    net = model.make(Mode::train, 3, 24);
    model.params.commit(1, true);
    net->allocate();
    optimizer = std::make_unique<Optimizer>(model.params, TrainSettings{}, Seeds{}, 16);
    run.state = optimizer->state();
    draw();
  }
  // The next three examples; the first three at the start.
  void draw() {
    const std::vector<Index> indices = {batches, batches + 1, batches + 2};
    batches += 3;
    fill(task, Split::train, indices, 24, batch);
  }
  void load() { net->load(run, batch); }
  void work() {
    optimizer->begin_step(run);
    net->net.forward(run);
    net->net.backward(run);
    net->net.advance(run);
    optimizer->end_micro(run);
    optimizer->update(run);
  }
  void operator()() { load(), work(); }
};

}  // namespace ssm
