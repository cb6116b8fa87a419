// generated.hpp - what tasks share that draw their examples: sizes of the splits, the seed, the randomness of an example, text.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "content.hpp"
#include "draws.hpp"
#include "error.hpp"

namespace ssm {

struct GeneratedTask : Task {
  int train_size = 0, validation_size = 2000, test_size = 2000;
  std::uint64_t seed = 0;

  void open(std::uint64_t seed_) override {
    seed = seed_;
    check();
  }
  Index size(Split split) const override {
    return split == Split::train ? train_size : split == Split::validation ? validation_size : test_size;
  }

 protected:
  void size_knobs(Knobs& k) {
    k("train_size", train_size).range(0, 2e9).note("training examples; 0 = a fresh one every time");
    k("validation_size", validation_size).range(1, 2e9).note("validation examples");
    k("test_size", test_size).range(1, 2e9).note("test examples");
  }
  // Refuses settings that do not go together. Throws BadInput.
  virtual void check() {}

  // The randomness of an example whose content is hashed afterwards to find its split: redraw until belongs(content_hash, split).
  Rng draws(Split split, Index index) const { return example_rng(name, split, seed, index); }

  // The randomness of an example that follows as a whole from a 64-bit key: the key is redrawn until its hash falls into the split. For
  // contents of far more than 64 bits, where equal contents of different keys do not occur.
  Rng keyed_draws(Split split, Index index) const { return {key_of(split, index), hash_name(name), 0}; }
  // The same numbers, read faster.
  Draws quick_draws(Split split, Index index) const { return {key_of(split, index), hash_name(name), 0}; }

  [[noreturn]] void refuse(const std::string& key, const std::string& value, const std::string& why) const {
    throw BadInput(name + "." + key + " = " + value + ": " + why);
  }
  void need_contents(const std::string& key, int value, double bits) const {
    if (bits < 16) refuse(key, std::to_string(value), "fewer than 65536 different contents, too few for three separate splits");
  }

 private:
  std::uint64_t key_of(Split split, Index index) const {
    Rng keys = draws(split, index);
    std::uint64_t key;
    do {
      const std::uint64_t high = keys.u32();
      key = high << 32 | keys.u32();
    } while (!belongs(key, split));
    return key;
  }
};

inline int below(Draws& draws, int n) { return draws.below(n); }
inline int below(Rng& rng, int n) { return static_cast<int>(rng.below(static_cast<std::uint32_t>(n))); }
inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// n different numbers of [0, size) in the order drawn. Quick while 2 n <= size, right for n <= size.
template <class Numbers>
void different(Numbers& rng, int size, int n, std::vector<std::int32_t>& out) {
  static thread_local std::vector<char> used;
  if (used.size() < at(size)) used.resize(at(size));
  out.clear();
  while (static_cast<int>(out.size()) < n) {
    const int x = below(rng, size);
    if (used[at(x)]) continue;
    used[at(x)] = 1;
    out.push_back(x);
  }
  for (const std::int32_t x : out) used[at(x)] = 0;
}

// A curve in one line for people: `columns` samples, low to high.
inline std::string curve(std::span<const float> x, int columns = 100) {
  static constexpr char heights[] = "_.,-~=+*^#";
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::string out;
  for (int i = 0; i < columns; ++i) {
    const float v = x[x.size() * at(i) / at(columns)];
    out += heights[*high > *low ? std::min(9, static_cast<int>(10 * (v - *low) / (*high - *low))) : 0];
  }
  return out;
}

// The labels of powers of two from `low` to at least `high`: "4-7" is 4..7. Index of x: octave_of(x, low).
inline std::vector<std::string> octaves(int low, int high) {
  std::vector<std::string> out;
  for (Index from = low; from <= high; from *= 2) out.push_back(std::to_string(from) + "-" + std::to_string(2 * from - 1));
  return out;
}
inline std::int32_t octave_of(int x, int low) {
  std::int32_t k = 0;
  while (x >= Index{2} * low << k) ++k;
  return k;
}

// Share of the labelled positions where answer(t) is the target: the score of an oracle or a shortcut on one example; NaN without labels.
template <class Answer>
double token_accuracy(const Example& e, Answer answer) {
  int labels = 0, right = 0;
  for (std::size_t t = 0; t < e.targets.size(); ++t)
    if (e.targets[t] >= 0) ++labels, right += answer(t) == e.targets[t];
  return labels ? static_cast<double>(right) / labels : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace ssm
