// shared_identifier.cpp - do two documents mention a common identifier? A measure of what a two-tower model's vector can hold.
//
//   every document: words of a 1,024-word background, and `identifiers` different fresh names of six letters at uniform places
//   label 1: exactly one name stands in both documents, label 0: none; a fair coin
//
// Tokens: id 0 padding, 1 blank, 2..27 letters. Background words have three letters. With a pooled vector of d numbers the difficulty
// grows with identifiers * log2(number of names): nothing but the names tells the label.
#include <set>

#include "generated.hpp"

namespace ssm::shared_identifier {

constexpr int name_letters = 6, word_letters = 3, background = 1024, alphabet = 26;

struct SharedIdentifier final : GeneratedTask {
  int words = 64, identifiers = 4;

  void knobs(Knobs& k) override {
    k("words", words, {64, 256}).range(2, 1 << 18).note("words of a document, its identifiers counted");
    k("identifiers", identifiers, {2, 4, 8, 16, 32}).range(1, 1 << 12).note("identifiers of a document, m");
    size_knobs(k);
  }
  void check() override {
    if (identifiers > words / 2) refuse("identifiers", std::to_string(identifiers), "at most half of words = " + std::to_string(words));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::pairs;
    out.vocab = 2 + alphabet;
    out.classes = 2;
    out.max_length = words * (word_letters + 1) + identifiers * (name_letters - word_letters);
    out.about = "do two documents share one of their identifiers (stand-in for Retrieval that measures two-tower capacity)";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"},
                      {"floor", "background words", .5, "independent of the label"},
                      {"ceiling", "compares all names", 1, "exact"}};
    out.slices = {{"pair", {"none", "one"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    Draws rng = quick_draws(split, index);
    out.clear();
    const bool shared = rng.below(2) == 1;
    std::vector<std::vector<std::int32_t>> names;
    std::set<std::vector<std::int32_t>> known;
    while (static_cast<int>(names.size()) < 2 * identifiers) {
      std::vector<std::int32_t> fresh;
      for (int i = 0; i < name_letters; ++i) fresh.push_back(2 + below(rng, alphabet));
      if (known.insert(fresh).second) names.push_back(std::move(fresh));
    }
    if (shared) names[at(identifiers)] = names[0];
    document(rng, std::span(names).first(at(identifiers)), out.tokens);
    document(rng, std::span(names).last(at(identifiers)), out.second);
    out.targets = {shared}, out.slices = {shared};
  }

  std::vector<Statistic> statistics() const override {
    const auto common = [](const Example& e, std::size_t letters) {
      const std::set<std::string> first = words_of(e.tokens, letters), second = words_of(e.second, letters);
      return std::count_if(first.begin(), first.end(), [&](const std::string& w) { return second.count(w) > 0; });
    };
    return {
        {"oracle: compares the names", 1, 0, [=](const Example& e) { return double(common(e, name_letters) == e.targets[0]); }},
        {"names in a document", double(identifiers), 0, [](const Example& e) { return double(words_of(e.tokens, name_letters).size()); }},
        {"shortcut: some background word in common", .5, 0,
         [=](const Example& e) { return double((common(e, word_letters) > 3) == (e.targets[0] == 1)); }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const auto* part : {&e.tokens, &e.second}) {
      for (const std::int32_t t : *part) out += letter(t);
      out += part == &e.tokens ? "| " : "";
    }
    return out + (e.targets[0] ? "-> one in common" : "-> none");
  }

 private:
  static char letter(std::int32_t t) { return t == 1 ? ' ' : static_cast<char>('a' + t - 2); }

  static std::set<std::string> words_of(const std::vector<std::int32_t>& tokens, std::size_t letters) {
    std::set<std::string> out;
    std::string word;
    for (const std::int32_t t : tokens) {
      if (t != 1) {
        word += letter(t);
        continue;
      }
      if (word.size() == letters) out.insert(word);
      word.clear();
    }
    return out;
  }

  void document(Draws& rng, std::span<const std::vector<std::int32_t>> names, std::vector<std::int32_t>& out) const {
    std::vector<std::int32_t> places;
    different(rng, words, identifiers, places);
    for (int w = 0; w < words; ++w) {
      const auto place = std::find(places.begin(), places.end(), w);
      if (place != places.end()) {
        const auto& chosen = names[at(place - places.begin())];
        out.insert(out.end(), chosen.begin(), chosen.end());
      } else {
        int code = (below(rng, background) * 7919 + 1237) % (alphabet * alphabet * alphabet);  // letters that do not tell the number
        for (int i = 0; i < word_letters; ++i, code /= alphabet) out.push_back(2 + code % alphabet);
      }
      out.push_back(1);
    }
  }
};
SSM_TASK(SharedIdentifier, "shared_identifier");

}  // namespace ssm::shared_identifier
