// recall_text.cpp - a character language model whose entropy is known, with records that only a long memory can predict.
//
//   words of a 2,000-word lexicon, probability proportional to 1 / (rank + 2.7), each followed by a blank; in front of a word with
//   probability `records` a record `@nn:vvv ` instead: a name of 128 and a value of 16^3
//   name: for a wanted gap g = 2^U(5,16) the name whose last mention is nearest to g in log scale; one never mentioned counts as 2^16
//   value: that of the last mention; fresh at the first mention and with probability `redefine`, then marked with ! instead of @
//
// Every position is labelled with the next character. A value character costs 4 bits more where its last mention is out of memory; the
// marks show the loss per octave of that gap: the effective context length in one curve. Ids: 0 padding, 1.. the alphabet below.
#include <array>
#include <cstring>
#include <map>
#include <numeric>

#include "generated.hpp"
#include "lexicon.hpp"

namespace ssm::recall_text {

namespace {
constexpr int lexicon_size = 2000, names = 128, gap_low = 32, octave_count = 12;
constexpr double kNewRecord = 20;   // bits: mark, name, value
constexpr double kOracle = 1.5504;  // of the default settings
constexpr const char* alphabet = " abcdefghijklmnopqrstuvwxyz@!:0123456789ABCDEFGHIJKLMNOP";
}  // namespace

struct RecallText final : GeneratedTask {
  int length = 2048;
  double records = .05, redefine = .05;
  std::vector<std::string> words;
  WordRanks ranks{lexicon_size};
  std::vector<double> log_gap;  // log2 of a gap
  std::array<std::int32_t, 256> id{};
  double bits_per_word = 0, characters_per_word = 0;

  RecallText() { open(0); }  // the references need the lexicon

  void knobs(Knobs& k) override {
    k("length", length, {256, 1024, 2048, 16384}).range(64, 1 << 22).note("characters of a window; gaps reach as far as it");
    k("records", records, {0, .05, .2}).range(0, .9).note("probability of a record at a word boundary");
    k("redefine", redefine, {.05}).range(0, 1).note("probability that a name gets a new value");
    size_knobs(k);
  }
  void check() override {
    for (int i = 0; alphabet[i]; ++i) id[static_cast<unsigned char>(alphabet[i])] = 1 + i;
    words = lexicon(lexicon_size, "recall_text");
    bits_per_word = characters_per_word = 0;
    double sum = 0;
    for (int i = 0; i < lexicon_size; ++i) sum += 1 / (i + 2.7);
    for (int i = 0; i < lexicon_size; ++i) {
      const double p = 1 / (i + 2.7) / sum;
      bits_per_word -= p * std::log2(p);
      characters_per_word += p * static_cast<double>(words[at(i)].size() + 1);
    }
    log_gap.resize(at(length) + 1);
    for (int gap = 1; gap <= length; ++gap) log_gap[at(gap)] = std::log2(gap);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = 1 + static_cast<int>(std::strlen(alphabet));
    out.classes = out.vocab - 1;
    out.max_length = length;
    out.metric = "bits";
    out.about = "character language model of known entropy with recall records; metric: bits per character";
    out.references = {{"chance", "uniform guess", std::log2(out.classes), "log2 of the alphabet"},
                      {"floor", "knows the lexicon, remembers no record", bits(bits_per_word), "exact but for the window's ends"}};
    if (records == 0) out.references.push_back({"ceiling", "knows the lexicon", word_floor(), "entropy of the lexicon / mean word length"});
    if (usual())
      out.references.push_back(
          {"ceiling", "knows the lexicon and every record", kOracle, "the generator's own probabilities, 10,000 windows"});
    for (int order = 4; order >= 0; --order)
      out.references.push_back({"ladder", "the " + std::to_string(order) + " characters before, no record", bits(bits_of_order(order)),
                                "exact but for the window's ends"});
    out.marks = {"characters", {"words", "new value"}};
    for (const std::string& o : octaves(gap_low, gap_low << (octave_count - 1))) out.marks.labels.push_back("value, gap " + o);
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    struct Name {
      int last = -1;  // position of the last mention
      char value[4] = "";
    };
    static thread_local std::vector<Name> all;
    static thread_local std::string text;
    static thread_local std::vector<std::int32_t> kind;
    Draws rng = quick_draws(split, index);
    all.assign(names, {}), text.clear(), kind.clear();
    while (static_cast<int>(text.size()) <= length) {
      if (rng.uniform() >= records) {
        text += words[at(ranks(rng.uniform()))], text += ' ';
        kind.resize(text.size(), 0);
        continue;
      }
      const double wanted = 5 + 11 * rng.uniform();
      const int now = static_cast<int>(text.size());
      int chosen = 0;
      double best = 1e9;
      const int offset = below(rng, names);
      for (int i = 0; i < names; ++i) {
        const int n = (i + offset) % names;
        const double distance = std::abs((all[at(n)].last < 0 ? 16 : log_gap[at(now - all[at(n)].last)]) - wanted);
        if (distance < best) best = distance, chosen = n;
      }
      Name& record = all[at(chosen)];
      const bool known = record.last >= 0, fresh = !known || rng.uniform() < redefine;
      if (fresh)
        for (int i = 0; i < 3; ++i) record.value[i] = "0123456789ABCDEF"[below(rng, 16)];
      text += fresh ? '!' : '@';
      text += static_cast<char>('A' + chosen / 8), text += static_cast<char>('0' + chosen % 8), text += ':', text += record.value,
          text += ' ';
      kind.resize(text.size(), -1);
      const std::int32_t mark =
          fresh ? 1 : 2 + std::min<std::int32_t>(octave_of(std::max(now - record.last, gap_low), gap_low), octave_count - 1);
      for (int i = 4; i < 7; ++i) kind[at(now + i)] = mark;
      record.last = now;
    }
    out.clear();
    out.tokens.resize(at(length)), out.targets.resize(at(length));
    out.marks.assign(kind.begin() + 1, kind.begin() + 1 + length);
    for (std::size_t t = 0; t < at(length); ++t) {
      out.tokens[t] = id[static_cast<unsigned char>(text[t])];
      out.targets[t] = id[static_cast<unsigned char>(text[t + 1])] - 1;
    }
  }

  std::vector<Statistic> statistics() const override {
    std::vector<Statistic> out = {
        {"characters of words, as share", words_share(), .015,
         [](const Example& e) { return double(std::count(e.marks.begin(), e.marks.end(), 0)) / double(e.marks.size()); }},
        {"blanks in words", 1 / characters_per_word, .002,
         [this](const Example& e) {
           double blanks = 0, all = 0;
           for (std::size_t t = 0; t < e.marks.size(); ++t)
             if (e.marks[t] == 0) ++all, blanks += e.targets[t] == id[' '] - 1;
           return blanks / all;
         }},
        {"oracle: bits per character of words", word_floor(), .01, [this](const Example& e) { return word_bits(e); }}};
    const auto per_character = [this](bool remembers) {
      return [this, remembers](const Example& e) { return window_bits(e, remembers) / double(e.targets.size()); };
    };
    if (usual()) out.push_back({"oracle: bits per character, every record remembered", kOracle, .005, per_character(true)});
    out.push_back({"shortcut: bits per character, no record remembered", bits(bits_per_word), 8.0 / length, per_character(false)});
    if (records == 0) out.push_back({"oracle: bits per character", word_floor(), 8.0 / length, per_character(true)});
    if (records > 0)
      out.push_back({"oracle: repeated values are those of the last mention", 1, 0, [this](const Example& e) { return value_recall(e); }});
    return out;
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += alphabet[t - 1];
    return out + "-> the next character everywhere";
  }

 private:
  // A word is chosen instead of a record with probability 1 - records: -log2(1 - records) bits more at its first character.
  double word_floor() const { return (bits_per_word - std::log2(1 - records)) / characters_per_word; }
  double words_share() const { return (1 - records) * characters_per_word / ((1 - records) * characters_per_word + 8 * records); }

  bool usual() const { return length == 2048 && records == .05 && redefine == .05; }

  // Bits per character of all text where a word costs `word` bits and a record is new: 7 for its name, 1 for its mark, 12 for its value.
  double bits(double word) const {
    const double record = records > 0 ? records * (kNewRecord - std::log2(records)) : 0;
    return ((1 - records) * (word - std::log2(1 - records)) + record) / ((1 - records) * characters_per_word + 8 * records);
  }

  // Bits of a word whose characters are each guessed from the `order` characters before them: what stands in front of the word tells nothing.
  double bits_of_order(int order) const {
    std::map<std::string, std::array<double, 256>> next;  // probability of (what is known, character)
    const auto each = [&](auto use) {
      for (int i = 0; i < lexicon_size; ++i) {
        const std::string word = words[at(i)] + ' ';
        for (std::size_t k = 0; k < word.size(); ++k) {
          const std::size_t seen = std::min(k, at(order));
          // A context that reaches the blank in front tells that the word begins there.
          use((k < at(order) ? " " : "") + word.substr(k - seen, seen), static_cast<unsigned char>(word[k]), probability(i));
        }
      }
    };
    each([&](const std::string& known, unsigned char c, double p) { next[known][c] += p; });
    double sum = 0;
    each([&](const std::string& known, unsigned char c, double p) {
      const auto& of = next[known];
      sum -= p * std::log2(of[c] / std::accumulate(of.begin(), of.end(), 0.0));
    });
    return sum;
  }

  // -log2 p of everything behind the first character, as the generator draws it, or as one sees it who takes every record for a new one.
  double window_bits(const Example& e, bool remembers) const {
    std::string text;
    for (const std::int32_t t : e.tokens) text += alphabet[t - 1];
    text += alphabet[e.targets.back()];
    std::array<int, names> last;
    last.fill(-1);
    double all = std::log2(text[0] == '!' ? records : (1 - records) * begins(text.substr(0, 1)));
    for (std::size_t t = 0; t < text.size();) {
      if (text[t] == '!' || text[t] == '@') {
        const std::string seen = text.substr(t, 8);
        all -= std::log2(records) + (remembers ? std::log2(opens(seen, last, static_cast<int>(t))) : -new_name_bits(seen));
        if (seen[0] == '!' || !remembers) all += 4 * std::clamp(static_cast<double>(seen.size()) - 4, 0.0, 3.0);
        if (seen.size() > 2) last[at((seen[1] - 'A') * 8 + seen[2] - '0')] = static_cast<int>(t);
        t += 8;
      } else {
        const std::size_t blank = std::min(text.find(' ', t), text.size() - 1);
        all -= std::log2((1 - records) * begins(text.substr(t, blank + 1 - t)));
        t = blank + 1;
      }
    }
    return all;
  }

  // 1 for the mark, 3 and then 4 for the two characters of the name.
  static double new_name_bits(const std::string& seen) { return 1 + (seen.size() > 1 ? 4 : 0) + (seen.size() > 2 ? 3 : 0); }

  double probability(int rank) const { return ranks.cumulative(rank) - (rank ? ranks.cumulative(rank - 1) : 0); }

  // Probability that a word and its blank begin like this.
  double begins(const std::string& beginning) const {
    const bool whole = beginning.back() == ' ';
    const std::string letters = beginning.substr(0, beginning.size() - whole);
    double sum = 0;
    for (int i = 0; i < lexicon_size; ++i)
      if (whole ? words[at(i)] == letters : words[at(i)].starts_with(letters)) sum += probability(i);
    return sum;
  }

  // Probability that a record at `now` begins like this: the wanted gap falls next to one of the names that fit, and the mark follows.
  double opens(const std::string& seen, const std::array<int, names>& last, int now) const {
    const auto gap = [&](int n) { return last[at(n)] < 0 ? 16 : log_gap[at(now - last[at(n)])]; };
    std::vector<double> gaps;
    for (int n = 0; n < names; ++n) gaps.push_back(gap(n));
    std::sort(gaps.begin(), gaps.end());
    gaps.erase(std::unique(gaps.begin(), gaps.end()), gaps.end());
    double sum = 0;
    int before = -1;  // the name never mentioned in front of this one: the first one from a random place is taken
    for (int n = 0; n < names; ++n)
      if (last[at(n)] < 0) before = n - names;
    for (int n = 0; n < names; ++n) {
      const bool fresh = last[at(n)] < 0;
      const double share = fresh ? double(n - before) / names : 1;
      if (fresh) before = n;
      if ((seen.size() > 1 && seen[1] != 'A' + n / 8) || (seen.size() > 2 && seen[2] != '0' + n % 8)) continue;
      const auto here = std::find(gaps.begin(), gaps.end(), gap(n));
      const double low = here == gaps.begin() ? 5 : std::clamp((here[-1] + here[0]) / 2, 5.0, 16.0);
      const double high = here + 1 == gaps.end() ? 16 : std::clamp((here[0] + here[1]) / 2, 5.0, 16.0);
      sum += share * (high - low) / 11 * (seen[0] == '!' ? (fresh ? 1 : redefine) : (fresh ? 0 : 1 - redefine));
    }
    return sum;
  }

  // -log2 p of the whole words of the window per character.
  double word_bits(const Example& e) const {
    double bits = 0, characters = 0;
    std::string word;
    bool whole = false;  // the first word's beginning is no label
    for (std::size_t t = 0; t < e.targets.size(); ++t) {
      const char c = alphabet[e.targets[t]];
      if (c != ' ') {
        word += e.marks[t] == 0 ? c : '@';
        continue;
      }
      const int rank = static_cast<int>(std::find(words.begin(), words.end(), word) - words.begin());
      if (whole && rank < lexicon_size) {
        bits -= std::log2((1 - records) * probability(rank));
        characters += static_cast<double>(word.size() + 1);
      }
      whole = true, word.clear();
    }
    return bits / characters;
  }

  // Share of the labels marked as repeated values that a look at the last record of the same name predicts.
  double value_recall(const Example& e) const {
    double right = 0, all = 0;
    const auto& x = e.tokens;
    for (std::size_t t = 6; t < x.size(); ++t) {
      if (e.marks[t] < 2 || x[t] != id[':']) continue;  // t is the colon, so the label is the first value character
      std::size_t s = t - 1;
      while (--s > 3 && !(x[s] == id[':'] && x[s - 1] == x[t - 1] && x[s - 2] == x[t - 2])) {}
      ++all, right += x[s] == id[':'] && x[s + 1] - 1 == e.targets[t];
    }
    return all > 0 ? right / all : std::nan("");
  }
};
SSM_TASK(RecallText, "recall_text");

}  // namespace ssm::recall_text
