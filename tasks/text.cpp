// text.cpp - the Long Range Arena's Text: bytes of film reviews, positive or negative.
//
//   data_dir is the aclImdb folder: train/pos/*.txt, train/neg/*.txt, test/pos/*.txt, test/neg/*.txt;
//   or it holds train.tsv and test.tsv as the Long Range Arena reads them: comma-separated columns Source, Target in spite of the name
//
// Tokens: byte + 1, cut at `length`. Validation is the test set in every code base this was read in, and so it is here.
#include "reading.hpp"
#include "shortcuts.hpp"

namespace ssm::text {

namespace {
constexpr const char* layout =
    "train/pos/*.txt, train/neg/*.txt, test/pos/*.txt, test/neg/*.txt (aclImdb), or train.tsv and test.tsv with Source,Target";

struct Documents {
  std::vector<std::string> text;
  std::vector<std::int32_t> label;
};

void read_folder(const std::filesystem::path& folder, std::int32_t label, Documents& out) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  if (files.empty()) throw BadInput(folder.string() + ": has no .txt files");
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    out.text.push_back(read_file(file));
    if (out.text.back().empty()) throw BadInput(file.string() + ": is empty");
    out.label.push_back(label);
  }
}

// Comma-separated fields, "" inside a quoted one is a quote; rows may end with \r\n. Returns false at the end of the file.
bool read_row(const std::string& bytes, std::size_t& at, std::vector<std::string>& fields, const std::string& file) {
  if (at >= bytes.size()) return false;
  fields.assign(1, "");
  const std::size_t begin = at;
  for (bool quoted = false; at < bytes.size(); ++at) {
    const char c = bytes[at];
    if (quoted && c == '"' && at + 1 < bytes.size() && bytes[at + 1] == '"') fields.back() += '"', ++at;
    else if (c == '"') quoted = !quoted;
    else if (!quoted && c == ',') fields.emplace_back();
    else if (!quoted && c == '\n') return ++at, true;
    else if (quoted || c != '\r') fields.back() += c;
    if (quoted && at + 1 == bytes.size()) throw BadInput(file + ", offset " + std::to_string(begin) + ": a quote is not closed");
  }
  return true;
}

Documents read_table(const std::filesystem::path& path) {
  const std::string bytes = read_file(path), name = path.string();
  std::size_t at = 0;
  std::vector<std::string> fields;
  if (!read_row(bytes, at, fields, name) || fields != std::vector<std::string>{"Source", "Target"})
    throw BadInput(name + ", offset 0: the first row must be Source,Target");
  Documents out;
  for (std::size_t begin = at; read_row(bytes, at, fields, name); begin = at) {
    if (fields.size() != 2 || (fields[1] != "0" && fields[1] != "1") || fields[0].empty())
      throw BadInput(name + ", offset " + std::to_string(begin) + ": expected a text and the label 0 or 1, found " +
                     (fields.size() != 2  ? std::to_string(fields.size()) + " fields"
                      : fields[0].empty() ? "an empty text"
                                          : "the label '" + fields[1].substr(0, 20) + "'"));
    out.text.push_back(fields[0]), out.label.push_back(fields[1] == "1");
  }
  if (out.text.empty()) throw BadInput(name + ": has no rows");
  return out;
}
}  // namespace

struct Text final : Task {
  std::string data_dir;
  int length = 4096;
  Documents sets[2];  // train, test
  double floor = 0;   // once files are open

  void knobs(Knobs& k) override {
    k("data_dir", data_dir, {}).any_text().note("the aclImdb folder, or one with train.tsv and test.tsv");
    k("length", length, {1024, 2048, 4096}).range(16, 1 << 20).note("texts are cut to this many bytes");
  }

  void open(std::uint64_t) override {
    const std::filesystem::path folder = data_dir;
    for (std::size_t s = 0; s < 2; ++s) {
      sets[s] = {};
      const std::string part = s ? "test" : "train";
      if (data_dir.empty()) missing_data("text", data_dir, "no folder is given", layout, "polar_text");
      if (std::filesystem::exists(folder / (part + ".tsv"))) {
        sets[s] = read_table(folder / (part + ".tsv"));
        continue;
      }
      for (const char* polarity : {"neg", "pos"}) {
        const auto path = folder / part / polarity;
        if (!std::filesystem::is_directory(path)) missing_data("text", data_dir, path.string() + " is not there", layout, "polar_text");
        read_folder(path, polarity[0] == 'p', sets[s]);
      }
    }
    floor = bag_of_words(*this);
  }

  Index size(Split split) const override { return static_cast<Index>(set(split).text.size()); }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = 257;
    out.classes = 2;
    out.max_length = length;
    out.about = "film reviews as bytes (Long Range Arena: Text), validation = test as in all code bases; needs files, stand-in: polar_text";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"}};
    if (floor > 0) out.references.push_back({"floor", "bag of words, naive Bayes", floor, "measured on these files"});
    const std::pair<const char*, double> lra[] = {{"Transformer", .6427}, {"S5", .893}, {"Mega", .904}};
    for (const auto& [label, value] : lra) out.references.push_back({"published", label, value, "Long Range Arena tables"});
    out.slices = {{"label", {"negative", "positive"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    const Documents& d = set(split);
    const auto i = static_cast<std::size_t>(index);
    out.clear();
    for (const char c : std::string_view(d.text[i]).substr(0, static_cast<std::size_t>(length)))
      out.tokens.push_back(static_cast<unsigned char>(c) + 1);
    out.targets = {d.label[i]}, out.slices = {d.label[i]};
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (const std::int32_t t : e.tokens) out += static_cast<char>(t - 1);
    return out + (e.targets[0] ? " -> positive" : " -> negative");
  }

 private:
  const Documents& set(Split split) const { return sets[split != Split::train]; }
};
SSM_TASK(Text, "text");

}  // namespace ssm::text
