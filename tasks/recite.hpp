// recite.hpp - what copying and reverse share: M data symbols, blanks, then M markers at which the data is to be said again.
//
// Ids: 0 padding, 1 blank, 2.. data, last the marker.
#pragma once
#include "recipe_task.hpp"

namespace ssm {

struct ReciteRecipe {
  Origin from;
  int length, tokens, symbols;
  bool backwards, lag;  // lag: a stream of `length` symbols, each said again `tokens` later
  static constexpr std::int32_t blank = 1, data = 2;

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int m = 0; m < tokens; ++m) {
        page.tokens[m] = data + draws.below(symbols), page.targets[m] = -1;
        hash = hash_on(hash, page.tokens[m]);
      }
    } while (!from.mine(hash));
    page.length = lag ? length : length + 2 * tokens;
    for (int t = tokens; lag && t < length; ++t) {
      page.tokens[t] = data + draws.below(symbols);
      page.targets[t] = page.tokens[t - tokens] - data;
    }
    if (lag) return;
    const int said = tokens + length;
    for (int t = tokens; t < said; ++t) page.tokens[t] = blank, page.targets[t] = -1;
    for (int m = 0; m < tokens; ++m) {
      page.tokens[said + m] = data + symbols;
      page.targets[said + m] = page.tokens[backwards ? tokens - 1 - m : m] - data;
    }
  }
};

struct ReciteTask : RecipeTask<ReciteTask> {
  int length = 100, tokens = 10, symbols = 8;
  bool backwards = false, lag = false;

  static constexpr std::int32_t blank = ReciteRecipe::blank, data = ReciteRecipe::data;
  std::int32_t marker() const { return data + symbols; }

  void knobs(Knobs& k) override {
    k("length", length, {0, 100, 1000}).range(0, 1 << 22).note("blanks between data and markers; a sequence has length + 2 tokens");
    k("tokens", tokens, {5, 10, 1024}).range(1, 1 << 20).note("data symbols M");
    k("symbols", symbols, {8, 62}).range(2, 1 << 16).note("different data symbols");
    size_knobs(k);
  }
  void check() override { need_contents("tokens", tokens, tokens * std::log2(symbols)); }

  ReciteRecipe recipe(Split split) const { return {origin(split), length, tokens, symbols, backwards, lag}; }
  Layout layout() const { return {.length = lag ? length : length + 2 * tokens, .positions = true}; }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t == blank ? ". " : t == marker() ? "? " : std::to_string(t - data) + ' ';
    out += "->";
    for (const std::int32_t t : e.targets)
      if (t >= 0) out += ' ' + std::to_string(t);
    return out;
  }

  std::vector<Statistic> statistics() const override {
    return {
        {"oracle: says the data", 1, 0,
         [this](const Example& e) {
           const int first = static_cast<int>(e.tokens.size()) - tokens;
           return token_accuracy(e, [&](std::size_t t) { return e.tokens[at(said_at(static_cast<int>(t) - first))] - data; });
         }},
        {"shortcut: the first datum throughout", one_datum(), 0,
         [](const Example& e) { return token_accuracy(e, [&](std::size_t) { return e.tokens[0] - data; }); }},
        {"the last datum is symbol 0", 1.0 / symbols, 0, [this](const Example& e) { return double(e.tokens[at(tokens - 1)] == data); }}};
  }

 protected:
  int said_at(int m) const { return backwards ? tokens - 1 - m : m; }  // which datum is said at marker m
  TaskInfo recite_info(const char* about) const {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = marker() + 1;
    out.classes = symbols;
    out.max_length = length + 2 * tokens;
    out.about = about;
    out.references = {{"chance", "uniform guess", 1.0 / symbols, "1 / symbols"},
                      {"floor", "one datum throughout", one_datum(), "1/M + (1 - 1/M) / symbols"},
                      {"ceiling", "says the data", 1, "exact"}};
    return out;
  }
  double one_datum() const { return 1.0 / tokens + (1 - 1.0 / tokens) / symbols; }
};

}  // namespace ssm
