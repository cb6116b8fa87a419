#include "bench/rig.hpp"

#include <algorithm>
#include <numeric>

#include "bench/made_up.hpp"
#include "error.hpp"
#include "loader.hpp"
#include "probe.hpp"
#include "train/train_step.hpp"

namespace ssm {

namespace {

constexpr Index kBytes = sizeof(Real);

void need_memory(Index planned) {
  const Index free = free_device_bytes();
  if (free > 0 && planned > free)
    throw Unsupported("needs " + std::to_string(planned >> 20) + " MiB, the device has " + std::to_string(free >> 20) + " MiB free");
}

void put(Real* to, const std::vector<double>& host) {
  const std::vector<Real> raw(host.begin(), host.end());
  copy_in(to, raw.data(), static_cast<Index>(raw.size()) * kBytes);
}

void add(Work& sum, const Work& w) { sum.flops += w.flops, sum.exps += w.exps, sum.bytes += w.bytes; }

// A growing state is long before it is timed; longer than this, filling it would take longer than timing.
constexpr Index kFilled = 4096;

// Numbers a stream of this length carries for one sequence; nothing is allocated.
Index carried(const BenchCase& c, const Config& config, Index length) {
  Params params;
  const auto variant = make_variant(c.variant, case_knobs(c, config));
  Net net(params, Mode::stream, 1, 1, c.D, length);
  net.output(variant->build(net, net.input(shaped({1, 1, c.D}))));
  return net.state_numbers();
}

Work declared(const Net& net, bool backward) {
  Work sum;
  for (const auto& op : net.ops()) {
    const Cost c = op->cost();
    add(sum, c.forward);
    if (backward) add(sum, c.backward);
  }
  return sum;
}

struct MixerRig : Rig {
  Params params;
  std::unique_ptr<Variant> variant;
  std::unique_ptr<Net> net;
  Memory state_memory, lengths;
  Mode mode;
  Replay replay;

  MixerRig(const BenchCase& c, const Config& config, Device& device)
      : variant(make_variant(c.variant, case_knobs(c, config))),
        state_memory("ssm::step_state", sizeof(StepState)),
        lengths("ssm::lengths", c.B * static_cast<Index>(sizeof(std::int32_t))),
        mode(c.mode == "decode"    ? Mode::stream
             : c.mode == "forward" ? Mode::evaluate
                                   : Mode::train),
        replay(config.run.graph) {
    if (mode == Mode::stream) {
      if (const Answer a = variant->causal(); !a.yes) throw Unsupported("does not stream: " + a.reason);
      if (const Answer a = variant->streams(); !a.yes) throw Unsupported("does not stream: " + a.reason);
    }
    const Index T = mode == Mode::stream ? 1 : c.T;
    net = std::make_unique<Net>(params, mode, c.B, T, c.D, c.T);
    const Tensor x = net->input(shaped({c.B, T, c.D})), y = variant->build(*net, x);
    net->output(y);
    net->plan();
    Index numbers = 0;
    for (const ParamInfo& p : params.all()) numbers += (p.size + Params::kPad - 1) / Params::kPad * Params::kPad;
    planned_bytes = net->bytes().total() + (mode == Mode::train ? 4 : 1) * numbers * kBytes;
    need_memory(planned_bytes);
    params.commit(1, mode == Mode::train);
    net->allocate();

    StepState start{};
    start.lr_scale = 1;
    copy_in(state_memory.as<void>(), &start, sizeof start);
    state = state_memory.as<StepState>();
    const std::vector<std::int32_t> all(static_cast<std::size_t>(c.B), static_cast<std::int32_t>(T));
    copy_in(lengths.as<void>(), all.data(), lengths.bytes());
    slow = net->slow_ops();
    net->batch.lengths = lengths.as<std::int32_t>();
    put(net->value(x), test_values("x", x.size()));
    if (mode == Mode::train) put(net->grad(y), test_values("dy", y.size()));
    tokens = c.B * T;
    work = declared(*net, mode == Mode::train);

    const Run r{device.exec(), mode, state};
    if (mode != Mode::train) net->prepare(r);
    if (mode != Mode::stream) return;
    net->reset(r);
    if (carried(c, config, c.T) != carried(c, config, 2 * c.T))
      for (Index t = 1; t < std::min(c.T, kFilled); ++t) net->step(r);
  }
  void call(Run& r) override {
    replay(r, [&] {
      if (mode == Mode::stream) return net->step(r);
      net->forward(r);
      if (mode == Mode::train) net->backward(r);
    });
  }
  std::string path() const override { return replay.path(); }
};

// Every pass of every op is a graph of its own, so that what is timed is the device's work as in a run.
struct OpRig final : MixerRig {
  std::vector<Replay> forwards, backwards;
  OpRig(const BenchCase& c, const Config& config, Device& device) : MixerRig(c, config, device) {
    for (std::size_t i = 0; i < net->ops().size(); ++i) forwards.emplace_back(config.run.graph), backwards.emplace_back(config.run.graph);
  }
  std::string path() const override { return "op by op, each " + forwards.back().path(); }
  std::string label(std::size_t i, const char* pass) const {
    return (i < 10 ? "0" : "") + std::to_string(i) + "." + net->ops()[i]->name() + "." + pass;
  }
  void parts(Run& r, const Around& around) override {
    const auto& ops = net->ops();
    for (std::size_t i = 0; i < ops.size(); ++i) around(label(i, "forward"), [&] { forwards[i](r, [&] { ops[i]->forward(r); }); });
    for (std::size_t i = ops.size(); i-- > 0;) around(label(i, "backward"), [&] { backwards[i](r, [&] { ops[i]->backward(r); }); });
  }
  void call(Run& r) override {
    parts(r, [](const std::string&, const std::function<void()>& launch) { launch(); });
  }
  std::map<std::string, Work> part_work() const override {
    std::map<std::string, Work> out;
    for (std::size_t i = 0; i < net->ops().size(); ++i) {
      const Cost cost = net->ops()[i]->cost();
      out[label(i, "forward")] = cost.forward, out[label(i, "backward")] = cost.backward;
    }
    return out;
  }
};

// What the step of a case trains on: the configured task, or made-up tokens, which have every length.
struct StepData {
  std::unique_ptr<Task> made;
  const Task& task;
  const TaskInfo info;
  const Curriculum lengths;

  StepData(const BenchCase& c, const Config& config)
      : made(config.task ? nullptr : made_up_tokens(c.T)),
        task(made ? *made : *config.task),
        info(task.info()),
        lengths(made ? Curriculum{} : curriculum_of(config, info)) {
    if (c.T < info.max_length)
      throw BadInput("T = " + std::to_string(c.T) + ": examples of " + task.name + " are up to " + std::to_string(info.max_length) +
                     " long");
  }
};

ModelConfig shape(const BenchCase& c, ModelConfig m) {
  m.layers.clear();
  m.variant = c.variant;
  m.d_model = static_cast<int>(c.D);
  return m;
}

// A training run of the case, step by step.
struct StepRig final : Rig {
  StepData data;
  Model model;
  std::unique_ptr<ModelNet> net;
  std::unique_ptr<TrainStep> step;

  // All but what belongs to the step: the optimiser's own few arrays, those that batches are made with.
  static Index planned(const Model& model, const ModelNet& net) {
    return net.net.bytes().total() + 4 * model.params.padded_size() * kBytes + net.slot_bytes();
  }
  StepRig(const BenchCase& c, const Config& config, Device&)
      : data(c, config), model(shape(c, config.model), data.info, case_knobs(c, config)) {
    model.recompute = config.run.recompute;
    net = model.make(Mode::train, c.B, c.T);
    net->net.plan();
    planned_bytes = planned(model, *net);
    need_memory(planned_bytes);
    model.params.commit(static_cast<std::uint64_t>(config.seed.init), true);
    net->allocate();
    step = std::make_unique<TrainStep>(model, *net, data.task, config, data.lengths);
    step->start_at(0);
    planned_bytes += step->bytes();
    state = step->optimizer().state();
    tokens = config.train.accumulate * net->rows * c.T;
    for (int k = 0; k < config.train.accumulate; ++k) add(work, declared(net->net, true));
    slow = net->net.slow_ops();
  }
  void call(Run& r) override { (*step)(r); }
  std::string path() const override { return step->replay().path() + "; batches of " + data.task.name + ": " + step->data(); }
};

// What evaluation does with a batch that lies on the device: the whole model forward, up to the losses.
struct ForwardRig final : Rig {
  StepData data;
  Model model;
  std::unique_ptr<ModelNet> net;
  Memory state_memory;
  Replay replay;

  ForwardRig(const BenchCase& c, const Config& config, Device& device)
      : data(c, config),
        model(shape(c, config.model), data.info, case_knobs(c, config)),
        net(model.make(Mode::evaluate, c.B, c.T)),
        state_memory("ssm::step_state", sizeof(StepState)),
        replay(config.run.graph) {
    net->net.plan();
    planned_bytes = net->net.bytes().total() + model.params.padded_size() * kBytes + net->slot_bytes();
    need_memory(planned_bytes);
    model.params.commit(static_cast<std::uint64_t>(config.seed.init), false);
    net->allocate();
    const StepState start{};
    copy_in(state_memory.as<void>(), &start, sizeof start);
    state = state_memory.as<StepState>();
    std::vector<Index> examples(static_cast<std::size_t>(c.B));
    std::iota(examples.begin(), examples.end(), Index(0));
    HostBatch batch;
    fill(data.task, Split::train, examples, c.T, batch);
    const Run r{device.exec(), Mode::evaluate, state};
    net->load(r, batch);
    net->net.prepare(r);
    device.fence("ssm::bench: batch");
    tokens = net->rows * c.T;
    work = declared(net->net, false);
    slow = net->net.slow_ops();
  }
  void call(Run& r) override {
    replay(r, [&] { net->net.forward(r); });
  }
  std::string path() const override { return replay.path() + "; one batch of " + data.task.name; }
};

}  // namespace

std::unique_ptr<Rig> make_rig(const BenchCase& c, const Config& config, Device& device) {
  if (c.level == "op") return std::make_unique<OpRig>(c, config, device);
  if (c.level == "step" && c.mode == "forward") return std::make_unique<ForwardRig>(c, config, device);
  if (c.level == "step") return std::make_unique<StepRig>(c, config, device);
  return std::make_unique<MixerRig>(c, config, device);
}

std::function<Index(Index)> step_planner(const BenchCase& c, const Config& config) {
  const StepData data(c, config);
  const auto model = std::make_shared<Model>(shape(c, config.model), data.info, case_knobs(c, config));
  model->recompute = config.run.recompute;
  const auto of_step = [&](Index B) {
    return TrainStep(*model, *model->make(Mode::train, B, c.T), data.task, config, data.lengths).bytes();
  };
  const Index first = of_step(1), more = of_step(2) - first;
  return [=, T = c.T](Index B) { return first + (B - 1) * more + StepRig::planned(*model, *model->make(Mode::train, B, T)); };
}

}  // namespace ssm
