// config.hpp - every key of a run, typed, validated and resolved; the run id.
//
// A key is <section>.<name>: model.*, train.*, run.*, seed.*, <task>.*, <variant>.<knob>; `task` alone chooses the task, and `variant`, `depth`,
// `layers`, `seed` are short for model.variant, model.depth, model.layers and all three seeds.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"
#include "task.hpp"
#include "train/settings.hpp"

namespace ssm {

using KeyValues = std::vector<std::pair<std::string, std::string>>;

struct Config {
  std::string task_name;  // empty: none (describe --variant works without a task)
  ModelConfig model;
  TrainSettings train;
  RunSettings run;
  Seeds seed;
  VariantKnobs variant_knobs;       // every knob of every variant in use, defaults included
  std::unique_ptr<Task> task;       // knobs set, not opened
  std::vector<std::string> layers;  // variant of each layer

  // Later entries win. Throws BadInput naming the key, the value and what is allowed or nearest.
  explicit Config(const KeyValues& given);
  // Opens the task with seed.data; behind the files of run.cache, when there is one.
  void open_task();

  // All keys with their values, defaults included, in key order.
  std::map<std::string, std::string> resolved() const;
  // 16 hexadecimal digits: hash of all keys that can change a result (run.* cannot, but for run.gemm).
  std::string run_id() const;
  // Every key of the present choice of task and variants, with its declaration (whose target may be gone) and its value.
  struct Key {
    std::string name, value;
    Knob knob;
  };
  std::vector<Key> keys() const;

 private:
  void each(const std::function<void(const std::string& section, Knobs& knobs)>& visit) const;
  std::vector<std::string> used_variants() const;
};

}  // namespace ssm
