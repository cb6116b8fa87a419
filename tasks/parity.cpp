// parity.cpp - the running exclusive-or of a sequence of bits: the least state tracking there is.
//
//   tokens = n uniform bits (ids 1, 2), n uniform in min_length..length;  target at t = parity of the bits up to t (or only the last one)
//
// Train at length 40 (the Chomsky-hierarchy protocol) and test at longer ones: set min_length above the training length. Lengths whose
// few contents belong to another split are drawn again, so below 8 bits a split sees some lengths less often.
#include "recipe_task.hpp"

namespace ssm::parity {

struct Recipe {
  Origin from;
  int length, min_length;
  bool last_only;

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    int n;
    std::uint64_t hash;
    do {
      hash = kNoContent;
      n = min_length + draws.below(length - min_length + 1);
      std::uint32_t bits = 0;
      for (int t = 0; t < n; ++t, bits >>= 1) {
        if (t % 32 == 0) bits = draws.u32();
        page.tokens[t] = 1 + static_cast<int>(bits & 1);
        hash = hash_on(hash, page.tokens[t]);
      }
    } while (!from.mine(hash));
    std::int32_t sum = 0;
    for (int t = 0; t < n; ++t) {
      sum ^= page.tokens[t] - 1;
      page.targets[t] = last_only && t + 1 < n ? -1 : sum;
    }
    if (page.slices) page.slices[0] = octave_at(n, 1);
    page.length = n;
  }
};

struct Parity final : RecipeTask<Parity> {
  int length = 40, min_length = 1;
  std::string labels = "all";

  void knobs(Knobs& k) override {
    k("length", length, {40, 100, 256}).range(1, 1 << 20).note("longest sequence");
    k("min_length", min_length).range(1, 1 << 20).note("shortest sequence");
    k("labels", labels, {"all", "last"}).note("label every position, or the last alone");
    size_knobs(k);
  }
  void check() override {
    if (min_length > length) refuse("min_length", std::to_string(min_length), "above length = " + std::to_string(length));
    need_contents("length", length, length);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = 3;
    out.classes = 2;
    out.max_length = length;
    out.about = "running parity of bits; train short, test long; (accuracy - .5) / .5 is the scaled accuracy of the literature";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"},
                      {"floor", "the last bit", last_bit(), "1/2, and 1 at the first position"},
                      {"ceiling", "counts", 1, "exact"}};
    const std::pair<const char*, double> scaled[] = {{"Transformer", .022},  {"mLSTM", .087},      {"sLSTM", 1},
                                                     {"Mamba, [0,1]", 0},    {"Mamba, [-1,1]", 1}, {"DeltaNet, [0,1]", .017},
                                                     {"DeltaNet, [-1,1]", 1}};
    if (min_length == 40 && length == 256)
      for (const auto& [label, value] : scaled)
        out.references.push_back(
            {"published", label, .5 + .5 * value, "Grazzi et al., trained at 3-40, best of 3; scaled accuracy / 2 + 1/2"});
    const std::pair<const char*, double> later[] = {{"Mamba-2", .009}, {"Mamba-3", 1}, {"Gated DeltaNet, [-1,1]", 1}};
    if (min_length == 40 && length == 256)
      for (const auto& [label, value] : later)
        out.references.push_back({"published", label, .5 + .5 * value, "Mamba-3 paper; scaled accuracy / 2 + 1/2"});
    out.slices = {{"length", octaves(1, length)}};
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, min_length, labels == "last"}; }
  Layout layout() const { return {.length = length, .positions = true, .slices = 1}; }

  std::vector<Statistic> statistics() const override {
    return {{"oracle: counts the ones", 1, 0,
             [](const Example& e) {
               return token_accuracy(
                   e, [&](std::size_t t) { return std::count(e.tokens.begin(), e.tokens.begin() + std::ptrdiff_t(t) + 1, 2) % 2; });
             }},
            {"shortcut: the last bit", last_bit(), few_contents(),
             [](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return e.tokens[t] - 1; }); }},
            {"length", (length + min_length) / 2., few_contents() * length, [](const Example& e) { return double(e.tokens.size()); }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t == 2 ? '1' : '0';
    out += " -> ";
    for (const std::int32_t t : e.targets) out += t < 0 ? '.' : t ? '1' : '0';
    return out;
  }

 private:
  // Mean over sequences: 1/2, and 1 at the first of the n positions when all are labelled (or when n = 1).
  double last_bit() const {
    double sum = 0;
    for (int n = min_length; n <= length; ++n) sum += .5 + (labels == "all" ? .5 / n : n == 1 ? .5 : 0);
    return sum / (length - min_length + 1);
  }
  // Up to 4 lengths of fewer than 32 contents lie unevenly in the splits.
  double few_contents() const { return min_length > 4 ? 0 : 3. / (length - min_length + 1); }
};
SSM_TASK(Parity, "parity");

}  // namespace ssm::parity
