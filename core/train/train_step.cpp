#include "train/train_step.hpp"

#include "error.hpp"

namespace ssm {

namespace {

std::string data_path(const Task& task, const Config& config) {
  const std::string why = task.host_only();
  if (config.run.data == "device" && !why.empty())
    throw BadInput("run.data = device: the task " + task.name + " cannot be made there: " + why + "; allowed are auto and host");
  return config.run.data == "host" ? "host: asked for" : why.empty() ? "device" : "host: " + why;
}

}  // namespace

TrainStep::TrainStep(Model& model, ModelNet& net, const Task& task, const Config& config, const Curriculum& lengths)
    : config_(config),
      task_(task),
      net_(net),
      lengths_(lengths),
      data_(data_path(task, config)),
      optimizer_(model.params, config.train, config.seed, config.run.report_every),
      replay_(config.run.graph) {
  if (data_ != "device") return;
  BatchPlan plan = net.batch_plan();
  plan.accumulate = config.train.accumulate, plan.history = config.run.report_every;
  plan.stream = Stream(task.size(Split::train), static_cast<std::uint64_t>(config.seed.data));
  plan.lengths = lengths_;
  maker_ = task.batches(plan);
}

void TrainStep::start_at(Index step) {
  if (maker_) return;
  auto make =
      training_batches(task_, static_cast<std::uint64_t>(config_.seed.data), net_.examples, net_.T, config_.train.accumulate, lengths_);
  batches_ = std::make_unique<Prefetcher>(std::move(make), step * config_.train.accumulate, config_.run.loader_threads, 4);
}

TrainStep::Tokens TrainStep::load(const Run& r) {
  if (maker_) return {};
  const HostBatch& batch = batches_->next();
  net_.load(r, batch);
  return {batch.tokens_real, batch.tokens_padded};
}

void TrainStep::micro(const Run& r) {
  if (maker_) maker_->make(r);
  net_.net.forward(r);
  net_.net.backward(r);
  net_.net.advance(r);
  optimizer_.end_micro(r);
}

TrainStep::Tokens TrainStep::operator()(const Run& r) {
  if (config_.train.accumulate == 1) {
    const Tokens loaded = load(r);
    replay_(r, [&] {
      optimizer_.begin_step(r);
      micro(r);
      optimizer_.update(r);
    });
    return loaded;
  }
  Tokens sum;
  optimizer_.begin_step(r);
  for (int k = 0; k < config_.train.accumulate; ++k) {
    const Tokens loaded = load(r);
    sum.real += loaded.real, sum.padded += loaded.padded;
    replay_(r, [&] { micro(r); });
  }
  optimizer_.update(r);
  return sum;
}

}  // namespace ssm
