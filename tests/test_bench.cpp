// test_bench.cpp - the benchmark harness: what it refuses, what it records, that it counts and never times what failed its check.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>

#include "bench/bench.hpp"
#include "bench/ceilings.hpp"
#include "bench/largest.hpp"
#include "bench/made_up.hpp"
#include "bench/timer.hpp"
#include "check.hpp"
#include "error.hpp"
#include "testing.hpp"
#include "tiny_task.hpp"
#include "train/train_step.hpp"
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
  o = tiny();
  o.views = {"scam"};
  EXPECT_NE(refusal(o).find("did you mean 'scan'"), std::string::npos) << refusal(o);
  o = tiny();
  o.precisions = {"fp16"};
  EXPECT_NE(refusal(o).find("fp16"), std::string::npos);
  o = tiny();
  o.devices = {"gpu"};
  EXPECT_NE(refusal(o).find("gpu"), std::string::npos);
  o = tiny();
  o.N = {4, 8, 4};
  EXPECT_NE(refusal(o).find("N '4' is given twice"), std::string::npos) << refusal(o);
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

BenchOptions one_step(const KeyValues& keys = {}) {
  BenchOptions o = tiny();
  o.levels = {"step"}, o.check = false, o.keys = keys;
  o.keys.emplace_back("depth", "1");
  return o;
}

struct Watching final : Task {  // notes which training examples were asked for
  TinyTask tiny{Target::classes, 0, 8};
  std::atomic<Index>& asked;
  explicit Watching(std::atomic<Index>& asked_) : asked(asked_) { name = "watching"; }
  void open(std::uint64_t) override {}
  TaskInfo info() const override { return tiny.info(); }
  Index size(Split) const override { return 0; }
  void example(Split split, Index index, Example& e) const override { ++asked, tiny.example(split, index, e); }
};

TEST(Bench, AStepMakesItsBatch) {
  for (const std::string task : {"made-up tokens", "induction"}) {
    const bool made_up = task == "made-up tokens";
    const BenchOptions o = one_step(made_up ? KeyValues{} : KeyValues{{"task", task}, {"induction.length", "8"}});
    const Config config = bench_config(o);
    const auto rig = make_rig(bench_cases(o).at(0), config, test_device());
    ssm::Run r{test_device().exec(), Mode::train, rig->state};
    start_profile();
    rig->call(r);
    std::set<std::string> labels;
    for (const KernelTime& k : stop_profile()) labels.insert(k.label);
    EXPECT_TRUE(labels.count("ssm::make_batch")) << task;
    EXPECT_NE(rig->path().find("batches of " + task + ": device"), std::string::npos) << rig->path();
  }
  std::atomic<Index> asked = 0;
  Config config = bench_config(one_step());
  config.task = std::make_unique<Watching>(asked);
  const auto rig = make_rig(bench_cases(one_step()).at(0), config, test_device());
  ssm::Run r{test_device().exec(), Mode::train, rig->state};
  const Index steps = 20, B = 2;
  for (Index n = 0; n < steps; ++n) rig->call(r);
  test_device().fence("test: end of the steps");
  EXPECT_GE(asked, steps * B);
  EXPECT_NE(rig->path().find("batches of watching: host: "), std::string::npos) << rig->path();
}

TEST(Bench, MadeUpBatchesFollowTheStepsAtEveryLength) {
  const Index B = 3;
  for (const Index T : {1, 7}) {
    Config config = bench_config(one_step());
    config.model.d_model = 4;
    const auto task = made_up_tokens(T);
    Model model(config.model, task->info(), config.variant_knobs);
    const auto net = model.make(Mode::train, B, T);
    model.params.commit(1, true);
    net->allocate();
    TrainStep step(model, *net, *task, config, {});
    step.start_at(0);
    const ssm::Run r{test_device().exec(), Mode::train, step.optimizer().state()};
    std::vector<std::int32_t> before;
    for (Index n = 0; n < 4; ++n) {
      step(r);
      test_device().fence("test: a step");
      HostBatch host;
      const std::vector<Index> indices = {n * B, n * B + 1, n * B + 2};
      fill(*task, Split::train, indices, T, host);
      const auto read = [](const std::int32_t* from, std::size_t size) {
        std::vector<std::int32_t> out(size);
        copy_out(out.data(), from, static_cast<Index>(size * sizeof(std::int32_t)));
        return out;
      };
      const auto tokens = read(net->net.batch.tokens, host.tokens.size());
      EXPECT_EQ(tokens, host.tokens);
      EXPECT_EQ(read(net->net.batch.lengths, host.lengths.size()), host.lengths);
      EXPECT_EQ(read(net->net.batch.targets, host.targets.size()), host.targets);
      EXPECT_NE(tokens, before);
      before = tokens;
    }
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
  Record longer(::testing::TempDir() + "bench-test.h5", "bench");
  EXPECT_EQ(run_bench(one_step({{"task", "induction"}, {"induction.length", "9"}}), test_device(), longer), 0);
  EXPECT_EQ(longer.tree().column<std::string>("/bench/reason").at(0), "T = 8: examples of induction are up to 9 long");
}

TEST(Bench, EveryAxisIsARowOfOneRun) {
  BenchOptions o = tiny();
  o.variants = {"s4d", "mamba"};
  o.modes = {"forward"};
  o.N = {4, 100000};
  o.views = {"conv", "scan"};
  o.threads = {1, 1000000};
  const std::string own = kDouble ? "fp64" : "fp32", other = kDouble ? "fp32" : "fp64";
  o.precisions = {own, other};
  Record record(::testing::TempDir() + "bench-test.h5", "bench");
  const int threads = test_device().threads;
  const bool cpu = test_device().backend == "OpenMP" || test_device().backend == "Serial";
  if (!cpu) o.threads = {1000000};  // those of a CPU
  EXPECT_EQ(run_bench(o, test_device(), record), 0);
  EXPECT_EQ(test_device().threads, threads);
  const Tree& t = record.tree();
  const auto text = [&](const char* name) { return t.column<std::string>(std::string("/bench/") + name); };
  const auto variant = text("variant"), view = text("view"), precision = text("precision"), state = text("state"), reason = text("reason");
  const auto N = t.numbers("/bench/N"), on = t.numbers("/bench/threads");
  ASSERT_EQ(N.size(), cpu ? 32u : 16u);
  int timed = 0;
  for (std::size_t i = 0; i < N.size(); ++i) {
    const bool can = variant[i] == "s4d" && N[i] < 100 && on[i] == 1 && precision[i] == own;
    timed += can;
    EXPECT_EQ(state[i] == "skipped", !can) << text("case")[i] << ": " << reason[i];
    EXPECT_EQ(t.has("/timing/" + text("case")[i]), can) << text("case")[i];
    const std::string axes = ".N" + std::to_string(static_cast<int>(N[i])) + "." + view[i] + ".threads1.";
    EXPECT_NE(can ? text("case")[i].find(axes) : reason[i].find(' '), std::string::npos) << text("case")[i];
  }
  const Index checked = t.has("/check/variants") ? t.at("/check/variants/N").size() : 0;
  EXPECT_EQ(checked, timed);  // each setting is held against its own reference
}

// The pool of threads may change between cases, and the bits of what they compute may not.
TEST(Bench, ThreadsChangeWithinOneProcess) {
  Device& device = test_device();
  const int threads = device.threads;
  const auto errors = [&] { return self_check("mamba", {}, device.exec()).reference_error; };
  const double before = errors();
  try {
    use_threads(device, threads == 1 ? 2 : 1);
  } catch (const Unsupported& e) {
    GTEST_SKIP() << e.what();
  }
  EXPECT_NE(device.threads, threads);
  EXPECT_EQ(errors(), before);
  use_threads(device, threads);
  EXPECT_EQ(device.threads, threads);
  EXPECT_EQ(errors(), before);
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
  o.benchmark_flags = {"--benchmark_filter=decode", "--benchmark_repetitions=2"};
  Record twice(::testing::TempDir() + "bench-test.h5", "bench");
  run_bench(o, test_device(), twice);
  EXPECT_EQ(twice.tree().at("/bench/case").size(), 3);
  EXPECT_EQ(twice.tree().at("/timing/mixer.mamba.decode.B2.T8.D4").size(), 6);
  EXPECT_TRUE(twice.tree().get<bool>("/bench", "validated") == o.check);
  o.benchmark_flags = {"--benchmark_filter=.", "--benchmark_repetitions=1", "--benchmark_filtr=decode"};
  EXPECT_THROW(run_bench(o, test_device(), record), BadInput);
  o.benchmark_flags = {"--benchmark_filter=.", "--benchmark_repetitions=1"};  // Google Benchmark keeps flags for the whole process
  run_bench(o, test_device(), record);
}

TEST(Bench, LargestBatchIsTheLastThatFits) {
  for (const Index per_example : {1, 3, 7, 1000})
    for (Index limit = 990; limit < 1100; ++limit) {
      const auto planned = [=](Index B) { return 5 + per_example * B; };
      const Index B = largest_batch(planned, limit, 300);
      EXPECT_TRUE(B == 0 || planned(B) <= limit);
      EXPECT_TRUE(B == 300 || planned(B + 1) > limit);
      EXPECT_LE(B, 300);
    }
  EXPECT_EQ(parse_bytes("512"), 512);
  EXPECT_EQ(parse_bytes("1.5K"), 1536);
  EXPECT_EQ(parse_bytes("2G"), Index{2} << 30);
  for (const char* text : {"", "G", "0", "-1M", "12Q", "1MB", "nan"}) EXPECT_THROW(parse_bytes(text), BadInput) << text;
  EXPECT_GT(memory_limit().bytes, 1 << 20);
}

TEST(Bench, LargestBatchIsProvenByAStep) {
  BenchOptions o = tiny();
  o.variants = {"mamba", "cnn"};
  o.check = false;
  o.T = {16};
  o.keys = {{"depth", "2"}, {"task", "induction"}, {"induction.length", "16"}};
  watch_kokkos();
  Record record(::testing::TempDir() + "bench-test.h5", "bench");
  const Index limit = 2000000;
  EXPECT_EQ(run_largest(o, limit, test_device(), record), 0);
  const Tree& t = record.tree();
  const auto B = t.numbers("/largest_batch/B"), planned = t.numbers("/largest_batch/planned");
  ASSERT_EQ(B.size(), 2u);
  for (std::size_t i = 0; i < B.size(); ++i) {
    const std::string variant = t.column<std::string>("/largest_batch/variant")[i];
    EXPECT_EQ(t.column<std::string>("/largest_batch/state")[i], "ok") << t.column<std::string>("/largest_batch/reason")[i];
    ASSERT_GT(B[i], 1);
    EXPECT_LE(planned[i], limit);
    EXPECT_EQ(t.numbers("/largest_batch/high_water")[i], planned[i]) << variant;
    const BenchCase c{"step", variant, "train", 1, 16, 4};
    const auto plan = step_planner(c, bench_config(o));
    EXPECT_EQ(plan(static_cast<Index>(B[i])), planned[i]);
    EXPECT_GT(plan(static_cast<Index>(B[i]) + 1), limit) << variant;
  }
  Record none(::testing::TempDir() + "bench-test.h5", "bench");
  EXPECT_EQ(run_largest(o, 1000, test_device(), none), 0);
  EXPECT_EQ(none.tree().column<std::string>("/largest_batch/state").at(0), "skipped");
  EXPECT_NE(none.tree().column<std::string>("/largest_batch/reason").at(0).find("one example needs"), std::string::npos);
}

TEST(Bench, QuartilesAndTheClock) {
  const Quartiles q = quartiles({4, 1, 3, 2, 5});
  EXPECT_EQ(q.low, 2);
  EXPECT_EQ(q.median, 3);
  EXPECT_EQ(q.high, 4);
  EXPECT_TRUE(q.unstable());
  EXPECT_FALSE(quartiles({1, 1.01, 1.02}).unstable());
  if (test_device().timing_method.find("events") != std::string::npos) return;  // of a device: held to its own, the ceiling "timer"
  // Something of known duration is measured within 1 %: the best of a few, because others may use this processor.
  double error = 1;
  for (int i = 0; i < 10; ++i) {
    std::chrono::duration<double> spun{};
    const double measured = seconds_of(test_device(), [&] {
      const auto start = std::chrono::steady_clock::now();
      do spun = std::chrono::steady_clock::now() - start;
      while (spun < std::chrono::milliseconds(5));
    });
    error = std::min(error, std::abs(measured / spun.count() - 1));
  }
  EXPECT_LT(error, 0.01);
}

TEST(Bench, CeilingsHaveARate) {
  for (const Ceiling& c : measure_ceilings(test_device(), 2)) {
    EXPECT_EQ(c.seconds.size(), 2u) << c.name;
    if (c.name == "timer") {
      EXPECT_LT(c.best_rate(), 1.01) << "work of a known duration took less";
    } else {
      EXPECT_GT(c.best_rate(), 1e6) << c.name;
    }
  }
}

}  // namespace
}  // namespace ssm
