// error.hpp - the two kinds of failure: what the user gave (exit code 2) and everything else (std::runtime_error, exit code 1).
#pragma once
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace ssm {

// The user's input is wrong. The message names the culprit, what was found and what is allowed.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A valid request that this build or machine cannot carry out ("no cuFFT in this build"): a result with a reason, exit code 0.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The entry of `names` nearest to `name` by edit distance; "" when there is none.
std::string nearest(const std::string& name, const std::vector<std::string>& names);

// "a, b, c"
std::string join(const std::vector<std::string>& words, const char* separator = ", ");

// BadInput: unknown <what> 'name'; did you mean 'x'? allowed: a, b, c
[[noreturn]] void unknown(const std::string& what, const std::string& name, const std::vector<std::string>& allowed);

}  // namespace ssm
