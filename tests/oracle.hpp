// oracle.hpp - results of the double build, one file a suite and variant in the folder SSM_ORACLE; every other build, on whatever device,
// computes the same from the same numbers, rounded to float, and compares.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/blas.hpp"
#include "op_check.hpp"
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
  for (const auto& [place, values] : findings)
    if (place.find("/p/") != std::string::npos) tree.put(place, Array(std::vector<float>(values.begin(), values.end())));  // as rounded
    else tree.put(place, Array(values));
  std::filesystem::create_directories(std::filesystem::path(file).parent_path());
  tree.write(file);
}

// Outputs and losses are compared to their largest entry; the others, gradients, as core/README.md measures them.
inline bool is_value(const std::string& place) { return place.ends_with("/y") || place.ends_with("/loss"); }

// HiPPO-FouT's frequencies reach hundreds of turns over a sequence: another order of roundings shows at 1e-9 in their gradients.
inline double allowed_by_oracle(const std::string& place) {
  if (tf32_products()) return is_value(place) ? 1e-2 : 3e-2;  // factors of 10 bits, a dozen products deep
  if (is_value(place)) return kDouble ? 1e-10 : 1e-5;
  return !kDouble ? 1e-4 : place.find("init_fout") != std::string::npos ? 1e-8 : 1e-9;
}

// Also prints the largest errors, for the tables of scripts/gpu_check.
inline void compare_with_oracle(const std::string& what, const Tree& oracle, const Findings& findings) {
  const std::string from = "; the double build's code was " + oracle.get<std::string>("/", "git_sha");
  std::map<std::string, double> largest;  // gradient of a case
  double worst_value = 0, worst_gradient = 0;
  const auto group = [](const std::string& place) { return place.substr(0, place.find('/', 1)); };
  for (const auto& [place, values] : findings)
    if (!is_value(place))
      for (const double v : oracle.numbers(place)) largest[group(place)] = std::max(largest[group(place)], std::abs(v));
  for (const auto& [place, values] : findings) {
    const std::vector<double> expected = oracle.numbers(place);
    ASSERT_EQ(values.size(), expected.size()) << place << from;
    // TF32's errors stand beside the terms of a sum, of which some gradients are a thousandth (mamba2's D, before a norm): a higher floor.
    const double most = largest[group(place)] * (tf32_products() ? 100 : 1);
    const double error = is_value(place) ? relative_error(values, expected) : gradient_error(values, expected, most);
    EXPECT_LT(error, allowed_by_oracle(place)) << place << from;
    double& worst = is_value(place) ? worst_value : worst_gradient;
    worst = std::max(worst, error);
  }
  std::printf("[  ERRORS  ] %-34s %s  values %.1e  gradients %.1e\n", what.c_str(), tf32_products() ? "tf32" : "fp32", worst_value,
              worst_gradient);
}

}  // namespace ssm
