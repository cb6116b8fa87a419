// ListOps: the generator against the statistics of the published set, and its files.
#include <map>
#include <set>
#include <sstream>

#include "../tasks/listops_io.hpp"
#include "listops_ladder.hpp"
#include "open_task.hpp"

using namespace ssm;
using namespace ssm::listops;

namespace {

const Settings small = {{"depth", "6"}, {"min_length", "100"}, {"max_length", "250"}};

// Tokens of an expression as text writes it, without parentheses.
std::vector<std::int32_t> tokens_of(const std::string& expression) {
  static const std::map<std::string, std::int32_t> ids = {
      {"[MIN", op_min}, {"[MAX", op_max}, {"[MED", op_med}, {"[SM", op_sm}, {"]", closing}};
  std::vector<std::int32_t> out;
  std::istringstream in(expression);
  for (std::string word; in >> word;) out.push_back(ids.count(word) ? ids.at(word) : zero + std::stoi(word));
  return out;
}

int value_of(const std::string& expression) { return evaluate(tokens_of(expression)).label; }

// Evaluation by sorting, independent of Arguments; checks that every operator has 2..10 arguments.
int by_sorting(const std::vector<std::int32_t>& tokens, std::size_t& at) {
  const std::int32_t t = tokens[at++];
  if (t < op_min) return t - zero;
  std::vector<int> values;
  while (tokens[at] != closing) values.push_back(by_sorting(tokens, at));
  ++at;
  EXPECT_GE(values.size(), 2u);
  EXPECT_LE(values.size(), 10u);
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  if (t == op_min) return values.front();
  if (t == op_max) return values.back();
  if (t == op_med) return static_cast<int>(n % 2 ? values[n / 2] : std::floor((values[n / 2 - 1] + values[n / 2]) / 2.0));
  int sum = 0;
  for (const int v : values) sum += v;
  return sum % 10;
}

const Reference& reference(const TaskInfo& info, const std::string& label) {
  for (const Reference& r : info.references)
    if (r.label == label) return r;
  throw std::runtime_error("no reference " + label);
}

}  // namespace

TEST(ListOps, OperatorsMeanWhatThePaperSays) {
  EXPECT_EQ(value_of("[MIN 4 2 9 ]"), 2);
  EXPECT_EQ(value_of("[MAX 4 2 9 ]"), 9);
  EXPECT_EQ(value_of("[MED 4 2 9 ]"), 4);
  EXPECT_EQ(value_of("[MED 1 2 4 9 ]"), 3);
  EXPECT_EQ(value_of("[MED 1 2 5 9 ]"), 3);
  EXPECT_EQ(value_of("[SM 8 9 7 ]"), 4);
  EXPECT_EQ(value_of("[SM 8 [MED 9 7 ] [MIN 3 5 [MAX 0 1 ] ] ]"), 7);
  EXPECT_EQ(evaluate(tokens_of("[SM 8 [MED 9 7 ] [MIN 3 5 [MAX 0 1 ] ] ]")).levels, 4);
}

TEST(ListOps, LabelsAreTheValues) {
  for (const Settings& settings : {Settings{}, small}) {
    const auto task = open_task("listops", settings);
    Example e;
    for (const Split split : {Split::train, Split::validation, Split::test})
      for (Index i = 0; i < 100; ++i) {
        task->example(split, i, e);
        std::size_t at = 0;
        EXPECT_EQ(by_sorting(e.tokens, at), e.targets[0]);
        EXPECT_EQ(at, e.tokens.size());
        EXPECT_EQ(evaluate(e.tokens).label, e.targets[0]);
        EXPECT_EQ(evaluate(e.tokens).levels, e.slices[1] + 2);
      }
  }
}

// The grammar without a window: one node in four is an operator, 2..10 arguments and the four operators are equally likely.
TEST(ListOps, Grammar) {
  const Grammar grammar{2, 0, 100};
  Rng rng(3, hash_name("grammar"), 0);
  std::vector<std::int32_t> tokens;
  Meaning meaning;
  constexpr int trees = 100000;
  std::map<std::size_t, int> lengths;
  std::map<std::int32_t, int> roots;
  for (int i = 0; i < trees; ++i) {
    ASSERT_TRUE(grammar.draw(rng, tokens, meaning));
    ++lengths[tokens.size()], ++roots[tokens[0]];
  }
  EXPECT_EQ(lengths.size(), 10u);
  EXPECT_EQ(roots.size(), 14u);
  for (const auto& [length, n] : lengths) {
    const double p = length == 1 ? .75 : .25 / 9;
    EXPECT_NEAR(double(n) / trees, p, share_tolerance(p, trees)) << "length " << length;
  }
  for (const auto& [token, n] : roots) {
    const double p = is_digit(token) ? .075 : .0625;
    EXPECT_NEAR(double(n) / trees, p, share_tolerance(p, trees)) << "root " << token;
  }
}

TEST(ListOps, AcceptanceOfThePublishedWindow) {
  const Grammar grammar;
  Rng rng(3, hash_name("acceptance"), 0);
  std::vector<std::int32_t> tokens;
  Meaning meaning;
  constexpr int trees = 40000;
  int accepted = 0;
  for (int i = 0; i < trees; ++i) accepted += grammar.draw(rng, tokens, meaning);
  EXPECT_NEAR(double(accepted) / trees, .0826, share_tolerance(.0826, trees));
}

// Against 100,000 expressions of an independent program. Tolerances: 4 standard errors of 3000 examples; a length has a standard
// deviation of 395, a number of operators of 56, and a quantile the error sqrt(q(1-q)/n) over the density there.
TEST(ListOps, StatisticsOfThePublishedForm) {
  const auto task = open_task("listops");
  constexpr int n = 3000;
  std::vector<double> lengths;
  std::array<double, 10> labels{};
  std::array<std::array<double, 10>, 4> by_root{};
  double sum = 0, ops = 0, deepest = 0;
  Example e;
  for (Index i = 0; i < n; ++i) {
    task->example(Split::train, i, e);
    ASSERT_GT(e.tokens.size(), 500u);
    ASSERT_LT(e.tokens.size(), 2000u);
    lengths.push_back(double(e.tokens.size()));
    sum += lengths.back();
    ops += double(std::count_if(e.tokens.begin(), e.tokens.end(), is_operator));
    deepest += e.slices[1] + 2 == 10;
    ++labels[std::size_t(e.targets[0])];
    ++by_root[std::size_t(e.slices[0])][std::size_t(e.targets[0])];
  }
  std::sort(lengths.begin(), lengths.end());
  EXPECT_NEAR(sum / n, 1034, 29);
  EXPECT_NEAR(ops / n, 147, 4.1);
  EXPECT_GT(deepest / n, .99);
  EXPECT_NEAR(lengths[n * 5 / 100], 538, 12);
  EXPECT_NEAR(lengths[n / 4], 702, 28);
  EXPECT_NEAR(lengths[n / 2], 953, 34);
  EXPECT_NEAR(lengths[n * 3 / 4], 1310, 50);
  EXPECT_NEAR(lengths[n * 95 / 100], 1799, 64);
  const double expected[] = {.168, .090, .078, .083, .090, .087, .076, .073, .088, .168};
  for (std::size_t k = 0; k < 10; ++k) EXPECT_NEAR(labels[k] / n, expected[k], share_tolerance(expected[k], n)) << "label " << k;
  EXPECT_NEAR(by_root[0][0] / (n / 4.), .566, share_tolerance(.566, n / 4.) + share_tolerance(.25, n) * 4 * .566);
  double known_root = 0;
  for (const auto& counts : by_root) known_root += *std::max_element(counts.begin(), counts.end()) / n;
  EXPECT_NEAR(known_root, .361, share_tolerance(.361, n));
}

// The references are drawn beside scores, so they are measured again here: 4 standard errors of both samples (theirs: 48,000 trees).
TEST(ListOps, LadderAndFloors) {
  for (const auto& [settings, trees] : {std::pair{Settings{}, 1000}, std::pair{small, 3000}}) {
    const auto task = open_task("listops", settings);
    const TaskInfo info = task->info();
    std::size_t steps = 0;
    for (const Reference& r : info.references) steps += r.kind == "ladder";
    ASSERT_EQ(steps, settings.empty() ? 9u : 5u);
    const std::vector<double> measured = ladder(*task, trees, steps + 1);
    for (std::size_t k = 0; k < steps; ++k) {
      const double p = reference(info, "top " + std::to_string(k) + " levels").value;
      EXPECT_NEAR(measured[k], p, std::hypot(share_tolerance(p, trees), share_tolerance(p, 48000))) << "k = " << k;
    }
    EXPECT_NEAR(measured[steps], 1, 1e-12);
    EXPECT_NEAR(measured[0], reference(info, "root operator").value, share_tolerance(.361, trees));
    Example e;
    std::array<double, 10> labels{};
    for (Index i = 0; i < trees; ++i) task->example(Split::test, i, e), ++labels[std::size_t(e.targets[0])];
    const double p = reference(info, "majority label").value;
    EXPECT_NEAR(labels[0] / trees, p, share_tolerance(p, trees));
  }
}

TEST(ListOps, SplitsShareNothingAndRepeatNothing) {
  for (const Settings& settings : {Settings{}, small}) {
    std::set<std::vector<std::int32_t>> seen;
    std::size_t drawn = 0;
    Example e;
    for (const std::uint64_t seed : {1, 2}) {
      const auto task = open_task("listops", settings, seed);
      for (const Split split : {Split::train, Split::validation, Split::test})
        for (Index i = 0; i < 500; ++i) task->example(split, i, e), seen.insert(e.tokens), ++drawn;
    }
    EXPECT_EQ(seen.size(), drawn);
  }
}

TEST(ListOps, WindowThatTheGrammarMissesIsRefused) {
  const std::string message = bad_input([] { open_task("listops", {{"depth", "3"}}); });
  EXPECT_NE(message.find("listops.min_length = 500"), std::string::npos) << message;
  EXPECT_NE(bad_input([] { open_task("listops", {{"min_length", "300"}, {"max_length", "300"}}); }), "");
  EXPECT_NE(bad_input([] { open_task("listops", {{"depth", "ten"}}); }).find("listops.depth"), std::string::npos);
}

TEST(ListOpsFiles, BracketsNestToTheLeft) {
  EXPECT_EQ(text(tokens_of("[MAX 2 9 ]"), true), "( ( ( [MAX 2 ) 9 ) ] )");
  EXPECT_EQ(text(tokens_of("[MAX [MIN 1 2 ] 9 ]"), true), "( ( ( [MAX ( ( ( [MIN 1 ) 2 ) ] ) ) 9 ) ] )");
  EXPECT_EQ(text(tokens_of("[MAX [MIN 1 2 ] 9 ]"), false), "[MAX [MIN 1 2 ] 9 ]");
}

TEST(ListOpsFiles, RoundTrip) {
  const TemporaryFolder folder;
  const auto made = open_task("listops", small);
  const std::pair<Split, const char*> files[] = {
      {Split::train, "basic_train.tsv"}, {Split::validation, "basic_val.tsv"}, {Split::test, "basic_test.tsv"}};
  for (const auto& [split, file] : files) made->write(split, 40, (folder.path / file).string());
  const auto read = open_task("listops", {{"data_dir", folder.path.string()}});
  Example a, b;
  for (const auto& [split, file] : files) {
    EXPECT_EQ(read->size(split), 40);
    EXPECT_FALSE(std::filesystem::exists(folder.path / (std::string(file) + ".part")));
    for (Index i = 0; i < 40; ++i) {
      made->example(split, i, a), read->example(split, i, b);
      EXPECT_EQ(a.tokens, b.tokens);
      EXPECT_EQ(a.targets, b.targets);
      EXPECT_LE(b.tokens.size(), std::size_t(read->info().max_length));
      EXPECT_LT(std::size_t(b.slices[1]), read->info().slices[1].labels.size());
    }
  }
  EXPECT_GT(reference(read->info(), "root operator").value, .1);
  std::ifstream in(folder.path / "basic_val.tsv", std::ios::binary);
  std::string line;
  while (std::getline(in, line)) EXPECT_EQ(line.back(), '\r');
}

TEST(ListOpsFiles, OtherReadersForms) {
  const TemporaryFolder folder;
  const Table t = read_tsv(folder.write("x.tsv", "Source\tTarget\n[MAX 2 [SM 9 3 X X\t2\n( ( ( [MED 2 ) 9 ) ] )\t5"));
  ASSERT_EQ(t.size(), 2);
  EXPECT_EQ(t.meaning[0].label, 2);
  EXPECT_EQ(t.meaning[1].label, 5);
  EXPECT_EQ(t[1].size(), 4u);
  EXPECT_EQ(t.longest, 7);
}

TEST(ListOpsFiles, MalformedFilesAreRefusedWithTheirLine) {
  const TemporaryFolder folder;
  const std::string head = "Source\tTarget\r\n", good = "( ( ( [MAX 2 ) 9 ) ] )\t9\r\n";
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {"", "line 1", "no example"},
      {head, "line 1", "no example"},
      {"Input\tTarget\r\n" + good, "line 1", "header"},
      {"\x89HDF\r\n\x1a\n", "line 1", "\\x89HDF"},
      {head + good + "( ( ( [MAX 2 ) 9", "line 3", "no tab"},
      {head + good + "( ( ( [MAX 2 ) 9\t9\r\n", "line 3", "closing brackets"},
      {head + "( ( ( [MUX 2 ) 9 ) ] )\t9\r\n", "line 2", "'[MUX'"},
      {head + "( ( ( [MAX 12 ) 9 ) ] )\t9\r\n", "line 2", "'12'"},
      {head + "( ( ( [MAX \xff\xfe ) 9 ) ] )\t9\r\n", "line 2", "\\xff\\xfe"},
      {head + good + good + "( ( ( [MAX 2 ) 9 ) ] )\t10\r\n", "line 4", "label '10'; allowed: 0..9"},
      {head + "( ( ( [MAX 2 ) 9 ) ] )\t\r\n", "line 2", "label ''"},
      {head + "( ( ( [MAX 2 ) 9 ) ] )\t2\r\n", "line 2", "evaluates to 9"},
      {head + "( [MAX 2 ] 3\t2\r\n", "line 2", "more tokens"},
      {head + "7\t7\r\n", "line 2", "operator"},
      {head + "[MAX ]\t7\r\n", "line 2", "without arguments"},
      {head + "\r\n" + good, "line 2", "no tab"},
      {head + "\t3\r\n", "line 2", "empty expression"},
  };
  for (const auto& [content, line, what] : cases) {
    const std::string path = folder.write("basic_train.tsv", content);
    const std::string message = bad_input([&] { open_task("listops", {{"data_dir", folder.path.string()}}); });
    EXPECT_NE(message.find(path + " " + line + ":"), std::string::npos) << message << " / " << line;
    EXPECT_NE(message.find(what), std::string::npos) << message << " / " << what;
  }
}

TEST(ListOpsFiles, MissingFilesAndFoldersAreNamed) {
  const TemporaryFolder folder;
  const std::string missing = (folder.path / "none").string();
  EXPECT_NE(bad_input([&] { open_task("listops", {{"data_dir", missing}}); }).find(missing + "/basic_train.tsv"), std::string::npos);
  std::filesystem::create_directories(folder.path / "basic_train.tsv");
  EXPECT_NE(bad_input([&] { open_task("listops", {{"data_dir", folder.path.string()}}); }).find("folder"), std::string::npos);
  try {
    open_task("listops", small)->write(Split::test, 3, missing + "/x.tsv");
    ADD_FAILURE() << "wrote into a folder that does not exist";
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("No such file"), std::string::npos) << e.what();
  }
}
