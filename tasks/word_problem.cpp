// word_problem.cpp - the running product of group elements: the test of state tracking of Merrill et al., on three groups of order 60.
//
//   tokens = begin, g_1 .. g_n uniform, n uniform in min_length..length;  target at i = g_1 g_2 .. g_i
//
// Z60 is abelian, A4xZ5 solvable, A5 and S5 are not. Ids: 0 padding, 1 begin, 2.. the elements; element 0 is the identity.
#include <map>
#include <numeric>

#include "recipe_task.hpp"

namespace ssm::word_problem {

namespace {

using Permutation = std::vector<int>;

struct Group {
  int order;
  std::vector<std::int32_t> product;  // (order, order): of a and then b
};

// All products of `generators`, the identity first.
Group generated_by(const std::vector<Permutation>& generators) {
  Permutation identity(generators[0].size());
  std::iota(identity.begin(), identity.end(), 0);
  std::vector<Permutation> all = {identity};
  std::map<Permutation, std::int32_t> index = {{identity, 0}};
  const auto then = [](const Permutation& a, const Permutation& b) {
    Permutation c(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) c[i] = b[at(a[i])];
    return c;
  };
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const Permutation& g : generators)
      if (const Permutation c = then(all[i], g); index.emplace(c, static_cast<std::int32_t>(all.size())).second) all.push_back(c);
  Group out{static_cast<int>(all.size()), {}};
  for (const Permutation& a : all)
    for (const Permutation& b : all) out.product.push_back(index.at(then(a, b)));
  return out;
}

// Cycles on 12 points.
Permutation cycles(const std::vector<std::vector<int>>& list) {
  Permutation p(12);
  std::iota(p.begin(), p.end(), 0);
  for (const auto& c : list)
    for (std::size_t i = 0; i < c.size(); ++i) p[at(c[i])] = c[(i + 1) % c.size()];
  return p;
}

Group group_called(const std::string& name) {
  const std::vector<int> five = {7, 8, 9, 10, 11};
  if (name == "Z60") return generated_by({cycles({{0, 1, 2}, {3, 4, 5, 6}, five})});
  if (name == "A4xZ5") return generated_by({cycles({{0, 1, 2}}), cycles({{0, 1}, {2, 3}}), cycles({five})});
  if (name == "A5") return generated_by({cycles({{0, 1, 2}}), cycles({{0, 1, 2, 3, 4}})});
  return generated_by({cycles({{0, 1}}), cycles({{0, 1, 2, 3, 4}})});
}

}  // namespace

struct Recipe {
  Origin from;
  int length, min_length, order;
  const std::int32_t* product;  // (order, order)

  template <class Upload>
  void tables(const Upload& upload) {
    upload(product, order * order);
  }
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    int n;
    std::uint64_t hash;
    do {
      n = min_length + draws.below(length - min_length + 1);
      page.tokens[0] = 1;
      hash = hash_on(kNoContent, 1);
      for (int i = 1; i <= n; ++i) {
        page.tokens[i] = 2 + draws.below(order);
        hash = hash_on(hash, page.tokens[i]);
      }
    } while (!from.mine(hash));
    page.targets[0] = -1;
    if (page.marks) page.marks[0] = -1;
    std::int32_t all = 0, octave = 0;
    for (int i = 1; i <= n; ++i) {
      page.targets[i] = all = product[all * order + page.tokens[i] - 2];
      octave += i >= 2 << octave;
      if (page.marks) page.marks[i] = octave;
    }
    if (page.slices) page.slices[0] = octave_at(n, 1);
    page.length = n + 1;
  }
};

struct WordProblem final : RecipeTask<WordProblem> {
  std::string group = "A5";
  int length = 20, min_length = 2;
  Group g{60, {}};

  void knobs(Knobs& k) override {
    k("group", group, {"Z60", "A4xZ5", "A5", "S5"}).note("abelian, solvable, not solvable, not solvable of order 120");
    k("length", length, {8, 20, 32, 100}).range(1, 1 << 16).note("most elements (k)");
    k("min_length", min_length).range(1, 1 << 16).note("fewest elements; as long as length: the strict mode but for length 2");
    size_knobs(k);
  }
  void check() override {
    if (min_length > length) refuse("min_length", std::to_string(min_length), "above length = " + std::to_string(length));
    need_contents("length", length, length * std::log2(order()));
    g = group_called(group);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = order() + 2;
    out.classes = order();
    out.max_length = length + 1;
    out.about = "running product in a group (Z60, A4xZ5, A5, S5): state tracking; report the fewest layers that reach .9 per sequence";
    out.references = {{"chance", "uniform guess", 1.0 / order(), "1 / order"},
                      {"floor", "the last element", last_element(), "right at the first position, else 1 / order; mean over sequences"},
                      {"ceiling", "multiplies", 1, "exact"}};
    out.slices = {{"length", octaves(1, length)}};
    out.marks = {"position", octaves(1, length)};
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, min_length, g.order, g.product.data()}; }
  Layout layout() const { return {.length = length + 1, .positions = true, .marks = true, .slices = 1}; }

  std::vector<Statistic> statistics() const override {
    const double few = min_length > 2 ? 0 : 1.0 / (length - min_length + 1);  // short words lie unevenly in the splits
    return {{"oracle: multiplies", 1, 0,
             [this](const Example& e) {
               int all = 0;
               return token_accuracy(e, [&](std::size_t t) { return all = g.product[at(all * g.order + e.tokens[t] - 2)]; });
             }},
            {"shortcut: the last element", last_element(), few * .1,
             [](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return e.tokens[t] - 2; }); }},
            {"length", (length + min_length) / 2., few * length, [](const Example& e) { return static_cast<double>(e.tokens.size() - 1); }},
            {"the whole product is the identity", 1.0 / order(), 0, [](const Example& e) { return double(e.targets.back() == 0); }}};
  }

  std::string show(const Example& e) const override {
    std::string out = group + ':';
    for (std::size_t i = 1; i < e.tokens.size(); ++i) out += ' ' + std::to_string(e.tokens[i] - 2);
    out += " ->";
    for (std::size_t i = 1; i < e.targets.size(); ++i) out += ' ' + std::to_string(e.targets[i]);
    return out;
  }

 private:
  int order() const { return group == "S5" ? 120 : 60; }
  double last_element() const {
    double sum = 0;
    for (int n = min_length; n <= length; ++n) sum += (1 + (n - 1.0) / order()) / n;
    return sum / (length - min_length + 1);
  }
};
SSM_TASK(WordProblem, "word_problem");

}  // namespace ssm::word_problem
