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
