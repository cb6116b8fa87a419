// modular_arithmetic.cpp - the value of an expression modulo 5 (the Chomsky-hierarchy tasks): without brackets regular, with context-free.
//
//   no brackets:   digits and + - * in turn, multiplication first; odd lengths
//   with brackets: n = 1 a digit, n = 2 -digit, n = 3 (digit), n = 4 (-digit), n >= 5 (left op right), the length of left uniform
//   tokens = the expression and =      label = its value
//
// Ids: 0 padding, 1.. digits, then + - * ( ) =
#include "recipe_task.hpp"

namespace ssm::modular_arithmetic {

// How a value is made: plus, minus, times of two numbers modulo m.
SSM_FN int applied(int op, int a, int b, int m) { return op == 0 ? (a + b) % m : op == 1 ? (a - b + m) % m : a * b % m; }

struct Recipe {
  Origin from;
  int length, min_length, modulus;
  bool brackets;

  template <class P>
  struct Writer {
    Draws draws;
    P& page;
    int modulus, size = 0;
    std::uint64_t hash = kNoContent;
    SSM_FN void put(std::int32_t token) {
      page.tokens[size++] = token;
      hash = hash_on(hash, token);
    }
    SSM_FN void sign(int k) { put(modulus + 1 + k); }  // + - * ( ) =
    SSM_FN int digit() {
      const int d = draws.below(modulus);
      put(1 + d);
      return d;
    }
  };

  template <class P>
  SSM_FN int flat(Writer<P>& w, int n) const {
    int sign = 1, product = w.digit();
    Index sum = 0;
    for (int i = 1; i < n; i += 2) {
      const int op = w.draws.below(3);
      w.sign(op);
      const int d = w.digit();
      if (op == 2) product = product * d % modulus;
      else sum += sign * product, sign = op == 0 ? 1 : -1, product = d;
    }
    return static_cast<int>(((sum + sign * product) % modulus + modulus) % modulus);
  }

  // What is still to be written lies on a stack in scratch: an expression of n tokens as n, an operator as -1 - op, the closing bracket of
  // a sum as -4 - op; the values of what is written lie on another.
  template <class P>
  SSM_FN int nested(Writer<P>& w, int whole) const {
    auto* todo = reinterpret_cast<std::int32_t*>(w.page.scratch);
    std::int32_t* values = todo + 4 * length;
    int open = 0, known = 0;
    todo[open++] = whole;
    while (open > 0) {
      const int n = todo[--open];
      if (n <= -4) {
        --known;
        values[known - 1] = applied(-4 - n, values[known - 1], values[known], modulus);
        w.sign(4);
      } else if (n < 0) {
        w.sign(-1 - n);
      } else if (n < 5) {
        if (n > 2) w.sign(3);
        if (n == 2 || n == 4) w.sign(1);
        const int d = w.digit();
        values[known++] = n == 2 || n == 4 ? (modulus - d) % modulus : d;
        if (n > 2) w.sign(4);
      } else {
        w.sign(3);
        const int left = 1 + w.draws.below(n - 4), op = w.draws.below(3);
        todo[open++] = -4 - op, todo[open++] = n - 3 - left, todo[open++] = -1 - op, todo[open++] = left;
      }
    }
    return values[0];
  }

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Writer<P> w{from.draws(index), page, modulus};
    int n, value;
    do {
      w.size = 0, w.hash = kNoContent;
      do n = min_length + w.draws.below(length - min_length + 1);
      while (!brackets && n % 2 == 0);
      value = brackets ? nested(w, n) : flat(w, n);
    } while (!from.mine(w.hash));
    w.sign(5);
    page.targets[0] = value;
    if (page.slices) page.slices[0] = octave_at(n, 1);
    page.length = n + 1;
  }
};

struct ModularArithmetic final : RecipeTask<ModularArithmetic> {
  int length = 39, min_length = 3, modulus = 5;
  bool brackets = false;

  void knobs(Knobs& k) override {
    k("length", length, {39, 99, 255}).range(3, 1 << 16).note("longest expression in tokens");
    k("min_length", min_length).range(1, 1 << 16).note("shortest expression");
    k("modulus", modulus, {5}).range(2, 1000).note("numbers are 0..modulus-1");
    k("brackets", brackets).note("bracketed sub-expressions", "best published: .95 of Gated DeltaNet with negative eigenvalues");
    size_knobs(k);
  }
  void check() override {
    if (min_length > length) refuse("min_length", std::to_string(min_length), "above length = " + std::to_string(length));
    if (!brackets && length % 2 == 0 && min_length == length) refuse("length", std::to_string(length), "without brackets it is odd");
    const int numbers = (length + 1) / 2;
    need_contents("length", length, numbers * std::log2(modulus));
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = 7 + modulus;
    out.classes = modulus;
    out.max_length = length + 1;
    out.pooling = "last";
    out.about = "value of an expression modulo 5 (Chomsky-hierarchy tasks); train short, test long";
    out.references = {{"chance", "uniform guess", 1.0 / modulus, "1 / modulus"},
                      {"floor", "always 0", zero_share(), "exact recursion over lengths"},
                      {"ceiling", "evaluates it", 1, "exact"}};
    if (modulus == 5 && min_length >= 40 && length >= 255) {
      const std::pair<const char*, double> plain[] = {{"Transformer", .031},     {"mLSTM", .040},         {"sLSTM", .787},
                                                      {"Mamba, [0,1]", .095},    {"Mamba, [-1,1]", .241}, {"DeltaNet, [0,1]", .314},
                                                      {"DeltaNet, [-1,1]", .971}};
      const std::pair<const char*, double> nested[] = {{"Transformer", .067},     {"mLSTM", .114},         {"sLSTM", .178},
                                                       {"Mamba, [0,1]", .123},    {"Mamba, [-1,1]", .116}, {"DeltaNet, [0,1]", .194},
                                                       {"DeltaNet, [-1,1]", .260}};
      for (const auto& [label, value] : brackets ? nested : plain)
        out.references.push_back(
            {"published", label, .2 + .8 * value, "Grazzi et al., trained at 3-40, best of 3; .2 + .8 scaled accuracy"});
      const std::tuple<const char*, double, double> later[] = {
          {"Mamba-2", .4781, .0088}, {"Mamba-3", .9851, .8775}, {"Gated DeltaNet, [-1,1]", .9925, .9350}};
      for (const auto& [label, flat, bracketed] : later)
        out.references.push_back({"published", label, .2 + .8 * (brackets ? bracketed : flat), "Mamba-3 paper; .2 + .8 scaled accuracy"});
    }
    out.slices = {{"length", octaves(1, length)}};
    return out;
  }

  Recipe recipe(Split split) const { return {origin(split), length, min_length, modulus, brackets}; }
  Layout layout() const { return {.length = length + 1, .slices = 1, .scratch = brackets ? 32 * Index{length} : 0}; }

  std::vector<Statistic> statistics() const override {
    return {{"shortcut: always 0", zero_share(), min_length > 3 ? 0 : .02, [](const Example& e) { return double(e.targets[0] == 0); }},
            {"oracle: evaluates it", 1, 0, [this](const Example& e) {
               const std::size_t end = e.tokens.size() - 1;
               std::size_t t = 0;
               return double(sum_at(e.tokens, t) == e.targets[0] && t == end);
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t <= modulus ? std::to_string(t - 1) : std::string(1, "+-*()="[t - modulus - 1]);
    return out + " -> " + std::to_string(e.targets[0]);
  }

 private:
  int plus() const { return modulus + 1; }

  int apply(int op, int a, int b) const { return applied(op, a, b, modulus); }

  // A recursive-descent reader, independent of the generator: sum of products of digits, -digit and bracketed sums.
  int sum_at(const std::vector<std::int32_t>& x, std::size_t& t) const {
    int value = product_at(x, t);
    while (x[t] == plus() || x[t] == plus() + 1) {
      const int op = x[t++] - plus();
      value = apply(op, value, product_at(x, t));
    }
    return value;
  }
  int product_at(const std::vector<std::int32_t>& x, std::size_t& t) const {
    int value = factor_at(x, t);
    while (x[t] == plus() + 2) value = apply(2, value, factor_at(x, ++t));
    return value;
  }
  int factor_at(const std::vector<std::int32_t>& x, std::size_t& t) const {
    const std::int32_t token = x[t++];
    if (token == plus() + 1) return apply(1, 0, factor_at(x, t));
    if (token <= modulus) return token - 1;
    const int value = sum_at(x, t);
    ++t;  // the closing bracket
    return value;
  }

  using Law = std::vector<double>;  // of a value

  // P(value = 0) of an example before the split is chosen.
  double zero_share() const {
    const std::vector<Law> laws = brackets ? nested_laws() : flat_laws();
    double sum = 0, lengths = 0;
    for (int n = min_length; n <= length; ++n)
      if (brackets || n % 2) sum += laws[at(n)][0], ++lengths;
    return sum / lengths;
  }
  Law combined(const Law& a, const Law& b, int op) const {
    Law out(at(modulus), 0);
    for (int i = 0; i < modulus; ++i)
      for (int k = 0; k < modulus; ++k) out[at(apply(op, i, k))] += a[at(i)] * b[at(k)];
    return out;
  }
  // laws[n]: of n tokens. A + or - splits a flat expression into the part before and a product, whose sign does not change a law.
  std::vector<Law> flat_laws() const {
    const Law digit_law(at(modulus), 1.0 / modulus), zero = combined(Law(at(modulus), 0), digit_law, 0);
    std::vector<Law> laws(at(length + 1), zero), product(at(length + 1), digit_law);
    for (int n = 3; n <= length; n += 2) product[at(n)] = combined(product[at(n - 2)], digit_law, 2);
    for (int n = 1; n <= length; n += 2)
      for (int last = 1; last <= n; last += 2) {  // tokens of the last product: all its operators are *, the one before is + or -
        const double p = std::pow(1 / 3., (last - 1) / 2) * (last < n ? 2 / 3. : 1);
        Law law = product[at(last)];
        if (last < n) {
          const Law plus_law = combined(laws[at(n - last - 1)], law, 0), minus_law = combined(laws[at(n - last - 1)], law, 1);
          for (std::size_t v = 0; v < law.size(); ++v) law[v] = (plus_law[v] + minus_law[v]) / 2;
        }
        for (std::size_t v = 0; v < law.size(); ++v) laws[at(n)][v] += p * law[v];
      }
    return laws;
  }
  std::vector<Law> nested_laws() const {
    std::vector<Law> laws(at(length + 1), Law(at(modulus), 1.0 / modulus));
    for (int n = 5; n <= length; ++n) {
      Law sum(at(modulus), 0);
      for (int left = 1; left <= n - 4; ++left)
        for (int op = 0; op < 3; ++op) {
          const Law law = combined(laws[at(left)], laws[at(n - 3 - left)], op);
          for (std::size_t v = 0; v < sum.size(); ++v) sum[v] += law[v] / (3.0 * (n - 4));
        }
      laws[at(n)] = sum;
    }
    return laws;
  }
};
SSM_TASK(ModularArithmetic, "modular_arithmetic");

}  // namespace ssm::modular_arithmetic
