// mad_memorisation.cpp - MAD's memorisation: a fixed map from keys to values that only the parameters can hold.
//
//   tokens = key, insert, key, insert, ..   target at every insert = the value of the key in front of it
//
// The map is the same in all splits and under all seeds: that is the task; the sequences of the splits differ. Ids: 0 padding, 1.. keys
// (vocabulary / 2), last the insert token. The values are vocabulary / 2 classes.
#include "mad.hpp"

namespace ssm::mad_memorisation {

struct Recipe {
  Origin from;
  int length, keys;
  const std::int32_t* map;  // (keys)

  template <class Upload>
  void tables(const Upload& upload) {
    upload(map, keys);
  }
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    std::uint64_t hash;
    do {
      hash = kNoContent;
      for (int t = 0; t < length; t += 2) {
        const int key = draws.below(keys);
        page.tokens[t] = 1 + key, page.tokens[t + 1] = keys + 1;
        page.targets[t] = -1, page.targets[t + 1] = map[key];
        hash = hash_on(hash_on(hash, page.tokens[t]), page.tokens[t + 1]);
      }
    } while (!from.mine(hash));
    page.length = length;
  }
};

struct MadMemorisation final : RecipeTask<MadMemorisation> {
  int vocabulary = 256, length = 32;
  std::vector<std::int32_t> map;

  MadMemorisation() { train_size = 256, validation_size = test_size = 1280; }

  void knobs(Knobs& k) override {
    k("vocabulary", vocabulary, {256, 512, 1024, 2048, 4096, 8192}).range(4, 1 << 20).note("keys and values, half each");
    k("length", length, {32}).range(2, 1 << 16).note("tokens");
    size_knobs(k);
  }
  void check() override {
    if (length % 2) refuse("length", std::to_string(length), "it must be even");
    const int pairs = length / 2, keys = vocabulary / 2;
    need_contents("length", length, pairs * std::log2(keys));
    constexpr std::uint64_t seed_of_mad = 12345;
    Rng rng(seed_of_mad, hash_name("mad_memorisation/map"), 0);
    map.resize(at(vocabulary / 2));
    for (std::int32_t& value : map) value = below(rng, vocabulary / 2);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = vocabulary / 2 + 2;
    out.classes = vocabulary / 2;
    out.max_length = length;
    out.about = "a fixed key-value map that only parameters can hold (MAD: memorisation)";
    out.references = {{"chance", "uniform guess", 2.0 / vocabulary, "1 / values"},
                      {"floor", "the commonest value throughout", commonest().second, "its share of the map"},
                      {"ceiling", "knows the map", 1, "exact"}};
    add_mad_scores(out.references, &MadScores::memorisation);
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, vocabulary / 2, map.data()}; }
  Layout layout() const { return {.length = length, .positions = true}; }

  std::vector<Statistic> statistics() const override {
    const int keys = vocabulary / 2;
    return {{"oracle: knows the map", 1, 0,
             [this](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return map[at(e.tokens[t - 1] - 1)]; }); }},
            {"shortcut: the commonest value throughout", commonest().second, 0,
             [value = commonest().first](const Example& e) { return token_accuracy(e, [=](std::size_t) { return value; }); }},
            {"key", (keys + 1) / 2., 0, [](const Example& e) { return double(e.tokens[0]); }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (std::size_t t = 0; t < e.tokens.size(); t += 2)
      out += 'k' + std::to_string(e.tokens[t] - 1) + " -> v" + std::to_string(e.targets[t + 1]) + "  ";
    return out;
  }

 private:
  // The value that most keys have, and the share of keys that have it; before the map is drawn value 0.
  std::pair<std::int32_t, double> commonest() const {
    std::vector<int> count(at(vocabulary / 2));
    for (const std::int32_t value : map) ++count[at(value)];
    const auto most = std::max_element(count.begin(), count.end());
    return {static_cast<std::int32_t>(most - count.begin()), map.empty() ? 2.0 / vocabulary : double(*most) / double(map.size())};
  }
};
SSM_TASK(MadMemorisation, "mad_memorisation");

}  // namespace ssm::mad_memorisation
