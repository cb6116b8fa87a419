// Tasks of text: the stand-in's published ladder, the language model's known entropy, and the readers of files with their errors.
#include <unordered_map>

#include "open_task.hpp"

using namespace ssm;

namespace {

bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

// The message of opening `name` on `folder`.
std::string refusal(const std::string& name, const TemporaryFolder& folder) {
  return bad_input([&] { open_task(name, {{"data_dir", folder.path.string()}}); });
}

std::string shown(const std::string& name, const TemporaryFolder& folder, Split split, Index i) {
  const auto task = open_task(name, {{"data_dir", folder.path.string()}});
  Example e;
  task->example(split, i, e);
  return task->show(e);
}

}  // namespace

// Accuracies of 4 of the 6 stated settings again: 4 standard errors and .01.
TEST(PolarText, OracleAndBagOfWords) {
  expect_statistics("polar_text", {}, 1000);
  expect_statistics("polar_text", {{"words", "160"}, {"polar", "0.08"}, {"purity", "0.7"}, {"negators", "0"}}, 2000);
  expect_statistics("polar_text", {{"words", "160"}, {"polar", "0.08"}, {"purity", "0.65"}, {"negators", "0.1"}}, 2000);
  expect_statistics("polar_text", {{"words", "160"}, {"polar", "0.12"}, {"purity", "0.7"}, {"negators", "0.15"}}, 2000);
}

TEST(RecallText, EntropyAndGaps) {
  expect_statistics("recall_text", {{"length", "512"}, {"records", "0"}}, 300);
  expect_statistics("recall_text", {{"length", "4096"}, {"records", "0.2"}}, 100);
  expect_statistics("recall_text", {{"length", "300"}, {"records", "0.3"}, {"redefine", "0.5"}}, 300);
  // Of another lexicon of the same law: 1.468 bits a character from 8.83 bits and 6.01 characters a word, orders 0 and 1 4.19 and 3.39.
  for (const Reference& r : open_task("recall_text", {{"records", "0"}})->info().references) {
    if (r.kind == "ceiling") {
      EXPECT_NEAR(r.value, 1.468, .06);
    } else if (r.label.starts_with("the 0") || r.label.starts_with("the 1")) {
      EXPECT_NEAR(r.value, r.label[4] == '0' ? 4.19 : 3.39, .02);
    }
  }
}

// The ladder against counts of n-grams, whose own bias is below .005 bits on these million characters.
TEST(RecallText, LadderIsThatOfCountedNgrams) {
  const auto task = open_task("recall_text", {{"records", "0"}, {"length", "16384"}});
  std::string text;
  Example e;
  for (Index i = 0; i < 64; ++i) {
    task->example(Split::train, i, e);
    for (const std::int32_t t : e.tokens) text += static_cast<char>(t);
  }
  int found = 0;
  for (const Reference& r : task->info().references) {
    if (r.kind != "ladder" || r.label[4] == '4') continue;
    const auto order = static_cast<std::size_t>(r.label[4] - '0');
    std::unordered_map<std::string, double> grams, known;
    for (std::size_t t = order; t < text.size(); ++t) ++grams[text.substr(t - order, order + 1)], ++known[text.substr(t - order, order)];
    double bits = 0;
    for (const auto& [gram, n] : grams) bits -= n * std::log2(n / known[gram.substr(0, order)]);
    EXPECT_NEAR(bits / double(text.size()), r.value, .01) << r.label;
    ++found;
  }
  EXPECT_EQ(found, 4);
}

TEST(Text, ReadsTheFolderOfReviews) {
  const TemporaryFolder folder;
  for (const char* part : {"train/pos", "train/neg", "test/pos", "test/neg"}) std::filesystem::create_directories(folder.path / part);
  EXPECT_TRUE(mentions(refusal("text", folder), "train/neg: has no .txt files"));
  folder.write("train/neg/1.txt", "dull"), folder.write("train/pos/2.txt", "b\xffst"), folder.write("train/pos/1.txt", "good");
  folder.write("test/pos/1.txt", "fine\n"), folder.write("test/neg/1.txt", "");
  EXPECT_TRUE(mentions(refusal("text", folder), "test/neg/1.txt: is empty"));
  folder.write("test/neg/1.txt", "bad");
  EXPECT_EQ(shown("text", folder, Split::train, 0), "dull -> negative");
  EXPECT_EQ(shown("text", folder, Split::train, 1), "good -> positive");
  EXPECT_EQ(shown("text", folder, Split::train, 2), "b\xffst -> positive");
  EXPECT_EQ(shown("text", folder, Split::validation, 0), shown("text", folder, Split::test, 0));
  Example e;
  open_task("text", {{"data_dir", folder.path.string()}, {"length", "16"}})->example(Split::train, 2, e);
  EXPECT_EQ(e.tokens, (std::vector<std::int32_t>{'b' + 1, 256, 's' + 1, 't' + 1}));
}

// Words that stand in one class alone tell it; the same letters in other words do not.
TEST(Text, FloorIsThatOfABagOfWords) {
  for (const auto& [positive, expected] : {std::pair{"fine film", 1.}, {"dull film", .5}}) {
    const TemporaryFolder folder;
    for (const char* part : {"train", "test"}) {
      std::filesystem::create_directories(folder.path / part / "pos"), std::filesystem::create_directories(folder.path / part / "neg");
      for (int i = 0; i < 8; ++i) {
        folder.write(std::string(part) + "/pos/" + std::to_string(i) + ".txt", positive);
        folder.write(std::string(part) + "/neg/" + std::to_string(i) + ".txt", "DULL film.");
      }
    }
    const TaskInfo info = open_task("text", {{"data_dir", folder.path.string()}})->info();
    ASSERT_EQ(info.references[1].kind, "floor");
    EXPECT_EQ(info.references[1].value, expected) << positive;
  }
}

TEST(Text, ReadsTheTable) {
  const TemporaryFolder folder;
  folder.write("train.tsv", "Source,Target\r\n\"He said \"\"no\"\", twice\",0\r\ngreat,1\r\n");
  folder.write("test.tsv", "Source,Target\n\"a\nb\",1");
  EXPECT_EQ(shown("text", folder, Split::train, 0), "He said \"no\", twice -> negative");
  EXPECT_EQ(shown("text", folder, Split::test, 0), "a\nb -> positive");
  const std::pair<const char*, const char*> wrong[] = {{"", "offset 0"},
                                                       {"text,label\na,1\n", "offset 0"},
                                                       {"Source,Target\n", "no rows"},
                                                       {"Source,Target\na,2\n", "offset 14"},
                                                       {"Source,Target\na,1\nb\n", "offset 18"},
                                                       {"Source,Target\n\"a,1\n", "not closed"}};
  for (const auto& [content, part] : wrong) {
    folder.write("test.tsv", content);
    EXPECT_TRUE(mentions(refusal("text", folder), part)) << content << ": " << refusal("text", folder);
  }
}

TEST(Retrieval, ReadsPairsLineByLine) {
  const TemporaryFolder folder;
  const std::string good = "1.0\tx\ty\tfirst \"text\tsecond\r\n0.0\tx\tz\tfirst\tthird\n";
  for (const char* part : {"train", "eval", "test"}) folder.write(std::string("new_aan_pairs.") + part + ".tsv", good);
  EXPECT_EQ(shown("retrieval", folder, Split::train, 0), "first \"text\n| second\n-> cites");
  EXPECT_EQ(shown("retrieval", folder, Split::test, 1), "first\n| third\n-> unrelated");
  EXPECT_EQ(open_task("retrieval", {{"data_dir", folder.path.string()}})->size(Split::validation), 2);
  const std::pair<const char*, const char*> wrong[] = {
      {"", "is empty"}, {"1.0\tx\ty\ta\n", "4 fields"}, {"2.0\tx\ty\ta\tb\n", "label"}, {"1.0\tx\ty\t\tb\n", "a text is empty"}};
  for (const auto& [content, part] : wrong) {
    folder.write("new_aan_pairs.test.tsv", content);
    EXPECT_TRUE(mentions(refusal("retrieval", folder), part)) << content << ": " << refusal("retrieval", folder);
  }
  folder.write("new_aan_pairs.test.tsv", good + "0.0\tx\n");
  const auto task = open_task("retrieval", {{"data_dir", folder.path.string()}});
  Example e;
  EXPECT_TRUE(mentions(bad_input([&] { task->example(Split::test, 2, e); }), "offset " + std::to_string(good.size())));
}
