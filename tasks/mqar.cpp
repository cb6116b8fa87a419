// mqar.cpp - multi-query associative recall (Zoology): many keys of one context are asked for again, early ones more often.
//
//   tokens  = k_1 v_1 .. k_n v_n, then (length - 2 n) / 2 slots of two positions; every key stands once more at the first position of a
//             slot g = 0, 1, .. drawn without replacement with probability proportional to (g + 1)^(power - 1)
//   targets = the value of the key where it is seen again, -1 elsewhere (the value itself is not shown)
//
// Keys are different ids of the lower half of the vocabulary, values different ids of the upper half. As published (multiquery_ar.py of
// the zoology repository) but that filler is id 1 where theirs is 0, which is padding here; keys start at 2. `filler = random` draws it
// from the whole vocabulary, so that it can collide with keys.
#include <cstring>

#include "recipe_task.hpp"

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

// -log((u + 1/2) / 2^32) to 1e-15 by fused multiply-adds alone, hence with the same bits on every machine.
SSM_FN double waiting_time(std::uint32_t u) {
  const double x = 2.0 * u + 1;  // = m 2^exponent, m in [1/2, 1)
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  int exponent = static_cast<int>(bits >> 52) - 1022;
  bits = (bits & 0xfffffffffffffull) | std::uint64_t{1022} << 52;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  if (m < 0.70710678118654752) m *= 2, --exponent;
  const double f = (m - 1) / (m + 1), s = f * f;
  double sum = 1.0 / 19;  // log m = 2 (f + f^3/3 + f^5/5 ..)
  for (int k = 17; k > 0; k -= 2) sum = ::fma(sum, s, 1.0 / k);
  return ::fma(33.0 - exponent, 0.69314718055994531, -(2 * f * sum));
}

struct Slot {
  double time;
  std::int32_t g, unused;
  SSM_FN bool before(const Slot& other) const { return time < other.time || (time == other.time && g < other.g); }
};

// Puts `s` into the place `i` of a heap of n slots, the latest on top, whose entry there may be overwritten, and mends the part below.
SSM_FN void sift(Slot* heap, int n, int i, const Slot s) {
  for (int child = 2 * i + 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && heap[child].before(heap[child + 1])) ++child;
    if (!s.before(heap[child])) break;
    heap[i] = heap[child], i = child;
  }
  heap[i] = s;
}

struct Recipe {
  Origin from;
  int vocabulary, pairs, length, pair_choices, length_choices;  // 0: nothing to choose
  bool random_filler;
  const double* stretch;  // (length / 2): (g+1)^(1-a), the mean waiting time of slot g

  template <class Upload>
  void tables(const Upload& upload) {
    upload(stretch, length / 2);
  }
  Index scratch() const { return pairs * (static_cast<Index>(sizeof(Slot)) + 8) + NumberSet::bytes(vocabulary / 2); }

  // Scratch: chosen slots, keys, values, a set.
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    const int p = pair_choices > 0 ? draws.below(pair_choices) : 0, n = pairs >> p;
    const int l = length_choices > 0 ? draws.below(length_choices) : 0, T = length >> l;
    const int half = vocabulary / 2;
    auto* heap = reinterpret_cast<Slot*>(page.scratch);
    auto* keys = reinterpret_cast<std::int32_t*>(heap + pairs);
    std::int32_t* values = keys + pairs;
    const NumberSet used{reinterpret_cast<std::uint32_t*>(values + pairs)};
    std::uint64_t hash;
    do {
      different(draws, half - first_key, n, used, keys);
      different(draws, half, n, used, values);
      hash = kNoContent;
      for (int i = 0; i < n; ++i) hash = hash_on(hash, keys[i]);
      for (int i = 0; i < n; ++i) hash = hash_on(hash, values[i]);
    } while (!from.mine(hash));

    for (int t = 0; t < T; ++t) {
      page.tokens[t] = random_filler && t >= 2 * n ? 1 + draws.below(vocabulary - 1) : blank;
      page.targets[t] = -1;
      if (page.marks) page.marks[t] = -1;
    }
    // The n smallest of exponential times of rate (g+1)^(a-1), in order, are n draws without replacement (Efraimidis and Spirakis 2006).
    const int slots = (T - 2 * n) / 2;
    for (int g = 0; g < slots; ++g) {
      const std::uint32_t u = draws.u32();
      // -log x >= 1 - x: most slots are too late without a logarithm
      if (g >= n && (4294967295.0 - u) * 0x1p-32 * stretch[g] > heap[0].time) continue;
      const Slot s{waiting_time(u) * stretch[g], g, 0};
      if (g < n) heap[g] = s;
      if (g == n - 1)
        for (int i = n / 2; i-- > 0;) sift(heap, n, i, heap[i]);
      if (g >= n && s.before(heap[0])) sift(heap, n, 0, s);
    }
    for (int size = n - 1; size > 0; --size) {
      const Slot s = heap[size];
      heap[size] = heap[0];
      sift(heap, size, 0, s);
    }
    for (int i = 0; i < n; ++i) {
      page.tokens[2 * i] = first_key + keys[i];
      page.tokens[2 * i + 1] = half + values[i];
      const int t = 2 * n + 2 * heap[i].g;
      page.tokens[t] = first_key + keys[i];
      page.targets[t] = values[i];
      if (page.marks) page.marks[t] = octave_at(t - 2 * i, 2);
    }
    if (page.slices) page.slices[0] = p, page.slices[1] = l;
    page.length = T;
  }
};

struct Mqar final : RecipeTask<Mqar> {
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
    pair_choices = min_pairs ? static_cast<int>(counts().size()) : 0, length_choices = min_length ? static_cast<int>(lengths().size()) : 0;
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

  Recipe recipe(Split split) const {
    return {origin(split), vocabulary, pairs, length, pair_choices, length_choices, filler == "random", stretch.data()};
  }
  Layout layout() const {
    return {.length = length, .positions = true, .marks = true, .slices = 2, .scratch = recipe(Split::train).scratch()};
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
  std::vector<double> stretch;
  int pair_choices = 0, length_choices = 0;

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
