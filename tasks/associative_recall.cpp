// associative_recall.cpp - one query (H3, Hyena): pairs of a random map, then the trigger and a key that occurred; which value?
//
//   tokens = k_1 v_1 .. k_n v_n, trigger, key      label = the value of the key
//
// The map (every key's value, uniform) is drawn per example and the pairs from it with replacement; the queried key is uniform among
// those that occurred. Ids: 0 padding, 1.. keys, symbols/2 + 1.. values, symbols + 1 the trigger. A long example's split is decided by
// its first 64 tokens.
#include "recipe_task.hpp"

namespace ssm::associative_recall {

struct Recipe {
  Origin from;
  int length, keys;

  // Scratch: the value and the last place of every key.
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    constexpr int prefix = 64;
    Draws draws = from.draws(index);
    auto* map = reinterpret_cast<std::int32_t*>(page.scratch);
    std::int32_t* last = map + keys;
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int k = 0; k < keys; ++k) map[k] = draws.below(keys), last[k] = -1;
      int different_keys = 0;
      for (int t = 0; t < length; t += 2) {
        const int key = draws.below(keys);
        page.tokens[t] = 1 + key, page.tokens[t + 1] = 1 + keys + map[key];
        different_keys += last[key] < 0;
        last[key] = t;
      }
      int chosen = draws.below(different_keys), key = 0;
      while (last[key] < 0 || chosen-- > 0) ++key;
      page.tokens[length] = 2 * keys + 1, page.tokens[length + 1] = 1 + key;
      page.targets[0] = map[key];
      if (page.slices) page.slices[0] = octave_at(length + 1 - last[key], 2);
      for (int t = 0; t < prefix && t < length + 2; ++t) hash = hash_on(hash, page.tokens[t]);
    } while (!from.mine(hash));
    page.length = length + 2;
  }
};

struct AssociativeRecall final : RecipeTask<AssociativeRecall> {
  int length = 40, symbols = 20;

  void knobs(Knobs& k) override {
    k("length", length, {20, 40, 128, 1024}).range(8, 1 << 20).note("tokens of the pairs part; a sequence has two more");
    k("symbols", symbols, {10, 20, 30}).range(4, 1 << 16).note("ordinary symbols, half keys and half values");
    size_knobs(k);
  }
  void check() override {
    if (length % 2 || symbols % 2) refuse("length", std::to_string(length), "it must be even, as must symbols");
    need_contents("length", length, length * std::log2(symbols / 2));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = symbols + 2;
    out.classes = symbols / 2;
    out.max_length = length + 2;
    out.pooling = "last";
    out.about = "which value went with this key (associative recall of H3 and Hyena)";
    out.references = {{"chance", "uniform guess", 2.0 / symbols, "1 / values"},
                      {"floor", "the last value", last_value(), "exact, from the number of different keys that occur"},
                      {"ceiling", "looks it up", 1, "exact"}};
    const std::pair<const char*, double> h3[] = {{"GSS", .78}, {"S4D", .86}, {"H3", .998}, {"attention", 1}};
    const std::pair<const char*, double> hyena[] = {{"GSS", .001}, {"H3", .006}, {"AFT", .008}, {"RWKV", .023}, {"Hyena", .972}};
    if (length == 40 && symbols == 20)
      for (const auto& [label, value] : h3) out.references.push_back({"published", label, value, "H3 paper, synthetic tasks"});
    if (length >= 131000 && length <= 131072 && symbols == 30)
      for (const auto& [label, value] : hyena) out.references.push_back({"published", label, value, "Hyena paper, length 131k"});
    out.slices = {{"gap", octaves(2, length + 2)}};
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, symbols / 2}; }
  Layout layout() const { return {.length = length + 2, .slices = 1, .scratch = 4 * Index{symbols}}; }

  std::vector<Statistic> statistics() const override {
    const int keys = symbols / 2;
    return {{"oracle: looks the key up", 1, 0,
             [=](const Example& e) {
               std::size_t t = 0;
               while (e.tokens[t] != e.tokens.back()) t += 2;
               return double(e.tokens[t + 1] - 1 - keys == e.targets[0]);
             }},
            {"shortcut: the last value", last_value(), 0,
             [=](const Example& e) { return double(e.tokens[e.tokens.size() - 3] - 1 - keys == e.targets[0]); }},
            {"the value is the first one", 1.0 / keys, 0, [](const Example& e) { return double(e.targets[0] == 0); }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens)
      out += t > symbols ? "? " : t > symbols / 2 ? "v" + std::to_string(t - 1 - symbols / 2) + ' ' : "k" + std::to_string(t - 1) + ' ';
    return out + "-> v" + std::to_string(e.targets[0]);
  }

 private:
  // P(answer = value of the last pair) = q + (1 - q) / values, q = E[1 / number of different keys]: the query is the last key or another.
  double last_value() const {
    const int keys = symbols / 2;
    std::vector<double> p(at(keys + 1));  // p[d]: d different keys so far
    p[0] = 1;
    for (int i = 0; i < std::min(length / 2, 50 * keys); ++i)
      for (int d = keys; d >= 0; --d) p[at(d)] = p[at(d)] * d / keys + (d ? p[at(d - 1)] * (keys - d + 1) / keys : 0);
    double q = 0;
    for (int d = 1; d <= keys; ++d) q += p[at(d)] / d;
    return q + (1 - q) / keys;
  }
};
SSM_TASK(AssociativeRecall, "associative_recall");

}  // namespace ssm::associative_recall
