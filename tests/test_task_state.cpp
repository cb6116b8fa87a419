// State tracking: groups, arithmetic at other settings, parity, copying and reversing, and the band-limited signals.
#include <algorithm>
#include <set>

#include "../tasks/band_noise.hpp"
#include "open_task.hpp"

using namespace ssm;

namespace {

// The product table as words of two elements show it.
std::vector<std::vector<int>> table_of(const char* group, int order) {
  const auto task = open_task("word_problem", {{"group", group}, {"length", "64"}});
  std::vector<std::vector<int>> table(std::size_t(order), std::vector<int>(std::size_t(order), -1));
  Example e;
  for (Index i = 0; i < 12000; ++i) {
    task->example(Split::train, i, e);
    int before = 0;
    for (std::size_t t = 1; t < e.tokens.size(); ++t) {
      int& cell = table[std::size_t(before)][std::size_t(e.tokens[t] - 2)];
      EXPECT_TRUE(cell < 0 || cell == e.targets[t]);
      before = cell = e.targets[t];
    }
  }
  return table;
}

}  // namespace

// Group axioms, and the number of pairs that commute: order x number of conjugacy classes (Z60: 60, A4xZ5: 20, A5: 5, S5: 7 classes).
TEST(WordProblem, TablesAreTheGroups) {
  const struct {
    const char* name;
    int order, classes;
  } groups[] = {{"Z60", 60, 60}, {"A4xZ5", 60, 20}, {"A5", 60, 5}, {"S5", 120, 7}};
  for (const auto& g : groups) {
    SCOPED_TRACE(g.name);
    const auto table = table_of(g.name, g.order);
    const auto n = std::size_t(g.order);
    int commuting = 0;
    for (std::size_t a = 0; a < n; ++a) {
      EXPECT_EQ(table[0][a], int(a));
      EXPECT_EQ(table[a][0], int(a));
      EXPECT_EQ(std::set<int>(table[a].begin(), table[a].end()).size(), n) << "each row holds each element once";
      for (std::size_t b = 0; b < n; ++b) {
        ASSERT_GE(table[a][b], 0);
        commuting += table[a][b] == table[b][a];
        for (std::size_t c = 0; c < n; c += 7)
          ASSERT_EQ(table[std::size_t(table[a][b])][c], table[a][std::size_t(table[b][c])]) << "associative";
      }
    }
    EXPECT_EQ(commuting, g.order * g.classes);
  }
}

TEST(WordProblem, OneLengthAlone) {
  expect_statistics("word_problem", {{"min_length", "20"}}, 3000);
  EXPECT_NE(bad_input([] { open_task("word_problem", {{"length", "2"}}); }).find("too few"), std::string::npos);
}

TEST(ModularArithmetic, FloorsAreExact) {
  expect_statistics("modular_arithmetic", {}, 4000);
  expect_statistics("modular_arithmetic", {{"brackets", "true"}}, 4000);
  expect_statistics("modular_arithmetic", {{"min_length", "40"}, {"length", "99"}, {"modulus", "7"}}, 2000);
  EXPECT_NE(bad_input([] {
              open_task("modular_arithmetic", {{"min_length", "40"}, {"length", "39"}});
            }).find("min_length"),
            std::string::npos);
}

TEST(Parity, LengthsAndLabels) {
  expect_statistics("parity", {}, 3000);
  expect_statistics("parity", {{"min_length", "40"}, {"length", "100"}, {"labels", "last"}}, 2000);
  const auto task = open_task("parity", {{"labels", "last"}, {"min_length", "20"}, {"length", "24"}});
  std::set<std::size_t> lengths;
  Example e;
  for (Index i = 0; i < 200; ++i) {
    task->example(Split::test, i, e);
    lengths.insert(e.tokens.size());
    EXPECT_EQ(std::count(e.targets.begin(), e.targets.end(), -1), std::ptrdiff_t(e.tokens.size()) - 1);
  }
  EXPECT_EQ(lengths, (std::set<std::size_t>{20, 21, 22, 23, 24}));
}

// With 16 bits in all, splits of different seeds share no sequence.
TEST(Parity, SplitsShareNothing) {
  std::set<std::vector<std::int32_t>> contents[3];
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    const auto task = open_task("parity", {{"length", "16"}}, 1 + static_cast<std::uint64_t>(split));
    for (Index i = 0; i < 3000; ++i) task->example(split, i, e), contents[int(split)].insert(e.tokens);
  }
  for (int a = 0; a < 3; ++a)
    for (const auto& content : contents[a])
      for (int b = 0; b < a; ++b) ASSERT_EQ(contents[b].count(content), 0u);
}

TEST(Copying, FormsAndReverse) {
  expect_statistics("copying", {{"form", "lag"}, {"tokens", "20"}, {"length", "300"}}, 300);
  expect_statistics("copying", {{"length", "0"}, {"tokens", "16"}, {"symbols", "2"}}, 1000);
  Example copied, reversed;
  open_task("copying")->example(Split::train, 5, copied);
  open_task("reverse")->example(Split::train, 5, reversed);
  for (std::size_t m = 0; m < 10; ++m) {
    EXPECT_EQ(copied.targets[110 + m], copied.tokens[m] - 2);
    EXPECT_EQ(reversed.targets[110 + m], reversed.tokens[9 - m] - 2);
  }
  EXPECT_NE(bad_input([] { open_task("copying", {{"form", "lag"}, {"length", "10"}}); }).find("lag"), std::string::npos);
}

// The transform against plain sums, and no power outside of the band: a length with the factors 2, 3 and 5.
TEST(BandNoise, IsBandLimited) {
  constexpr int length = 60, kept = 9;  // cutoff .3 of 30 frequencies
  const BandNoise noise(length, .3);
  Rng rng(1, 2, 3);
  std::vector<double> x;
  noise.draw(rng, x);
  double inside = 0;
  for (int k = 1; k <= 30; ++k) {
    double re = 0, im = 0;
    for (int t = 0; t < length; ++t)
      re += x[std::size_t(t)] * std::cos(2 * M_PI * k * t / length), im += x[std::size_t(t)] * std::sin(2 * M_PI * k * t / length);
    if (k <= kept) inside += re * re + im * im;
    else EXPECT_LT(re * re + im * im, 1e-20) << k;
  }
  EXPECT_GT(inside, 1);
  EXPECT_EQ(x[0], 0);
}

// E y_t^2 at several t, from 20,000 signals: 4 standard errors of a variance.
TEST(BandNoise, MeanSquareFollowsTheSpectrum) {
  constexpr int n = 20000;
  const BandNoise noise(30, .4);
  std::vector<double> x, sum(30);
  for (int i = 0; i < n; ++i) {
    Rng rng(1, 2, std::uint64_t(i));
    noise.draw(rng, x);
    for (std::size_t t = 0; t < 30; ++t) sum[t] += x[t] * x[t] / n;
  }
  for (const int t : {1, 2, 7, 15, 29}) {
    const double expected = BandNoise::mean_square(30, .4, t);
    EXPECT_NEAR(sum[std::size_t(t)], expected, 4 * expected * std::sqrt(2.0 / n)) << t;
  }
}
