// test_recipes.cpp - training batches made by a kernel are those that the host makes, bit for bit, for every task with a recipe; runs by
// either path have the same losses.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "draws.hpp"
#include "loader.hpp"
#include "open_task.hpp"
#include "recipe.hpp"
#include "testing.hpp"
#include "train/trainer.hpp"

namespace ssm {
namespace {

// Device memory with a copy back.
template <class T>
struct Slot {
  Memory memory;
  explicit Slot(std::size_t n) : memory("test::slot", static_cast<Index>(n * sizeof(T))) {
    if (n) fill_bytes(memory.as<void>(), 0x55, memory.bytes());
  }
  T* get() const { return memory.as<T>(); }
  std::vector<T> read() const {
    std::vector<T> out(static_cast<std::size_t>(memory.bytes()) / sizeof(T));
    copy_out(out.data(), memory.as<void>(), memory.bytes());
    return out;
  }
};

template <class T>
bool same_bits(const std::vector<T>& made, const auto& host) {
  const std::vector<T> wanted(host.begin(), host.end());
  return made.size() == wanted.size() && (made.empty() || std::memcmp(made.data(), wanted.data(), made.size() * sizeof(T)) == 0);
}

void expect_batches(const std::string& name, const Settings& settings, const Curriculum& lengths_of_steps = {}) {
  const auto task = open_task(name, settings, 3);
  const TaskInfo info = task->info();
  const Index B = 5, T = info.max_length + 3, accumulate = 2, history = 4;
  const Index size = task->size(Split::train);
  HostBatch host;
  const auto make = training_batches(*task, 11, B, T, accumulate, lengths_of_steps);
  make(0, host);
  const Slot<std::int32_t> tokens(host.tokens.size()), lengths(host.lengths.size()), targets(host.targets.size());
  const Slot<Real> features(host.features.size()), values(host.values.size());
  const Slot<StepState> state(1);
  BatchPlan plan{{tokens.get(), features.get(), lengths.get(), targets.get(), values.get()},
                 B,
                 T,
                 accumulate,
                 1,
                 history,
                 {size, 11},
                 lengths_of_steps};
  const auto maker = task->batches(plan);
  const Run run{test_device().exec(), Mode::train, state.get()};
  for (const Index step : {0, 1, 2, 3, 9}) {
    Index real = 0;
    for (Index micro = 0; micro < accumulate; ++micro) {
      StepState s{};
      s.step = step, s.micro = micro;
      copy_in(state.get(), &s, sizeof s);
      maker->make(run);
      test_device().fence("test: a batch");
      make(step * accumulate + micro, host);
      ASSERT_TRUE(same_bits(tokens.read(), host.tokens)) << "step " << step;
      ASSERT_TRUE(same_bits(targets.read(), host.targets)) << "step " << step;
      ASSERT_TRUE(same_bits(lengths.read(), host.lengths)) << "step " << step;
      ASSERT_TRUE(same_bits(features.read(), host.features)) << "step " << step;
      ASSERT_TRUE(same_bits(values.read(), host.values)) << "step " << step;
      ASSERT_LE(*std::max_element(host.lengths.begin(), host.lengths.end()), lengths_of_steps.longest(step));
      real += host.tokens_real;
    }
    EXPECT_EQ(maker->read_tokens(step, step + 1).at(0), real);
  }
}

const std::vector<std::pair<std::string, Settings>> more = {
    {"selective_copying", {{"fixed", "true"}, {"train_size", "9"}}},
    {"induction", {{"min_length", "8"}, {"train_size", "40"}}},
    {"parity", {{"labels", "last"}, {"min_length", "30"}}},
    {"copying", {{"form", "lag"}, {"tokens", "20"}}},
    {"needle", {{"length", "256"}, {"records", "4"}, {"kind", "near"}, {"depth", "0.5"}}},
    {"needle", {{"length", "256"}, {"records", "4"}, {"kind", "update"}}},
    {"needle", {{"length", "256"}, {"records", "4"}, {"kind", "two-hop"}}},
    {"mqar", {{"min_pairs", "2"}, {"min_length", "64"}, {"filler", "random"}}},
    {"modular_arithmetic", {{"brackets", "true"}}},
    {"mad_recall", {{"labels", "recall"}}},
    {"word_problem", {{"group", "S5"}}}};

// Each grows to its longest by step 3.
const std::vector<std::tuple<std::string, Settings, Curriculum>> growing = {
    {"parity", {}, {4, 40, 3}},
    {"induction", {{"length", "64"}, {"min_length", "8"}, {"train_size", "40"}}, {20, 64, 3}},
    {"mqar", {{"min_length", "64"}, {"pairs", "4"}}, {64, 128, 3}}};

const AtStart registered([] {
  for (const std::string& name : generated_tasks()) {
    if (!TaskRegistry::get().make(name, "task")->host_only().empty()) continue;
    add_test("device_batches", name, [=] {
      expect_batches(name, {});
      for (const auto& [other, settings] : more)
        if (other == name) expect_batches(name, settings);
      for (const auto& [other, settings, lengths] : growing)
        if (other == name) expect_batches(name, settings, lengths);
    });
  }
});

struct Trained {
  std::vector<double> loss;
  std::vector<std::int64_t> tokens;
  std::string path;
  bool operator==(const Trained& o) const { return loss == o.loss && tokens == o.tokens; }
};

Trained train(const KeyValues& task, const std::string& data) {
  const TemporaryFolder folder;
  KeyValues keys = task;
  for (const auto& [key, value] : KeyValues{{"run.out", folder.path.string()},
                                            {"run.data", data},
                                            {"run.quiet", "true"},
                                            {"run.report_every", "2"},
                                            {"run.checkpoint_every", "0"},
                                            {"train.steps", "5"},
                                            {"train.batch", "3"},
                                            {"train.eval_examples", "3"},
                                            {"train.test_examples", "0"},
                                            {"variant", "s4d"},
                                            {"depth", "1"},
                                            {"model.d_model", "8"}})
    keys.emplace_back(key, value);
  Config config(keys);
  config.open_task();
  Record record(folder.path.string() + "/run.h5", config.run_id());
  Trainer trainer(config, test_device(), record);
  trainer.run();
  record.end("complete");
  const Tree tree = Tree::read(record.path());
  return {tree.column<double>("/train/loss"), tree.column<std::int64_t>("/train/tokens_real"),
          tree.get<std::string>("/timing", "data_path")};
}

TEST(Recipes, BothPathsTrainAlike) {
  const std::vector<KeyValues> runs = {{{"task", "parity"}, {"train.accumulate", "2"}},
                                       {{"task", "parity"}, {"train.curriculum", "4"}, {"train.curriculum_from", "6"}},
                                       {{"task", "mad_recall"}, {"mad_recall.train_size", "8"}},
                                       {{"task", "adding"}, {"adding.length", "40"}}};
  for (const KeyValues& keys : runs) {
    SCOPED_TRACE(keys[0].second);
    const Trained host = train(keys, "host"), device = train(keys, "device");
    EXPECT_EQ(host.path, "host: asked for");
    EXPECT_EQ(device.path, "device");
    EXPECT_EQ(host.loss.size(), 5u);
    EXPECT_TRUE(host == device);
    if (keys[1].first == "train.curriculum") {
      EXPECT_LE(host.tokens[0], 3 * 6);
      EXPECT_GT(host.tokens[4] - host.tokens[3], 3 * 6);
    }
  }
}

TEST(Recipes, TasksWithoutOneSayWhy) {
  const KeyValues listops = {{"task", "listops"}, {"listops.max_length", "60"}, {"listops.min_length", "20"}, {"listops.depth", "4"}};
  const std::string message = bad_input([&] { train(listops, "device"); });
  for (const char* part : {"run.data = device", "listops", "host code", "auto and host"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(train(listops, "auto").path.rfind("host: ", 0), 0u);
}

TEST(Draws, ReadsTheNumbersOfRng) {
  for (const std::uint64_t example : {std::uint64_t{0}, std::uint64_t{5}, ~std::uint64_t{0} - 3}) {
    Rng rng(7, hash_name("test"), example);
    Draws draws(7, hash_name("test"), example);
    for (int i = 0; i < 500; ++i) ASSERT_EQ(draws.u32(), rng.u32()) << i;
    EXPECT_EQ(draws.uniform(), rng.uniform());
  }
}

}  // namespace
}  // namespace ssm
