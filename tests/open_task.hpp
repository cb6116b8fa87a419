// open_task.hpp - what tests of tasks share.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <utility>

#include "task.hpp"

namespace ssm {

using Settings = std::vector<std::pair<std::string, std::string>>;

inline std::unique_ptr<Task> open_task(const std::string& name, const Settings& settings = {}, std::uint64_t seed = 1) {
  auto task = TaskRegistry::get().make(name, "task");
  Knobs knobs;
  task->knobs(knobs);
  for (const auto& [key, value] : settings) knobs.find(key)->set(value, name + "." + key);
  task->open(seed);
  return task;
}

// Tasks that make their examples. The others read files that the user has and refuse to open without data_dir.
inline std::vector<std::string> generated_tasks() {
  std::vector<std::string> out;
  for (const std::string& name : TaskRegistry::get().names()) {
    const auto task = TaskRegistry::get().make(name, "task");
    try {
      task->open(1);
    } catch (const BadInput& e) {
      if (std::string(e.what()).find(name + ".data_dir") == std::string::npos) throw;
      continue;
    }
    out.push_back(name);
  }
  return out;
}

// The message of the BadInput that `action` throws; "" when it throws nothing.
template <class Action>
std::string bad_input(Action action) {
  try {
    action();
  } catch (const BadInput& e) {
    return e.what();
  }
  return {};
}

// 4 standard errors of a share p counted on n examples: a right generator misses this once in 16,000 seeds, and the seeds are fixed.
inline double share_tolerance(double p, double n) { return 4 * std::sqrt(p * (1 - p) / n); }

// The first n training and test examples show what the task says a right generator shows.
inline void expect_statistics(const std::string& name, const Settings& settings, Index n) {
  const auto task = open_task(name, settings);
  const std::vector<Statistic> statistics = task->statistics();
  EXPECT_FALSE(statistics.empty()) << name;
  for (const Split split : {Split::train, Split::test})
    for (const Measured& m : measure(*task, statistics, split, n))
      EXPECT_TRUE(m.agrees()) << name << ", " << m.name << ": expected " << m.expected << " +- " << m.allowed << ", measured " << m.mean;
}

// A folder that lives as long as the object.
struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path = std::filesystem::temp_directory_path() / ("ssmbench-" + std::string(test->name()) + "-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path / name, std::ios::binary) << content;
    return (path / name).string();
  }
};

}  // namespace ssm
