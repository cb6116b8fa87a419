// eval.cpp - ssmbench eval CHECKPOINT: the score of trained parameters, also on other lengths, splits or settings of the task.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "error.hpp"
#include "exec.hpp"
#include "lib/blas.hpp"
#include "lib/fft.hpp"
#include "record/provenance.hpp"
#include "record/record.hpp"
#include "train/trainer.hpp"

namespace ssm {

namespace {

// The keys of the checkpoint with those of the command line over them. The model itself cannot change; with another task go the keys of the old one.
KeyValues merged(const Checkpoint& c, const KeyValues& given) {
  KeyValues keys;
  const std::string prefix = "config:";
  for (const auto& [name, value] : c.attributes)
    if (name.rfind(prefix, 0) == 0) keys.emplace_back(name.substr(prefix.size()), std::get<std::string>(value));
  const Config trained(keys);
  for (const auto& [key, value] : given) {
    const std::string section = key.substr(0, key.find('.'));
    const bool of_model =
        section == "model" || key == "variant" || key == "depth" || key == "layers" || trained.variant_knobs.count(section);
    const bool view = trained.variant_knobs.count(section) && key == section + ".view";
    if (of_model && !view)
      throw BadInput("--" + key +
                     ": the model is that of the checkpoint; only the task, train.length, train.eval_batch, run.* and views may change");
    if (key == "task" && value != trained.task_name)
      std::erase_if(keys, [&](const auto& k) { return k.first.rfind(trained.task_name + ".", 0) == 0; });
    keys.emplace_back(key, value);
  }
  keys.emplace_back("model.l_max", std::to_string(c.attribute<std::int64_t>("l_max")));
  return keys;
}

void load(const Checkpoint& c, const std::string& kind, Params& params) {
  for (const ParamInfo& p : params.all()) {
    if (kind == "best") {
      params.set(p.name, c.get<double>("best/" + p.name, p.shape));
      continue;
    }
    const auto& raw = c.get<Real>("param/" + p.name, p.shape);
    params.set(p.name, {raw.begin(), raw.end()});
  }
}

int eval(const Arguments& arguments) {
  const std::string path = arguments.text("checkpoint");
  if (path.empty()) throw BadInput("eval needs a checkpoint: ssmbench eval results/<run-id>.ckpt.h5");
  const Checkpoint checkpoint = Checkpoint::load(path);
  Config config(merged(checkpoint, arguments.keys));
  config.open_task();
  const Split split = split_of(arguments.own["split"].as<std::string>());
  const Index examples = arguments.own["examples"].as<long>();
  if (examples < 1) throw BadInput("--examples " + std::to_string(examples) + ": allowed is 1 or more");
  const std::string weights = arguments.own["weights"].as<std::string>();
  if (weights != "last" && weights != "best") unknown("value of --weights", weights, {"last", "best"});

  std::error_code missing;
  if (const std::string out = arguments.text("out"); !out.empty() && std::filesystem::equivalent(out, path, missing))
    throw BadInput("--out " + out + ": is the checkpoint itself");

  Device device(config.run.threads, config.run.gemm);
  Model model(config.model, config.task->info(), config.variant_knobs);
  const Index T = length_of(config, model.info);
  const auto net = model.make(Mode::evaluate, config.train.eval_batch ? config.train.eval_batch : config.train.batch, T);
  model.params.commit(1, false);
  net->allocate();
  load(checkpoint, weights, model.params);
  std::unique_ptr<Record> record;
  if (const std::string out = arguments.text("out"); !out.empty()) {
    record = std::make_unique<Record>(out, checkpoint.attribute<std::string>("run_id"));
    record->config(config.resolved());
    record->references(model.info.references);
    record->tree().set("/task", "name", config.task_name);
    record->tree().set("/task", "metric", model.info.metric);
    provenance(record->tree(), arguments.argc, arguments.argv,
               {device.backend, device.name, device.driver, device.kokkos_version, device.kokkos_configuration, blas_name(), fft_name(),
                config.run.gemm, device.threads});
    record->flush();  // an unwritable folder is found here, before the evaluation
  }
  const Score score = evaluate(*net, Run{device.exec(), Mode::evaluate, nullptr}, *config.task, model.info, split, examples);

  nlohmann::json j = {
      {"checkpoint", path}, {"split", split_name(split)},      {"examples", score.examples}, {"labels", score.labels},  {"length", T},
      {"loss", score.loss}, {model.info.metric, score.metric}, {"slices", score.slices},     {"seconds", score.seconds}};
  if (arguments.flag("json")) {
    std::printf("%s\n", j.dump(1).c_str());
  } else {
    std::printf("%s on %lld %s examples of length %lld: loss %.4f  %s %.4f\n", config.task_name.c_str(),
                static_cast<long long>(score.examples), split_name(split), static_cast<long long>(T), score.loss, model.info.metric.c_str(),
                score.metric);
    for (const auto& [name, value] : score.slices) std::printf("  %-24s %.4f\n", name.c_str(), value);
  }
  if (record) {
    record->eval({checkpoint.attribute<std::int64_t>("step"), checkpoint.attribute<std::int64_t>("tokens_real"),
                  checkpoint.attribute<double>("seconds"), split_name(split), score.examples, score.loss, score.metric, score.slices});
    record->end("complete");
  }
  return 0;
}

void options(boost::program_options::options_description& o) {
  namespace po = boost::program_options;
  o.add_options()("checkpoint", po::value<std::string>(), "file written by train");
  o.add_options()("split", po::value<std::string>()->default_value("test"), "train, validation or test");
  o.add_options()("examples", po::value<long>()->default_value(2000), "how many, from the first");
  o.add_options()("weights", po::value<std::string>()->default_value("last"), "last, or best (needs train.select = best)");
  o.add_options()("out", po::value<std::string>(), "also write a results file");
  o.add_options()("json", po::bool_switch(), "machine-readable");
}

}  // namespace

static const RegisterCommand registered(
    {"eval", "score a checkpoint, also on lengths it was not trained on", options, {"checkpoint"}, eval});

}  // namespace ssm
