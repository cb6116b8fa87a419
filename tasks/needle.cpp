// needle.cpp - passkey retrieval: records `KEY name VALUE value` hidden in filler; the last tokens ask for one name.
//
//   tokens  = filler with the records, then QUERY name and the first 3 symbols of the answer;  names and values: 4 symbols of 16
//   targets = the 4 symbols of the value, at the last symbol of the queried name and the 3 tokens behind it
//
// plain: independent names; near: the other names differ from the queried one in one symbol; update: the queried record is written twice,
// the later one counts; two-hop: the value is the name of another record, whose value is the answer.
// Ids: 0 padding, 1..64 filler, 65..80 symbols, 81 KEY, 82 VALUE, 83 QUERY.
#include "recipe_task.hpp"

namespace ssm::needle {

constexpr int letters = 4, symbols = 16, filler = 64;
constexpr std::int32_t symbol = 65, key_mark = 81, value_mark = 82, query_mark = 83;
constexpr int record_tokens = 2 * letters + 2, tail = 2 * letters;

// Four symbols in 4 bits each, the first lowest.
using Word = std::uint32_t;
SSM_FN int letter(Word w, int k) { return static_cast<int>(w >> (4 * k) & 15); }
SSM_FN Word draw(Draws& draws) {
  Word w = 0;
  for (int k = 0; k < letters; ++k) w |= static_cast<Word>(draws.below(symbols)) << (4 * k);
  return w;
}

struct Record {
  int place;  // filler tokens in front of it
  Word name, value;
};

enum class Kind { plain, near, update, two_hop };

struct Recipe {
  Origin from;
  int length, records;
  double depth;
  Kind kind;

  // Scratch: the records.
  template <class P>
  SSM_FN void operator()(std::uint64_t index, P& page) const {
    Draws draws = from.keyed_draws(index);
    auto* all = reinterpret_cast<Record*>(page.scratch);
    const int room = length - tail - records * record_tokens;
    for (int i = 0; i < records; ++i) {
      Word name;
      bool known;
      do {
        name = draw(draws);
        if (kind == Kind::near && i > 0) {
          name = all[0].name;
          const int changed = draws.below(letters), old = letter(name, changed);
          name ^= static_cast<Word>(old ^ (old + 1 + draws.below(symbols - 1)) % symbols) << (4 * changed);
        }
        known = false;
        for (int k = 0; k < i; ++k) known |= all[k].name == name;
      } while (known);
      const int place = draws.below(room + 1);
      all[i] = {place, name, draw(draws)};
    }
    if (depth >= 0) all[0].place = static_cast<int>(depth * room);
    const Word query = all[0].name;
    const int place = all[0].place;
    Word answer = all[0].value;
    if (kind == Kind::two_hop) all[0].value = all[1].name, answer = all[1].value;
    if (kind == Kind::update) {
      const Record stale{draws.below(place + 1), query, all[1].value};
      all[1] = all[0], all[0] = stale;
    }
    for (int i = 1; i < records; ++i) {  // by place, those of one place in their order
      const Record r = all[i];
      int k = i;
      for (; k > 0 && all[k - 1].place > r.place; --k) all[k] = all[k - 1];
      all[k] = r;
    }
    int t = 0, filled = 0;
    for (int i = 0; i <= records; ++i) {
      for (const int end = i < records ? all[i].place : room; filled < end; ++filled) page.tokens[t++] = 1 + draws.below(filler);
      page.tokens[t++] = i < records ? key_mark : query_mark;
      for (int k = 0; k < letters; ++k) page.tokens[t++] = symbol + letter(i < records ? all[i].name : query, k);
      if (i < records) page.tokens[t++] = value_mark;
      for (int k = 0; k < (i < records ? letters : letters - 1); ++k)
        page.tokens[t++] = symbol + letter(i < records ? all[i].value : answer, k);
    }
    for (t = 0; t < length - letters; ++t) page.targets[t] = -1;
    for (int k = 0; k < letters; ++k) page.targets[t + k] = letter(answer, k);
    if (page.slices) page.slices[0] = room ? static_cast<std::int32_t>((Index{20} * place + room) / (Index{2} * room)) : 0;
    page.length = length;
  }
};

struct Needle final : RecipeTask<Needle> {
  int length = 1024, records = 1;
  double depth = -1;
  std::string kind = "plain";

  void knobs(Knobs& k) override {
    k("length", length, {256, 1024, 4096, 16384, 131072}).range(32, 1 << 22).note("tokens; train at up to 1024, test longer");
    k("records", records, {1, 4, 16, 64}).range(1, 1 << 12).note("records, of which one is queried");
    k("depth", depth, {0, .5, 1}).range(-1, 1).note("place of the queried record, 0 front, 1 back; below 0: uniform");
    k("kind", kind, {"plain", "near", "update", "two-hop"}).note("what the other records are");
    size_knobs(k);
  }
  void check() override {
    if (kind != "plain" && records < 2) refuse("records", std::to_string(records), kind + " needs 2 or more");
    if (kind == "near" && records > 1 + letters * (symbols - 1)) refuse("records", std::to_string(records), "at most 61 names are near");
    if (filler_tokens() < 0) refuse("length", std::to_string(length), "too short for " + std::to_string(records) + " records");
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::positions;
    out.vocab = query_mark + 1;
    out.classes = symbols;
    out.max_length = length;
    out.about = "find the record with this name in filler (needle, passkey); kinds plain, near, update, two-hop";
    out.references = {{"chance", "uniform guess", 1.0 / symbols, "1 / symbols, per token; 16^-4 per sequence"},
                      {"floor", "some record's value", some_value(), "1/n + (1 - 1/n) / symbols"},
                      {"ceiling", "finds it", 1, "exact"}};
    out.slices = {{"depth", {}}};
    for (int d = 0; d <= 10; ++d) out.slices[0].labels.push_back(number_text(d / 10.));
    return out;
  }

  Recipe recipe(Split split) const {
    const Kind which = kind == "plain" ? Kind::plain : kind == "near" ? Kind::near : kind == "update" ? Kind::update : Kind::two_hop;
    return {origin(split), length, records, depth, which};
  }
  Layout layout() const {
    return {.length = length, .positions = true, .slices = 1, .scratch = records * static_cast<Index>(sizeof(Record) + 7) / 8 * 8};
  }

  std::vector<Statistic> statistics() const override {
    const auto value_of = [](const Example& e, std::size_t asked, std::size_t before) {  // of the last record with the name at `asked`
      for (std::size_t t = before; t-- > 0;)
        if (e.tokens[t] == key_mark && std::equal(&e.tokens[asked], &e.tokens[asked] + letters, &e.tokens[t + 1])) return t + letters + 2;
      return std::size_t{0};
    };
    const bool hop = kind == "two-hop";
    std::vector<Statistic> out = {
        {"oracle: finds the record", 1, 0,
         [=](const Example& e) {
           const std::size_t query = e.tokens.size() - tail;
           std::size_t found = value_of(e, query + 1, query);
           if (hop) found = value_of(e, found, query);
           return token_accuracy(e, [&](std::size_t t) { return e.tokens[found + t - (query + letters)] - symbol; });
         }},
        {"depth slice of the queried record", depth < 0 ? 5 : 10 * depth, .5, [](const Example& e) { return double(e.slices[0]); }}};
    if (depth < 0)
      out.push_back({"shortcut: the value of the last record", kind == "update" ? last_of_update() : some_value(), 0, [](const Example& e) {
                       std::size_t t = e.tokens.size();
                       while (e.tokens[--t] != value_mark) {}
                       const std::size_t query = e.tokens.size() - tail;
                       return token_accuracy(e, [&](std::size_t k) { return e.tokens[t + 1 + k - (query + letters)] - symbol; });
                     }});
    return out;
  }

  std::string show(const Example& e) const override {
    std::string out, answer;
    int skipped = 0;
    for (const std::int32_t t : e.tokens) {
      if (t <= filler) {
        ++skipped;
        continue;
      }
      if (skipped) out += "(" + std::to_string(skipped) + " tokens of filler) ", skipped = 0;
      out += t == key_mark     ? "KEY "
             : t == value_mark ? " VALUE "
             : t == query_mark ? "QUERY "
                               : std::string(1, static_cast<char>('A' + t - symbol));
    }
    for (const std::int32_t t : e.targets)
      if (t >= 0) answer += static_cast<char>('A' + t);
    return out + " -> " + answer;
  }

 private:
  int filler_tokens() const { return length - tail - records * record_tokens; }
  double some_value() const {
    const int others = kind == "two-hop" || records > 1 ? records : 1;
    return 1.0 / others + (1 - 1.0 / others) / symbols;
  }
  // The stale record is never last; the place of the valid one is uniform among the others'.
  double last_of_update() const { return 1.0 / (records - 1) + (1 - 1.0 / (records - 1)) / symbols; }
};
SSM_TASK(Needle, "needle");

}  // namespace ssm::needle
