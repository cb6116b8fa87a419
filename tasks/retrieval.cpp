// retrieval.cpp - the Long Range Arena's Retrieval: does one paper cite the other? Pairs of texts from its TSV files.
//
//   data_dir holds new_aan_pairs.{train,eval,test}.tsv: no header, no quoting; label (0.0 or 1.0), id 1, id 2, text 1, text 2, by tabs
//
// The training file has 8 GB, so only the places of the lines are kept and a line is read when its example is asked for. Either text is
// cut at `length` bytes. Tokens: byte + 1.
#include "reading.hpp"

namespace ssm::retrieval {

namespace {
constexpr const char* layout = "new_aan_pairs.train.tsv, new_aan_pairs.eval.tsv, new_aan_pairs.test.tsv";

struct Lines {
  std::filesystem::path path;
  std::vector<std::int64_t> begin;  // of every line, then the end of the file
};

Lines scan(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) throw BadInput(path.string() + ": cannot be read");
  Lines out{path, {0}};
  std::string block(1 << 20, '\0');
  std::int64_t at = 0;
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
    const std::string_view part(block.data(), static_cast<std::size_t>(in.gcount()));
    for (std::size_t i = part.find('\n'); i != std::string_view::npos; i = part.find('\n', i + 1))
      out.begin.push_back(at + static_cast<std::int64_t>(i) + 1);
    at += in.gcount();
  }
  if (out.begin.back() != at) out.begin.push_back(at);
  if (at == 0) throw BadInput(path.string() + ": is empty");
  return out;
}
}  // namespace

struct Retrieval final : Task {
  std::string data_dir;
  int length = 4000;
  Lines sets[3];

  void knobs(Knobs& k) override {
    k("data_dir", data_dir, {}).any_text().note("folder with the three new_aan_pairs files");
    k("length", length, {1000, 4000}).range(16, 1 << 20).note("either text is cut to this many bytes");
  }

  void open(std::uint64_t) override {
    const char* names[] = {"train", "eval", "test"};
    for (std::size_t s = 0; s < 3; ++s) {
      const auto path = std::filesystem::path(data_dir) / (std::string("new_aan_pairs.") + names[s] + ".tsv");
      if (data_dir.empty() || !std::filesystem::exists(path))
        missing_data("retrieval", data_dir, path.string() + " is not there", layout, "topic_pairs");
      sets[s] = scan(path);
      Example e;
      example(static_cast<Split>(s), 0, e);
    }
  }

  Index size(Split split) const override { return static_cast<Index>(set(split).begin.size()) - 1; }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::pairs;
    out.vocab = 257;
    out.classes = 2;
    out.max_length = length;
    out.about = "does one paper cite the other, as bytes (Long Range Arena: Retrieval); needs its files, stand-in: topic_pairs";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"}};
    const std::pair<const char*, double> lra[] = {{"Transformer", .5746}, {"Liquid-S4", .912}, {"S5", .914}};
    for (const auto& [label, value] : lra) out.references.push_back({"published", label, value, "Long Range Arena tables"});
    out.slices = {{"label", {"unrelated", "cites"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    const Lines& lines = set(split);
    const std::int64_t begin = lines.begin[static_cast<std::size_t>(index)], end = lines.begin[static_cast<std::size_t>(index) + 1];
    static thread_local std::string line;
    line.resize(static_cast<std::size_t>(end - begin));
    std::ifstream in(lines.path, std::ios::binary);
    if (!in.seekg(begin) || !in.read(line.data(), end - begin)) refuse(lines, begin, "the file became shorter");
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    std::string_view fields[5];
    std::size_t from = 0;
    for (std::size_t f = 0; f < 5; ++f) {
      const std::size_t tab = f < 4 ? line.find('\t', from) : line.size();
      if (tab == std::string::npos) refuse(lines, begin, "has " + std::to_string(f + 1) + " fields, expected 5");
      fields[f] = std::string_view(line).substr(from, tab - from);
      from = tab + 1;
    }
    if (fields[0] != "0.0" && fields[0] != "1.0" && fields[0] != "0" && fields[0] != "1")
      refuse(lines, begin, "has the label '" + std::string(fields[0].substr(0, 20)) + "', allowed is 0.0 or 1.0");
    if (fields[3].empty() || fields[4].empty()) refuse(lines, begin, "a text is empty");
    out.clear();
    for (const char c : fields[3].substr(0, static_cast<std::size_t>(length))) out.tokens.push_back(static_cast<unsigned char>(c) + 1);
    for (const char c : fields[4].substr(0, static_cast<std::size_t>(length))) out.second.push_back(static_cast<unsigned char>(c) + 1);
    out.targets = {fields[0][0] == '1'}, out.slices = out.targets;
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const auto* part : {&e.tokens, &e.second}) {
      for (const std::int32_t t : *part) out += static_cast<char>(t - 1);
      out += part == &e.tokens ? "\n| " : "\n";
    }
    return out + (e.targets[0] ? "-> cites" : "-> unrelated");
  }

 private:
  const Lines& set(Split split) const { return sets[static_cast<std::size_t>(split)]; }
  [[noreturn]] static void refuse(const Lines& lines, std::int64_t offset, const std::string& why) {
    throw BadInput(lines.path.string() + ", offset " + std::to_string(offset) + ": the line " + why);
  }
};
SSM_TASK(Retrieval, "retrieval");

}  // namespace ssm::retrieval
