// Readers of the user's files: whatever stands in a file, a reader gives examples within its ranges, or BadInput that names the file.
// Inputs that scripts/fuzz keeps (tests/fuzz/*.corpus) are read again, and files are changed at random; SSM_FUZZ_SECONDS=n goes on with
// that for n seconds a reader.
#include <chrono>
#include <cstdlib>

#include "open_task.hpp"
#include "reader_cases.hpp"
#include "rng.hpp"

using namespace ssm;

namespace {

// One to three changes of the kinds that damaged and foreign files have.
std::string mutated(std::string text, Rng& rng) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(rng.below(static_cast<std::uint32_t>(n))); };
  const std::string pieces[] = {
      "\n", "\r\n", "\t", "\"",       ",", std::string(1, '\0'), "\xff\xfe", "\xef\xbb\xbf", "9", "-1", "99999999999999999999",
      " ",  "]",    "(",  "\x93NUMPY"};
  for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
    const std::size_t at = below(text.size() + 1), length = below(text.size() - at + 1);
    switch (below(6)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, pieces[below(std::size(pieces))]);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      case 4:
        for (std::size_t i = 0; (i = text.find('\n', i)) != std::string::npos; i += 2) text.insert(i, 1, '\r');
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
    }
  }
  return text;
}

class Readers : public testing::TestWithParam<readers::Reader> {};

}  // namespace

TEST_P(Readers, SurviveMutation) {
  const readers::Reader& reader = GetParam();
  const TemporaryFolder temporary;
  const readers::Folder folder(reader, temporary.path);
  EXPECT_EQ(readers::outside(*readers::open(reader, folder.path), reader), "");
  const char* seconds = std::getenv("SSM_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds ? std::atof(seconds) : 0);
  int refused = 0, tried = 0;
  for (; tried < 200 || std::chrono::steady_clock::now() < end; ++tried) {
    Rng rng(5, hash_name(reader.label), static_cast<std::uint64_t>(tried));
    auto victim = folder.files.begin();
    std::advance(victim, rng.below(static_cast<std::uint32_t>(folder.files.size())));
    const std::string content = mutated(victim->second, rng);
    bool no = false;
    ASSERT_EQ(folder.read_with(victim->first, content, no), "")
        << victim->first << " of mutation " << tried << ": " << testing::PrintToString(content.substr(0, 10000));
    refused += no;
  }
  EXPECT_GT(refused, tried / 20) << "mutations that nobody notices test nothing";
}

// What the coverage-guided fuzzer came upon: every input by which it reached more of a reader.
TEST_P(Readers, SurviveWhatTheFuzzerFound) {
  const readers::Reader& reader = GetParam();
  const TemporaryFolder temporary;
  const readers::Folder folder(reader, temporary.path);
  const char* build = std::getenv("SSM_BUILD");
  if (!build) GTEST_SKIP() << "SSM_BUILD is not set: where the sources are is not known";
  const auto sources = std::filesystem::path(build) / std::filesystem::path(__FILE__).parent_path();  // from the build folder, or absolute
  const auto corpus = sources / "fuzz" / (std::string(reader.label) + ".corpus");
  const std::vector<std::string> inputs = readers::kept_inputs(corpus);
  ASSERT_GT(inputs.size(), 0u) << corpus;
  bool some_refused = false, some_read = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto [name, content] = folder.meaning(inputs[i]);
    bool refused = false;
    EXPECT_EQ(folder.read_with(name, content, refused), "") << corpus << ", input " << i << " in " << name;
    (refused ? some_refused : some_read) = true;
  }
  EXPECT_TRUE(some_refused && some_read);
}
// Not image, whose files have 30 MB each: test_task_images.cpp.
INSTANTIATE_TEST_SUITE_P(Files, Readers, testing::ValuesIn(std::begin(readers::all), std::end(readers::all) - 1),
                         [](const auto& p) { return std::string(p.param.label); });

// Every file of every reader: absent, empty, a folder in its place.
TEST_P(Readers, NameTheFileThatIsNotThere) {
  const readers::Reader& reader = GetParam();
  const readers::Files files = reader.files();
  for (const auto& [name, content] : files) {
    if (name.ends_with(".png")) continue;  // the archive's list and one known empty picture: tests of Pathfinder
    SCOPED_TRACE(name);
    for (const char* how : {"absent", "empty", "folder"}) {
      const TemporaryFolder folder;
      for (const auto& [other, text] : files) {
        std::filesystem::create_directories((folder.path / other).parent_path());
        if (other != name) folder.write(other, text);
        else if (how == std::string("empty")) folder.write(other, "");
        else if (how == std::string("folder")) std::filesystem::create_directories(folder.path / other);
      }
      const std::string message = bad_input([&] { readers::outside(*readers::open(reader, folder.path), reader); });
      const std::string parent = (folder.path / name).parent_path().string();
      EXPECT_NE(message.find(parent), std::string::npos) << how << ": " << message;
    }
  }
}

namespace {

// One kind of damage: what becomes of the content of `file`, and what the refusal says beside the file's name; "" where the file is read.
struct Damage {
  const char *reader, *kind, *file;
  std::string (*make)(const std::string&);
  const char* said;
};

std::string cut(const std::string& text, std::size_t n) { return text.substr(0, text.size() - n); }
std::string put(std::string text, std::size_t at, std::string_view what) { return text.replace(at, what.size(), what); }
std::string empty(const std::string&) { return {}; }
std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t i = 0; (i = text.find(from, i)) != std::string::npos; i += to.size()) text.replace(i, from.size(), to);
  return text;
}
std::string with_crlf(const std::string& text) { return replaced(replaced(text, "\r\n", "\n"), "\n", "\r\n"); }
std::string png_head(const std::string&) { return "\x89PNG\r\n\x1a\n"; }

const Damage damages[] = {
    {"listops", "truncated", "basic_val.tsv", [](const std::string& s) { return cut(s, 5); }, "line 3: no tab"},
    {"listops", "magic", "basic_val.tsv", png_head, "line 1: header"},
    {"listops", "count", "basic_val.tsv", [](const std::string& s) { return replaced(s, "\t9\r", "\t9\t1\r"); }, "line 2: label '9\\x091'"},
    {"listops", "crlf", "basic_val.tsv", with_crlf, ""},
    {"listops", "lf", "basic_val.tsv", [](const std::string& s) { return replaced(s, "\r\n", "\n"); }, ""},
    {"listops", "empty", "basic_val.tsv", empty, "line 1: the file holds no example"},
    {"listops", "utf8", "basic_val.tsv", [](const std::string& s) { return replaced(s, "2 )", "\xff )"); }, "line 2: unknown token"},
    {"listops", "label", "basic_val.tsv", [](const std::string& s) { return replaced(s, "\t9\r", "\t10\r"); }, "line 2: label '10'"},
    {"pathfinder", "truncated", "metadata/0.npy", [](const std::string& s) { return cut(s, 26); }, "line 12: expected"},
    {"pathfinder", "truncated image", "imgs/0/sample_3.png", [](const std::string& s) { return cut(s, 20); }, ": "},
    {"pathfinder", "magic", "imgs/0/sample_3.png", [](const std::string& s) { return put(s, 0, "BM"); }, "Not a PNG"},
    {"pathfinder", "count", "metadata/0.npy", [](const std::string& s) { return s.substr(0, s.find("imgs/0 sample_5")); },
     "names 5 images, at least 10"},
    {"pathfinder", "crlf", "metadata/0.npy", with_crlf, ""},
    {"pathfinder", "empty", "metadata/0.npy", empty, "names 0 images"},
    {"pathfinder", "utf8", "metadata/0.npy", [](const std::string& s) { return put(s, 0, "\xff"); }, "line 1: "},
    {"pathfinder", "label", "metadata/0.npy", [](const std::string& s) { return replaced(s, " 3 1 1.0", " 3 2 1.0"); }, "line 4: expected"},
    {"mnist", "truncated", "t10k-images-idx3-ubyte", [](const std::string& s) { return cut(s, 100); },
     "9324 bytes, but the header promises 12"},
    {"mnist", "truncated header", "t10k-labels-idx1-ubyte", [](const std::string& s) { return s.substr(0, 7); }, "ends at offset 7"},
    {"mnist", "magic", "train-labels-idx1-ubyte", [](const std::string& s) { return put(s, 3, "\x03"); },
     "offset 0: magic number 2051, expected 2049"},
    {"mnist", "count", "train-labels-idx1-ubyte", [](const std::string& s) { return cut(put(s, 7, "\x0b"), 1); },
     "11 labels for 12 images"},
    {"mnist", "crlf", "train-labels-idx1-ubyte", [](const std::string& s) { return put(s, 12, "\r\n"); }, "offset 12: label 13"},
    {"mnist", "empty", "train-images-idx3-ubyte", empty, "ends at offset 0"},
    {"mnist", "utf8", "train-labels-idx1-ubyte", [](const std::string& s) { return put(s, 9, "\xff"); }, "offset 9: label 255"},
    {"mnist", "label", "train-labels-idx1-ubyte", [](const std::string& s) { return put(s, 19, "\x0a"); }, "offset 19: label 10"},
    {"image", "truncated", "data_batch_1.bin", [](const std::string& s) { return cut(s, 1); },
     "has 30729999 bytes, expected 10000 records"},
    {"image", "count", "data_batch_1.bin", [](const std::string& s) { return cut(s, 3073); }, "has 30726927 bytes"},
    {"image", "magic", "data_batch_1.bin", [](const std::string& s) { return put(s, 0, "\x89PNG"); }, "offset 0: label 137"},
    {"image", "crlf", "data_batch_1.bin", [](const std::string& s) { return std::string(s).insert(100, "\r"); }, "has 30730001 bytes"},
    {"image", "empty", "data_batch_1.bin", empty, "has 0 bytes"},
    {"image", "utf8", "data_batch_1.bin", [](const std::string& s) { return put(s, 1, "\xff\xfe"); }, ""},
    {"image", "label", "data_batch_1.bin", [](const std::string& s) { return put(s, 3073, "\x0a"); }, "offset 3073: label 10"},
    {"reviews", "truncated", "train/pos/1.txt", [](const std::string& s) { return cut(s, 2); }, ""},
    {"reviews", "crlf", "train/pos/1.txt", [](const std::string& s) { return s + "\r\n"; }, ""},
    {"reviews", "empty", "train/pos/1.txt", empty, "is empty"},
    {"reviews", "utf8", "train/pos/1.txt", [](const std::string& s) { return put(s, 0, "\xff\xfe"); }, ""},
    {"table", "truncated", "test.tsv", [](const std::string& s) { return cut(s, 4); }, "offset 14: a quote is not closed"},
    {"table", "magic", "test.tsv", png_head, "offset 0: the first row must be Source,Target"},
    {"table", "count", "train.tsv", [](const std::string& s) { return replaced(s, "great,1", "great,1,2"); }, "found 3 fields"},
    {"table", "crlf", "test.tsv", with_crlf, ""},
    {"table", "empty", "test.tsv", empty, "offset 0: the first row"},
    {"table", "utf8", "test.tsv", [](const std::string& s) { return put(s, 15, "\xff"); }, ""},
    {"table", "label", "train.tsv", [](const std::string& s) { return replaced(s, "great,1", "great,2"); },
     "offset 42: expected a text and the label 0 or 1, found the label '2'"},
    {"pairs", "truncated", "new_aan_pairs.eval.tsv", [](const std::string& s) { return cut(s, 12); },
     "offset 28: the line has 4 fields, expected 5"},
    {"pairs", "magic", "new_aan_pairs.eval.tsv", png_head, "offset 0: the line has 1 fields"},
    {"pairs", "count", "new_aan_pairs.eval.tsv", [](const std::string& s) { return replaced(s, "\tsecond", "second"); },
     "offset 0: the line has 4 fields"},
    {"pairs", "crlf", "new_aan_pairs.eval.tsv", with_crlf, ""},
    {"pairs", "empty", "new_aan_pairs.eval.tsv", empty, "is empty"},
    {"pairs", "utf8", "new_aan_pairs.eval.tsv", [](const std::string& s) { return replaced(s, "second", "\xff\xfe"); }, ""},
    {"pairs", "label", "new_aan_pairs.eval.tsv", [](const std::string& s) { return replaced(s, "1.0", "2.0"); },
     "offset 0: the line has the label '2.0'"}};

}  // namespace

// Every reader by every kind of damage that its files can have: what is refused names the file and the place. Binary files that went
// through a text mode, text that is not UTF-8: bytes are data, and what they break is said. A review is any bytes, so it cannot be cut wrongly.
TEST(ReaderDamage, EveryKindNamesFileAndPlace) {
  for (const Damage& d : damages) {
    SCOPED_TRACE(std::string(d.reader) + ", " + d.kind);
    const readers::Reader& reader = readers::reader(d.reader);
    const TemporaryFolder temporary;
    const readers::Folder folder(reader, temporary.path);
    const std::string before = folder.files.at(d.file), after = d.make(before);
    EXPECT_NE(d.said[0] ? before : "", after) << "nothing was damaged";
    folder.put(d.file, after);
    std::string message = bad_input([&] { readers::outside(*readers::open(reader, folder.path), reader); });
    if (!d.said[0]) {
      EXPECT_EQ(message, "");
      continue;
    }
    const std::string file = std::filesystem::path(d.file).parent_path().string();  // of metadata the folder where a whole file is meant
    EXPECT_NE(message.find((folder.path / (file.empty() ? d.file : file)).string()), std::string::npos) << message;
    EXPECT_NE(message.find(d.said), std::string::npos) << message;
  }
}
