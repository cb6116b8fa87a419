// mqar.cpp - multi-query associative recall (Zoology): many keys of one context are asked for again, early ones more often.
//
//   tokens  = k_1 v_1 .. k_n v_n, then (length - 2 n) / 2 slots of two positions; every key stands once more at the first position of a
//             slot g = 0, 1, .. drawn without replacement with probability proportional to (g + 1)^(power - 1)
//   targets = the value of the key where it is seen again, -1 elsewhere (the value itself is not shown)
//
// Keys are different ids of the lower half of the vocabulary, values different ids of the upper half. As published (multiquery_ar.py of
// the zoology repository) but that filler is id 1 where theirs is 0, which is padding here; keys start at 2. `filler = random` draws it
// from the whole vocabulary, so that it can collide with keys.
#include "generated.hpp"

namespace ssm::mqar {

namespace {

// Accuracy at width 64, 128, 256, 512, best learning rate, read off figure 2 by eye (+-0.02).
struct Row {
  int length, pairs;
  const char* label;
  double width[4];
};
constexpr Row published[] = {{64, 4, "attention", {1, 1, 1, 1}},
                             {64, 4, "H3", {.93, 1, .99, .98}},
                             {64, 4, "BaseConv", {.70, .94, .97, 1}},
                             {64, 4, "RWKV-4", {.76, .94, .97, .98}},
                             {64, 4, "Hyena", {.52, .75, .84, .87}},
                             {128, 8, "attention", {1, 1, 1, 1}},
                             {128, 8, "H3", {.25, .74, .92, .76}},
                             {128, 8, "BaseConv", {.37, .61, .84, .96}},
                             {128, 8, "RWKV-4", {.18, .50, .76, .93}},
                             {128, 8, "Hyena", {.18, .64, .73, .84}},
                             {256, 16, "attention", {1, 1, 1, 1}},
                             {256, 16, "H3", {.08, .64, .62, .67}},
                             {256, 16, "BaseConv", {.14, .33, .81, .94}},
                             {256, 16, "RWKV-4", {.05, .06, .68, .79}},
                             {256, 16, "Hyena", {.05, .13, .53, .69}},
                             {512, 64, "attention", {0, 0, 0, 1}},
                             {512, 64, "H3", {0, 0, 0, .09}},
                             {512, 64, "BaseConv", {0, 0, 0, .71}},
                             {512, 64, "RWKV-4", {0, 0, 0, .37}},
                             {512, 64, "Hyena", {0, 0, 0, .17}}};

constexpr std::int32_t blank = 1, first_key = 2;

}  // namespace

struct Mqar final : GeneratedTask {
  int vocabulary = 8192, pairs = 8, min_pairs = 0, length = 128, min_length = 0;
  double power = .01;
  std::string filler = "blank";

  void knobs(Knobs& k) override {
    k("length", length, {64, 128, 256, 512, 1024}).range(8, 1 << 20).note("tokens of a sequence");
    k("pairs", pairs, {4, 8, 16, 64}).range(1, 1 << 18).note("key-value pairs (kv); 4 pairs <= length");
    k("min_length", min_length).range(0, 1 << 20).note("above 0: length, length/2, .. down to this one, equally likely");
    k("min_pairs", min_pairs).range(0, 1 << 18).note("above 0: pairs, pairs/2, .. down to this one, equally likely");
    k("vocabulary", vocabulary, {8192}).range(16, 1 << 24).note("ids; lower half keys, upper half values");
    k("power", power, {.01}).range(0, 4).note("exponent a: slot g is drawn with probability proportional to (g+1)^(a-1)");
    k("filler", filler, {"blank", "random"}).note("what stands between the queries", "figure 2 of the paper used blanks");
    size_knobs(k);
  }

  void check() override {
    const int shortest = lengths().back();
    if (4 * pairs > shortest) refuse("pairs", std::to_string(pairs), "4 pairs must fit into the length " + std::to_string(shortest));
    if (4 * pairs > vocabulary - 4) refuse("vocabulary", std::to_string(vocabulary), "at least 4 pairs + 4 ids are needed");
    need_contents("pairs", counts().back(), 2 * counts().back() * std::log2(vocabulary / 4));
    stretch.clear();
    for (int g = 0; g < length / 2; ++g) stretch.push_back(std::pow(g + 1, 1 - power));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = vocabulary;
    out.classes = vocabulary / 2;
    out.max_length = length;
    out.about = "multi-query associative recall (Zoology): the value of every key that is seen again";
    out.references = {{"chance", "uniform guess", 2.0 / vocabulary, "1 / values"},
                      {"floor", "some value of the context", floor(), "1 / pairs, averaged over labels"},
                      {"ceiling", "looks every key up", 1, "exact"}};
    for (const Row& row : published)
      if (row.length == length && row.pairs == pairs && lengths().size() * counts().size() == 1)
        for (std::size_t w = 0; w < 4; ++w)
          if (row.width[w] > 0)
            out.references.push_back({"published", row.label + std::string(", width ") + std::to_string(64 << w), row.width[w],
                                      "Zoology paper, figure 2, read by eye (+-0.02)"});
    out.slices = {{"pairs", {}}, {"length", {}}};
    for (const int n : counts()) out.slices[0].labels.push_back(std::to_string(n));
    for (const int T : lengths()) out.slices[1].labels.push_back(std::to_string(T));
    out.marks = {"gap", octaves(2, length)};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    static thread_local std::vector<std::int32_t> keys, values;
    static thread_local std::vector<std::pair<double, int>> slots;
    Rng rng = draws(split, index);
    out.clear();
    const int p = min_pairs ? below(rng, static_cast<int>(counts().size())) : 0, n = pairs >> p;
    const int l = min_length ? below(rng, static_cast<int>(lengths().size())) : 0, T = length >> l;
    const int half = vocabulary / 2;
    do {
      different(rng, half - first_key, n, keys);
      different(rng, half, n, values);
    } while (!belongs(content_hash(values, content_hash(keys)), split));

    out.tokens.assign(at(T), blank), out.targets.assign(at(T), -1), out.marks.assign(at(T), -1);
    if (filler == "random")
      for (int t = 2 * n; t < T; ++t) out.tokens[at(t)] = 1 + below(rng, vocabulary - 1);
    // The n smallest of exponential times of rate (g+1)^(a-1), in order, are n draws without replacement (Efraimidis and Spirakis 2006).
    slots.resize(at((T - 2 * n) / 2));
    for (std::size_t g = 0; g < slots.size(); ++g) slots[g] = {-std::log((rng.u32() + .5) * 0x1p-32) * stretch[g], static_cast<int>(g)};
    std::partial_sort(slots.begin(), slots.begin() + n, slots.end());
    for (int i = 0; i < n; ++i) {
      out.tokens[at(2 * i)] = first_key + keys[at(i)];
      out.tokens[at(2 * i + 1)] = half + values[at(i)];
      const int t = 2 * n + 2 * slots[at(i)].second;
      out.tokens[at(t)] = first_key + keys[at(i)];
      out.targets[at(t)] = values[at(i)];
      out.marks[at(t)] = octave_of(t - 2 * i, 2);
    }
    out.slices = {p, l};
  }

  std::vector<Statistic> statistics() const override {
    double inverse = 0;
    for (const int n : counts()) inverse += 1.0 / n / static_cast<double>(counts().size());
    const int half = vocabulary / 2;
    return {{"oracle: looks every key up", 1, 0,
             [this, half](const Example& e) {
               const auto end = e.tokens.begin() + 2 * (pairs >> e.slices[0]);
               return token_accuracy(e, [&](std::size_t t) { return std::find(e.tokens.begin(), end, e.tokens[t])[1] - half; });
             }},
            {"shortcut: the first value", inverse, 0,
             [half](const Example& e) { return token_accuracy(e, [&](std::size_t) { return e.tokens[1] - half; }); }},
            {"queries in the first quarter of the slots (.51 to .63)", .57, .06, [this](const Example& e) {
               const std::size_t begin = at(2 * (pairs >> e.slices[0])), T = e.tokens.size();
               double labels = 0, early = 0;
               for (std::size_t t = begin; t < T; ++t)
                 if (e.targets[t] >= 0) ++labels, early += t < begin + (T - begin) / 4;
               return early / labels;
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out, answers;
    for (std::size_t t = 0; t < e.tokens.size(); ++t) {
      const int id = e.tokens[t];
      out += id == blank ? ". " : id < vocabulary / 2 ? "k" + std::to_string(id) + ' ' : "v" + std::to_string(id) + ' ';
      if (e.targets[t] >= 0) answers += " v" + std::to_string(vocabulary / 2 + e.targets[t]);
    }
    return out + "->" + answers;
  }

 private:
  std::vector<double> stretch;  // (g+1)^(1-a): the mean waiting time of slot g

  static std::vector<int> halvings(int from, int down_to) {
    std::vector<int> out = {from};
    while (down_to > 0 && out.back() / 2 >= down_to) out.push_back(out.back() / 2);
    return out;
  }
  std::vector<int> lengths() const { return halvings(length, min_length); }
  std::vector<int> counts() const { return halvings(pairs, min_pairs); }
  // Answering with one value of the context is right once a sequence.
  double floor() const {
    double labels = 0;
    for (const int n : counts()) labels += n;
    return static_cast<double>(counts().size()) / labels;
  }
};
SSM_TASK(Mqar, "mqar");

}  // namespace ssm::mqar
