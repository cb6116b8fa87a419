// oracle.hpp - results of the double build, one file a suite and variant in the folder SSM_ORACLE; every other build, on whatever device,
// computes the same from the same numbers, rounded to float, and compares.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "probe.hpp"
#include "record/build_info.hpp"
#include "record/tree.hpp"
#include "testing.hpp"

namespace ssm {

// Numbers that a float holds: inputs and parameters of all builds.
inline std::vector<double> rounded(std::vector<double> x) {
  for (double& v : x) v = static_cast<double>(static_cast<float>(v));
  return x;
}

// Arrays by path in the file: "/defaults_T31/y".
using Findings = std::map<std::string, std::vector<double>>;

inline bool is_oracle() { return std::getenv("SSM_ORACLE_WRITE") != nullptr; }

inline std::string oracle_file(const std::string& suite, const std::string& variant) {
  const char* folder = std::getenv("SSM_ORACLE");
  if (!folder) throw std::runtime_error("SSM_ORACLE names the folder that the double build writes");
  return std::string(folder) + "/" + suite + "." + variant + ".h5";
}

inline void write_oracle(const std::string& file, const Findings& findings) {
  Tree tree;
  tree.set("/", "git_sha", std::string(build_info.git_sha));
  for (const auto& [place, values] : findings) tree.put(place, Array(values));
  std::filesystem::create_directories(std::filesystem::path(file).parent_path());
  tree.write(file);
}

// Largest allowed difference by path, relative to the largest entry.
inline void compare_with_oracle(const Tree& oracle, const Findings& findings, const std::function<double(const std::string&)>& allowed) {
  const std::string from = "; the double build's code was " + oracle.get<std::string>("/", "git_sha");
  for (const auto& [place, values] : findings) EXPECT_LT(relative_error(values, oracle.numbers(place)), allowed(place)) << place << from;
}

}  // namespace ssm
