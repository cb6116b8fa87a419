#include "train/trainer.hpp"

#include <chrono>
#include <cmath>

#include "error.hpp"
#include "stream_state.hpp"
#include "watch.hpp"

namespace ssm {

namespace {

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Index length_of(const Config& config, const TaskInfo& info) {
  const Index T = config.train.length ? config.train.length : info.max_length;
  if (T < info.max_length)
    throw BadInput("train.length = " + std::to_string(T) + ": examples of " + config.task_name + " are up to " +
                   std::to_string(info.max_length) + " long");
  return T;
}

Trainer::Trainer(Config& config, Device& device, Record& record)
    : model(config.model, config.task->info(), config.variant_knobs),
      config_(config),
      device_(device),
      record_(record),
      info_(model.info),
      run_{device.exec(), Mode::train, nullptr},
      energy_(EnergyMeter::of_this_build()),
      progress_(config.run.quiet) {
  const Index T = length_of(config, info_);
  lengths_ = curriculum_of(config, info_);
  model.recompute = config.run.recompute;
  train_ = model.make(Mode::train, config.train.batch, T);
  eval_ = model.make(Mode::evaluate, config.train.eval_batch ? config.train.eval_batch : config.train.batch, T);
  allocate();
  record.energy(energy_.source, energy_.reason);
  now_.total = config.train.steps;
  step_tokens_.reserve(static_cast<std::size_t>(config.run.report_every));
}

void Trainer::allocate() {
  const Index params = 4 * model.params.padded_size() * static_cast<Index>(sizeof(Real));
  const Index planned = params + train_->net.bytes().total() + eval_->net.bytes().total() + train_->slot_bytes() + eval_->slot_bytes();
  const Index free = free_device_bytes();
  if (free > 0 && planned > free)
    throw Unsupported("the plan needs " + bytes_text(static_cast<double>(planned)) + ", the device has " +
                      bytes_text(static_cast<double>(free)) + " free");
  const Index before = watched().bytes;
  record_.tree().set("/memory", "rss_before", rss());
  model.params.commit(static_cast<std::uint64_t>(config_.seed.init), true);
  train_->allocate();
  eval_->allocate();
  step_ = std::make_unique<TrainStep>(model, *train_, *config_.task, config_, lengths_);
  run_.state = optimizer().state();

  Tree& tree = record_.tree();
  const auto bytes = [&](const char* name, Index value) { tree.set("/model", std::string("bytes_") + name, value); };
  tree.set("/model", "parameters", model.params.count());
  tree.set("/model", "rows", train_->rows);
  tree.set("/model", "length", train_->T);
  if (lengths_.over > 0) tree.set("/model", "curriculum_from", lengths_.from), tree.set("/model", "curriculum_steps", lengths_.over);
  const StreamState state = stream_state(config_.model, info_, config_.variant_knobs);
  tree.set("/model", "state_bytes", state.bytes);
  tree.set("/model", "state_growth", state.growth);
  bytes("params", params / 4), bytes("grads", params / 4), bytes("moments", params / 2);
  bytes("activations", train_->net.bytes().activations), bytes("activation_gradients", train_->net.bytes().gradients);
  bytes("scratch", train_->net.bytes().scratch), bytes("evaluation", eval_->net.bytes().total());
  const Index making = step_->maker() ? step_->maker()->bytes() : 0;
  bytes("batch", train_->slot_bytes() + eval_->slot_bytes() + making), bytes("optimizer", optimizer().bytes());
  bytes("without_reuse", train_->net.bytes().without_reuse);
  tree.set("/memory", "planned", planned + step_->bytes());
  tree.set("/memory", "allocated", watched().bytes - before);
  for (const auto& op : train_->net.ops()) {
    const Cost c = op->cost();
    tree.row("/model/ops", {{"op", op->name()},
                            {"forward_flops", c.forward.flops},
                            {"forward_exps", c.forward.exps},
                            {"forward_bytes", c.forward.bytes, "B"},
                            {"backward_flops", c.backward.flops},
                            {"backward_exps", c.backward.exps},
                            {"backward_bytes", c.backward.bytes, "B"}});
  }
}

void Trainer::step() {
  const TrainStep::Tokens loaded = (*step_)(run_);
  now_.tokens_real += loaded.real, now_.tokens_padded += loaded.padded;
  ++now_.step;
  step_tokens_.emplace_back(now_.tokens_real, now_.tokens_padded);
}

void Trainer::report(Index from, double seconds, double joules) {
  const double steps = static_cast<double>(now_.step - from), per_step = seconds / steps;
  const auto rows = optimizer().read_history(from, now_.step);
  if (const BatchMaker* maker = step_->maker()) {
    const std::vector<Index> tokens = maker->read_tokens(from, now_.step);
    for (std::size_t k = 0; k < tokens.size(); ++k) {
      now_.tokens_real += tokens[k];
      now_.tokens_padded += config_.train.accumulate * train_->rows * train_->T;
      step_tokens_[k] = {now_.tokens_real, now_.tokens_padded};
    }
  }
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const double to_go = static_cast<double>(rows.size() - 1 - k), at = now_.seconds - per_step * to_go;
    const auto& [real, padded] = step_tokens_[k];
    record_.train({static_cast<Index>(rows[k].step) + 1, real, padded, at, rows[k].loss, rows[k].grad_norm, rows[k].lr,
                   now_.joules - joules / steps * to_go});
    last_loss_ = rows[k].loss;
  }
  step_tokens_.clear();
  step_seconds_.push_back(per_step);
  const double rate = static_cast<double>(now_.tokens_real) / std::max(now_.seconds, 1e-9);
  const double left = now_.seconds / static_cast<double>(now_.step) * static_cast<double>(now_.total - now_.step);
  progress_.show(now_.step, now_.total, last_loss_, rate, left, validation_text_);
}

// A wall-clock budget becomes a number of steps as soon as the time of a step is known, so that the schedule has an end.
void Trainer::fix_total_steps() {
  const double per_step = step_seconds_.back();
  now_.total = now_.step + std::max<Index>(0, static_cast<Index>((config_.train.seconds - now_.seconds) / per_step));
  now_.total = std::min<Index>(now_.total, config_.train.steps);
  optimizer().set_total_steps(now_.total);
  record_.tree().set("/train", "steps_planned", now_.total);
  progress_.say("budget of " + duration_text(config_.train.seconds) + ": " + std::to_string(now_.total) + " steps of " +
                std::to_string(static_cast<int>(1e3 * per_step)) + " ms");
}

void Trainer::validate() {
  const Score score = evaluate(*eval_, run_, *config_.task, info_, Split::validation, config_.train.eval_examples);
  record_.eval({now_.step, now_.tokens_real, now_.seconds, "validation", score.examples, score.loss, score.metric, score.slices});
  validation_text_ = info_.metric + " " + number_text(std::round(score.metric * 1e4) / 1e4);
  const bool better = !now_.has_best || (info_.metric != "accuracy" ? score.metric < now_.best : score.metric > now_.best);
  now_.stale = !now_.has_best || score.loss < now_.best_loss ? 0 : now_.stale + 1;
  now_.best_loss = now_.has_best ? std::min(now_.best_loss, score.loss) : score.loss;
  if (better) {
    now_.best = score.metric;
    if (config_.train.select == "best") best_values_ = values();
  }
  now_.has_best = true;
  if (config_.train.schedule == "plateau" && now_.stale >= config_.train.plateau_patience) {
    now_.stale = 0;
    now_.lr_scale *= config_.train.plateau_factor;
    optimizer().set_lr_scale(run_, now_.lr_scale);
  }
  progress_.say("step " + std::to_string(now_.step) + "  loss " + number_text(std::round(last_loss_ * 1e4) / 1e4) + "  validation loss " +
                number_text(std::round(score.loss * 1e4) / 1e4) + "  " + validation_text_ + "  " + duration_text(now_.seconds));
}

void Trainer::test() {
  if (config_.train.test_examples == 0) return;
  if (!best_values_.empty()) {
    const auto& all = model.params.all();
    for (std::size_t i = 0; i < all.size(); ++i) model.params.set(all[i].name, best_values_[i]);
  }
  const Score score = evaluate(*eval_, run_, *config_.task, info_, Split::test, config_.train.test_examples);
  record_.eval({now_.step, now_.tokens_real, now_.seconds, "test", score.examples, score.loss, score.metric, score.slices});
  progress_.say("test  loss " + number_text(std::round(score.loss * 1e4) / 1e4) + "  " + info_.metric + " " +
                number_text(std::round(score.metric * 1e4) / 1e4) + "  on " + std::to_string(score.examples) + " examples");
}

void Trainer::profile() {
  step_->replay().stop();  // inside a graph kernels cannot be told apart
  start_profile();
  for (int i = 0; i < 10; ++i) step();
  device_.fence("ssm::train: profile");
  for (const KernelTime& k : stop_profile()) {
    record_.tree().row("/kernels", {{"label", k.label}, {"calls", k.calls}, {"seconds", k.seconds, "s"}});
    progress_.say(number_text(std::round(1e6 * k.seconds) / 1e3) + " ms in " + std::to_string(k.calls) + " calls  " + k.label);
  }
}

// Waiting for data and making it, beside the steps of this process. The kernel that makes a batch runs inside the step: its share is that
// of the same kernel timed alone.
void Trainer::time_data() {
  Tree& tree = record_.tree();
  const Prefetcher* batches = step_->batches();
  const double seconds = std::max(here_seconds_, 1e-9), wait = batches ? batches->wait_seconds() : 0;
  const double made = batches ? batches->producer_seconds() : 0, step_cpu = std::max(here_cpu_ - made, 1e-9);
  tree.set("/timing", "data_path", step_->data());
  tree.set("/timing", "loader_wait_seconds", wait);
  tree.set("/timing", "loader_wait_share", wait / seconds);
  tree.set("/timing", "loader_cpu_seconds", made);
  tree.set("/timing", "step_cpu_seconds", step_cpu);
  tree.set("/timing", "loader_cpu_share", made / step_cpu);
  BatchMaker* maker = step_->maker();
  if (!maker || step_seconds_.empty()) return;
  constexpr int calls = 20;
  device_.start_clock();
  for (int i = 0; i < calls; ++i) maker->make(run_);
  const double batch = device_.stop_clock() / calls;
  tree.set("/timing", "data_batch_seconds", batch);
  tree.set("/timing", "data_share", batch * config_.train.accumulate / step_seconds_.back());
}

Outcome Trainer::run() {
  const bool resumed = config_.run.resume && restore();
  if (resumed) progress_.say("resumed at step " + std::to_string(now_.step));
  progress_.say("training data: " + step_->data());
  if (const std::string slow = train_->net.slow_ops(); !slow.empty()) {
    progress_.say("plain kernels, far slower than they could be: " + slow);
    record_.tree().set("/timing", "slow_ops", slow);
  }
  step_->start_at(now_.step);
  bool timed = config_.train.seconds == 0 || now_.total != config_.train.steps;
  auto flushed = std::chrono::steady_clock::now();
  while (now_.step < now_.total) {
    const Index from = now_.step, every = config_.run.report_every;
    const auto next = [&](Index period) { return period ? (from / period + 1) * period : now_.total; };
    const Index to = std::min({now_.total, next(every), next(config_.train.eval_every), next(config_.run.checkpoint_every)});
    const double joules_before = energy_.joules();
    const auto start = std::chrono::steady_clock::now();
    const double cpu = cpu_seconds();
    for (Index s = from; s < to; ++s) {
      step();
      if (s == 0) {
        device_.fence("ssm::train: first call");
        first_call_ = since(start);
      }
    }
    device_.fence("ssm::train: loss read-back");
    const double seconds = since(start), joules = energy_.joules() - joules_before;
    now_.seconds += seconds, now_.joules += joules;
    here_seconds_ += seconds, here_cpu_ += cpu_seconds() - cpu;
    report(from, seconds, joules);
    if (from < 2 && now_.step >= 2) progress_.say("training step: " + step_->replay().path());
    if (!std::isfinite(last_loss_)) return {"diverged", "the loss is not finite at step " + std::to_string(now_.step)};
    if (!timed && now_.step >= 2 * every) timed = true, fix_total_steps();
    if (now_.step % config_.train.eval_every == 0 || now_.step == now_.total) validate();
    if (config_.run.checkpoint_every && now_.step % config_.run.checkpoint_every == 0 && now_.step < now_.total) save();
    if (since(flushed) > 5) record_.flush(), flushed = std::chrono::steady_clock::now();
  }
  if (config_.run.checkpoint_every) save();
  test();
  record_.timing("train_step", {step_seconds_, "steady_clock around report_every steps, device fenced; per step", 0, first_call_});
  time_data();
  record_.tree().set("/timing", "process_cpu_seconds", cpu_seconds());
  record_.tree().set("/timing", "step_path", step_->replay().path());
  record_.tree().set("/memory", "high_water", watched().peak);
  record_.tree().set("/memory", "rss", peak_rss());
  if (config_.run.profile) profile();
  return {};
}

}  // namespace ssm
