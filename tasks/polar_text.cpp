// polar_text.cpp - a generated stand-in for the Long Range Arena's Text: long documents whose opinion is spread over polarity words.
//
//   every word is with probability `negators` a negator, else with probability `polar` a polarity word (100 positive, 100 negative), else
//   a word of a 2,000-word Zipf lexicon. A negator flips the next polarity word when that is at most 3 words away.
//   The effective polarity of every polarity word is the label with probability `purity`.
//
// Bytes as tokens: id = byte + 1, as in the Long Range Arena; words are separated by blanks and cut at `length`.
#include <map>

#include "generated.hpp"
#include "lexicon.hpp"

namespace ssm::polar_text {

namespace {

constexpr int plain_words = 2000, polar_words = 200, negator_words = 4, reach = 3;

// Accuracy of the posterior of the generator and of counting polarity words without negation.
struct Row {
  int words;
  double polar, purity, negators, bayes, bag;
};
constexpr Row measured[] = {{160, .08, .70, 0, .927, .927},   {160, .08, .70, .04, .923, .866}, {160, .08, .70, .10, .928, .765},
                            {160, .08, .65, .10, .862, .703}, {160, .12, .70, .15, .962, .710}, {600, .03, .70, .10, .959, .786}};

}  // namespace

struct PolarText final : GeneratedTask {
  int words = 600, length = 4096;
  double polar = .03, purity = .70, negators = .10;
  std::vector<std::string> lexicon_;  // plain, then 100 positive, 100 negative, then negators
  WordRanks ranks{plain_words};
  std::map<std::string, int> index;

  PolarText() { train_size = 25000, validation_size = test_size = 2000; }

  void knobs(Knobs& k) override {
    k("words", words, {160, 600}).range(8, 1 << 18).note("words of a document");
    k("length", length, {1024, 4096}).range(32, 1 << 20).note("documents are cut to this many bytes");
    k("polar", polar, {.03, .08}).range(0, 1).note("probability q of a polarity word");
    k("purity", purity, {.65, .70}).range(.5, 1).note("probability p that an effective polarity is the label");
    k("negators", negators, {0, .04, .10}).range(0, 1).note("probability g of a negator");
    size_knobs(k);
  }
  void check() override {
    if (polar + negators > 1) refuse("polar", number_text(polar), "polar + negators must be at most 1");
    lexicon_ = lexicon(plain_words + polar_words + negator_words, "polar_text");
    index.clear();
    for (std::size_t i = 0; i < lexicon_.size(); ++i) index[lexicon_[i]] = static_cast<int>(i);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = 257;
    out.classes = 2;
    out.max_length = length;
    out.about = "is the document positive or negative, with negation (generated stand-in for the Long Range Arena's Text)";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"}};
    for (const Row& row : measured)
      if (row.words == words && row.polar == polar && row.purity == purity && row.negators == negators && length >= 8 * words - 800) {
        out.references.push_back({"ceiling", "Bayes", row.bayes, "posterior of the generator, tests/test_task_text.cpp"});
        out.references.push_back({"floor", "bag of polarity words", row.bag, "signs without negation, tests/test_task_text.cpp"});
      }
    out.slices = {{"label", {"negative", "positive"}}};
    return out;
  }

  void example(Split split, Index i, Example& out) const override {
    Draws rng = quick_draws(split, i);
    out.clear();
    out.tokens.reserve(at(length) + 16);
    const bool positive = rng.below(2) == 1;
    int since = reach + 1;  // words since the last negator that still waits
    for (int w = 0; w < words && static_cast<int>(out.tokens.size()) < length; ++w) {
      const double u = rng.uniform();
      ++since;
      int word;
      if (u < negators) {
        word = plain_words + polar_words + below(rng, negator_words), since = 0;
      } else if (u < negators + polar) {
        const bool effective = (rng.uniform() < purity) == positive, flipped = since <= reach;
        word = plain_words + (effective != flipped ? 0 : polar_words / 2) + below(rng, polar_words / 2), since = reach + 1;
      } else {
        word = ranks(rng.uniform());
      }
      if (w) out.tokens.push_back(' ' + 1);
      for (const char c : lexicon_[at(word)]) out.tokens.push_back(static_cast<unsigned char>(c) + 1);
    }
    if (static_cast<int>(out.tokens.size()) > length) out.tokens.resize(at(length));
    out.targets = {positive}, out.slices = {positive};
  }

  // The sum of signs decides: every effective polarity word has the same weight, so the posterior follows their majority; `negate` = false
  // is the bag of words. A tie is half right.
  double right(const Example& e, bool negate) const {
    int sum = 0, since = reach + 1;
    std::string word;
    for (std::size_t t = 0; t <= e.tokens.size(); ++t) {
      if (t < e.tokens.size() && e.tokens[t] != ' ' + 1) {
        word += static_cast<char>(e.tokens[t] - 1);
        continue;
      }
      const auto found = index.find(word);
      word.clear(), ++since;
      if (found == index.end() || found->second < plain_words) continue;  // the last word may be cut
      const int kind = (found->second - plain_words) / (polar_words / 2);
      if (kind == 2) {
        since = 0;
        continue;
      }
      sum += (kind == 0) == (negate && since <= reach) ? -1 : 1;
      since = reach + 1;
    }
    return sum == 0 ? .5 : (sum > 0) == (e.targets[0] == 1);
  }

  std::vector<Statistic> statistics() const override {
    std::vector<Statistic> out = {{"positive", .5, 0, [](const Example& e) { return double(e.targets[0]); }}};
    for (const Row& row : measured)
      if (row.words == words && row.polar == polar && row.purity == purity && row.negators == negators && length >= 8 * words - 800) {
        out.push_back(
            {"oracle: the majority of effective polarities", row.bayes, .01, [this](const Example& e) { return right(e, true); }});
        out.push_back({"shortcut: bag of polarity words", row.bag, .01, [this](const Example& e) { return right(e, false); }});
      }
    return out;
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += static_cast<char>(t - 1);
    return out + (e.targets[0] ? " -> positive" : " -> negative");
  }
};
SSM_TASK(PolarText, "polar_text");

}  // namespace ssm::polar_text
