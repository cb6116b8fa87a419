// mad_compression.cpp - MAD's compression: all tokens of a sequence from its last output vector.
//
//   tokens = length - 1 uniform symbols, then the mark "compress";  target at t = token t, read from the pooled vector by a decoder
//
// MAD's decoder is a two-layer network on (vector, sinusoid of the position); the one here has an output per position and class, so it is
// at least as strong. Ids: 0 padding, 1.. symbols, last the mark.
#include "mad.hpp"

namespace ssm::mad_compression {

struct Recipe {
  Origin from;
  int length, symbols;

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int t = 0; t < length - 1; ++t) {
        page.targets[t] = draws.below(symbols), page.tokens[t] = 1 + page.targets[t];
        hash = hash_on(hash, page.targets[t]);
      }
    } while (!from.mine(hash));
    page.tokens[length - 1] = symbols + 1, page.targets[length - 1] = -1;
    page.length = length;
  }
};

struct MadCompression final : RecipeTask<MadCompression> {
  int vocabulary = 16, length = 32;

  MadCompression() { train_size = 12800, validation_size = test_size = 1280; }

  void knobs(Knobs& k) override {
    k("vocabulary", vocabulary, {16, 32, 64, 128}).range(2, 1 << 12).note("symbols");
    k("length", length, {32, 64, 128, 256}).range(4, 1 << 14).note("tokens, the mark counted");
    size_knobs(k);
  }
  void check() override { need_contents("length", length, (length - 1) * std::log2(vocabulary)); }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.from_one_vector = true;
    out.vocab = vocabulary + 2;
    out.classes = vocabulary;
    out.max_length = length;
    out.pooling = "last";
    out.about = "rebuild the sequence from its last output vector (MAD: compression)";
    out.references = {{"chance", "uniform guess", 1.0 / vocabulary, "1 / symbols"},
                      {"floor", "remembers the last symbol", last_only(), "1/n + (1 - 1/n) / symbols"},
                      {"ceiling", "remembers everything", 1, "exact"}};
    add_mad_scores(out.references, &MadScores::compression);
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, vocabulary}; }
  Layout layout() const { return {.length = length, .positions = true}; }

  std::vector<Statistic> statistics() const override {
    return {
        {"oracle: the tokens", 1, 0, [](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return e.tokens[t] - 1; }); }},
        {"shortcut: the last symbol throughout", last_only(), 0,
         [this](const Example& e) { return token_accuracy(e, [&](std::size_t) { return e.tokens[at(length - 2)] - 1; }); }}};
  }

 private:
  double last_only() const { return 1.0 / (length - 1) + (1 - 1.0 / (length - 1)) / vocabulary; }
};
SSM_TASK(MadCompression, "mad_compression");

}  // namespace ssm::mad_compression
