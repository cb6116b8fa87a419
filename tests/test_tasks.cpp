// Generated tasks: what an example must be, whatever the settings; then each task's own rules and measured references.
#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "open_task.hpp"

using namespace ssm;

namespace {

bool same(const Example& a, const Example& b) {
  const auto bits = [](const std::vector<float>& v) { return std::string(reinterpret_cast<const char*>(v.data()), 4 * v.size()); };
  return a.tokens == b.tokens && a.second == b.second && a.targets == b.targets && a.slices == b.slices && a.marks == b.marks &&
         a.features == b.features && bits(a.values) == bits(b.values);
}

}  // namespace

// Every registered task: ranges, the same example again (also in two threads), other examples for another index, seed and split.
TEST(Tasks, ExamplesArePureFunctionsOfTheirIndex) {
  for (const std::string& name : generated_tasks()) {
    SCOPED_TRACE(name);
    const auto task = open_task(name), other_seed = open_task(name, {}, 2);
    const TaskInfo info = task->info();
    EXPECT_EQ(task->name, name);
    EXPECT_FALSE(info.about.empty());
    constexpr Index n = 40;
    std::vector<Example> forward(n), backward(n);
    std::thread worker([&] {
      for (Index i = n; i-- > 0;) task->example(Split::train, i, backward[std::size_t(i)]);
    });
    for (Index i = 0; i < n; ++i) task->example(Split::train, i, forward[std::size_t(i)]);
    worker.join();
    using Content = std::tuple<std::vector<std::int32_t>, std::vector<std::int32_t>, std::vector<float>>;
    std::map<Content, Split> seen;
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_TRUE(same(forward[i], backward[i])) << i;
      seen.emplace(Content{forward[i].tokens, forward[i].second, forward[i].features}, Split::train);
    }
    for (const auto& [from, split] :
         {std::pair{task.get(), Split::validation}, {task.get(), Split::test}, {other_seed.get(), Split::train}})
      for (Index i = 0; i < n; ++i) {
        Example& e = forward[0];
        from->example(split, i, e);
        EXPECT_EQ(seen.emplace(Content{e.tokens, e.second, e.features}, split).first->second, split) << "in two splits";
        for (const std::int32_t t : e.tokens) ASSERT_TRUE(t > 0 && t < info.vocab) << t;
        for (const std::int32_t t : e.second) ASSERT_TRUE(t > 0 && t < info.vocab) << t;
        for (const std::int32_t t : e.targets) ASSERT_TRUE(t >= -1 && t < info.classes) << t;
        ASSERT_LE(e.second.size(), std::size_t(info.max_length));
        ASSERT_EQ(e.second.empty(), info.target != Target::pairs);
        const std::size_t length = info.features ? e.features.size() / std::size_t(info.features) : e.tokens.size();
        const bool real = info.target == Target::regression || info.target == Target::series;
        ASSERT_TRUE(length > 0 && length <= std::size_t(info.max_length)) << length;
        ASSERT_EQ(e.tokens.empty() ? e.features.size() : 0, length * std::size_t(info.features));
        ASSERT_EQ(e.targets.size(), real ? 0 : info.target == Target::positions ? length : 1u);
        ASSERT_EQ(e.values.size(), real ? std::size_t(info.classes) * (info.target == Target::series ? length : 1) : 0);
        ASSERT_EQ(e.marks.size(), info.marks.labels.empty() ? 0 : length);
        for (const std::int32_t m : e.marks) ASSERT_TRUE(m >= -1 && m < int(info.marks.labels.size())) << m;
        ASSERT_TRUE(real || *std::max_element(e.targets.begin(), e.targets.end()) >= 0) << "no label";
        ASSERT_EQ(e.slices.size(), info.slices.size());
        for (std::size_t k = 0; k < e.slices.size(); ++k)
          ASSERT_TRUE(e.slices[k] >= 0 && std::size_t(e.slices[k]) < info.slices[k].labels.size()) << info.slices[k].name << e.slices[k];
        EXPECT_NE(task->show(e).find("->"), std::string::npos);
      }
    EXPECT_GT(seen.size(), 3.5 * n);  // short sequences of small alphabets may repeat, inside of their split
    EXPECT_GT(task->size(Split::test), 0);
    bool has_chance = false;
    for (const Reference& r : info.references) {
      EXPECT_TRUE(r.value >= 0 && (r.value <= 1 || info.metric != "accuracy") && !r.source.empty()) << r.label;
      has_chance = has_chance || r.kind == "chance";
    }
    EXPECT_TRUE(has_chance);
  }
}

// Every task states what a right generator shows: distributions, oracles, shortcuts. 4 standard errors and the stated tolerance.
TEST(Tasks, StatisticsAreAsStated) {
  const std::map<std::string, Index> costly = {{"pathfinder", 60}, {"gabor", 60}, {"strokes", 30}, {"pendulum", 30}};
  for (const std::string& name : generated_tasks()) {
    SCOPED_TRACE(name);
    const auto found = costly.find(name);
    expect_statistics(name, {}, found == costly.end() ? 400 : found->second);
  }
}

// The best and the cheapest score stand beside every score, and programs reach both: one called oracle the ceiling, one called shortcut
// the floor, each within what it states. Measured here by StatisticsAreAsStated.
TEST(Tasks, OraclesReachTheCeilingAndShortcutsTheFloor) {
  for (const std::string& name : generated_tasks()) {
    SCOPED_TRACE(name);
    const auto task = open_task(name);
    const TaskInfo info = task->info();
    for (const auto& [kind, program] : {std::pair{"ceiling", "oracle:"}, {"floor", "shortcut:"}}) {
      bool reached = false;
      for (const Reference& r : info.references)
        for (const Statistic& s : task->statistics())
          reached = reached || (r.kind == kind && s.name.starts_with(program) && std::abs(s.expected - r.value) <= s.tolerance + 1e-9);
      EXPECT_TRUE(reached) << "no " << program << " at a " << kind;
    }
  }
}

// Tasks that read files say which, and name a task of the registry that stands in for them.
TEST(Tasks, ReadersNameTheirStandIn) {
  const std::vector<std::string> generated = generated_tasks();
  for (const std::string& name : TaskRegistry::get().names()) {
    if (std::find(generated.begin(), generated.end(), name) != generated.end()) continue;
    SCOPED_TRACE(name);
    const std::string without = bad_input([&] { open_task(name); });
    const std::string absent = bad_input([&] { open_task(name, {{"data_dir", "absent"}}); });
    EXPECT_NE(absent.find("absent/"), std::string::npos) << absent;
    for (const std::string& message : {without, absent}) {
      const std::size_t begin = message.find("--task ");
      ASSERT_NE(begin, std::string::npos) << message;
      const std::string stand_in = message.substr(begin + 7, message.find_first_of(" ,;", begin + 7) - begin - 7);
      EXPECT_TRUE(std::find(generated.begin(), generated.end(), stand_in) != generated.end()) << stand_in;
    }
  }
}

// The numbers of one example of each task must never change: results on other machines and in older files depend on them.
TEST(Tasks, FirstExamplesAreFrozen) {
  const std::pair<const char*, std::uint64_t> expected[] = {{"induction", 6192940823087737586u},
                                                            {"listops", 16713014024532890726u},
                                                            {"selective_copying", 4358514274022658195u},
                                                            {"topic_pairs", 6651336653245723663u}};
  for (const auto& [name, hash] : expected) {
    Example e;
    open_task(name)->example(Split::test, 3, e);
    std::uint64_t h = 0xcbf29ce484222325ull;
    for (const auto* part : {&e.tokens, &e.second, &e.targets})
      for (const std::int32_t t : *part) h = (h ^ static_cast<std::uint32_t>(t)) * 0x100000001b3ull;
    EXPECT_EQ(h, hash) << name;
  }
}

// In a space of 65,536 contents 2000 examples of each split would meet about 60 times if their content did not decide the split.
TEST(Tasks, SplitsShareNothingUnderAnyTwoSeeds) {
  const Settings tiny = {{"length", "0"}, {"tokens", "4"}, {"symbols", "16"}};
  std::set<std::vector<std::int32_t>> contents[3];
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    const auto task = open_task("selective_copying", tiny, 1 + static_cast<std::uint64_t>(split));
    for (Index i = 0; i < 2000; ++i) task->example(split, i, e), contents[static_cast<int>(split)].insert(e.tokens);
  }
  for (int a = 0; a < 3; ++a)
    for (const auto& content : contents[a])
      for (int b = 0; b < a; ++b) EXPECT_EQ(contents[b].count(content), 0u);
  EXPECT_NEAR(double(contents[0].size()), 2000, 80);  // the train share is 49,152 contents: 2000 draws repeat about 40 times
}

TEST(SelectiveCopying, RepeatsItsDataInOrder) {
  constexpr int L = 60, M = 8, S = 10, n = 3000;
  for (const bool fixed : {false, true}) {
    const auto task =
        open_task("selective_copying", {{"length", "60"}, {"tokens", "8"}, {"symbols", "10"}, {"fixed", fixed ? "true" : "false"}});
    EXPECT_EQ(task->info().max_length, L + 2 * M);
    Example e;
    std::vector<double> at(L + M);
    std::vector<double> symbol(S);
    for (Index i = 0; i < n; ++i) {
      task->example(Split::train, i, e);
      ASSERT_EQ(e.tokens.size(), std::size_t(L + 2 * M));
      std::vector<std::int32_t> data;
      for (std::size_t t = 0; t < L + M; ++t) {
        ASSERT_EQ(e.targets[t], -1);
        if (e.tokens[t] == 1) continue;
        data.push_back(e.tokens[t] - 2);
        ++at[t], ++symbol[std::size_t(data.back())];
      }
      ASSERT_EQ(data.size(), std::size_t(M));
      for (std::size_t m = 0; m < M; ++m) {
        ASSERT_EQ(e.tokens[L + M + m], S + 2);
        ASSERT_EQ(e.targets[L + M + m], data[m]);
      }
    }
    for (std::size_t t = 0; t < L + M; ++t) {
      const double p = fixed ? t < M : double(M) / (L + M);
      EXPECT_NEAR(at[t] / n, p, share_tolerance(p, n)) << t;
    }
    for (const double count : symbol) EXPECT_NEAR(count / (n * M), .1, share_tolerance(.1, n * M));
  }
  EXPECT_NE(bad_input([] { open_task("selective_copying", {{"tokens", "2"}}); }), "");
}

TEST(Induction, OneTriggerThenTheAnswerThenTheTriggerAgain) {
  for (const int length : {8, 64, 256, 1000}) {
    const auto task = open_task("induction", {{"length", std::to_string(length)}});
    const TaskInfo info = task->info();
    constexpr std::int32_t trigger = 16;
    constexpr int n = 3000;
    Example e;
    std::vector<double> answer(15);
    double first_half = 0;
    for (Index i = 0; i < n; ++i) {
      task->example(Split::test, i, e);
      ASSERT_EQ(e.tokens.size(), std::size_t(length));
      ASSERT_EQ(e.tokens.back(), trigger);
      ASSERT_EQ(std::count(e.tokens.begin(), e.tokens.end(), trigger), 2);
      const auto place = std::find(e.tokens.begin(), e.tokens.end(), trigger) - e.tokens.begin();
      ASSERT_LE(place, length - 3);
      ASSERT_EQ(e.tokens[std::size_t(place + 1)], e.targets[0] + 1);
      const int gap = length - 1 - static_cast<int>(place);
      const std::string label = info.slices[0].labels[std::size_t(e.slices[0])];
      ASSERT_LE(std::stoi(label), gap);
      ASSERT_GE(std::stoi(label.substr(label.find('-') + 1)), gap);
      first_half += place < (length - 2) / 2;
      ++answer[std::size_t(e.targets[0])];
    }
    EXPECT_NEAR(first_half / n, .5, share_tolerance(.5, n));
    for (const double count : answer) EXPECT_NEAR(count / n, 1 / 15., share_tolerance(1 / 15., n));
  }
}

TEST(Induction, ManyLengths) {
  expect_statistics("induction", {{"length", "40"}, {"min_length", "8"}}, 2000);
  Example e;
  std::map<std::size_t, int> lengths;
  const auto task = open_task("induction", {{"length", "40"}, {"min_length", "8"}});
  for (Index i = 0; i < 3300; ++i) task->example(Split::train, i, e), ++lengths[e.tokens.size()];
  EXPECT_EQ(lengths.size(), 33u);
  EXPECT_EQ(lengths.begin()->first, 8u);
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count / 3300., 1 / 33., share_tolerance(1 / 33., 3300)) << length;
}

TEST(Induction, PublishedValuesFollowTheLength) {
  const auto at = [](const char* length, const std::string& label) {
    for (const Reference& r : open_task("induction", {{"length", length}})->info().references)
      if (r.label == label) return r.value;
    return -1.0;
  };
  EXPECT_DOUBLE_EQ(at("64", "Hyena"), .977);
  EXPECT_DOUBLE_EQ(at("16384", "attention, RoPE"), .055);
  EXPECT_DOUBLE_EQ(at("32768", "attention, RoPE"), -1);
  EXPECT_DOUBLE_EQ(at("1048576", "H3"), .074);
  EXPECT_DOUBLE_EQ(at("300", "H3"), -1);
}

// Three of the six measured settings again.
TEST(TopicPairs, BayesAndThreshold) {
  expect_statistics("topic_pairs", {}, 3000);
  expect_statistics("topic_pairs", {{"alpha", "0.02"}, {"gamma", "0.1"}}, 2000);
  expect_statistics("topic_pairs", {{"words", "600"}, {"alpha", "0.02"}}, 2000);
  EXPECT_EQ(open_task("topic_pairs", {{"topics", "32"}})->info().references.size(), 1u);
}

// With alpha = 1 every word tells the topic.
TEST(TopicPairs, LabelSaysWhetherTheTopicIsShared) {
  const auto task = open_task("topic_pairs", {{"words", "4"}, {"topics", "8"}, {"alpha", "1"}, {"gamma", "0"}, {"background", "4096"}});
  Example e;
  double positive = 0, first_topic = 0;
  for (Index i = 0; i < 2000; ++i) {
    task->example(Split::test, i, e);
    std::set<int> first, second;
    for (const std::int32_t t : e.tokens) first.insert((t - 1) / 16);
    for (const std::int32_t t : e.second) second.insert((t - 1) / 16);
    ASSERT_TRUE(first.size() == 1 && second.size() == 1 && *first.begin() < 8);
    ASSERT_EQ(first == second, e.targets[0] == 1);
    ASSERT_EQ(e.slices[0], e.targets[0]);
    positive += e.targets[0], first_topic += *first.begin() == 0;
  }
  EXPECT_NEAR(positive / 2000, .5, share_tolerance(.5, 2000));
  EXPECT_NEAR(first_topic / 2000, .125, share_tolerance(.125, 2000));
}

TEST(TopicPairs, BytesSpellTheSameWords) {
  const Settings words = {{"words", "40"}}, bytes = {{"words", "40"}, {"form", "bytes"}};
  const auto by_word = open_task("topic_pairs", words), by_byte = open_task("topic_pairs", bytes);
  EXPECT_EQ(by_byte->info().max_length, 160);
  std::map<std::int32_t, std::vector<std::int32_t>> spelling;
  std::set<std::vector<std::int32_t>> spellings;
  Example a, b;
  for (Index i = 0; i < 300; ++i) {
    by_word->example(Split::test, i, a), by_byte->example(Split::test, i, b);
    ASSERT_EQ(b.second.size(), 160u);
    EXPECT_EQ(a.targets, b.targets);
    for (std::size_t w = 0; w < 40; ++w) {
      const auto begin = b.second.begin() + std::ptrdiff_t(4 * w);
      const std::vector<std::int32_t> letters(begin, begin + 3);
      EXPECT_EQ(begin[3], 1);
      EXPECT_EQ(spelling.try_emplace(a.second[w], letters).first->second, letters);
      spellings.insert(letters);
    }
  }
  EXPECT_EQ(spelling.size(), spellings.size());
}

TEST(Tasks, ImpossibleSettingsAreRefused) {
  EXPECT_NE(bad_input([] { open_task("topic_pairs", {{"alpha", "0.8"}, {"gamma", "0.3"}}); }).find("sum"), std::string::npos);
  EXPECT_NE(bad_input([] { open_task("topic_pairs", {{"form", "bytes"}, {"background", "20000"}}); }).find("17576"), std::string::npos);
  EXPECT_NE(bad_input([] { open_task("induction", {{"length", "3"}}); }).find("induction.length"), std::string::npos);
  EXPECT_NE(bad_input([] { open_task("inductoin"); }).find("did you mean 'induction'"), std::string::npos);
}
