// induction.cpp - induction heads in Mamba's form: what followed the trigger?
//
//   tokens = n uniform symbols, n = length or uniform in min_length..length; one trigger somewhere, followed by the answer; the last token is
//   the trigger again
//   label  = the symbol behind the first trigger
//
// Train at 256 and test at any length by changing the knob. Ids: 0 padding, 1..symbols the ordinary symbols, symbols + 1 the trigger.
#include <algorithm>
#include <bit>
#include <cmath>

#include "recipe_task.hpp"

namespace ssm::induction {

namespace {

// Accuracy at test lengths 2^6, 2^7, ... after training at 2^8 (percent).
struct Row {
  const char* label;
  std::vector<double> percent;
};

const std::vector<Row>& published() {
  static const std::vector<Row> rows = {
      {"attention, absolute", {100, 99.6, 100, 58.6, 26.6, 18.8, 9.8, 10.9, 7.8}},
      {"attention, RoPE", {100, 100, 100, 83.6, 31.3, 18.4, 8.6, 9.0, 5.5}},
      {"attention, xPos", {100, 100, 100, 99.6, 67.6, 25.4, 7.0, 9.0, 7.8}},
      {"H3", {100, 100, 100, 80.9, 39.5, 23.8, 14.8, 8.2, 5.9, 6.6, 8.2, 4.7, 8.2, 6.3, 7.4}},
      {"Hyena", {97.7, 100, 100, 100, 44.1, 12.5, 6.6, 5.1, 7.0, 5.9, 6.6, 6.6, 5.9, 6.3, 9.8}},
      {"Mamba", std::vector<double>(15, 100)},
  };
  return rows;
}

int octave(int x) { return std::bit_width(static_cast<unsigned>(x)) - 1; }

}  // namespace

struct Recipe {
  Origin from;
  int longest, min_length, symbols;  // min_length 0: all are the longest

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    constexpr int prefix = 64;  // tokens whose hash decides the split
    Draws draws = from.draws(index);
    const int length = min_length ? min_length + draws.below(longest - min_length + 1) : longest;
    const int place = draws.below(length - 2), first = prefix < length ? prefix : length;
    const std::int32_t trigger = symbols + 1;
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int t = 0; t < first; ++t) {
        page.tokens[t] = t == place || t == length - 1 ? trigger : 1 + draws.below(symbols);
        hash = hash_on(hash, page.tokens[t]);
      }
    } while (!from.mine(hash));
    for (int t = first; t < length; ++t) page.tokens[t] = t == place || t == length - 1 ? trigger : 1 + draws.below(symbols);
    page.targets[0] = page.tokens[place + 1] - 1;
    if (page.slices) page.slices[0] = octave_at(length - 1 - place, 2);
    page.length = length;
  }
};

struct Induction final : RecipeTask<Induction> {
  int length = 256, min_length = 0, symbols = 15;

  void knobs(Knobs& k) override {
    k("length", length, {64, 256, 1024, 4096, 16384}).range(8, 1 << 20).note("tokens of a sequence, the last trigger counted");
    k("min_length", min_length).range(0, 1 << 20).note("above 0: fewest tokens of a sequence, from 8 on; 0: all have `length`");
    k("symbols", symbols, {15}).range(8, 65536).note("ordinary symbols; the trigger is one more");
    size_knobs(k);
  }

  void check() override {
    if (min_length && (min_length < 8 || min_length > length))
      refuse("min_length", std::to_string(min_length), "allowed is 0, or 8 to length = " + std::to_string(length));
  }

  Recipe recipe(Split split) const { return {origin(split), length, min_length, symbols}; }
  Layout layout() const { return {.length = length, .slices = 1}; }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = symbols + 2;
    out.classes = symbols;
    out.max_length = length;
    out.pooling = "last";
    out.about = "which symbol followed the trigger (induction heads, Mamba's form); train at length 256, test at any length";
    out.references = {{"chance", "uniform guess", 1.0 / symbols, "1 / symbols"},
                      {"floor", "the newest symbol", newest_symbol(), "the answer itself with probability 1 / (length - 2)"},
                      {"ceiling", "looks it up", 1, "exact"}};
    const auto column = static_cast<std::size_t>(octave(length) - 6);
    if (!min_length && symbols == 15 && length >= 64 && std::has_single_bit(static_cast<unsigned>(length)))
      for (const Row& row : published())
        if (column < row.percent.size())
          out.references.push_back({"published", row.label, row.percent[column] / 100, "Mamba paper, trained at length 256"});
    out.slices = {{"gap", {}}};
    for (int low = 2; low < length; low *= 2)
      out.slices[0].labels.push_back(std::to_string(low) + "-" + std::to_string(std::min(2 * low, length) - 1));
    return out;
  }

  std::vector<Statistic> statistics() const override {
    return {{"oracle: looks behind the first trigger", 1, 0,
             [this](const Example& e) { return double(std::find(e.tokens.begin(), e.tokens.end(), trigger())[1] - 1 == e.targets[0]); }},
            {"shortcut: the newest symbol", newest_symbol(), 0,
             [](const Example& e) { return double(e.tokens[e.tokens.size() - 2] - 1 == e.targets[0]); }},
            {"trigger in the first half", mean([](int n) { return std::floor((n - 2) / 2.0) / (n - 2); }), 0, [this](const Example& e) {
               const auto half = (static_cast<std::ptrdiff_t>(e.tokens.size()) - 2) / 2;
               return double(std::find(e.tokens.begin(), e.tokens.end(), trigger()) - e.tokens.begin() < half);
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t == trigger() ? "! " : std::to_string(t - 1) + ' ';
    return out + "-> " + std::to_string(e.targets[0]);
  }

 private:
  std::int32_t trigger() const { return symbols + 1; }
  double newest_symbol() const {
    return mean([this](int n) { return 1.0 / symbols + (1 - 1.0 / symbols) / (n - 2); });
  }
  // Mean of `of` over the lengths, which are equally likely.
  template <class Of>
  double mean(Of of) const {
    const int shortest = min_length ? min_length : length;
    double sum = 0;
    for (int n = shortest; n <= length; ++n) sum += of(n);
    return sum / (length - shortest + 1);
  }
};
SSM_TASK(Induction, "induction");

}  // namespace ssm::induction
