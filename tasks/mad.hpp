// mad.hpp - what MAD's six tasks share: published scores, and the pairs of the recall tasks.
//
// Protocol of the suite: 12,800 train and 1,280 test examples, a task's score is the mean accuracy over settings that change one knob
// each. Where mad-lab takes a global random generator or leaves a detail open, the file of the task says what is done here.
#pragma once
#include "recipe_task.hpp"

namespace ssm {

// Mean over all settings of a task, as percent, in the order of the suite.
struct MadScores {
  const char* label;
  double compression, fuzzy, in_context, memorisation, noisy, selective;
};
inline constexpr MadScores mad_scores[] = {{"Transformer", 51.6, 29.8, 94.1, 85.2, 86.8, 99.6},
                                           {"Hyena", 45.2, 7.9, 81.7, 89.5, 78.8, 93.1},
                                           {"multi-head Hyena", 44.8, 14.4, 99.0, 89.4, 98.6, 93.0},
                                           {"Mamba", 52.7, 6.7, 90.4, 89.5, 90.1, 86.3},
                                           {"GLA", 38.8, 6.9, 80.8, 63.3, 81.6, 88.6},
                                           {"DeltaNet", 42.2, 35.7, 100, 52.8, 100, 100},
                                           {"linear attention", 31.1, 8.15, 91.0, 74.9, 75.6, 93.1},
                                           {"RWKV-7", 44.5, 43.2, 100, 89.1, 100, 98.8}};

inline void add_mad_scores(std::vector<Reference>& out, double MadScores::*task) {
  for (const MadScores& row : mad_scores)
    out.push_back(
        {"published", row.label, row.*task / 100, "RWKV-7 paper's MAD table: mean over all settings, best of six learning rates"});
}

struct MadRecallRecipe {
  Origin from;
  int keys, length, noise_tokens;
  double noise;
  bool next_tokens;  // the labels are all next tokens

  // Scratch: the value of every key, and which keys were seen.
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    constexpr int prefix = 64;
    Draws draws = from.draws(index);
    auto* map = reinterpret_cast<std::int32_t*>(page.scratch);
    NumberSet seen{reinterpret_cast<std::uint32_t*>(map + keys)};
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int k = 0; k < keys; ++k) map[k] = draws.below(keys);
      seen.clear(keys);
      for (int t = 0; t < length; t += 2) {
        const bool is_noise = noise > 0 && draws.uniform() < noise;
        const int key = draws.below(keys), other = 1 + 2 * keys;
        page.tokens[t] = is_noise ? other + draws.below(noise_tokens) : 1 + key;
        page.tokens[t + 1] = is_noise ? other + draws.below(noise_tokens) : 1 + keys + map[key];
        const bool recall = !is_noise && seen.has(key);
        page.targets[t] = recall ? page.tokens[t + 1] - 1 : -1, page.targets[t + 1] = -1;
        if (page.marks) page.marks[t] = recall ? 0 : -1, page.marks[t + 1] = -1;
        if (!is_noise) seen.add(key);
      }
      for (int t = 0; t < prefix && t < length; ++t) hash = hash_on(hash, page.tokens[t]);
    } while (!from.mine(hash));
    for (int t = 0; next_tokens && t + 1 < length; ++t) page.targets[t] = page.tokens[t + 1] - 1;
    page.length = length;
  }
};

// Multi-query recall with one token per key and value: k v k v ..., of a random map per example; a pair may be two noise tokens instead.
// Ids: 0 padding, 1.. keys, then values, then noise.
struct MadRecallTask : RecipeTask<MadRecallTask> {
  int vocabulary = 16, length = 128, noise_tokens = 0;
  double noise = 0;
  std::string labels = "all";

  MadRecallTask() { train_size = 12800, validation_size = test_size = 1280; }

  int keys() const { return (vocabulary - noise_tokens) / 2; }

  void recall_knobs(Knobs& k) {
    k("vocabulary", vocabulary, {16, 32, 64, 128}).range(4, 1 << 16).note("ids, noise tokens counted; keys and values are half each");
    k("length", length, {128, 256, 512, 1024}).range(8, 1 << 20).note("tokens");
    k("labels", labels, {"all", "recall"})
        .note("training labels: every next token, or the values of keys seen before as in the other splits");
    size_knobs(k);
  }
  void check() override {
    if (length % 2) refuse("length", std::to_string(length), "it must be even");
    if (keys() < 2 || (vocabulary - noise_tokens) % 2)
      refuse("vocabulary", std::to_string(vocabulary), "it must be an even number above the noise tokens");
    need_contents("length", length, length * std::log2(keys()));
  }

  MadRecallRecipe recipe(Split split) const {
    return {origin(split), keys(), length, noise_tokens, noise, split == Split::train && labels == "all"};
  }
  Layout layout() const {
    return {.length = length, .positions = true, .marks = true, .scratch = 4 * Index{keys()} + NumberSet::bytes(keys())};
  }

  std::vector<Statistic> statistics() const override {
    const auto recalled = [](const Example& e, auto answer) {
      Example marked = e;
      for (std::size_t t = 0; t < e.marks.size(); ++t)
        if (e.marks[t] < 0) marked.targets[t] = -1;
      return token_accuracy(marked, answer);
    };
    return {{"oracle: looks the key up", 1, 0,
             [=](const Example& e) {
               return recalled(e, [&](std::size_t t) {
                 std::size_t s = 0;
                 while (e.tokens[s] != e.tokens[t]) s += 2;
                 return e.tokens[s + 1] - 1;
               });
             }},
            {"shortcut: one value throughout", 1.0 / keys(), 0,
             [=, this](const Example& e) { return recalled(e, [&](std::size_t) { return keys(); }); }},
            {"share of pairs that recall", recalls(), .001, [](const Example& e) {
               return 2.0 * static_cast<double>(std::count(e.marks.begin(), e.marks.end(), 0)) / static_cast<double>(e.tokens.size());
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (std::size_t t = 0; t < e.tokens.size(); ++t) {
      const int id = e.tokens[t] - 1;
      const char kind = id < keys() ? 'k' : id < 2 * keys() ? 'v' : '~';
      out += kind + std::to_string(id < keys() ? id : (id - keys()) % keys()) + (e.marks[t] == 0 ? "? " : " ");
    }
    return out + "-> the values after ?";
  }

 protected:
  TaskInfo recall_info(const char* about, double MadScores::*column) const {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = vocabulary + 1;
    out.classes = vocabulary;
    out.max_length = length;
    out.about = about;
    out.references = {{"chance", "uniform guess of a value", 1.0 / keys(), "1 / values"},
                      {"floor", "one value throughout", 1.0 / keys(), "values are uniform"},
                      {"ceiling", "looks the keys up", 1, "exact"}};
    add_mad_scores(out.references, column);
    out.marks = {"label", {"recall"}};
    return out;
  }

 private:
  // Pair i repeats a key unless it is noise or none of the i pairs before it had that key.
  double recalls() const {
    const int pairs = length / 2;
    double sum = 0;
    for (int i = 0; i < pairs; ++i) sum += (1 - noise) * (1 - std::pow(1 - (1 - noise) / keys(), i));
    return sum / pairs;
  }
};

}  // namespace ssm
