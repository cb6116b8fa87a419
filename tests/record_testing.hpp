// record_testing.hpp - a folder per test, and comparisons by bits; shared by the tests of core/record.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "record/checkpoint.hpp"

namespace ssm {

namespace fs = std::filesystem;

struct RecordTest : testing::Test {
  fs::path dir;
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / ("ssm_record_" + std::string(6, 'X'))).string();  // mkdtemp fills the last six
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir = name;
  }
  void TearDown() override { fs::remove_all(dir); }
  std::string at(const std::string& name) const { return (dir / name).string(); }
};

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void put_bytes(const std::string& path, const std::string& bytes) {
  fs::remove(path);  // rewriting in place makes some file systems flush
  std::ofstream(path, std::ios::binary) << bytes;
}

// "" when f succeeds, otherwise the message of the E it throws.
template <class E, class F>
std::string message(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

inline void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

// Bitwise, so that NaN equals itself and -0 differs from 0.
template <class T>
void expect_same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.empty() ? 0 : std::memcmp(a.data(), b.data(), a.size() * sizeof(T)), 0);
}

template <class T>
std::vector<T> awkward() {
  using L = std::numeric_limits<T>;
  return {T(0),         -T(0),    L::infinity(), -L::infinity(), L::quiet_NaN(), -L::quiet_NaN(), L::denorm_min(),
          L::min() / 2, L::max(), L::lowest(),   T(1) / 3};
}

inline Checkpoint small_checkpoint() {
  Checkpoint c;
  c.arrays["param/embed.weight"] = Array({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}.data());
  c.arrays["param/layers.0.mixer.A_log"] = Array({4}, std::vector<float>{-1, 0, 1, 2}.data());
  c.arrays["buffer/count"] = Array(std::vector<std::int64_t>{7});
  c.arrays["moment/best"] = Array(awkward<double>());
  c.attributes["step"] = std::int64_t(100);
  c.attributes["variant"] = std::string("s4d");
  c.attributes["best_loss"] = 0.1;
  c.attributes["bidirectional"] = false;
  return c;
}

}  // namespace ssm
