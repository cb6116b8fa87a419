// listops.cpp - the Long Range Arena's ListOps: evaluate a nested expression of MIN, MAX, MED and SM over digits, 10 classes.
//
// Grammar, vocabulary and file form stand in listops_tree.hpp and listops_io.hpp. The published set is depth 10, 500 < length < 2000,
// 96,000 / 2,000 / 2,000 examples; depth 6, 100 < length < 250 is the same task, six times shorter. Example i redraws until its content
// hash falls into its split, so no expression is in two splits. Inside a split expressions of more than 20 tokens repeat with a
// probability below 1e-9, hence the least min_length.
#include "content.hpp"
#include "listops_io.hpp"

namespace ssm::listops {

namespace {

// Measured values of one form of the task. ladder[k]: accuracy of a reader who evaluates the top k levels exactly and treats every
// deeper subtree as a random draw given its operator (tests/listops_ladder.hpp computes it).
struct Form {
  Grammar grammar;
  double majority, root_operator, length;
  std::vector<double> ladder;
};

constexpr const char* measured_by = "48,000 generated trees, tests/test_listops.cpp";

const std::vector<Form>& forms() {
  static const std::vector<Form> all = {
      {{10, 500, 2000}, .168, .361, 1034, {.362, .613, .760, .853, .910, .944, .966, .979, .988}},
      {{6, 100, 250}, .170, .361, 159, {.362, .607, .759, .852, .912}},
  };
  return all;
}

const std::vector<Reference>& published() {
  static const std::vector<Reference> all = {
      {"published", "Transformer", .3637, "Long Range Arena, README of its repository"},
      {"published", "H3", .575, "LRA tables that quote H3"},
      {"published", "S4", .5960, "S4 paper, updated results (S4-LegS)"},
      {"published", "LRU", .602, "LRU paper"},
      {"published", "S4D", .6047, "S4D paper (S4D-LegS)"},
      {"published", "S5", .6215, "S5 paper"},
      {"published", "Liquid-S4", .6275, "Liquid-S4 paper"},
      {"published", "Mega", .6314, "Mega paper"},
  };
  return all;
}

constexpr int length_buckets = 4;

}  // namespace

struct ListOps final : Task {
  Grammar grammar;
  int train_size = 96000, validation_size = 2000, test_size = 2000;
  std::string data_dir;

  std::uint64_t seed = 0;
  std::array<Table, 3> tables;  // of data_dir, by split

  void knobs(Knobs& k) override {
    k("depth", grammar.depth, {6, 10}).range(3, 20).note("deepest level of the tree; 6 for smoke runs");
    k("min_length", grammar.min_length, {100, 500}).range(20, 1000000).note("expressions are longer than this; 100 for smoke runs");
    k("max_length", grammar.max_length, {250, 2000}).range(22, 1000000).note("expressions are shorter than this; 250 for smoke runs");
    k("train_size", train_size).range(0, 2e9).note("training examples; 0 = a fresh one every time");
    k("validation_size", validation_size).range(1, 2e9).note("validation examples");
    k("test_size", test_size).range(1, 2e9).note("test examples");
    k("data_dir", data_dir, {}).any_text().note("folder with basic_train.tsv, basic_val.tsv, basic_test.tsv to read; empty = generate");
  }

  void open(std::uint64_t seed_) override {
    seed = seed_;
    tables = {};
    if (data_dir.empty()) return check_window();
    const char* files[] = {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"};
    for (std::size_t s = 0; s < 3; ++s) tables[s] = read_tsv(data_dir + "/" + files[s]);
  }

  Index size(Split split) const override {
    if (!data_dir.empty()) return table(split).size();
    return split == Split::train ? train_size : split == Split::validation ? validation_size : test_size;
  }

  void example(Split split, Index index, Example& out) const override {
    out.clear();
    Meaning meaning;
    if (data_dir.empty()) {
      out.tokens.reserve(static_cast<std::size_t>(grammar.max_length));
      Rng rng = example_rng("listops", split, seed, index);
      do {
        while (!grammar.draw(rng, out.tokens, meaning)) {}
      } while (!belongs(content_hash(out.tokens), split));
    } else {
      const auto row = table(split)[index];
      out.tokens.assign(row.begin(), row.end());
      meaning = table(split).meaning[static_cast<std::size_t>(index)];
    }
    out.targets.push_back(meaning.label);
    out.slices.push_back(out.tokens[0] - op_min);
    out.slices.push_back(meaning.levels - 2);
    out.slices.push_back(length_bucket(static_cast<int>(out.tokens.size())));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = vocabulary;
    out.classes = 10;
    out.max_length = longest();
    out.about = "evaluate nested MIN, MAX, MED, SM over digits (Long Range Arena); depth 6, min_length 100, max_length 250 for smoke runs";
    out.references = references();
    out.slices = {{"root", {"MIN", "MAX", "MED", "SM"}}, {"levels", {}}, {"length", {}}};
    for (int level = 2; level <= deepest(); ++level) out.slices[1].labels.push_back(std::to_string(level));
    for (int b = 0; b < length_buckets; ++b)
      out.slices[2].labels.push_back(std::to_string(bucket_start(b) + (b ? 1 : 0)) + "-" + std::to_string(bucket_start(b + 1)));
    return out;
  }

  std::vector<Statistic> statistics() const override {
    if (!data_dir.empty()) return {};
    std::vector<Statistic> out = {
        {"oracle: evaluates it", 1, 0, [](const Example& e) { return double(evaluate(e.tokens).label == e.targets[0]); }}};
    for (const Form& f : forms()) {
      if (f.grammar.depth != grammar.depth || f.grammar.min_length != grammar.min_length || f.grammar.max_length != grammar.max_length)
        continue;
      out.push_back({"label 0", f.majority, .005, [](const Example& e) { return double(e.targets[0] == 0); }});
      out.push_back({"shortcut: MIN 0, MAX 9, MED 4, SM 0", f.root_operator, .01, [](const Example& e) {
                       const int guess = e.tokens[0] == op_max ? 9 : e.tokens[0] == op_med ? 4 : 0;
                       return double(guess == e.targets[0]);
                     }});
      out.push_back({"length", f.length, .01 * f.length, [](const Example& e) { return double(e.tokens.size()); }});
    }
    return out;
  }

  std::string show(const Example& e) const override { return text(e.tokens, false) + " -> " + std::to_string(e.targets[0]); }

  void write(Split split, Index count, const std::string& path) const override {
    Example e;
    write_tsv(path, count, [&](Index i, std::vector<std::int32_t>& tokens) {
      example(split, i, e);
      tokens.swap(e.tokens);
      return e.targets[0];
    });
  }

 private:
  const Table& table(Split split) const { return tables[static_cast<std::size_t>(split)]; }
  int longest() const {
    return data_dir.empty() ? grammar.max_length - 1 : std::max({tables[0].longest, tables[1].longest, tables[2].longest});
  }
  int deepest() const { return data_dir.empty() ? grammar.depth : std::max({tables[0].deepest, tables[1].deepest, tables[2].deepest}); }

  // Lengths in (bucket_start(b), bucket_start(b+1)] are bucket b; the first bucket takes its start too.
  int bucket_start(int b) const {
    const int low = data_dir.empty() ? grammar.min_length + 1 : 1;
    return low + static_cast<int>(static_cast<Index>(longest() - low) * b / length_buckets);
  }
  int length_bucket(int length) const {
    int b = 0;
    while (b + 1 < length_buckets && length > bucket_start(b + 1)) ++b;
    return b;
  }

  // Refuses a window that the grammar (almost) never hits.
  void check_window() const {
    constexpr int trials = 100000;
    if (grammar.min_length + 1 < grammar.max_length) {
      Rng rng(0, hash_name("listops/window"), 0);
      std::vector<std::int32_t> tokens;
      Meaning meaning;
      for (int i = 0, hits = 0; i < trials; ++i)
        if (grammar.draw(rng, tokens, meaning) && ++hits == 10) return;
    }
    throw BadInput("listops.min_length = " + std::to_string(grammar.min_length) +
                   ", listops.max_length = " + std::to_string(grammar.max_length) + ": fewer than 10 in " + std::to_string(trials) +
                   " trees of listops.depth = " + std::to_string(grammar.depth) +
                   " have a length between them (both excluded); nearest used settings: depth 6, 100, 250 or depth 10, 500, 2000");
  }

  std::vector<Reference> references() const {
    std::vector<Reference> out = {{"chance", "uniform guess", .1, "1 / 10"}, {"ceiling", "evaluates everything", 1, "exact"}};
    if (!data_dir.empty()) {
      add_floors_of_file(out);
      return out;
    }
    for (const Form& f : forms()) {
      const Grammar& g = f.grammar;
      if (g.depth != grammar.depth || g.min_length != grammar.min_length || g.max_length != grammar.max_length) continue;
      out.push_back({"floor", "majority label", f.majority, measured_by});
      out.push_back({"floor", "root operator", f.root_operator, measured_by});
      for (std::size_t k = 0; k < f.ladder.size(); ++k)
        out.push_back({"ladder", "top " + std::to_string(k) + " levels", f.ladder[k], measured_by});
      if (&f == &forms().front()) out.insert(out.end(), published().begin(), published().end());
    }
    return out;
  }

  // Majority label and most likely label given the root operator, counted on the test file.
  void add_floors_of_file(std::vector<Reference>& out) const {
    const Table& test = table(Split::test);
    std::array<std::array<Index, 10>, operators + 1> count{};
    for (Index i = 0; i < test.size(); ++i) {
      const auto label = static_cast<std::size_t>(test.meaning[static_cast<std::size_t>(i)].label);
      ++count[0][label], ++count[static_cast<std::size_t>(test[i][0] - op_min + 1)][label];
    }
    double best[2] = {};
    for (std::size_t op = 0; op < count.size(); ++op)
      best[op != 0] += static_cast<double>(*std::max_element(count[op].begin(), count[op].end()));
    const double n = static_cast<double>(test.size());
    out.push_back({"floor", "majority label", best[0] / n, "counted in basic_test.tsv"});
    out.push_back({"floor", "root operator", best[1] / n, "counted in basic_test.tsv"});
    out.insert(out.end(), published().begin(), published().end());
  }
};
SSM_TASK(ListOps, "listops");

}  // namespace ssm::listops
