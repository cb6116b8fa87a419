// listops_ladder.hpp - how well ListOps can be answered without evaluating all of it: the numbers a score is drawn beside.
//
// Step k of the ladder evaluates the top k levels exactly and knows of every deeper subtree only its operator and level; the value of
// such a subtree has the distribution counted over other trees of the same form, independent of the rest. k = 0 knows the root operator.
#pragma once
#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "../tasks/listops_tree.hpp"
#include "task.hpp"

namespace ssm::listops {

using Chances = std::array<double, 10>;  // P(value = digit)

// P(value of `op` applied to independent arguments).
inline Chances combine(std::int32_t op, std::span<const Chances> arguments) {
  Chances out{};
  if (op == op_sm) {
    out[0] = 1;
    for (const Chances& a : arguments) {
      Chances sum{};
      for (std::size_t i = 0; i < 10; ++i)
        for (std::size_t j = 0; j < 10; ++j) sum[(i + j) % 10] += out[i] * a[j];
      out = sum;
    }
    return out;
  }
  // P(more than i arguments are <= a and more than j are <= b), a <= b, from the counts of both kinds; certain arguments only shift them.
  const std::size_t n = arguments.size();
  const auto at_least = [&](std::size_t a, std::size_t i, std::size_t b, std::size_t j) {
    std::array<std::array<double, 11>, 11> p{};  // p[x][y]: of u uncertain arguments x are <= a and y in (a, b]
    p[0][0] = 1;
    std::size_t u = 0, certain_low = 0, certain_middle = 0;
    for (const Chances& argument : arguments) {
      double low = 0, middle = 0;
      for (std::size_t v = 0; v <= b; ++v) (v <= a ? low : middle) += argument[v];
      if (low == 1 || middle == 1) ++(low == 1 ? certain_low : certain_middle);
      if (low == 1 || middle == 1 || low + middle == 0) continue;
      ++u;
      for (std::size_t x = u + 1; x-- > 0;)
        for (std::size_t y = u + 1 - x; y-- > 0;)
          p[x][y] = p[x][y] * (1 - low - middle) + (x ? p[x - 1][y] * low : 0) + (y ? p[x][y - 1] * middle : 0);
    }
    double sum = 0;
    for (std::size_t x = 0; x <= u; ++x)
      for (std::size_t y = 0; x + y <= u; ++y)
        if (x + certain_low > i && x + y + certain_low + certain_middle > j) sum += p[x][y];
    return sum;
  };
  // The order statistics i <= j whose mean, rounded down, is the value: MIN 0 0, MAX n-1 n-1, MED the middle two.
  const std::size_t i = op == op_min ? 0 : op == op_max ? n - 1 : (n - 1) / 2;
  const std::size_t j = op == op_med ? n / 2 : i;
  const auto both = [&](int a, int b) {  // P(x_(i) <= a, x_(j) <= b)
    return a < 0 || b < 0 ? 0.0 : at_least(static_cast<std::size_t>(std::min(a, b)), i, static_cast<std::size_t>(b), j);
  };
  for (int a = 0; a < 10; ++a)
    for (int b = i == j ? a : 0; b < (i == j ? a + 1 : 10); ++b) {
      const double p = i == j ? both(a, a) - both(a - 1, a - 1) : both(a, b) - both(a - 1, b) - both(a, b - 1) + both(a - 1, b - 1);
      out[static_cast<std::size_t>((a + b) / 2)] += p;
    }
  return out;
}

// P(value | operator, level), counted.
struct Prior {
  static constexpr std::size_t levels = 32;
  std::array<std::array<Chances, levels>, operators> count{};

  // Adds every operator of one expression; returns the value of the node at `at` and moves `at` behind it.
  int add(std::span<const std::int32_t> tokens, std::size_t& at, std::size_t level = 1) {
    const std::int32_t t = tokens[at++];
    if (is_digit(t)) return t - zero;
    Arguments arguments;
    while (tokens[at] != closing) arguments.add(add(tokens, at, level + 1));
    ++at;
    const int value = arguments.apply(t);
    ++count[static_cast<std::size_t>(t - op_min)][level][static_cast<std::size_t>(value)];
    return value;
  }
  Chances at_level(std::int32_t op, std::size_t level) const {
    Chances out = count[static_cast<std::size_t>(op - op_min)][level];
    double sum = 0;
    for (const double c : out) sum += c;
    for (double& c : out) c /= sum;
    return out;
  }
};

// What a reader of the top k levels believes about the node at `at`, which is moved behind the node.
inline Chances belief(const Prior& prior, std::span<const std::int32_t> tokens, std::size_t& at, std::size_t k, std::size_t level = 1) {
  const std::int32_t t = tokens[at++];
  Chances out{};
  if (is_digit(t)) {
    out[static_cast<std::size_t>(t - zero)] = 1;
    return out;
  }
  if (level > k) {
    for (int open = 1; open > 0; ++at) open += is_operator(tokens[at]) - (tokens[at] == closing);
    return prior.at_level(t, level);
  }
  std::vector<Chances> arguments;
  while (tokens[at] != closing) arguments.push_back(belief(prior, tokens, at, k, level + 1));
  ++at;
  return combine(t, arguments);
}

// Accuracy of steps k = 0..steps-1 on the first `trees` test examples, with the prior counted on as many training examples.
inline std::vector<double> ladder(const Task& task, Index trees, std::size_t steps) {
  Prior prior;
  Example e;
  for (Index i = 0; i < trees; ++i) {
    task.example(Split::train, i, e);
    std::size_t at = 0;
    prior.add(e.tokens, at);
  }
  std::vector<double> out(steps);
  for (Index i = 0; i < trees; ++i) {
    task.example(Split::test, i, e);
    for (std::size_t k = 0; k < steps; ++k) {
      std::size_t at = 0;
      const Chances p = belief(prior, e.tokens, at, k);
      out[k] += (std::max_element(p.begin(), p.end()) - p.begin() == e.targets[0]) / static_cast<double>(trees);
    }
  }
  return out;
}

}  // namespace ssm::listops
