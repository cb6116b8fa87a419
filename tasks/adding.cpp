// adding.cpp - the adding problem: the sum of the two marked values of a long sequence.
//
//   features (length, 2): a uniform value in [0, 1) and a marker, 1 at one uniform place of either half, else 0
//   value = the sum of the two marked values
#include "generated.hpp"

namespace ssm::adding {

struct Adding final : GeneratedTask {
  int length = 1000;

  void knobs(Knobs& k) override {
    k("length", length, {100, 1000}).range(8, 1 << 22).note("positions");
    size_knobs(k);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::regression;
    out.features = 2;
    out.classes = 1;
    out.max_length = length;
    out.pooling = "last";
    out.metric = "mse";
    out.about = "the sum of the two marked values of a sequence (adding problem); solved below 0.01";
    out.references = {{"chance", "always 1", 1 / 6., "variance of the sum of two uniform numbers"},
                      {"floor", "knows one of the two", 1 / 12., "variance of a uniform number"},
                      {"ceiling", "adds them", 0, "exact"}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    Rng rng = keyed_draws(split, index);
    out.clear();
    out.features.assign(at(2 * length), 0);
    for (int t = 0; t < length; ++t) out.features[at(2 * t)] = static_cast<float>(rng.u32() >> 8) * 0x1p-24f;
    const int half = length / 2, first = below(rng, half), second = half + below(rng, length - half);
    out.features[at(2 * first + 1)] = out.features[at(2 * second + 1)] = 1;
    out.values = {out.features[at(2 * first)] + out.features[at(2 * second)]};
  }

  std::vector<Statistic> statistics() const override {
    const auto square = [](double x) { return x * x; };
    const auto marked = [](const Example& e, bool from_back) {
      for (std::size_t i = 1; i < e.features.size(); i += 2)
        if (const std::size_t k = from_back ? e.features.size() - i : i; e.features[k] > 0) return static_cast<double>(e.features[k - 1]);
      return -1.0;
    };
    return {
        {"oracle: adds the marked values, squared error", 0, 1e-12,
         [=](const Example& e) { return square(marked(e, false) + marked(e, true) - static_cast<double>(e.values[0])); }},
        {"shortcut: always 1, squared error", 1 / 6., 0, [=](const Example& e) { return square(static_cast<double>(e.values[0]) - 1); }},
        {"shortcut: the first marked value and .5, squared error", 1 / 12., 0,
         [=](const Example& e) { return square(marked(e, false) + .5 - static_cast<double>(e.values[0])); }},
        {"markers", 2, 0,
         [](const Example& e) {
           double n = 0;
           for (std::size_t i = 1; i < e.features.size(); i += 2) n += static_cast<double>(e.features[i]);
           return n;
         }},
        {"mean of all values", .5, 0, [this](const Example& e) {
           double sum = 0;
           for (std::size_t i = 0; i < e.features.size(); i += 2) sum += static_cast<double>(e.features[i]) / length;
           return sum;
         }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (std::size_t i = 0; i < e.features.size(); i += 2)
      if (e.features[i + 1] > 0) out += "position " + std::to_string(i / 2) + ": " + number_text(static_cast<double>(e.features[i])) + "  ";
    return out + "-> " + number_text(static_cast<double>(e.values[0]));
  }
};
SSM_TASK(Adding, "adding");

}  // namespace ssm::adding
