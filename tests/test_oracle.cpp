// test_oracle.cpp - the double build writes outputs and gradients of every mixer case to files in
// SSM_ORACLE; every other build, on whatever device, computes the same cases from the same numbers, rounded to float, and compares.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "mixer_cases.hpp"
#include "record/build_info.hpp"
#include "record/tree.hpp"
#include "testing.hpp"

namespace ssm {
namespace {

// Numbers that a float holds: inputs and parameters of both builds.
std::vector<double> rounded(std::vector<double> x) {
  for (double& v : x) v = static_cast<double>(static_cast<float>(v));
  return x;
}

using Outcome = std::map<std::string, std::vector<double>>;  // "y", "dx", "d<parameter>"

Outcome outcome_of(const std::string& variant, const MixerCase& c) {
  Probe probe(test_device().exec(), mixer_spec(variant, c.knobs, c.shape));
  for (const ParamInfo& p : probe.params().all()) probe.params().set(p.name, rounded(probe.params().get(p.name)));
  const Index count = c.shape.B * c.shape.T * c.shape.D;
  Outcome out;
  out["y"] = probe.forward({rounded(test_values("oracle x", count))});
  out["dx"] = probe.backward(rounded(test_values("oracle dy", count)))[0];
  for (const ParamInfo& p : probe.params().all())
    if (p.trained) out["d" + p.name] = probe.params().get_grad(p.name);
  return out;
}

std::string place(const MixerCase& c, const std::string& what) { return "/" + c.label + "/" + what; }

void write_oracle(const std::string& variant, const std::string& file) {
  Tree tree;
  tree.set("/", "git_sha", std::string(build_info.git_sha));
  for (const MixerCase& c : mixer_cases(variant))
    for (auto& [what, values] : outcome_of(variant, c)) tree.put(place(c, what), Array(values));
  std::filesystem::create_directories(std::filesystem::path(file).parent_path());
  tree.write(file);
}

void compare(const std::string& variant, const std::string& file) {
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there: run the tests of the double preset first";
  const Tree oracle = Tree::read(file);
  const std::string from = "; the double build's code was " + oracle.get<std::string>("/", "git_sha");
  for (const MixerCase& c : mixer_cases(variant))
    for (const auto& [what, values] : outcome_of(variant, c)) {
      const double allowed = kDouble ? (what == "y" ? 1e-10 : 1e-9) : what == "y" ? 1e-5 : 1e-4;
      EXPECT_LT(relative_error(values, oracle.numbers(place(c, what))), allowed) << c.label << ": " << what << from;
    }
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names())
    add_test("oracle", name, [=] {
      const char* folder = std::getenv("SSM_ORACLE");
      ASSERT_NE(folder, nullptr) << "SSM_ORACLE names the folder that the double build writes, one file a variant";
      const std::string file = std::string(folder) + "/" + name + ".h5";
      if (std::getenv("SSM_ORACLE_WRITE")) write_oracle(name, file);
      else compare(name, file);
    });
});

}  // namespace
}  // namespace ssm
