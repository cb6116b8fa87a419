// recipe_task.hpp - a generated task whose examples come from a recipe (core/recipe.hpp), on the host and on a device.
//
//   struct Mine final : RecipeTask<Mine> { Recipe recipe(Split) const; Layout layout() const; .. };
#pragma once
#include "draws.hpp"
#include "generated.hpp"
#include "recipe_batches.hpp"

namespace ssm {

// The randomness of the examples of one (task, split, seed), as GeneratedTask::draws and keyed_draws give it to a host.
struct Origin {
  std::uint64_t seed, stream, keyed;
  Split split;

  SSM_FN Draws draws(std::uint64_t index) const { return {seed, stream, index}; }
  SSM_FN Draws keyed_draws(std::uint64_t index) const {
    Draws keys = draws(index);
    std::uint64_t key;
    do {
      const std::uint64_t high = keys.u32();
      key = high << 32 | keys.u32();
    } while (!mine(key));
    return {key, keyed, 0};
  }
  SSM_FN bool mine(std::uint64_t hash) const { return belongs(hash, split); }
};

// A set of numbers below `size` in size / 32 + 1 words of scratch.
struct NumberSet {
  std::uint32_t* words;
  static Index bytes(Index size) { return (size / 32 + 2) / 2 * 8; }
  SSM_FN void clear(int size) {
    for (int w = 0; w <= size / 32; ++w) words[w] = 0;
  }
  SSM_FN bool has(int x) const { return words[x / 32] >> (x % 32) & 1; }
  SSM_FN void add(int x) { words[x / 32] |= std::uint32_t{1} << (x % 32); }
};

// n different numbers of [0, size) in the order drawn: what different() of generated.hpp gives.
SSM_FN void different(Draws& draws, int size, int n, NumberSet used, std::int32_t* out) {
  used.clear(size);
  for (int k = 0; k < n;) {
    const int x = draws.below(size);
    if (used.has(x)) continue;
    used.add(x);
    out[k++] = x;
  }
}

// The position of the octave of x in octaves(low, ..).
SSM_FN std::int32_t octave_at(Index x, Index low) {
  std::int32_t k = 0;
  while (x >= 2 * low << k) ++k;
  return k;
}

template <class Self>
struct RecipeTask : GeneratedTask {
  void open(std::uint64_t seed_) override {
    GeneratedTask::open(seed_);
    for (const Split split : {Split::train, Split::validation, Split::test})
      origins_[static_cast<int>(split)] = {seed, hash_name(split_name(split), hash_name(name)), hash_name(name), split};
  }
  void example(Split split, Index index, Example& out) const final { write_example(self().recipe(split), self().layout(), index, out); }
  std::string host_only() const override { return {}; }
  std::unique_ptr<BatchMaker> batches(const BatchPlan& plan) const final {
    const auto recipe = self().recipe(Split::train);
    return std::make_unique<RecipeBatches<std::remove_cv_t<decltype(recipe)>>>(recipe, self().layout(), plan);
  }

 protected:
  const Origin& origin(Split split) const { return origins_[static_cast<int>(split)]; }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
  Origin origins_[3] = {};
};

}  // namespace ssm
