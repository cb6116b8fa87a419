// content.hpp - which split an example belongs to is a property of its content, so splits cannot share an example, under any two seeds.
#pragma once
#include <span>
#include <string_view>

#include "rng.hpp"
#include "task.hpp"

namespace ssm {

// One more token of a content hash.
SSM_FN std::uint64_t hash_on(std::uint64_t h, std::int32_t token) { return (h ^ static_cast<std::uint32_t>(token)) * 0x100000001b3ull; }
constexpr std::uint64_t kNoContent = 0xcbf29ce484222325ull;

// Hash of a token sequence; `h` chains several sequences.
inline std::uint64_t content_hash(std::span<const std::int32_t> tokens, std::uint64_t h = kNoContent) {
  for (const std::int32_t t : tokens) h = hash_on(h, t);
  return h;
}

// 1/8 of the content space is validation, 1/8 test, 6/8 train.
SSM_FN bool belongs(std::uint64_t hash, Split split) {
  const std::uint64_t part = mix(hash) % 8;
  return split == (part == 0 ? Split::validation : part == 1 ? Split::test : Split::train);
}

// The randomness of example `index` of (task, split, seed).
inline Rng example_rng(std::string_view task, Split split, std::uint64_t seed, Index index) {
  return {seed, hash_name(split_name(split), hash_name(task)), static_cast<std::uint64_t>(index)};
}

}  // namespace ssm
