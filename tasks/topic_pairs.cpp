// topic_pairs.cpp - do two documents share their topic? A generated stand-in for the Long Range Arena's Retrieval.
//
//   each topic owns a list of words; a word of a document comes
//     with probability alpha from the document's topic, with probability gamma from a uniformly drawn topic, else from the background
//   label 1: both documents have one topic, label 0: two different topics; a fair coin
//
// As words: id 0 padding, 1.. the words. As bytes: every word is 3 letters and a blank, so 4 tokens; letters do not tell the topic.
#include "content.hpp"
#include "draws.hpp"
#include "error.hpp"

namespace ssm::topic_pairs {

namespace {

// Accuracy of the posterior and of the best threshold on the dot product of the topic counts, for 64 topics; 40,000 pairs.
struct Row {
  int words;
  double alpha, gamma, bayes, threshold;
  int dot;  // the threshold
};
constexpr Row measured[] = {{160, .02, .10, .884, .787, 9},  {160, .02, .30, .785, .668, 48}, {160, .03, .10, .963, .889, 13},
                            {160, .03, .30, .915, .773, 54}, {160, .05, .30, .990, .916, 70}, {600, .02, .30, .992, .834, 641}};

constexpr int codes = 26 * 26 * 26;  // words of three letters
constexpr int letters = 3;

}  // namespace

struct TopicPairs final : Task {
  int words = 160, topics = 64, topic_words = 16, background = 1024, train_size = 0, validation_size = 2000, test_size = 2000;
  double alpha = .03, gamma = .30;
  std::string form = "words";
  std::uint64_t seed = 0;

  void knobs(Knobs& k) override {
    k("words", words, {160, 600}).range(4, 1 << 20).note("words of one document");
    k("alpha", alpha, {.02, .03, .05}).range(0, 1).note("probability of a word of the own topic");
    k("gamma", gamma, {.10, .30}).range(0, 1).note("probability of a word of a random topic");
    k("topics", topics).range(2, 4096).note("number of topics");
    k("topic_words", topic_words).range(1, 4096).note("words that a topic owns");
    k("background", background).range(1, 1 << 20).note("words without a topic");
    k("form", form, {"words", "bytes"}).note("tokens are word ids, or letters (4 tokens a word)");
    k("train_size", train_size).range(0, 2e9).note("training examples; 0 = a fresh one every time");
    k("validation_size", validation_size).range(1, 2e9).note("validation examples");
    k("test_size", test_size).range(1, 2e9).note("test examples");
  }

  void open(std::uint64_t seed_) override {
    seed = seed_;
    if (alpha + gamma > 1)
      throw BadInput("topic_pairs.alpha = " + number_text(alpha) + ", topic_pairs.gamma = " + number_text(gamma) +
                     ": their sum must be at most 1");
    if (form == "bytes" && lexicon() > codes)
      throw BadInput("topic_pairs.form = 'bytes' spells at most " + std::to_string(codes) +
                     " words; topics * topic_words + background = " + std::to_string(lexicon()));
    if (std::log2(lexicon()) * words < 16) throw BadInput("topic_pairs.words = " + std::to_string(words) + ": too few different documents");
  }

  Index size(Split split) const override {
    return split == Split::train ? train_size : split == Split::validation ? validation_size : test_size;
  }

  void example(Split split, Index index, Example& out) const override {
    Draws rng(seed, hash_name(split_name(split), hash_name("topic_pairs")), static_cast<std::uint64_t>(index));
    do {
      out.clear();
      const bool same = rng.below(2) == 1;
      const int first = rng.below(topics);
      const int second = same ? first : (first + 1 + rng.below(topics - 1)) % topics;
      document(rng, first, out.tokens);
      document(rng, second, out.second);
      out.targets.push_back(same);
      out.slices.push_back(same);
    } while (!belongs(content_hash(out.second, content_hash(out.tokens)), split));
    if (form == "bytes") spell(out.tokens), spell(out.second);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::pairs;
    out.vocab = form == "bytes" ? 28 : static_cast<int>(1 + lexicon());
    out.classes = 2;
    out.max_length = words * (form == "bytes" ? letters + 1 : 1);
    out.about = "do two documents share their topic (generated stand-in for the Long Range Arena's Retrieval)";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"}};
    if (const Row* row = measured_here()) {
      out.references.push_back({"ceiling", "Bayes", row->bayes, "posterior of the generator, 40,000 pairs"});
      out.references.push_back({"floor", "topic counts", row->threshold, "threshold on the dot product of topic counts, 40,000 pairs"});
    }
    out.slices = {{"pair", {"different", "same"}}};
    return out;
  }

  std::vector<Statistic> statistics() const override {
    std::vector<Statistic> out = {{"same topic", .5, 0, [](const Example& e) { return double(e.targets[0]); }}};
    if (form == "words")
      out.push_back({"share of words with a topic", alpha + gamma, 0, [this](const Example& e) {
                       double n = 0;
                       for (const std::int32_t t : e.tokens) n += t <= topics * topic_words;
                       return n / words;
                     }});
    const Row* row = measured_here();
    if (!row || form != "words") return out;
    out.push_back({"oracle: Bayes", row->bayes, .007, [this](const Example& e) {
                     const double ratio = (alpha + gamma / topics) / (gamma / topics);
                     double first = 0, second = 0, both = 0;
                     for (const auto& [a, b] : topic_counts(e)) {
                       const double p = std::pow(ratio, a), q = std::pow(ratio, b);
                       first += p, second += q, both += p * q;
                     }
                     const bool same = both / topics > (first * second - both) / (topics * (topics - 1.));
                     return double(same == (e.targets[0] == 1));
                   }});
    out.push_back({"shortcut: a threshold on the dot product of topic counts", row->threshold, .009, [this, row](const Example& e) {
                     int dot = 0;
                     for (const auto& [a, b] : topic_counts(e)) dot += a * b;
                     return double((dot >= row->dot) == (e.targets[0] == 1));
                   }});
    return out;
  }

  std::string show(const Example& e) const override {
    return readable(e.tokens) + "| " + readable(e.second) + (e.targets[0] ? "-> same" : "-> different");
  }

 private:
  // The row of the present settings, null when they were not measured.
  const Row* measured_here() const {
    for (const Row& row : measured)
      if (row.words == words && row.alpha == alpha && row.gamma == gamma && topics == 64 && topic_words == 16) return &row;
    return nullptr;
  }

  // How often each topic's words stand in either document.
  std::vector<std::pair<int, int>> topic_counts(const Example& e) const {
    std::vector<std::pair<int, int>> out(static_cast<std::size_t>(topics));
    const auto topic = [&](std::int32_t word) { return static_cast<std::size_t>((word - 1) / topic_words); };
    for (const std::int32_t w : e.tokens)
      if (topic(w) < out.size()) ++out[topic(w)].first;
    for (const std::int32_t w : e.second)
      if (topic(w) < out.size()) ++out[topic(w)].second;
    return out;
  }

  Index lexicon() const { return Index(topics) * topic_words + background; }

  void document(Draws& rng, int topic, std::vector<std::int32_t>& out) const {
    out.resize(static_cast<std::size_t>(words));
    for (std::int32_t& word : out) {
      const double u = rng.uniform();
      const int owner = u < alpha ? topic : u < alpha + gamma ? rng.below(topics) : -1;
      word = 1 + (owner >= 0 ? owner * topic_words + rng.below(topic_words) : topics * topic_words + rng.below(background));
    }
  }

  // Replaces every word by its letters (2..27) and a blank (1), from the back so that no other storage is needed.
  static void spell(std::vector<std::int32_t>& tokens) {
    const std::size_t n = tokens.size();
    tokens.resize(n * (letters + 1));
    for (std::size_t w = n; w-- > 0;) {
      int code = static_cast<int>((Index(tokens[w] - 1) * 7919 + 1237) % codes);  // 7919 has no factor 2 or 13: one code per word
      std::int32_t* out = &tokens[w * (letters + 1)];
      for (int i = 0; i < letters; ++i, code /= 26) out[i] = 2 + code % 26;
      out[letters] = 1;
    }
  }

  std::string readable(const std::vector<std::int32_t>& tokens) const {
    std::string out;
    for (const std::int32_t t : tokens) {
      const int word = t - 1;
      if (form == "bytes") out += t == 1 ? ' ' : static_cast<char>('a' + t - 2);
      else if (word < topics * topic_words)
        out += "t" + std::to_string(word / topic_words) + "." + std::to_string(word % topic_words) + ' ';
      else out += std::to_string(word - topics * topic_words) + ' ';
    }
    return out;
  }
};
SSM_TASK(TopicPairs, "topic_pairs");

}  // namespace ssm::topic_pairs
