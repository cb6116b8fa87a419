// mad_fuzzy_recall.cpp - MAD's fuzzy recall: keys and values are motifs of 1 to 3 different symbols.
//
//   tokens = blanks, then key motif, value motif, key motif, value motif, .. to the end; the last key has `motif` symbols and was seen
//   targets at the last symbol of a key seen before and inside its value: the next symbol of the value. Training: every next token.
//   In validation and test only keys of the full length count.
//
// Per example `motifs` different keys of uniform lengths, the first of full length, each with a random value; motifs are drawn with
// replacement as long as they fit. Keys take the lower, values the upper half of the symbols, so a motif ends where the other half begins.
// Ids: 0 padding, 1 blank, 2.. key symbols, then value symbols.
#include "mad.hpp"

namespace ssm::mad_fuzzy_recall {

constexpr int longest = 8;

struct Motif {
  int n = 0;
  std::int32_t symbols[longest] = {};
  const std::int32_t* begin() const { return symbols; }
  const std::int32_t* end() const { return symbols + n; }
  bool operator==(const Motif&) const = default;
};

struct MadFuzzyRecall final : GeneratedTask {
  int vocabulary = 16, length = 128, motif = 3, motifs = 8;
  std::string labels = "all";

  MadFuzzyRecall() { train_size = 12800, validation_size = test_size = 1280; }

  void knobs(Knobs& k) override {
    k("vocabulary", vocabulary, {16, 32, 64, 128}).range(4, 1 << 16).note("symbols, half for keys and half for values");
    k("length", length, {128, 256, 512, 1024}).range(16, 1 << 20).note("tokens");
    k("motif", motif, {1, 2, 3}).range(1, longest).note("longest motif");
    k("motifs", motifs, {4, 8, 16}).range(1, 1 << 12).note("different keys of an example");
    k("labels", labels, {"all", "recall"}).note("training labels: every next token, or the values of keys seen before");
    size_knobs(k);
  }
  void check() override {
    if (motif > vocabulary / 2) refuse("motif", std::to_string(motif), "above half the vocabulary");
    if (std::pow(vocabulary / 2 - motif + 1, motif) < 4 * motifs)
      refuse("motifs", std::to_string(motifs), "too few different keys of full length");
    if (length < 4 * motif) refuse("length", std::to_string(length), "at least 4 motif is needed");
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = vocabulary + 2;
    out.classes = vocabulary;
    out.max_length = length;
    out.about = "the value motif of a key motif seen before (MAD: fuzzy in-context recall)";
    out.references = {{"chance", "uniform guess of a value symbol", 2.0 / vocabulary, "1 / value symbols"},
                      {"floor", "one value symbol throughout", 2.0 / vocabulary, "value symbols are uniform"},
                      {"ceiling", "looks the motifs up", 1, "exact"}};
    add_mad_scores(out.references, &MadScores::fuzzy);
    out.marks = {"label", {"recall"}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    static thread_local std::vector<Motif> keys, values;
    static thread_local std::vector<int> order;
    static thread_local std::vector<char> seen;
    Draws rng = quick_draws(split, index);
    keys.clear(), values.clear(), order.clear();
    while (size(keys) < motifs) {  // a short key that is taken is drawn again at full length: short ones may have run out
      Motif key = draw(rng, keys.empty() ? motif : 1 + below(rng, motif), 2);
      while (std::find(keys.begin(), keys.end(), key) != keys.end()) key = draw(rng, motif, 2);
      keys.push_back(key);
    }
    for (int i = 0; i < motifs; ++i) values.push_back(draw(rng, 1 + below(rng, motif), 2 + vocabulary / 2));
    // From the back: the query, then pairs while they fit, the first key of the list somewhere among them, blanks in front.
    int used = keys[0].n + values[0].n;
    for (int next = 0; used + keys[at(next)].n + values[at(next)].n <= length; next = below(rng, motifs)) {
      order.push_back(next);
      used += keys[at(next)].n + values[at(next)].n;
    }
    std::swap(order.front(), order[at(below(rng, size(order)))]);
    order.push_back(0);
    out.clear();
    out.tokens.assign(at(length), 1), out.targets.assign(at(length), -1), out.marks.assign(at(length), -1);
    auto t = at(length - used);
    seen.assign(at(motifs), 0);
    for (const int k : order) {
      const Motif &key = keys[at(k)], &value = values[at(k)];
      const bool counts = seen[at(k)] && key.n == motif;
      seen[at(k)] = 1;
      for (const std::int32_t symbol : key) out.tokens[t++] = symbol;
      for (const std::int32_t symbol : value) {
        if (counts) out.targets[t - 1] = symbol - 2, out.marks[t - 1] = 0;
        out.tokens[t++] = symbol;
      }
    }
    if (split == Split::train && labels == "all")
      for (t = 0; t + 1 < out.tokens.size(); ++t) out.targets[t] = out.tokens[t + 1] > 1 ? out.tokens[t + 1] - 2 : -1;
  }

  std::vector<Statistic> statistics() const override {
    return {
        {"oracle: the value after the last mention of the key", 1, 0, [this](const Example& e) { return recalled(e, true); }},
        {"shortcut: the first value symbol throughout", 2.0 / vocabulary, .01, [this](const Example& e) { return recalled(e, false); }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (std::size_t t = 0; t < e.tokens.size(); ++t) {
      const int id = e.tokens[t] - 2, half = vocabulary / 2;
      const bool key = id<half, was_key = t> 0 && e.tokens[t - 1] - 2 < half;
      if (key && !was_key) out += ' ';
      out += id < 0 ? "." : (key ? "k" : "v") + std::to_string(key ? id : id - half);
      if (e.marks[t] == 0) out += '?';
    }
    return out + " -> the symbols after ?";
  }

 private:
  template <class T>
  static int size(const std::vector<T>& v) {
    return static_cast<int>(v.size());
  }
  // n different symbols of the half that begins at id `first`.
  Motif draw(Draws& rng, int n, std::int32_t first) const {
    Motif out;
    while (out.n < n) {
      const std::int32_t symbol = first + below(rng, vocabulary / 2);
      if (std::find(out.begin(), out.end(), symbol) == out.end()) out.symbols[out.n++] = symbol;
    }
    return out;
  }

  bool is_key(std::int32_t token) const { return token > 1 && token < 2 + vocabulary / 2; }

  // Share of the marked labels that are the next symbol after the last place with the same key and the same part of its value.
  double recalled(const Example& e, bool look_up) const {
    const auto& x = e.tokens;
    double right = 0, all = 0;
    for (int t = 0; t < length; ++t) {
      if (e.marks[at(t)] < 0) continue;
      int begin = t;  // of the key
      while (!is_key(x[at(begin)])) --begin;
      while (is_key(x[at(begin)])) --begin;
      const int n = t - begin;
      int s = t - 1;
      while (s >= n && !(std::equal(&x[at(s - n + 1)], &x[at(s)] + 1, &x[at(begin + 1)]) && !is_key(x[at(s - n)]) && !is_key(x[at(s + 1)])))
        --s;
      ++all, right += e.targets[at(t)] == (look_up ? x[at(s + 1)] - 2 : vocabulary / 2);
    }
    return all > 0 ? right / all : std::nan("");
  }
};
SSM_TASK(MadFuzzyRecall, "mad_fuzzy_recall");

}  // namespace ssm::mad_fuzzy_recall
