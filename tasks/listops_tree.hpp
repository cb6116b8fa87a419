// listops_tree.hpp - the ListOps expressions of the Long Range Arena: vocabulary, meaning and grammar.
//
//   node(level): an operator with probability 1/4 while level < depth, otherwise a uniform digit
//   operator:    [MIN | [MAX | [MED | [SM, then 2..10 nodes of level + 1, then ]        the root is level 1
//   length:      number of tokens, parentheses of the file form not counted; kept when min_length < length < max_length
#pragma once
#include <array>
#include <span>
#include <vector>

#include "rng.hpp"

namespace ssm::listops {

// Token ids: 0 padding, 1..10 the digits 0..9, then the operators and the closing bracket.
enum Token : std::int32_t { pad = 0, zero = 1, op_min = 11, op_max, op_med, op_sm, closing };
constexpr int vocabulary = 16;
constexpr int operators = 4;
inline bool is_digit(std::int32_t t) { return t >= zero && t < op_min; }
inline bool is_operator(std::int32_t t) { return t >= op_min && t < closing; }

// The digits below one operator, as counts.
struct Arguments {
  std::array<int, 10> count{};
  int n = 0;
  void add(int digit) { ++count[static_cast<std::size_t>(digit)], ++n; }

  // The k-th smallest, k from 0.
  int sorted(int k) const {
    int digit = 0;
    for (int seen = count[0]; seen <= k; seen += count[static_cast<std::size_t>(digit)]) ++digit;
    return digit;
  }
  // MED is the median rounded down (the mean of the middle two when n is even), SM the sum modulo 10.
  int apply(std::int32_t op) const {
    if (op == op_min) return sorted(0);
    if (op == op_max) return sorted(n - 1);
    if (op == op_med) return (sorted((n - 1) / 2) + sorted(n / 2)) / 2;
    int sum = 0;
    for (int digit = 0; digit < 10; ++digit) sum += digit * count[static_cast<std::size_t>(digit)];
    return sum % 10;
  }
};

struct Meaning {
  int label = 0;   // the value, 0..9
  int levels = 0;  // level of the deepest node, root = 1
};

// Throws BadInput (without a place) when the tokens are not one whole expression with an operator at the root.
Meaning evaluate(std::span<const std::int32_t> tokens);

struct Grammar {
  int depth = 10, min_length = 500, max_length = 2000;

  // Draws one tree into `tokens`; false when its length is outside the window (and `tokens` is then unspecified).
  bool draw(Rng& rng, std::vector<std::int32_t>& tokens, Meaning& meaning) const {
    Walk walk{*this, rng, tokens};
    tokens.clear();
    meaning.label = walk.node(1);
    meaning.levels = walk.levels;
    return meaning.label >= 0 && static_cast<int>(tokens.size()) > min_length;
  }

 private:
  struct Walk {
    const Grammar& g;
    Rng& rng;
    std::vector<std::int32_t>& tokens;
    int length = 1;  // tokens that the nodes drawn so far make certain
    int levels = 1;

    // The value, or -1 as soon as the tree is certain to be too long.
    int node(int level) {
      const std::uint32_t bits = rng.u32();
      const std::uint64_t low = bits & 0x3fffffffu;
      if (level > levels) levels = level;
      if (level == g.depth || bits >> 30 != 0) {
        const int digit = static_cast<int>(low * 10 >> 30);
        tokens.push_back(zero + digit);
        return digit;
      }
      const int choice = static_cast<int>(low * 36 >> 30);  // one of 4 operators x 9 argument counts
      const int n = 2 + choice / operators;
      if ((length += 1 + n) >= g.max_length) return -1;
      const std::int32_t op = op_min + choice % operators;
      tokens.push_back(op);
      Arguments arguments;
      for (int i = 0; i < n; ++i) {
        const int digit = node(level + 1);
        if (digit < 0) return -1;
        arguments.add(digit);
      }
      tokens.push_back(closing);
      return arguments.apply(op);
    }
  };
};

}  // namespace ssm::listops
