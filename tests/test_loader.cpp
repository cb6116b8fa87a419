// Host batches: layout, the order of examples, and producers that must not change either.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>

#include "loader.hpp"
#include "open_task.hpp"
#include "record/cached_task.hpp"

using namespace ssm;

namespace {

// Regression on two features per position; example i has 3 + i % 5 positions and the values i, -i.
struct Ramp final : Task {
  Ramp() { name = "ramp"; }
  void open(std::uint64_t) override {}
  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::regression;
    out.features = 2, out.classes = 2, out.max_length = 7;
    return out;
  }
  Index size(Split) const override { return 10; }
  void example(Split, Index index, Example& out) const override {
    out.clear();
    for (Index t = 0; t < 3 + index % 5; ++t) out.features.insert(out.features.end(), {float(index), float(t)});
    out.values = {float(index), -float(index)};
  }
};

std::vector<std::int32_t> row(const std::vector<std::int32_t>& from, Index r, Index width) {
  return {from.begin() + r * width, from.begin() + (r + 1) * width};
}

std::vector<std::int32_t> padded(std::vector<std::int32_t> x, std::size_t width, std::int32_t with) {
  x.resize(width, with);
  return x;
}

}  // namespace

TEST(Loader, BatchesHoldTheExamples) {
  const std::vector<Index> indices = {5, 0, 17};
  for (const std::string& name : generated_tasks()) {
    SCOPED_TRACE(name);
    const auto task = open_task(name);
    const TaskInfo info = task->info();
    const Index T = info.max_length + 3;
    const bool pairs = info.target == Target::pairs;
    HostBatch batch;
    for (int again = 0; again < 2; ++again) fill(*task, Split::validation, indices, T, batch);
    ASSERT_EQ(batch.B, 3);
    ASSERT_EQ(batch.rows, pairs ? 6 : 3);
    EXPECT_EQ(batch.indices, indices);
    EXPECT_EQ(batch.tokens_padded, batch.rows * T);
    EXPECT_EQ(batch.tokens_real, std::accumulate(batch.lengths.begin(), batch.lengths.end(), Index{0}));
    Example e;
    for (Index b = 0; b < 3; ++b) {
      task->example(Split::validation, indices[std::size_t(b)], e);
      const Index r = pairs ? 2 * b : b;
      const int length = int(info.features ? e.features.size() / std::size_t(info.features) : e.tokens.size());
      EXPECT_EQ(batch.lengths[std::size_t(r)], length);
      if (info.features) {
        e.features.resize(std::size_t(T * info.features));
        EXPECT_TRUE(std::equal(e.features.begin(), e.features.end(), batch.features.begin() + r * T * info.features));
      } else {
        EXPECT_EQ(row(batch.tokens, r, T), padded(e.tokens, std::size_t(T), 0));
      }
      if (pairs) {
        EXPECT_EQ(row(batch.tokens, r + 1, T), padded(e.second, std::size_t(T), 0));
        EXPECT_EQ(batch.lengths[std::size_t(r + 1)], int(e.second.size()));
      }
      const Index labels = info.target == Target::positions || info.target == Target::series ? T : 1;
      if (info.target == Target::regression || info.target == Target::series) {
        const std::size_t width = std::size_t(labels * info.classes);
        ASSERT_EQ(batch.values.size(), 3 * width);
        for (std::size_t i = 0; i < width; ++i) {
          const float v = batch.values[std::size_t(b) * width + i];
          EXPECT_TRUE(i < e.values.size() ? v == e.values[i] || (std::isnan(v) && std::isnan(e.values[i])) : std::isnan(v)) << i;
        }
      } else {
        EXPECT_EQ(row(batch.targets, b, labels), padded(e.targets, std::size_t(labels), -1));
      }
      if (!info.marks.labels.empty()) {
        EXPECT_EQ(row(batch.marks, b, T), padded(e.marks, std::size_t(T), -1));
      }
      EXPECT_EQ(row(batch.slices, b, Index(info.slices.size())), e.slices);
    }
  }
}

TEST(Loader, FeaturesAndValues) {
  const Ramp task;
  HostBatch batch;
  fill(task, Split::train, std::vector<Index>{4, 1}, 9, batch);
  EXPECT_EQ(batch.lengths, (std::vector<std::int32_t>{7, 4}));
  EXPECT_EQ(batch.tokens_real, 11);
  EXPECT_TRUE(batch.tokens.empty() && batch.targets.empty());
  EXPECT_EQ(batch.values, (std::vector<float>{4, -4, 1, -1}));
  ASSERT_EQ(batch.features.size(), 2u * 9 * 2);
  EXPECT_EQ(batch.features[2 * 6 + 1], 6);
  EXPECT_EQ(batch.features[2 * 7], 0);
  EXPECT_EQ(batch.features[2 * 9 + 2 * 3 + 1], 3);
  EXPECT_EQ(batch.features[2 * 9 + 2 * 4], 0);
}

TEST(Loader, ExamplesLongerThanTAreRefused) {
  const auto task = open_task("induction");
  HostBatch batch;
  const std::string message = bad_input([&] { fill(*task, Split::test, std::vector<Index>{0}, 255, batch); });
  for (const char* part : {"induction", "256", "T = 255"}) EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Stream, EveryEpochIsAnotherPermutation) {
  for (const Index size : {1, 2, 3, 5, 64, 97, 1000, 96000}) {
    const Stream stream(size, 7), other(size, 8);
    std::set<std::vector<Index>> orders;
    for (Index epoch = 0; epoch < 3; ++epoch) {
      std::vector<Index> order, other_order;
      for (Index p = 0; p < size; ++p) order.push_back(stream[epoch * size + p]), other_order.push_back(other[epoch * size + p]);
      EXPECT_EQ(stream.epoch(epoch * size + size - 1), epoch);
      orders.insert(order), orders.insert(other_order);
      std::sort(order.begin(), order.end());
      for (Index i = 0; i < size; ++i) ASSERT_EQ(order[std::size_t(i)], i) << "size " << size;
    }
    EXPECT_TRUE(size < 64 || orders.size() == 6u) << "size " << size;
  }
}

// Neighbours in the stream are no neighbours in the set: over 96,000 positions the mean distance of two uniform draws is a third.
TEST(Stream, OrderLooksRandom) {
  constexpr Index size = 96000;
  const Stream stream(size, 7);
  double distance = 0, place = 0;
  for (Index p = 0; p + 1 < size; ++p) {
    distance += std::abs(double(stream[p + 1] - stream[p])) / size;
    place += std::abs(double(stream[p] - p)) / size;
  }
  EXPECT_NEAR(distance / size, 1 / 3., .005);
  EXPECT_NEAR(place / size, 1 / 3., .005);
}

TEST(Stream, EndlessSetsAreReadInOrder) {
  const Stream stream(0, 7);
  EXPECT_EQ(stream[123456789012], 123456789012);
  EXPECT_EQ(stream.epoch(123456789012), 0);
}

// Every example of a step is as short as the step wants, some are far longer than those of the first step before the end, and from then on
// batches are those without a curriculum. A finite set gives no example that it does not hold.
TEST(Curriculum, LengthsGrowWithTheSteps) {
  for (const char* size : {"0", "60"}) {
    const auto task = open_task("parity", {{"length", "200"}, {"train_size", size}});
    const Curriculum lengths{20, 200, 10};
    for (const auto& [step, longest] : {std::pair{0, 20}, {1, 38}, {5, 110}, {9, 182}, {10, 200}, {1000000000, 200}})
      EXPECT_EQ(lengths.longest(step), longest);
    const auto all = training_batches(*task, 3, 16, 200), growing = training_batches(*task, 3, 16, 200, 2, lengths);
    HostBatch batch, usual;
    for (Index n = 0; n < 24; ++n) {
      growing(n, batch), all(n, usual);
      const Index limit = lengths.longest(n / 2);
      const std::int32_t longest = *std::max_element(batch.lengths.begin(), batch.lengths.end());
      EXPECT_LE(longest, limit) << "batch " << n;
      EXPECT_GT(longest, limit / 2) << "batch " << n;
      EXPECT_GT(std::set<Index>(batch.indices.begin(), batch.indices.end()).size(), 4u);
      for (std::size_t b = 0; b < 16; ++b) {
        if (usual.lengths[b] <= limit) {
          EXPECT_EQ(batch.indices[b], usual.indices[b]);
        }
        EXPECT_TRUE(task->size(Split::train) == 0 || batch.indices[b] < 60);
      }
      if (n >= 20) {
        EXPECT_EQ(batch.tokens, usual.tokens);
      }
    }
  }
}

TEST(Prefetcher, OrderDoesNotDependOnThreads) {
  const auto task = open_task("listops", {{"depth", "6"}, {"min_length", "100"}, {"max_length", "250"}, {"train_size", "50"}});
  const auto make = training_batches(*task, 3, 8, 256);
  for (const int threads : {1, 3}) {
    Prefetcher prefetcher(make, 2, threads, 4);
    HostBatch direct;
    for (Index batch = 2; batch < 42; ++batch) {
      make(batch, direct);
      const HostBatch& b = prefetcher.next();
      ASSERT_EQ(b.indices, direct.indices) << "batch " << batch;
      ASSERT_EQ(b.tokens, direct.tokens);
      ASSERT_EQ(b.targets, direct.targets);
      ASSERT_EQ(b.slices, direct.slices);
      ASSERT_EQ(b.tokens_real, direct.tokens_real);
    }
    EXPECT_EQ(direct.indices[0], Stream(50, 3)[41 * 8]);
    EXPECT_GT(prefetcher.producer_seconds(), 0);
    EXPECT_GE(prefetcher.wait_seconds(), 0);
  }
}

TEST(Prefetcher, RunsAheadByAFixedNumberAndStopsCleanly) {
  for (const int threads : {1, 3}) {
    std::atomic<int> made{0};
    {
      Prefetcher prefetcher(
          [&](Index batch, HostBatch& out) {
            out.B = batch;
            ++made;
          },
          0, threads, 5);
      EXPECT_EQ(prefetcher.next().B, 0);
      EXPECT_EQ(prefetcher.next().B, 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_EQ(made.load(), 7);  // batch 0 is freed, 1 is in use, 2..6 wait
    }
    EXPECT_EQ(made.load(), 7);
  }
}

TEST(Prefetcher, ExceptionsArriveInOrder) {
  for (const int threads : {1, 3}) {
    Prefetcher prefetcher(
        [](Index batch, HostBatch& out) {
          if (batch == 3) throw BadInput("batch 3");
          out.B = batch;
        },
        0, threads, 8);
    for (Index batch = 0; batch < 3; ++batch) EXPECT_EQ(prefetcher.next().B, batch);
    EXPECT_EQ(bad_input([&] { prefetcher.next(); }), "batch 3");
    for (Index batch = 4; batch < 30; ++batch) EXPECT_EQ(prefetcher.next().B, batch);
  }
}

namespace {

const std::map<std::string, std::map<std::string, std::string>> slow_tasks = {
    {"pathfinder", {{"train_size", "20"}, {"validation_size", "3"}, {"test_size", "3"}}},
    {"gabor", {{"train_size", "5"}, {"validation_size", "2"}, {"test_size", "2"}}},
    {"shared_identifier", {{"train_size", "1030"}, {"validation_size", "2"}, {"test_size", "2"}}}};  // two parts

std::unique_ptr<Task> cached_task(const std::string& name, const std::string& folder, std::uint64_t seed = 1) {
  const Settings settings(slow_tasks.at(name).begin(), slow_tasks.at(name).end());
  std::map<std::string, std::string> keys;
  for (const auto& [key, value] : settings) keys[name + '.' + key] = value;
  return cached(open_task(name, settings, seed), folder, keys, seed);
}

// All examples of all splits, as one text of bits.
std::vector<std::int32_t> all_bits(const Task& task) {
  std::vector<std::int32_t> out;
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test})
    for (Index i = 0; i < task.size(split); ++i) task.example(split, i, e), pack(e, out);
  return out;
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST(CachedTask, PacksEveryBit) {
  Example e, back;
  e.tokens = {0, 255}, e.second = {0, 256, 65535}, e.targets = {-1, 7}, e.slices = {70000};
  e.features = {0.f, 1.f, 128.f / 255.f}, e.values = {std::nanf(""), -0.f, .1f};
  std::vector<std::int32_t> words, again;
  pack(e, words);
  unpack(words.data(), back);
  pack(back, again);
  EXPECT_EQ(words, again);
  EXPECT_TRUE(back.tokens == e.tokens && back.second == e.second && back.targets == e.targets);
  EXPECT_TRUE(back.marks == e.marks && back.slices == e.slices && back.features == e.features);
  EXPECT_TRUE(std::isnan(back.values[0]) && std::signbit(back.values[1]) && back.values[2] == .1f);
}

TEST(CachedTask, GivesTheBitsOfItsTask) {
  const TemporaryFolder folder;
  for (const auto& [name, keys] : slow_tasks) {
    SCOPED_TRACE(name);
    const auto direct = open_task(name, Settings(keys.begin(), keys.end()));
    const std::vector<std::int32_t> wanted = all_bits(*direct);
    const std::string path = (folder.path / name).string();
    EXPECT_EQ(all_bits(*cached_task(name, path)), wanted) << "made";
    const auto files = files_in(path);
    EXPECT_GE(files.size(), 3u);
    const auto written = std::filesystem::last_write_time(files[0]);
    EXPECT_EQ(all_bits(*cached_task(name, path)), wanted) << "read";
    EXPECT_EQ(files_in(path), files);
    EXPECT_EQ(std::filesystem::last_write_time(files[0]), written);
    EXPECT_NE(all_bits(*cached_task(name, path, 2)), wanted) << "another seed";
    EXPECT_EQ(files_in(path).size(), 2 * files.size());
  }
}

TEST(CachedTask, RefusesDamagedFilesAndMakesThemAgain) {
  const TemporaryFolder folder;
  const std::string path = folder.path.string();
  const std::vector<std::int32_t> wanted = all_bits(*cached_task("gabor", path));
  for (const auto& file : files_in(path)) {
    const std::string whole = [&] {
      std::ifstream in(file, std::ios::binary);
      return std::string{std::istreambuf_iterator<char>(in), {}};
    }();
    std::string changed = whole;
    changed[whole.size() / 2] = static_cast<char>(changed[whole.size() / 2] ^ 16);
    for (const std::string& damaged : {changed, whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 20), std::string()}) {
      std::ofstream(file, std::ios::binary) << damaged;
      testing::internal::CaptureStderr();
      EXPECT_EQ(all_bits(*cached_task("gabor", path)), wanted);
      const std::string said = testing::internal::GetCapturedStderr();
      EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    }
  }
  const auto files = files_in(path);  // one part in the place of another
  std::filesystem::copy_file(files[0], files[1], std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(all_bits(*cached_task("gabor", path)), wanted);
}

TEST(CachedTask, ManyAtOnceAreSafe) {
  const TemporaryFolder folder;
  const std::string path = folder.path.string();
  const std::vector<std::int32_t> wanted =
      all_bits(*open_task("gabor", Settings(slow_tasks.at("gabor").begin(), slow_tasks.at("gabor").end())));
  const auto shared = cached_task("gabor", path);
  std::vector<std::vector<std::int32_t>> seen(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < seen.size(); ++t)
      threads.emplace_back([&, t] { seen[t] = t % 2 ? all_bits(*shared) : all_bits(*cached_task("gabor", path)); });
  }
  for (const auto& bits : seen) EXPECT_EQ(bits, wanted);
  EXPECT_EQ(files_in(path).size(), 3u) << "no locks or temporaries stay";
}

TEST(CachedTask, LeavesAloneWhatIsQuickOrRead) {
  const TemporaryFolder folder;
  const std::string path = (folder.path / "none").string();
  for (const char* name : {"parity", "topic_pairs"}) {  // made by kernels; endless
    cached(open_task(name), path, {}, 1);
    EXPECT_FALSE(std::filesystem::exists(path)) << name;
  }
  folder.write("file", "");
  EXPECT_NE(bad_input([&] { cached_task("gabor", (folder.path / "file" / "x").string()); }).find("run.cache"), std::string::npos);
}
