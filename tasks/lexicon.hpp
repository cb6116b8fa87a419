// lexicon.hpp - pronounceable words for tasks of text: deterministic, all different, shorter ones first.
#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "rng.hpp"

namespace ssm {

// `count` words of 2 to 9 letters (consonant and vowel in turn), the same ones for the same name. Word i of n has about as many letters as
// frequent words of English have: 2 to 4 at the front, 5 to 9 behind the first tenth.
inline std::vector<std::string> lexicon(int count, const char* name) {
  static constexpr const char* consonants = "bcdfghjklmnprstvwz";
  static constexpr const char* vowels = "aeiou";
  Rng rng(0, hash_name(name), 0);
  std::set<std::string> seen;
  std::vector<std::string> out;
  while (static_cast<int>(out.size()) < count) {
    const int i = static_cast<int>(out.size());
    const int low = i < 40 ? 2 : i < count / 10 ? 3 : 5, spread = i < 40 ? 3 : 5;
    const int letters = low + static_cast<int>(rng.below(static_cast<std::uint32_t>(spread)));
    std::string word;
    bool vowel = rng.below(3) == 0;
    for (int k = 0; k < letters; ++k, vowel = !vowel) word += vowel ? vowels[rng.below(5)] : consonants[rng.below(18)];
    if (seen.insert(word).second) out.push_back(word);
  }
  return out;
}

// Ranks 0 .. count - 1 with probabilities proportional to 1 / (rank + 2.7).
class WordRanks {
 public:
  explicit WordRanks(int count = 1) : first_(kParts + 1) {
    double sum = 0;
    for (int i = 0; i < count; ++i) cumulative_.push_back(sum += 1 / (i + 2.7));
    for (double& c : cumulative_) c /= sum;
    for (int p = 0; p <= kParts; ++p)
      first_[static_cast<std::size_t>(p)] =
          static_cast<int>(std::lower_bound(cumulative_.begin(), cumulative_.end(), static_cast<double>(p) / kParts) - cumulative_.begin());
  }
  // The first rank whose cumulative probability is not below u, which is in [0, 1).
  int operator()(double u) const {
    int rank = first_[static_cast<std::size_t>(u * kParts)];
    while (rank + 1 < static_cast<int>(cumulative_.size()) && cumulative_[static_cast<std::size_t>(rank)] < u) ++rank;
    return rank;
  }
  double cumulative(int rank) const { return cumulative_[static_cast<std::size_t>(rank)]; }

 private:
  static constexpr int kParts = 4096;  // of [0, 1): where the search begins
  std::vector<double> cumulative_;
  std::vector<int> first_;
};

}  // namespace ssm
