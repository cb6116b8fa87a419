// Recall tasks: the published distances, the mixture of lengths, kinds of needles, and MAD's motifs.
#include <algorithm>
#include <map>
#include <set>

#include "open_task.hpp"

using namespace ssm;

namespace {

double floor_of(const Task& task) {
  for (const Reference& r : task.info().references)
    if (r.kind == "floor") return r.value;
  return -1;
}

}  // namespace

// Median and 95th percentile of the distance from a key to its query in 3,000 sequences of an independent program. 2 positions or 6 %.
TEST(Mqar, DistancesArePublishedOnes) {
  const struct { int length, pairs, median, p95; } rows[] = {{64, 4, 14, 50}, {128, 8, 26, 102}, {256, 16, 50, 200}, {512, 64, 156, 392}};
  Example e;
  for (const auto& row : rows) {
    const auto task = open_task("mqar", {{"length", std::to_string(row.length)}, {"pairs", std::to_string(row.pairs)}});
    std::vector<double> gaps;
    for (Index i = 0; i < 2000; ++i) {
      task->example(Split::train, i, e);
      for (std::size_t t = 0; t < e.tokens.size(); ++t)
        if (e.targets[t] >= 0)
          gaps.push_back(double(t) - double(std::find(e.tokens.begin(), e.tokens.end(), e.tokens[t]) - e.tokens.begin()));
    }
    ASSERT_EQ(gaps.size(), std::size_t(2000 * row.pairs));
    std::sort(gaps.begin(), gaps.end());
    EXPECT_NEAR(gaps[gaps.size() / 2], row.median, std::max(2.0, .06 * row.median)) << row.length;
    EXPECT_NEAR(gaps[gaps.size() * 95 / 100], row.p95, std::max(2.0, .06 * row.p95)) << row.length;
  }
}

TEST(Mqar, KeysAndValuesAreDifferentAndMarked) {
  for (const char* filler : {"blank", "random"}) {
    const auto task = open_task("mqar", {{"length", "64"}, {"pairs", "16"}, {"vocabulary", "128"}, {"filler", filler}});
    const TaskInfo info = task->info();
    Example e;
    for (Index i = 0; i < 300; ++i) {
      task->example(Split::test, i, e);
      std::set<std::int32_t> keys, values, asked;
      for (std::size_t t = 0; t < 32; t += 2) keys.insert(e.tokens[t]), values.insert(e.tokens[t + 1]);
      for (std::size_t t = 32; t < 64; ++t) {
        ASSERT_TRUE(t % 2 == 0 || e.targets[t] < 0);
        if (e.targets[t] < 0) continue;
        asked.insert(e.tokens[t]);
        const auto key = std::find(e.tokens.begin(), e.tokens.end(), e.tokens[t]);
        ASSERT_EQ(key[1] - 64, e.targets[t]);
        const int gap = int(t) - int(key - e.tokens.begin());
        ASSERT_LE(std::stoi(info.marks.labels[std::size_t(e.marks[t])]), gap);
      }
      ASSERT_TRUE(keys.size() == 16 && values.size() == 16 && asked == keys);
      ASSERT_TRUE(*keys.rbegin() < 64 && *values.begin() >= 64);
    }
  }
}

TEST(Mqar, MixturesAreSliced) {
  const auto task = open_task("mqar", {{"length", "256"}, {"min_length", "64"}, {"pairs", "16"}, {"min_pairs", "4"}});
  const TaskInfo info = task->info();
  EXPECT_EQ(info.slices[0].labels, (std::vector<std::string>{"16", "8", "4"}));
  EXPECT_EQ(info.slices[1].labels, (std::vector<std::string>{"256", "128", "64"}));
  std::map<std::pair<std::size_t, Index>, int> cells;
  Example e;
  for (Index i = 0; i < 900; ++i) {
    task->example(Split::train, i, e);
    const Index labels = std::count_if(e.targets.begin(), e.targets.end(), [](int t) { return t >= 0; });
    ++cells[{e.tokens.size(), labels}];
    ASSERT_EQ(std::to_string(labels), info.slices[0].labels[std::size_t(e.slices[0])]);
    ASSERT_EQ(std::to_string(e.tokens.size()), info.slices[1].labels[std::size_t(e.slices[1])]);
  }
  EXPECT_EQ(cells.size(), 9u);
  for (const auto& [cell, n] : cells) EXPECT_NEAR(n / 900., 1 / 9., share_tolerance(1 / 9., 900));
  EXPECT_NEAR(floor_of(*task), 3 / 28., 1e-12);
  EXPECT_NE(bad_input([] { open_task("mqar", {{"length", "64"}, {"pairs", "17"}}); }).find("mqar.pairs = 17"), std::string::npos);
}

TEST(AssociativeRecall, FloorIsThatOfTheNumberOfKeys) {
  expect_statistics("associative_recall", {}, 3000);
  expect_statistics("associative_recall", {{"length", "12"}, {"symbols", "20"}}, 3000);
  EXPECT_NEAR(floor_of(*open_task("associative_recall", {{"length", "8"}, {"symbols", "2000"}})), .25 + .75 / 1000, .01);
}

TEST(Needle, EveryKindHasItsOracleAndFloor) {
  for (const char* kind : {"plain", "near", "update", "two-hop"}) {
    SCOPED_TRACE(kind);
    const Settings settings = {{"length", "200"}, {"records", "5"}, {"kind", kind}};
    expect_statistics("needle", settings, 1500);
  }
  EXPECT_NEAR(floor_of(*open_task("needle", {{"records", "4"}})), .25 + .75 / 16, 1e-12);
}

TEST(Needle, DepthPlacesTheRecord) {
  for (const auto& [depth, slice] : {std::pair{"0", 0}, {"0.5", 5}, {"1", 10}}) {
    const auto task = open_task("needle", {{"length", "256"}, {"depth", depth}});
    Example e;
    task->example(Split::test, 0, e);
    EXPECT_EQ(e.slices[0], slice);
    const auto place = std::find(e.tokens.begin(), e.tokens.end(), 81) - e.tokens.begin();
    EXPECT_EQ(place, int(std::stod(depth) * 238));
  }
}

TEST(Mad, NoiseAndRepeats) {
  expect_statistics("mad_recall", {{"length", "32"}}, 2000);
  expect_statistics("mad_noisy_recall", {{"noise", "0.6"}}, 1000);
  const auto all = open_task("mad_recall"), recall = open_task("mad_recall", {{"labels", "recall"}});
  Example a, b;
  all->example(Split::train, 0, a), recall->example(Split::train, 0, b);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(std::count(a.targets.begin(), a.targets.end(), -1), 1);
  for (std::size_t t = 0; t < 128; ++t) {
    EXPECT_EQ(b.targets[t] >= 0, b.marks[t] == 0);
    EXPECT_TRUE(b.targets[t] < 0 || a.targets[t] == b.targets[t]);
  }
  all->example(Split::test, 0, a);
  EXPECT_EQ(std::count(a.targets.begin(), a.targets.end(), -1), 128 - std::count(a.marks.begin(), a.marks.end(), 0));
}

// An oracle that reads motifs back from the tokens: keys are runs of the lower half of the symbols, values of the upper half.
TEST(Mad, FuzzyMotifsAreRecalled) {
  const auto task = open_task("mad_fuzzy_recall");
  Example e;
  double lengths = 0, motifs = 0;
  for (Index i = 0; i < 300; ++i) {
    task->example(Split::test, i, e);
    const auto half = [&](std::size_t t) { return e.tokens[t] < 2 ? -1 : e.tokens[t] < 10 ? 0 : 1; };
    std::map<std::vector<std::int32_t>, std::vector<std::int32_t>> map;
    std::size_t t = 0, last_labels = 0;
    while (half(t) < 0) ASSERT_EQ(e.targets[t++], -1);
    ASSERT_LT(t, 128u - 64);
    while (t < 128) {
      std::vector<std::int32_t> key, value;
      while (t < 128 && half(t) == 0) key.push_back(e.tokens[t++]);
      const std::size_t begin = t;
      while (t < 128 && half(t) == 1) value.push_back(e.tokens[t++]);
      ASSERT_TRUE(!key.empty() && key.size() <= 3 && !value.empty() && value.size() <= 3);
      ASSERT_EQ(std::set<std::int32_t>(key.begin(), key.end()).size(), key.size());
      const bool counts = map.count(key) && key.size() == 3;
      ASSERT_TRUE(!map.count(key) || map[key] == value);
      last_labels = 0;
      for (std::size_t k = 0; k < value.size(); ++k) {
        ASSERT_EQ(e.targets[begin + k - 1], counts ? value[k] - 2 : -1);
        last_labels += counts;
      }
      map[key] = value;
      lengths += double(key.size()), ++motifs;
    }
    EXPECT_GT(last_labels, 0u) << "the last key has full length and was seen";
  }
  EXPECT_NEAR(lengths / motifs, 2.3, .2);  // uniform 1..3, but one of eight keys and every repeated draw have 3
  EXPECT_NE(bad_input([] { open_task("mad_fuzzy_recall", {{"vocabulary", "4"}, {"motif", "3"}}); }).find("motif"), std::string::npos);
}
