// test_record_damage.cpp - foreign, damaged and unreadable files are refused by name; kills and full disks leave whole files.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>

#include "error.hpp"
#include "record/atomic_file.hpp"
#include "record/record.hpp"
#include "record_testing.hpp"

using namespace ssm;

namespace {

using RecordDamage = RecordTest;

// Runs f in a child process; its exit code, or minus the signal that ended it.
template <class F>
int in_child(F f) {
  const pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_F(RecordDamage, ForeignAndUnreadableFilesAreNamed) {
  expect_contains(message<BadInput>([&] { Tree::read(at("absent.h5")); }), {at("absent.h5"), "No such file"});
  expect_contains(message<BadInput>([&] { Tree::read(dir.string()); }), {dir.string(), "folder"});
  put_bytes(at("empty.h5"), "");
  expect_contains(message<BadInput>([&] { Tree::read(at("empty.h5")); }), {at("empty.h5"), "empty"});
  put_bytes(at("text.h5"), "Source\tTarget\n( [MAX 1 2 ] )\t2\n");
  expect_contains(message<BadInput>([&] { Tree::read(at("text.h5")); }), {at("text.h5"), "not an HDF5 file"});

  Tree t;
  t.set("/", "schema", "ssmbench/1");
  t.write(at("results.h5"));
  expect_contains(message<BadInput>([&] { Checkpoint::load(at("results.h5")); }),
                  {at("results.h5"), "ssmbench/1", "ssmbench-checkpoint/1"});
  Tree().write(at("bare.h5"));
  expect_contains(message<BadInput>([&] { Checkpoint::load(at("bare.h5")); }), {at("bare.h5"), "schema", "missing"});

  const int code = in_child([&] {
    if (chmod(at("results.h5").c_str(), 0) != 0 || (geteuid() == 0 && (chmod(dir.c_str(), 0755) != 0 || seteuid(65534) != 0))) return 3;
    const std::string text = message<BadInput>([&] { Tree::read(at("results.h5")); });
    return text.find(at("results.h5")) != std::string::npos && text.find("Permission denied") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

TEST_F(RecordDamage, ChangedCheckpointIsRefusedWithTheEntry) {
  small_checkpoint().save(at("good.h5"));
  const auto refused = [&](auto change, const std::vector<std::string>& parts) {
    Tree t = Tree::read(at("good.h5"));
    change(t);
    t.write(at("bad.h5"));
    expect_contains(message<BadInput>([&] { Checkpoint::load(at("bad.h5")); }), parts);
  };
  const std::string weight = "/arrays/param/embed.weight";
  refused(
      [&](Tree& t) {
        Array a = t.at(weight);
        std::get<std::vector<float>>(a.data)[3] += 1e-6f;
        t.put(weight, a);
      },
      {at("bad.h5"), "param/embed.weight", "checksum"});
  refused(
      [&](Tree& t) {
        Array a = t.at(weight);
        a.shape = {3, 2};
        t.put(weight, a);
      },
      {at("bad.h5"), "param/embed.weight"});
  refused([&](Tree& t) { t.erase(weight); }, {at("bad.h5"), "/arrays"});
  refused([&](Tree& t) { t.put("/arrays/extra", Array()); }, {at("bad.h5"), "/arrays/extra", "fnv1a"});
  refused([&](Tree& t) { t.put("/extra", Array()); }, {at("bad.h5"), "'/extra'"});
  refused([&](Tree& t) { t.set("/state", "step", 101); }, {at("bad.h5"), "/state"});
  refused([&](Tree& t) { t.attributes("/").erase("fnv1a"); }, {at("bad.h5"), "fnv1a"});
}

// Bytes changed all over the file, and the file cut at many lengths, its last 16 bytes one by one: always refused. No crash.
TEST_F(RecordDamage, DamagedCheckpointNeverReadsAsSomethingElse) {
  small_checkpoint().save(at("good.h5"));
  const std::string good = bytes_of(at("good.h5"));
  ASSERT_EQ(good.substr(good.size() - 16, 8), "ssmbench");
  const auto load = [&](const std::string& bytes, std::size_t where) {
    put_bytes(at("bad.h5"), bytes);
    const std::string text = message<BadInput>([&] { Checkpoint::load(at("bad.h5")); });
    EXPECT_NE(text, "") << "damage at byte " << where << " of " << good.size() << " was not noticed";
    expect_contains(text, {at("bad.h5")});
  };
  for (std::size_t i = 0; i < good.size(); i += i + 32 < good.size() ? 7 : 1) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 + i % 255));
    load(bad, i);
  }
  for (std::size_t n = 0; n < good.size(); n += n + 32 < good.size() ? 13 : 1) load(good.substr(0, n), n);
}

// Another program that edits a results file drops the seal: that file reads. One that lost a part of its seal was cut.
TEST_F(RecordDamage, ResultsWithoutASealReadAndThoseWithAPartOfItDoNot) {
  Tree t;
  t.set("/", "schema", "ssmbench/1");
  t.write(at("good.h5"));
  const std::string good = bytes_of(at("good.h5"));
  put_bytes(at("bare.h5"), good.substr(0, good.size() - 16));
  EXPECT_EQ(Tree::read(at("bare.h5")).get<std::string>("/", "schema"), "ssmbench/1");
  for (std::size_t left = 1; left < 16; ++left) {
    put_bytes(at("cut.h5"), good.substr(0, good.size() - 16 + left));
    expect_contains(message<BadInput>([&] { Tree::read(at("cut.h5")); }), {at("cut.h5"), "truncated"});
  }
}

TEST_F(RecordDamage, FailingWriteLeavesTheOldFileAndNoTemporary) {
  Tree t;
  t.put("/x", Array(std::vector<double>(1000, 1.0)));
  expect_contains(message<std::runtime_error>([&] { t.write(at("no/such/folder.h5")); }), {at("no/such/folder.h5"), "No such file"});
  fs::create_directory(at("folder.h5"));
  expect_contains(message<std::runtime_error>([&] { t.write(at("folder.h5")); }), {at("folder.h5"), "directory"});
  put_bytes(at("file"), "");
  EXPECT_NE(message<std::runtime_error>([&] { Record rec(at("file/sub/x.h5"), "x"); }), "");
  EXPECT_FALSE(fs::exists(at("folder.h5.tmp")));

  t.write(at("x.h5"));
  const std::string before = bytes_of(at("x.h5"));
  t.put("/x", Array(std::vector<double>(100000, 2.0)));
  // The limit on file size stands in for a full disk: write(2) succeeds in part, then fails.
  const int full = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20000, 20000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string text = message<std::runtime_error>([&] { t.write(at("x.h5")); });
    return text.find(at("x.h5")) != std::string::npos && text.find("File too large") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(full, 0);
  EXPECT_EQ(bytes_of(at("x.h5")), before);
  EXPECT_FALSE(fs::exists(at("x.h5.tmp")));

  const int read_only = in_child([&] {
    if (chmod(dir.c_str(), 0555) != 0 || (geteuid() == 0 && seteuid(65534) != 0)) return 3;
    const std::string text = message<std::runtime_error>([&] { t.write(at("x.h5")); });
    return text.find(at("x.h5")) != std::string::npos && text.find("Permission denied") != std::string::npos ? 0 : 1;
  });
  chmod(dir.c_str(), 0755);
  EXPECT_EQ(read_only, 0);
  EXPECT_EQ(bytes_of(at("x.h5")), before);
}

TEST_F(RecordDamage, KilledWriterLeavesAWholeFile) {
  std::mt19937 random(1);
  Tree first;
  first.put("/x", Array(std::vector<std::int64_t>(1, 0)));
  first.write(at("x.h5"));
  std::int64_t last = 0;
  int advanced = 0;
  for (int round = 0; round < 20; ++round) {
    const pid_t pid = fork();
    if (pid == 0) {
      for (std::int64_t k = last + 1;; ++k) {
        Tree t;
        t.put("/x", Array(std::vector<std::int64_t>(static_cast<std::size_t>(1 + 997 * (k % 50)), k)));
        t.write(at("x.h5"));
      }
    }
    usleep(std::uniform_int_distribution<useconds_t>(500, 30000)(random));
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    const Tree t = Tree::read(at("x.h5"));
    const auto& x = t.column<std::int64_t>("/x");
    const std::int64_t k = x.at(0);
    ASSERT_EQ(x, std::vector<std::int64_t>(k ? static_cast<std::size_t>(1 + 997 * (k % 50)) : 1, k));
    ASSERT_GE(k, last);
    advanced += k > last;
    last = k;
  }
  EXPECT_GT(advanced, 10) << "the children wrote too little for this to test anything";
  put_bytes(at("x.h5.tmp"), std::string(1000000, 'x'));
  Tree().write(at("x.h5"));
  EXPECT_LT(fs::file_size(at("x.h5")), 100000u);
  EXPECT_FALSE(fs::exists(at("x.h5.tmp"))) << "the next write takes over what a killed one left";
}

TEST_F(RecordDamage, TwoWritersOfOnePathTakeTurns) {
  pid_t pids[3];
  for (int p = 0; p < 3; ++p)
    if ((pids[p] = fork()) == 0) {
      for (std::size_t k = 0; k < 100; ++k) {
        const std::string bytes((k % 7 + 1) * 5000, static_cast<char>('a' + p));
        write_atomic(at("x"), bytes.data(), bytes.size(), false);
      }
      _exit(0);
    }
  for (const pid_t pid : pids) {
    int status = 1;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const std::string bytes = bytes_of(at("x"));
  EXPECT_EQ(bytes.size() % 5000, 0u);
  EXPECT_EQ(bytes, std::string(bytes.size(), bytes[0]));
  EXPECT_FALSE(fs::exists(at("x.tmp")));
}
