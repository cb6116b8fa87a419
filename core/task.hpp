// task.hpp - what a task is: a pure function from (split, index) to an example, with its score's ceiling, floor and published values.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "knobs.hpp"
#include "real.hpp"
#include "registry.hpp"

namespace ssm {

enum class Split { train, validation, test };
const char* split_name(Split split);
Split split_of(const std::string& name);  // throws BadInput

enum class Target {
  classes,     // one label per sequence
  positions,   // one label per position; -1 is ignored
  regression,  // real values per sequence
  series,      // real values per position; a position whose values are NaN is ignored
  pairs        // one label per pair of sequences: a batch of 2B rows
};

// One example. Either tokens or features is filled (second and second_features: the other half of a pair).
struct Example {
  std::vector<std::int32_t> tokens;   // (length)
  std::vector<float> features;        // (length, TaskInfo::features)
  std::vector<std::int32_t> second;   // (length of the second sequence), pairs only
  std::vector<std::int32_t> targets;  // 1 label, or (length) labels with -1 = ignored
  std::vector<float> values;          // (TaskInfo::classes) for regression, (length, TaskInfo::classes) for series
  std::vector<std::int32_t> marks;    // (length) an index into the labels of TaskInfo::marks, -1 = none; empty when the task has none
  std::vector<std::int32_t> slices;   // one entry per TaskInfo::slices, an index into its labels
  void clear() { tokens.clear(), features.clear(), second.clear(), targets.clear(), values.clear(), marks.clear(), slices.clear(); }
};

// A number to draw beside a score: kind is "floor", "ceiling", "chance", "ladder" or "published".
struct Reference {
  std::string kind, label;
  double value;
  std::string source;  // where the number was read or how it was computed
};

// An axis along which accuracy is broken down: labels[k] names slice k.
struct SliceAxis {
  std::string name;
  std::vector<std::string> labels;
};

// What a right generator shows: the mean of `measure` over examples is `expected`, up to `tolerance` and 4 standard errors of the mean.
// An oracle or a shortcut is a measure too: 1 where its answer is right. Examples with a NaN are not counted.
struct Statistic {
  std::string name;
  double expected, tolerance;
  std::function<double(const Example&)> measure;
};

struct TaskInfo {
  Target target = Target::classes;
  int vocab = 0;                    // token ids are 0..vocab-1, 0 is padding; 0 when the input is features
  int features = 0;                 // real inputs per position; 0 when the input is tokens
  int classes = 0;                  // labels, or regression outputs
  int max_length = 0;               // longest sequence the present settings can give
  int time_feature = -1;            // the feature that is the time since the position before (0 at padding), -1: none
  double mean_gap = 1;              // its mean
  std::string pooling = "mean";     // "mean", "last", "first": the task's own default for the head
  bool from_one_vector = false;     // positions: a two-layer decoder reads all labels of a sequence from the pooled vector
  std::string metric = "accuracy";  // "accuracy", "mse", or "bits" (bits per label)
  std::vector<Reference> references;
  std::vector<SliceAxis> slices;
  SliceAxis marks;    // an axis along which the labels inside a sequence are broken down; no labels = none
  std::string about;  // one line for `list`
};

struct BatchPlan;   // of recipe.hpp
struct BatchMaker;  // of recipe.hpp

struct Task {
  std::string name;  // the registered name, set by SSM_TASK
  virtual ~Task();
  virtual void knobs(Knobs&) {}
  // After the knobs are set: reads files, checks ranges. Throws BadInput.
  virtual void open(std::uint64_t seed) = 0;
  virtual TaskInfo info() const = 0;
  // Number of examples; 0 = as many as one asks for.
  virtual Index size(Split split) const = 0;
  // Example `index` of `split`: thread safe, the same on any machine.
  virtual void example(Split split, Index index, Example& out) const = 0;
  // Why a kernel cannot make this task's training batches; "" for tasks with a recipe (recipe.hpp).
  virtual std::string host_only() const { return "its examples are made by host code"; }
  // Makes the batches of the training split on the device. Throws Unsupported when host_only() says why not.
  virtual std::unique_ptr<BatchMaker> batches(const BatchPlan& plan) const;
  // What `data` prints beside the measured values and what tests hold every generator to. Called after open().
  virtual std::vector<Statistic> statistics() const { return {}; }
  // The example as a person would read it.
  virtual std::string show(const Example& e) const;
  // Writes the first `count` examples of `split` as the file that other programs of the field read. Throws Unsupported when there is
  // no such form, std::runtime_error when the file cannot be written.
  virtual void write(Split split, Index count, const std::string& path) const;
};

// What the first `count` examples of a split show for each statistic.
struct Measured {
  std::string name;
  double expected, mean, allowed;  // allowed: the tolerance and 4 standard errors
  bool agrees() const { return std::abs(mean - expected) <= allowed; }
};
std::vector<Measured> measure(const Task& task, const std::vector<Statistic>& statistics, Split split, Index count);

using TaskRegistry = Registry<Task>;

#define SSM_TASK(Type, task_name)                                                                                                         \
  [[maybe_unused]] static const bool registered_##Type = ::ssm::TaskRegistry::get().add(task_name, []() -> std::unique_ptr<::ssm::Task> { \
    auto task = std::make_unique<Type>();                                                                                                 \
    task->name = task_name;                                                                                                               \
    return task;                                                                                                                          \
  })

}  // namespace ssm
