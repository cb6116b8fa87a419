#include "task.hpp"

#include <algorithm>

#include "recipe.hpp"

namespace ssm {

const char* split_name(Split split) { return split == Split::train ? "train" : split == Split::validation ? "validation" : "test"; }

Split split_of(const std::string& name) {
  for (const Split s : {Split::train, Split::validation, Split::test})
    if (name == split_name(s)) return s;
  unknown("split", name, {"train", "validation", "test"});
}

Task::~Task() = default;

std::unique_ptr<BatchMaker> Task::batches(const BatchPlan&) const { throw Unsupported("task " + name + ": " + host_only()); }

std::string Task::show(const Example& e) const {
  std::string out;
  for (const auto t : e.tokens) out += std::to_string(t) + ' ';
  if (!e.second.empty()) out += "| ";
  for (const auto t : e.second) out += std::to_string(t) + ' ';
  out += "->";
  for (const auto t : e.targets)
    if (t >= 0) out += ' ' + std::to_string(t);
  for (const auto v : e.values) out += ' ' + number_text(static_cast<double>(v));
  return out;
}

void Task::write(Split, Index, const std::string&) const { throw Unsupported("task " + name + " has no file form of its own"); }

std::vector<Measured> measure(const Task& task, const std::vector<Statistic>& statistics, Split split, Index count) {
  struct Sums {
    double n = 0, sum = 0, squares = 0;
  };
  std::vector<Sums> sums(statistics.size());
  Example e;
  for (Index i = 0; i < count; ++i) {
    task.example(split, i, e);
    for (std::size_t k = 0; k < statistics.size(); ++k) {
      const double x = statistics[k].measure(e);
      if (!std::isnan(x)) sums[k].n += 1, sums[k].sum += x, sums[k].squares += x * x;
    }
  }
  std::vector<Measured> out;
  for (std::size_t k = 0; k < statistics.size(); ++k) {
    const double n = std::max(sums[k].n, 1.0), mean = sums[k].n > 0 ? sums[k].sum / n : std::nan("");
    const double error = std::sqrt(std::max(sums[k].squares / n - mean * mean, 0.0) / n);
    out.push_back({statistics[k].name, statistics[k].expected, mean, statistics[k].tolerance + 4 * error + 1e-9});
  }
  return out;
}

}  // namespace ssm
