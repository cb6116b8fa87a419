// selective_copying.cpp - Mamba's selective copying: repeat the data symbols that are scattered in noise, in order.
//
//   tokens = `length` noise slots with M = `tokens` data symbols at uniform places among them, then M markers
//   target at marker m = data symbol m (0..symbols-1), -1 elsewhere
//
// `fixed` is the control: all data first, then the noise, which a time-invariant model can solve. The published generator was never
// released; the paper gives length 4096, 16 symbols with the noise, 16 data tokens. Ids: 0 padding, 1 noise, 2.. data, last the marker.
#include "recipe_task.hpp"

namespace ssm::selective_copying {

constexpr std::int32_t noise = 1, data = 2;

struct Recipe {
  Origin from;
  int length, tokens, symbols;
  bool fixed;

  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.draws(index);
    const int slots = length + tokens;
    std::uint64_t hash;
    do {
      hash = kNoContent;
      int left = tokens;  // selection sampling: each of the remaining slots is data with probability left / remaining
      for (int t = 0; t < slots; ++t) {
        const bool is_data = fixed ? left > 0 : draws.below(slots - t) < left;
        const std::int32_t id = is_data ? data + draws.below(symbols) : noise;
        page.tokens[t] = id, page.targets[t] = -1;
        hash = hash_on(hash, id);
        if (is_data) page.targets[slots + tokens - left--] = id - data;
      }
    } while (!from.mine(hash));
    for (int m = 0; m < tokens; ++m) page.tokens[slots + m] = data + symbols;
    page.length = slots + tokens;
  }
};

struct SelectiveCopying final : RecipeTask<SelectiveCopying> {
  int length = 256, tokens = 16, symbols = 14;
  bool fixed = false;

  std::int32_t marker() const { return data + symbols; }

  void knobs(Knobs& k) override {
    k("length", length, {256, 512, 1024, 4096}).range(0, 1 << 22).note("noise slots L; a sequence has L + 2 M tokens");
    k("tokens", tokens, {4, 16, 64}).range(1, 65536).note("data symbols to copy, M");
    k("symbols", symbols, {2, 14, 64}).range(2, 65536).note("different data symbols");
    k("fixed", fixed).note("data at fixed places (the control)", "time-invariant models solve this form only");
    size_knobs(k);
  }
  void check() override {
    if (tokens * std::log2(symbols) < 16)
      throw BadInput("selective_copying.tokens = " + std::to_string(tokens) +
                     " with selective_copying.symbols = " + std::to_string(symbols) +
                     ": too few different contents for three separate splits; symbols^tokens must be at least 65536");
  }

  Recipe recipe(Split split) const { return {origin(split), length, tokens, symbols, fixed}; }
  Layout layout() const { return {.length = length + 2 * tokens, .positions = true}; }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = marker() + 1;
    out.classes = symbols;
    out.max_length = length + 2 * tokens;
    out.about = "repeat the data symbols scattered in noise, in order (Mamba's selective copying); fixed = the time-invariant control";
    out.references = {{"chance", "uniform guess", 1.0 / symbols, "1 / symbols"},
                      {"floor", "one datum throughout", one_datum(), "1/M + (1 - 1/M) / symbols"},
                      {"ceiling", "copies everything", 1, "exact"}};
    if (length != 4096 || tokens != 16 || symbols != 14 || fixed) return out;
    const std::pair<const char*, double> published[] = {{"Hyena in the Mamba block", .284},
                                                        {"H3 + Hyena", .301},
                                                        {"S4, no gate", .183},
                                                        {"S4 in the Mamba block", .564},
                                                        {"H3 + S4", .570},
                                                        {"S6, no gate", .970},
                                                        {"H3 + S6", .997},
                                                        {"Mamba", .998}};
    for (const auto& [label, value] : published) out.references.push_back({"published", label, value, "Mamba paper, table 1"});
    return out;
  }

  std::vector<Statistic> statistics() const override {
    const auto said = [this](const Example& e, bool in_order) {  // share of the answers that are datum m, or the first datum
      double right = 0;
      std::size_t m = e.tokens.size() - static_cast<std::size_t>(tokens);
      std::int32_t first = -1;
      for (const std::int32_t t : e.tokens) {
        if (t < data || t == marker()) continue;
        if (first < 0) first = t - data;
        right += (in_order ? t - data : first) == e.targets[m++];
      }
      return right / tokens;
    };
    const double places = fixed ? 0 : double(length) / (tokens + 1);
    return {{"oracle: the data in order", 1, 0, [said](const Example& e) { return said(e, true); }},
            {"shortcut: the first datum throughout", one_datum(), 0, [said](const Example& e) { return said(e, false); }},
            {"noise in front of the first datum", places, 0, [](const Example& e) {
               double n = 0;
               while (e.tokens[static_cast<std::size_t>(n)] == noise) ++n;
               return n;
             }}};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += t == noise ? ". " : t == marker() ? "? " : std::to_string(t - data) + ' ';
    out += "->";
    for (const std::int32_t t : e.targets)
      if (t >= 0) out += ' ' + std::to_string(t);
    return out;
  }

 private:
  double one_datum() const { return 1.0 / tokens + (1 - 1.0 / tokens) / symbols; }
};
SSM_TASK(SelectiveCopying, "selective_copying");

}  // namespace ssm::selective_copying
