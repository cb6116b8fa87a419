// needle.cpp - passkey retrieval: records `KEY name VALUE value` hidden in filler; the last tokens ask for one name.
//
//   tokens  = filler with the records, then QUERY name and the first 3 symbols of the answer;  names and values: 4 symbols of 16
//   targets = the 4 symbols of the value, at the last symbol of the queried name and the 3 tokens behind it
//
// plain: independent names; near: the other names differ from the queried one in one symbol; update: the queried record is written twice,
// the later one counts; two-hop: the value is the name of another record, whose value is the answer.
// Ids: 0 padding, 1..64 filler, 65..80 symbols, 81 KEY, 82 VALUE, 83 QUERY.
#include <array>

#include "generated.hpp"

namespace ssm::needle {

constexpr int letters = 4, symbols = 16, filler = 64;
constexpr std::int32_t symbol = 65, key_mark = 81, value_mark = 82, query_mark = 83;
constexpr int record_tokens = 2 * letters + 2, tail = 2 * letters;

using Word = std::array<std::int32_t, letters>;

struct Record {
  int place;  // filler tokens in front of it
  Word name, value;
};

Word draw(Rng& rng) {
  Word w;
  for (std::int32_t& s : w) s = symbol + below(rng, symbols);
  return w;
}

struct Needle final : GeneratedTask {
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

  void example(Split split, Index index, Example& out) const override {
    static thread_local std::vector<Record> all;
    Rng rng = keyed_draws(split, index);
    const int room = filler_tokens();
    all.clear();
    for (int i = 0; i < records; ++i) {
      Word label;
      do {
        label = draw(rng);
        if (kind == "near" && i > 0) {
          label = all[0].name;
          const std::size_t changed = at(below(rng, letters));
          label[changed] = symbol + (label[changed] - symbol + 1 + below(rng, symbols - 1)) % symbols;
        }
      } while (std::any_of(all.begin(), all.end(), [&](const Record& r) { return r.name == label; }));
      all.push_back({below(rng, room + 1), label, draw(rng)});
    }
    Record& asked = all[0];
    if (depth >= 0) asked.place = static_cast<int>(depth * room);
    const Word query = asked.name;
    const int place = asked.place;
    Word answer = asked.value;
    if (kind == "two-hop") asked.value = all[1].name, answer = all[1].value;
    if (kind == "update") all[1].name = query, all[1].place = below(rng, place + 1), std::swap(all[0], all[1]);
    std::stable_sort(all.begin(), all.end(), [](const Record& a, const Record& b) { return a.place < b.place; });

    out.clear();
    out.tokens.reserve(at(length));
    int filled = 0;
    const auto fill_until = [&](int end) {
      for (; filled < end; ++filled) out.tokens.push_back(1 + below(rng, filler));
    };
    const auto write = [&](std::int32_t mark, const Word& w, int n) {
      if (mark) out.tokens.push_back(mark);
      out.tokens.insert(out.tokens.end(), w.begin(), w.begin() + n);
    };
    for (const Record& r : all) fill_until(r.place), write(key_mark, r.name, letters), write(value_mark, r.value, letters);
    fill_until(room);
    write(query_mark, query, letters), write(0, answer, letters - 1);
    out.targets.assign(at(length - letters), -1);
    for (const std::int32_t s : answer) out.targets.push_back(s - symbol);
    out.slices = {room ? static_cast<std::int32_t>(std::lround(10.0 * place / room)) : 0};
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
