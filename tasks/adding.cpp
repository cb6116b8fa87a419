// adding.cpp - the adding problem: the sum of the two marked values of a long sequence.
//
//   features (length, 2): a uniform value in [0, 1) and a marker, 1 at one uniform place of either half, else 0
//   value = the sum of the two marked values
#include "recipe_task.hpp"

namespace ssm::adding {

struct Recipe {
  Origin from;
  int length;

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    using Value = typename P::Value;
    Draws draws = from.keyed_draws(index);
    for (int t = 0; t < length; ++t) {
      page.features[2 * t] = static_cast<Value>(draws.u32() >> 8) * static_cast<Value>(0x1p-24);
      page.features[2 * t + 1] = 0;
    }
    const int half = length / 2, first = draws.below(half), second = half + draws.below(length - half);
    page.features[2 * first + 1] = page.features[2 * second + 1] = 1;
    page.values[0] = static_cast<float>(page.features[2 * first]) + static_cast<float>(page.features[2 * second]);
    page.length = length;
  }
};

struct Adding final : RecipeTask<Adding> {
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

  Recipe recipe(Split split) const { return {origin(split), length}; }
  Layout layout() const { return {.length = length, .features = 2, .values = 1}; }

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
