// test_bench.cpp - the benchmark harness: what it refuses, what it records, that it counts and never times what failed its check.
#include <gtest/gtest.h>

#include <thread>

#include "bench/bench.hpp"
#include "bench/ceilings.hpp"
#include "bench/timer.hpp"
#include "error.hpp"
#include "testing.hpp"
#include "watch.hpp"

namespace ssm {
namespace {

BenchOptions tiny() {
  BenchOptions o;
  o.variants = {"mamba"};
  o.B = {2}, o.T = {8}, o.D = {4};
  o.samples = 3;
  o.quiet = true, o.ceilings = false;
  return o;
}

std::string refusal(const BenchOptions& o) {
  try {
    bench_cases(o);
    bench_config(o);
  } catch (const BadInput& e) {
    return e.what();
  }
  return "";
}

TEST(Bench, RefusesWhatDoesNotExist) {
  BenchOptions o = tiny();
  o.variants = {"mamba", "mambo"};
  EXPECT_NE(refusal(o).find("did you mean 'mamba'"), std::string::npos) << refusal(o);
  o = tiny();
  o.levels = {"mixr"};
  EXPECT_NE(refusal(o).find("did you mean 'mixer'"), std::string::npos) << refusal(o);
  o = tiny();
  o.modes = {"backward"};
  EXPECT_NE(refusal(o).find("backward"), std::string::npos);
  o = tiny();
  o.T = {8, 0};
  EXPECT_NE(refusal(o).find("T = 0"), std::string::npos) << refusal(o);
  o = tiny();
  o.keys = {{"mamba.d_stat", "4"}};
  EXPECT_NE(refusal(o).find("mamba.d_state"), std::string::npos) << refusal(o);
  o = tiny();
  o.samples = 0;
  EXPECT_NE(refusal(o), "");
}

TEST(Bench, OrderIsShuffledAndRepeatable) {
  BenchOptions o = tiny();
  o.T = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<std::string> once, again, other;
  for (const BenchCase& c : bench_cases(o)) once.push_back(c.name());
  for (const BenchCase& c : bench_cases(o)) again.push_back(c.name());
  o.order_seed = 2;
  for (const BenchCase& c : bench_cases(o)) other.push_back(c.name());
  EXPECT_EQ(once, again);
  EXPECT_NE(once, other);
  std::sort(once.begin(), once.end());
  std::sort(other.begin(), other.end());
  EXPECT_EQ(once, other);
  EXPECT_EQ(once.size(), 24u);
}

TEST(Bench, RecordsEveryLevel) {
  BenchOptions o = tiny();
  o.levels = {"op", "mixer", "step"};
  o.keys = {{"depth", "2"}, {"mamba.d_state", "4"}};
  watch_kokkos();
  Record record(::testing::TempDir() + "bench-test.h5", "bench");
  EXPECT_EQ(run_bench(o, test_device(), record), 0);
  const Tree& t = record.tree();
  ASSERT_EQ(t.at("/bench/case").size(), 5);
  EXPECT_EQ(t.at("/check/variants/passed").size(), 1);
  for (const std::string& state : t.column<std::string>("/bench/state")) EXPECT_TRUE(state == "ok" || state == "unstable") << state;
  const auto planned = t.numbers("/bench/planned"), high = t.numbers("/bench/high_water"), flops = t.numbers("/bench/flops");
  for (std::size_t i = 0; i < planned.size(); ++i) {
    EXPECT_GT(flops[i], 0);
    EXPECT_GE(high[i], planned[i]) << t.column<std::string>("/bench/case")[i];
    EXPECT_LE(high[i], planned[i] + 4096) << "the plan and the allocator disagree: " << t.column<std::string>("/bench/case")[i];
  }
  for (const char* name : {"mixer.mamba.forward.B2.T8.D4", "mixer.mamba.decode.B2.T8.D4", "step.mamba.train.B2.T8.D4",
                           "op.mamba.forward_backward.B2.T8.D4.02.linear_split.forward"}) {
    const std::string path = std::string("/timing/") + name;
    ASSERT_TRUE(t.has(path)) << path;
    EXPECT_EQ(t.at(path).size(), 3);
    for (const double s : t.numbers(path)) EXPECT_GT(s, 0);
    EXPECT_EQ(t.get<std::int64_t>(path, "T"), 8);
  }
}

TEST(Bench, WhatCannotRunIsARowWithItsReason) {
  BenchOptions o = tiny();
  o.variants = {"s4d"};
  o.modes = {"decode"};
  o.keys = {{"s4d.bidirectional", "true"}};
  Record record(::testing::TempDir() + "bench-test.h5", "bench");
  EXPECT_EQ(run_bench(o, test_device(), record), 0);
  EXPECT_EQ(record.tree().column<std::string>("/bench/state").at(0), "skipped");
  EXPECT_NE(record.tree().column<std::string>("/bench/reason").at(0).find("bidirectional"), std::string::npos);
  EXPECT_FALSE(record.tree().has("/timing/mixer.s4d.decode.B2.T8.D4"));
}

TEST(Bench, BenchmarkFlagsPassThrough) {
  BenchOptions o = tiny();
  o.check = false;
  o.benchmark_flags = {"--benchmark_filter=decode"};
  Record record(::testing::TempDir() + "bench-test.h5", "bench");
  run_bench(o, test_device(), record);
  int ran = 0;
  for (const std::string& state : record.tree().column<std::string>("/bench/state")) ran += state != "skipped";
  EXPECT_EQ(ran, 1);
  o.benchmark_flags = {"--benchmark_filtr=decode"};
  EXPECT_THROW(run_bench(o, test_device(), record), BadInput);
}

TEST(Bench, QuartilesAndTheClock) {
  const Quartiles q = quartiles({4, 1, 3, 2, 5});
  EXPECT_EQ(q.low, 2);
  EXPECT_EQ(q.median, 3);
  EXPECT_EQ(q.high, 4);
  EXPECT_TRUE(q.unstable());
  EXPECT_FALSE(quartiles({1, 1.01, 1.02}).unstable());
  const double slept = seconds_of(test_device(), [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  EXPECT_GE(slept, 0.02);
}

TEST(Bench, CeilingsHaveARate) {
  for (const Ceiling& c : measure_ceilings(test_device(), 2)) {
    EXPECT_EQ(c.seconds.size(), 2u) << c.name;
    EXPECT_GT(c.best_rate(), 1e6) << c.name;
  }
}

}  // namespace
}  // namespace ssm
