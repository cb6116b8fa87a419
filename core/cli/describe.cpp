// describe.cpp - ssmbench describe: what a run would be, without running it: parameters, groups, ops with costs, memory plan, tokens, run id.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "error.hpp"
#include "stream_state.hpp"
#include "train/trainer.hpp"

namespace ssm {

namespace {

struct Description {
  Config config;
  TaskInfo info;
  Model model;
  std::unique_ptr<ModelNet> net;

  explicit Description(const KeyValues& keys) : config(keys), info(task_info(config)), model(config.model, info, config.variant_knobs) {
    model.recompute = config.run.recompute;
    if (config.task) curriculum_of(config, info);
    net = model.make(Mode::train, config.train.batch, length_of(config, info));
  }
  // A variant alone is described as a classifier of 10 classes over 32 tokens at length 1024.
  static TaskInfo task_info(Config& config) {
    if (config.task) return config.open_task(), config.task->info();
    TaskInfo info;
    info.vocab = 32;
    info.classes = 10;
    info.max_length = config.train.length ? config.train.length : 1024;
    return info;
  }
  double learning_rate(const ParamInfo& p) const { return p.trained ? std::min(p.group.lr_factor * config.train.lr, p.group.lr_max) : 0; }
  double decay(const ParamInfo& p) const { return p.trained && p.group.decay ? config.train.weight_decay : 0; }
  double tokens() const {
    return static_cast<double>(config.train.steps) * config.train.accumulate * static_cast<double>(net->rows * net->T);
  }
  StreamState state() const { return stream_state(config.model, info, config.variant_knobs); }
  Index parameter_bytes() const { return 4 * model.params.padded_size() * static_cast<Index>(sizeof(Real)); }
};

std::string shape_text(const std::vector<Index>& shape) {
  std::string out;
  for (const Index e : shape) out += (out.empty() ? "" : "x") + std::to_string(e);
  return out;
}

nlohmann::json to_json(Description& d) {
  nlohmann::json j;
  j["run_id"] = d.config.run_id();
  j["config"] = d.config.resolved();
  j["layers"] = d.model.layers;
  j["parameter_count"] = d.model.params.count();
  for (const ParamInfo& p : d.model.params.all())
    j["parameters"].push_back({{"name", p.name},
                               {"shape", p.shape},
                               {"group", p.group.name},
                               {"trained", p.trained},
                               {"lr", d.learning_rate(p)},
                               {"decay", d.decay(p)}});
  for (const auto& op : d.net->net.ops()) {
    const Cost c = op->cost();
    j["ops"].push_back({{"op", op->name()},
                        {"forward", {{"flops", c.forward.flops}, {"exps", c.forward.exps}, {"bytes", c.forward.bytes}}},
                        {"backward", {{"flops", c.backward.flops}, {"exps", c.backward.exps}, {"bytes", c.backward.bytes}}}});
  }
  const Net::Bytes& b = d.net->net.bytes();
  j["memory"] = {{"parameters", d.parameter_bytes()},   {"activations", b.activations},
                 {"activation_gradients", b.gradients}, {"scratch", b.scratch},
                 {"batch", d.net->slot_bytes()},        {"total", d.parameter_bytes() + b.total() + d.net->slot_bytes()},
                 {"without_reuse", b.without_reuse}};
  j["tokens"] = d.tokens();
  j["rows"] = d.net->rows, j["length"] = d.net->T;
  const StreamState state = d.state();
  j["state_bytes_per_sequence"] = state.bytes < 0 ? nlohmann::json() : nlohmann::json(state.bytes);
  j["state_growth"] = state.growth;
  j["causal"] = d.model.causal().yes ? "yes" : d.model.causal().reason;
  j["streams"] = d.model.streams().yes ? "yes" : d.model.streams().reason;
  return j;
}

void print(Description& d) {
  std::printf("run %s   layers", d.config.run_id().c_str());
  for (const std::string& l : d.model.layers) std::printf(" %s", l.c_str());
  std::printf("   batch %lld rows x %lld\n\n%-44s %-14s %-10s %10s %8s\n", static_cast<long long>(d.net->rows),
              static_cast<long long>(d.net->T), "parameter", "shape", "group", "lr", "decay");
  for (const ParamInfo& p : d.model.params.all()) {
    std::printf("%-44s %-14s %-10s %10s %8s\n", p.name.c_str(), shape_text(p.shape).c_str(), p.trained ? p.group.name.c_str() : "buffer",
                number_text(d.learning_rate(p)).c_str(), number_text(d.decay(p)).c_str());
    if (p.group.name == "ssm" && d.decay(p) > 0) std::printf("warning: the state-space parameter %s decays\n", p.name.c_str());
  }
  std::printf("\n%-28s %12s %12s %12s %12s   (of one step, forward | backward)\n", "op", "GFLOP", "Mexp", "MiB", "GFLOP bwd");
  for (const auto& op : d.net->net.ops()) {
    const Cost c = op->cost();
    std::printf("%-28s %12.4g %12.4g %12.4g %12.4g\n", op->name(), c.forward.flops / 1e9, c.forward.exps / 1e6, c.forward.bytes / 1048576,
                c.backward.flops / 1e9);
  }
  const Net::Bytes& b = d.net->net.bytes();
  const auto line = [](const char* name, Index bytes) { std::printf("%-28s %s\n", name, bytes_text(static_cast<double>(bytes)).c_str()); };
  std::printf("\nmemory of the training net\n");
  line("parameters, gradients, moments", d.parameter_bytes());
  line("activations", b.activations);
  line("activation gradients", b.gradients);
  line("scratch", b.scratch);
  line("batch", d.net->slot_bytes());
  line("activations without reuse", b.without_reuse);
  const StreamState state = d.state();
  std::printf("\nparameters %s   tokens of the run %s (padded)   state of a stream %s%s\n",
              count_text(static_cast<double>(d.model.params.count())).c_str(), count_text(d.tokens()).c_str(),
              state.bytes < 0 ? "" : (bytes_text(static_cast<double>(state.bytes)) + " a sequence, ").c_str(), state.growth.c_str());
}

int describe(const Arguments& arguments) {
  if (arguments.flag("run-id")) return std::printf("%s\n", Config(arguments.keys).run_id().c_str()), 0;
  Description d(arguments.keys);
  if (arguments.flag("json")) std::printf("%s\n", to_json(d).dump(1).c_str());
  else print(d);
  return 0;
}

}  // namespace

static const RegisterCommand registered({"describe",
                                         "parameters, ops with costs, memory plan, tokens and id of a run, without running it",
                                         [](auto& o) {
                                           o.add_options()("json", boost::program_options::bool_switch(), "machine-readable");
                                           o.add_options()("run-id", boost::program_options::bool_switch(), "only the run id");
                                         },
                                         {},
                                         describe});

}  // namespace ssm
