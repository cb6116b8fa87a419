// shortcuts.hpp - what cheap programs score on files that the user brings, where no generator says it: the floor of a task that reads.
//
// Both learn from up to 5,000 training examples and are scored on up to 2,000 test examples, spread evenly over the files.
#pragma once
#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include "rng.hpp"
#include "task.hpp"

namespace ssm {

template <class Use>
void spread(const Task& task, Split split, Index n, Use use) {
  const Index size = task.size(split);
  n = std::min(n, size);
  Rng rng(1, hash_name("shortcuts"), 0);  // a place of its own in each stretch: labels may come in turn
  Example e;
  for (Index i = 0; i < n; ++i) task.example(split, (i * size + rng.below(static_cast<std::uint32_t>(size))) / n, e), use(e);
}

// Accuracy of the class whose mean over training examples is nearest, value by value.
inline double nearest_mean(const Task& task, int classes) {
  struct Mean {
    std::vector<double> sum;
    double n = 0;
  };
  std::vector<Mean> means(static_cast<std::size_t>(classes));
  const auto value = [](const Example& e, std::size_t i) { return e.tokens.empty() ? double(e.features[i]) : double(e.tokens[i]); };
  const auto length = [](const Example& e) { return std::max(e.tokens.size(), e.features.size()); };
  spread(task, Split::train, 5000, [&](const Example& e) {
    Mean& m = means[static_cast<std::size_t>(e.targets[0])];
    m.sum.resize(length(e)), m.n += 1;
    for (std::size_t i = 0; i < m.sum.size(); ++i) m.sum[i] += value(e, i);
  });
  double right = 0, all = 0;
  spread(task, Split::test, 2000, [&](const Example& e) {
    double best = INFINITY;
    int label = -1;
    for (int c = 0; c < classes; ++c) {
      const Mean& m = means[static_cast<std::size_t>(c)];
      double distance = 0;
      for (std::size_t i = 0; i < m.sum.size(); ++i) distance += std::pow(value(e, i) - m.sum[i] / m.n, 2);
      if (m.n > 0 && distance < best) best = distance, label = c;
    }
    right += label == e.targets[0], all += 1;
  });
  return right / all;
}

// Accuracy of naive Bayes on words, which are runs of letters in tokens that are byte + 1; two classes, counts begin at 1.
inline double bag_of_words(const Task& task) {
  const auto each_word = [](const Example& e, auto use) {
    std::string word;
    for (std::size_t t = 0; t <= e.tokens.size(); ++t) {
      const int c = t < e.tokens.size() ? e.tokens[t] - 1 : ' ';
      if (std::isalpha(c)) word += static_cast<char>(std::tolower(c));
      else if (!word.empty()) use(word), word.clear();
    }
  };
  std::unordered_map<std::string, double> counts[2];
  double words[2] = {}, documents[2] = {};
  spread(task, Split::train, 5000, [&](const Example& e) {
    const auto label = static_cast<std::size_t>(e.targets[0]);
    documents[label] += 1;
    each_word(e, [&](const std::string& w) { counts[label][w] += 1, words[label] += 1; });
  });
  const double known = static_cast<double>(counts[0].size() + counts[1].size()) + 1;
  double right = 0, all = 0;
  spread(task, Split::test, 2000, [&](const Example& e) {
    double score = std::log((documents[1] + 1) / (documents[0] + 1));  // log odds of label 1
    each_word(e, [&](const std::string& w) {
      double p[2];
      for (std::size_t k = 0; k < 2; ++k) {
        const auto found = counts[k].find(w);
        p[k] = ((found == counts[k].end() ? 0 : found->second) + 1) / (words[k] + known);
      }
      score += std::log(p[1] / p[0]);
    });
    right += (score > 0) == (e.targets[0] == 1), all += 1;
  });
  return right / all;
}

}  // namespace ssm
