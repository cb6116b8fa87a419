// Readers of the user's files under mutation: whatever stands in a file, a reader gives examples within its ranges, or BadInput that
// names the file. SSM_FUZZ_SECONDS=n goes on for n seconds a reader; the tests of each reader keep what such runs have found.
#include <png.h>

#include <chrono>
#include <cstdlib>
#include <map>

#include "open_task.hpp"
#include "rng.hpp"

using namespace ssm;

namespace {

using Files = std::map<std::string, std::string>;  // by path inside the folder

std::string small_png(int grey) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION, image.width = image.height = 32, image.format = PNG_FORMAT_GRAY;
  const std::vector<unsigned char> pixels(1024, static_cast<unsigned char>(grey));
  png_alloc_size_t bytes = 0;
  png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels.data(), 0, nullptr);
  std::string out(bytes, '\0');
  png_image_write_to_memory(&image, out.data(), &bytes, 0, pixels.data(), 0, nullptr);
  return out;
}

Files listops_files() {
  const std::string table = "Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n( ( ( [SM ( ( ( [MED 1 ) 2 ) ] ) ) 9 ) ] )\t0\r\n";
  return {{"basic_train.tsv", table}, {"basic_val.tsv", table}, {"basic_test.tsv", table}};
}

Files pathfinder_files() {
  Files out;
  for (int i = 0; i < 12; ++i) {
    const std::string name = "sample_" + std::to_string(i) + ".png";
    out["imgs/0/" + name] = small_png(10 * i);
    out["metadata/0.npy"] += "imgs/0 " + name + ' ' + std::to_string(i) + ' ' + std::to_string(i % 2) + " 1.0 14 4 2 0.5 1 1\n";
  }
  return out;
}

Files mnist_files() {
  const std::string images = std::string("\0\0\x08\x03\0\0\0\x0c\0\0\0\x1c\0\0\0\x1c", 16) + std::string(std::size_t{12} * 784, '\x40');
  const std::string labels = std::string("\0\0\x08\x01\0\0\0\x0c", 8) + std::string("\0\1\2\3\4\5\6\7\x08\x09\0\1", 12);
  return {{"train-images-idx3-ubyte", images},
          {"train-labels-idx1-ubyte", labels},
          {"t10k-images-idx3-ubyte", images},
          {"t10k-labels-idx1-ubyte", labels}};
}

Files review_files() {
  return {{"train/pos/1.txt", "good"}, {"train/neg/1.txt", "dull"}, {"test/pos/1.txt", "fi\xffne\n"}, {"test/neg/1.txt", "bad"}};
}

Files table_files() {
  return {{"train.tsv", "Source,Target\r\n\"He said \"\"no\"\", twice\",0\r\ngreat,1\r\n"}, {"test.tsv", "Source,Target\n\"a\nb\",1"}};
}

Files pair_files() {
  const std::string pairs = "1.0\tx\ty\tfirst \"text\tsecond\r\n0.0\tx\tz\tfirst\tthird\n";
  return {{"new_aan_pairs.train.tsv", pairs}, {"new_aan_pairs.eval.tsv", pairs}, {"new_aan_pairs.test.tsv", pairs}};
}

struct Reader {
  const char *label, *task;
  Files (*files)();
};
const Reader readers[] = {{"listops", "listops", listops_files}, {"pathfinder", "pathfinder", pathfinder_files},
                          {"mnist", "mnist", mnist_files},       {"reviews", "text", review_files},
                          {"table", "text", table_files},        {"pairs", "retrieval", pair_files}};

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

// Reads what there is, up to 20 examples of a split, and checks that it is within the ranges the task states.
void read_all(const Task& task) {
  const TaskInfo info = task.info();
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test})
    for (Index i = 0; i < std::min<Index>(task.size(split), 20); ++i) {
      task.example(split, i, e);
      for (const auto* tokens : {&e.tokens, &e.second})
        for (const std::int32_t t : *tokens) ASSERT_TRUE(t >= 0 && t < info.vocab) << t;
      for (const float v : e.features) ASSERT_TRUE(v >= 0 && v <= 1) << v;
      ASSERT_TRUE(e.targets.size() == 1 && e.targets[0] >= 0 && e.targets[0] < info.classes);
      ASSERT_LE(e.tokens.size() + e.features.size(), std::size_t(info.max_length));
      ASSERT_EQ(e.slices.size(), info.slices.size());
      for (std::size_t s = 0; s < e.slices.size(); ++s) ASSERT_LT(std::size_t(e.slices[s]), info.slices[s].labels.size());
    }
}

class Readers : public testing::TestWithParam<Reader> {};

}  // namespace

TEST_P(Readers, SurviveMutation) {
  const Reader& reader = GetParam();
  const TemporaryFolder folder;
  const Files files = reader.files();
  const auto put = [&](const std::string& name, const std::string& content) {
    std::filesystem::create_directories((folder.path / name).parent_path());
    folder.write(name, content);
  };
  for (const auto& [name, content] : files) put(name, content);
  const Settings settings = {{"data_dir", folder.path.string()}};
  read_all(*open_task(reader.task, settings));
  const char* seconds = std::getenv("SSM_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds ? std::atof(seconds) : 0);
  int refused = 0, tried = 0;
  for (; tried < 200 || std::chrono::steady_clock::now() < end; ++tried) {
    Rng rng(5, hash_name(reader.label), static_cast<std::uint64_t>(tried));
    auto victim = files.begin();
    std::advance(victim, rng.below(static_cast<std::uint32_t>(files.size())));
    const std::string content = mutated(victim->second, rng);
    put(victim->first, content);
    try {
      const std::string message = bad_input([&] { read_all(*open_task(reader.task, settings)); });
      refused += !message.empty();
      EXPECT_TRUE(message.empty() || message.find(folder.path.string()) != std::string::npos) << message;
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
    ASSERT_FALSE(HasFailure()) << victim->first << " of mutation " << tried << ": " << testing::PrintToString(content);
    put(victim->first, victim->second);
  }
  EXPECT_GT(refused, tried / 20) << "mutations that nobody notices test nothing";
}
INSTANTIATE_TEST_SUITE_P(Files, Readers, testing::ValuesIn(readers), [](const auto& p) { return std::string(p.param.label); });

// Every file of every reader: absent, empty, a folder in its place.
TEST_P(Readers, NameTheFileThatIsNotThere) {
  const Reader& reader = GetParam();
  const Files files = reader.files();
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
      const std::string message = bad_input([&] { read_all(*open_task(reader.task, {{"data_dir", folder.path.string()}})); });
      const std::string parent = (folder.path / name).parent_path().string();
      EXPECT_NE(message.find(parent), std::string::npos) << how << ": " << message;
    }
  }
}
