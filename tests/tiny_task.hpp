// tiny_task.hpp - small tasks of every kind for tests of models: random tokens or features, labels from a simple rule.
#pragma once
#include <cmath>

#include "loader.hpp"
#include "rng.hpp"

namespace ssm {

struct TinyTask final : Task {
  TaskInfo made;
  int shortest;
  explicit TinyTask(Target target, int features = 0, int longest = 24, int shortest_ = 8) : shortest(shortest_) {
    made.target = target;
    made.features = features;
    made.vocab = features ? 0 : 11;
    const bool real = target == Target::regression || target == Target::series;
    made.classes = target == Target::pairs || real ? 2 : 5;
    made.max_length = longest;
    made.metric = real ? "mse" : "accuracy";
    made.slices = {{"half", {"low", "high"}}};
  }
  void open(std::uint64_t) override {}
  TaskInfo info() const override { return made; }
  Index size(Split) const override { return 0; }
  void example(Split split, Index index, Example& e) const override {
    e.clear();
    Rng rng(5, static_cast<std::uint64_t>(split), static_cast<std::uint64_t>(index));
    const auto length = [&] { return shortest + static_cast<int>(rng.below(static_cast<std::uint32_t>(made.max_length - shortest + 1))); };
    const int n = made.features ? made.max_length : length();
    for (int t = 0; t < n; ++t)
      if (made.features)
        for (int f = 0; f < made.features; ++f) e.features.push_back(static_cast<float>(rng.normal()));
      else e.tokens.push_back(1 + static_cast<int>(rng.below(10)));
    if (made.target == Target::pairs)
      for (int t = length(); t > 0; --t) e.second.push_back(1 + static_cast<int>(rng.below(10)));
    if (made.target == Target::series)
      for (int t = 0; t < 2 * n; ++t) e.values.push_back(t / 2 % 3 ? static_cast<float>(rng.normal()) : NAN);
    else if (made.target == Target::regression) e.values = {static_cast<float>(rng.normal()), static_cast<float>(rng.normal())};
    else if (made.target == Target::positions)
      for (int t = 0; t < n; ++t) e.targets.push_back(t % 3 ? static_cast<int>(rng.below(5)) : -1);
    else
      e.targets = {made.features                  ? static_cast<int>(rng.below(5))
                   : made.target == Target::pairs ? e.tokens[0] > e.second[0]
                                                  : e.tokens[0] % 5};
    e.slices = {n * 2 > made.max_length};
  }
};

}  // namespace ssm
