// data.cpp - ssmbench data: examples of a task as people read them, statistics, or a whole split in a file.
#include <ctime>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "cli/command.hpp"
#include "error.hpp"
#include "record/tree.hpp"

namespace ssm {

namespace {

struct Rows {
  std::vector<std::int32_t> tokens, targets, marks;
  std::vector<float> features, values;
  std::vector<std::int64_t> offsets{0}, target_offsets{0};
};

// Ragged rows in flat arrays: example i is tokens[offsets[i], offsets[i+1]).
void write(const Config& config, const TaskInfo& info, Split split, Index count, const std::string& path) {
  Rows s;
  Example e;
  for (Index i = 0; i < count; ++i) {
    config.task->example(split, i, e);
    for (const auto* part : {&e.tokens, &e.second}) {
      if (part == &e.second && info.target != Target::pairs) continue;
      s.tokens.insert(s.tokens.end(), part->begin(), part->end());
      s.offsets.push_back(static_cast<std::int64_t>(s.tokens.size()));
    }
    s.features.insert(s.features.end(), e.features.begin(), e.features.end());
    if (info.features) s.offsets.push_back(static_cast<std::int64_t>(s.features.size()) / info.features);
    s.targets.insert(s.targets.end(), e.targets.begin(), e.targets.end());
    s.target_offsets.push_back(static_cast<std::int64_t>(s.targets.size()));
    s.values.insert(s.values.end(), e.values.begin(), e.values.end());
    s.marks.insert(s.marks.end(), e.marks.begin(), e.marks.end());
  }
  Tree t;
  t.set("/", "schema", "ssmbench-data/1");
  t.set("/", "task", config.task_name);
  t.set("/", "split", split_name(split));
  for (const auto& [key, value] : config.resolved())
    if (key.rfind(config.task_name + ".", 0) == 0 || key == "seed.data") t.set("/config", key, value);
  if (info.features) t.put("/features", Array(s.features));
  else t.put("/tokens", Array(s.tokens));
  t.put("/offsets", Array(s.offsets));
  t.put("/targets", Array(s.targets));
  t.put("/target_offsets", Array(s.target_offsets));
  if (!s.values.empty()) t.put("/values", Array(s.values));
  if (!s.marks.empty()) t.put("/marks", Array(s.marks));
  t.write(path, true);
}

// What the task says a right generator shows, and what these examples show.
void expectations(const Task& task, Split split, Index count) {
  const std::vector<Statistic> all = task.statistics();
  if (all.empty()) return;
  std::printf("\n%-60s %10s %10s %12s\n", "statistic", "expected", "measured", "allowed +-");
  for (const Measured& m : measure(task, all, split, count))
    std::printf("%-60s %10.5g %10.5g %12.2g%s\n", m.name.c_str(), m.expected, m.mean, m.allowed, m.agrees() ? "" : "  OUTSIDE");
}

// Seconds that this thread has computed: what others do to the machine at the same time counts little.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Rate {
  double positions, examples;  // a second
};

// What one thread makes: examples again and again for a quarter of a second.
Rate rate(const Task& task, const TaskInfo& info, Split split, Index count) {
  const double begin = thread_seconds();
  double positions = 0, examples = 0, seconds = 0;
  Example e;
  for (Index i = 0; seconds < .25; i = (i + 1) % count) {
    task.example(split, i, e);
    positions += static_cast<double>(info.features ? e.features.size() / static_cast<std::size_t>(info.features)
                                                   : e.tokens.size() + e.second.size());
    examples += 1;
    if (i % 64 == 63 || i + 1 == count) seconds = thread_seconds() - begin;
  }
  return {positions / seconds, examples / seconds};
}

void statistics(const Task& task, const TaskInfo& info, Split split, Index count) {
  std::vector<double> lengths;
  std::vector<Index> labels(static_cast<std::size_t>(std::max(info.classes, 1)));
  Example e;
  for (Index i = 0; i < count; ++i) {
    task.example(split, i, e);
    lengths.push_back(static_cast<double>(info.features ? e.features.size() / static_cast<std::size_t>(info.features) : e.tokens.size()));
    for (const auto target : e.targets)
      if (target >= 0) ++labels.at(static_cast<std::size_t>(target));
  }
  const Rate made = rate(task, info, split, count);
  std::printf("rate    %.3g positions/s, %.3g examples/s on one core\n", made.positions, made.examples);
  std::sort(lengths.begin(), lengths.end());
  const auto quantile = [&](double q) { return lengths[static_cast<std::size_t>(q * static_cast<double>(lengths.size() - 1))]; };
  std::printf("length  mean %.1f  p5 %.0f  p25 %.0f  p50 %.0f  p75 %.0f  p95 %.0f\n",
              std::accumulate(lengths.begin(), lengths.end(), 0.0) / static_cast<double>(count), quantile(.05), quantile(.25), quantile(.5),
              quantile(.75), quantile(.95));
  const double total = static_cast<double>(std::accumulate(labels.begin(), labels.end(), Index{0}));
  if (total > 0 && labels.size() <= 64) {
    std::printf("labels ");
    for (const Index n : labels) std::printf(" %.3f", static_cast<double>(n) / total);
    std::printf("\nmajority class %.3f\n", static_cast<double>(*std::max_element(labels.begin(), labels.end())) / total);
  }
}

int data(const Arguments& arguments) {
  Config config(arguments.keys);
  config.open_task();
  const TaskInfo info = config.task->info();
  const Split split = split_of(arguments.own["split"].as<std::string>());
  Index count = arguments.own["examples"].as<long>();
  if (count < 1) throw BadInput("--examples " + std::to_string(count) + ": allowed is 1 or more");
  if (const Index size = config.task->size(split); size > 0) count = std::min(count, size);
  if (const std::string out = arguments.text("out"); !out.empty()) {
    write(config, info, split, count, out);
    std::printf("%s: %lld examples of %s/%s\n", out.c_str(), static_cast<long long>(count), config.task_name.c_str(), split_name(split));
    return 0;
  }
  if (const std::string native = arguments.text("native"); !native.empty()) {
    try {
      config.task->write(split, count, native);
    } catch (const Unsupported& e) {
      throw BadInput("--native " + native + ": " + e.what() + "; --out writes HDF5");
    }
    std::printf("%s: %lld examples of %s/%s\n", native.c_str(), static_cast<long long>(count), config.task_name.c_str(), split_name(split));
    return 0;
  }
  std::printf("%s: %s\n", config.task_name.c_str(), info.about.c_str());
  for (const Reference& r : info.references)
    std::printf("  %-10s %-8.4g %s (%s)\n", r.kind.c_str(), r.value, r.label.c_str(), r.source.c_str());
  Example e;
  for (Index i = 0; i < std::min<Index>(count, 3); ++i) {
    config.task->example(split, i, e);
    std::printf("\nexample %lld of %s, length %zu\n%s\n", static_cast<long long>(i), split_name(split),
                info.features ? e.features.size() / static_cast<std::size_t>(info.features) : e.tokens.size(),
                config.task->show(e).c_str());
  }
  std::printf("\nstatistics of %lld examples\n", static_cast<long long>(count));
  statistics(*config.task, info, split, count);
  expectations(*config.task, split, count);
  return 0;
}

void options(boost::program_options::options_description& o) {
  namespace po = boost::program_options;
  o.add_options()("split", po::value<std::string>()->default_value("train"), "train, validation or test");
  o.add_options()("examples", po::value<long>()->default_value(1000), "how many, from the first");
  o.add_options()("out", po::value<std::string>(), "HDF5 file to write the examples to");
  o.add_options()("native", po::value<std::string>(), "file to write in the task's own form (ListOps: the TSV of the Long Range Arena)");
}

}  // namespace

static const RegisterCommand registered({"data", "print, count or write the examples of a task", options, {}, data});

}  // namespace ssm
