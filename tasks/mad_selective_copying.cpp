// mad_selective_copying.cpp - MAD's selective copying: data with blanks inserted before random data, then a copy token and blanks.
//
//   tokens = `length` - M positions of data and blanks, the last of them data; the copy token; M - 1 blanks
//   target at the copy token and the blanks behind it: the data in order. Every blank chooses uniformly before which datum it stands.
//
// Ids: 0 padding, 1 blank, 2 copy, 3.. data (vocabulary - 2 symbols).
#include "mad.hpp"

namespace ssm::mad_selective_copying {

constexpr std::int32_t blank = 1, copy = 2, data = 3;

struct Recipe {
  Origin from;
  int length, tokens, symbols;

  // Scratch: the blanks in front of every datum.
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    const int begin = length - tokens;
    auto* blanks = reinterpret_cast<std::int32_t*>(page.scratch);
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int m = 0; m < tokens; ++m) {
        page.targets[begin + m] = draws.below(symbols);
        hash = hash_on(hash, page.targets[begin + m]);
      }
    } while (!from.mine(hash));
    for (int m = 0; m < tokens; ++m) blanks[m] = 0;
    for (int i = 0; i < length - 2 * tokens; ++i) ++blanks[draws.below(tokens)];
    int t = 0;
    for (int m = 0; m < tokens; ++m) {
      for (int i = 0; i < blanks[m]; ++i) page.tokens[t++] = blank;
      page.tokens[t++] = data + page.targets[begin + m];
    }
    page.tokens[t++] = copy;
    while (t < length) page.tokens[t++] = blank;
    for (t = 0; t < begin; ++t) page.targets[t] = -1;
    page.length = length;
  }
};

struct MadSelectiveCopying final : RecipeTask<MadSelectiveCopying> {
  int vocabulary = 16, length = 256, tokens = 16;

  MadSelectiveCopying() { train_size = 12800, validation_size = test_size = 1280; }

  void knobs(Knobs& k) override {
    k("vocabulary", vocabulary, {16, 32, 64, 128}).range(4, 1 << 16).note("ids; two of them are blank and copy");
    k("length", length, {256, 512, 1024}).range(4, 1 << 20).note("tokens of a sequence");
    k("tokens", tokens, {16, 32, 64, 96}).range(1, 1 << 16).note("data M to copy");
    size_knobs(k);
  }
  void check() override {
    if (2 * tokens > length) refuse("tokens", std::to_string(tokens), "at most half of length = " + std::to_string(length));
    need_contents("tokens", tokens, tokens * std::log2(vocabulary - 2));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = vocabulary + 1;
    out.classes = vocabulary - 2;
    out.max_length = length;
    out.about = "copy the data out of blanks (MAD: selective copying)";
    out.references = {{"chance", "uniform guess", 1.0 / (vocabulary - 2), "1 / data symbols"},
                      {"floor", "one datum throughout", one_datum(), "1/M + (1 - 1/M) / symbols"},
                      {"ceiling", "copies everything", 1, "exact"}};
    add_mad_scores(out.references, &MadScores::selective);
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, tokens, vocabulary - 2}; }
  Layout layout() const { return {.length = length, .positions = true, .scratch = 4 * Index{tokens}}; }

  std::vector<Statistic> statistics() const override {
    const int gap = length - 2 * tokens;
    return {{"oracle: the data in order", 1, 0,
             [](const Example& e) {
               std::vector<std::int32_t> seen;
               for (const std::int32_t t : e.tokens)
                 if (t >= data) seen.push_back(t - data);
               std::size_t k = 0;
               return token_accuracy(e, [&](std::size_t) { return seen[k++]; });
             }},
            {"shortcut: the last datum throughout", one_datum(), 0,
             [this](const Example& e) { return token_accuracy(e, [&](std::size_t) { return e.tokens[at(length - tokens - 1)] - data; }); }},
            {"blanks in front of the first datum", double(gap) / tokens, 0, [](const Example& e) {
               return double(std::find_if(e.tokens.begin(), e.tokens.end(), [](int t) { return t >= data; }) - e.tokens.begin());
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t == blank ? ". " : t == copy ? "copy " : std::to_string(t - data) + ' ';
    out += "->";
    for (const std::int32_t t : e.targets)
      if (t >= 0) out += ' ' + std::to_string(t);
    return out;
  }

 private:
  double one_datum() const { return 1.0 / tokens + (1 - 1.0 / tokens) / (vocabulary - 2); }
};
SSM_TASK(MadSelectiveCopying, "mad_selective_copying");

}  // namespace ssm::mad_selective_copying
