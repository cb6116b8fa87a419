#include "bench/rig.hpp"

#include "error.hpp"
#include "probe.hpp"
#include "train/optimizer.hpp"

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

  MixerRig(const BenchCase& c, const VariantKnobs& knobs, Device& device)
      : variant(make_variant(c.variant, knobs)),
        state_memory("ssm::step_state", sizeof(StepState)),
        lengths("ssm::lengths", c.B * static_cast<Index>(sizeof(std::int32_t))),
        mode(c.mode == "decode"    ? Mode::stream
             : c.mode == "forward" ? Mode::evaluate
                                   : Mode::train) {
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
    if (mode == Mode::stream) net->reset(r);
  }
  void launch(Run& r) override {
    if (mode == Mode::stream) return net->step(r);
    net->forward(r);
    if (mode == Mode::train) net->backward(r);
  }
};

struct OpRig final : MixerRig {
  using MixerRig::MixerRig;
  std::string label(std::size_t i, const char* pass) const {
    return (i < 10 ? "0" : "") + std::to_string(i) + "." + net->ops()[i]->name() + "." + pass;
  }
  void parts(Run& r, const Around& around) override {
    const auto& ops = net->ops();
    for (std::size_t i = 0; i < ops.size(); ++i) around(label(i, "forward"), [&] { ops[i]->forward(r); });
    for (std::size_t i = ops.size(); i-- > 0;) around(label(i, "backward"), [&] { ops[i]->backward(r); });
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

// Classification of made-up tokens: the same work as training, from loading the batch to the update.
struct StepRig final : Rig {
  static constexpr int kVocab = 32, kClasses = 10;
  Model model;
  std::unique_ptr<ModelNet> net;
  std::unique_ptr<Optimizer> optimizer;
  HostBatch batch;

  static ModelConfig shape(const BenchCase& c, ModelConfig m) {
    m.layers.clear();
    m.variant = c.variant;
    m.d_model = static_cast<int>(c.D);
    return m;
  }
  static TaskInfo task(const BenchCase& c) {
    TaskInfo info;
    info.vocab = kVocab;
    info.classes = kClasses;
    info.max_length = static_cast<int>(c.T);
    return info;
  }
  // All but the optimiser's own few arrays.
  static Index planned(const Model& model, const ModelNet& net) {
    return net.net.bytes().total() + 4 * model.params.padded_size() * kBytes + net.slot_bytes();
  }
  StepRig(const BenchCase& c, const Config& config, Device&) : model(shape(c, config.model), task(c), case_knobs(c, config)) {
    model.recompute = config.run.recompute;
    net = model.make(Mode::train, c.B, c.T);
    net->net.plan();
    planned_bytes = planned(model, *net);
    need_memory(planned_bytes);
    model.params.commit(1, true);
    net->allocate();
    optimizer = std::make_unique<Optimizer>(model.params, config.train, config.seed, 1);
    planned_bytes += optimizer->bytes();
    state = optimizer->state();
    tokens = c.B * c.T;
    work = declared(net->net, true);
    slow = net->net.slow_ops();

    batch.B = batch.rows = c.B;
    batch.T = c.T;
    const Draw draw{1, hash_name("bench")};
    for (Index i = 0; i < tokens; ++i) batch.tokens.push_back(1 + static_cast<std::int32_t>(draw.uniform(i, 0, kVocab - 1)));
    for (Index i = 0; i < c.B; ++i) {
      batch.lengths.push_back(static_cast<std::int32_t>(c.T));
      batch.targets.push_back(static_cast<std::int32_t>(i % kClasses));
      batch.indices.push_back(i);
    }
    batch.tokens_real = batch.tokens_padded = tokens;
  }
  void load(Run& r) override { net->load(r, batch); }
  void launch(Run& r) override {
    optimizer->begin_step(r);
    net->net.forward(r);
    net->net.backward(r);
    net->net.advance(r);
    optimizer->end_micro(r);
    optimizer->update(r);
  }
};

}  // namespace

std::unique_ptr<Rig> make_rig(const BenchCase& c, const Config& config, Device& device) {
  std::unique_ptr<Rig> rig;
  if (c.level == "op") rig = std::make_unique<OpRig>(c, case_knobs(c, config), device);
  else if (c.level == "step") rig = std::make_unique<StepRig>(c, config, device);
  else rig = std::make_unique<MixerRig>(c, case_knobs(c, config), device);
  rig->replay = Replay(config.run.graph);
  return rig;
}

std::function<Index(Index)> step_planner(const BenchCase& c, const Config& config) {
  const auto model = std::make_shared<Model>(StepRig::shape(c, config.model), StepRig::task(c), case_knobs(c, config));
  model->recompute = config.run.recompute;
  model->make(Mode::train, 1, c.T);
  const Index constant = Optimizer(model->params, config.train, config.seed, 1).bytes();
  return [model, constant, T = c.T](Index B) { return constant + StepRig::planned(*model, *model->make(Mode::train, B, T)); };
}

}  // namespace ssm
