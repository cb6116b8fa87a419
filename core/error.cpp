#include "error.hpp"

#include <numeric>

namespace ssm {

namespace {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(const std::string& name, const std::vector<std::string>& names) {
  std::string best;
  std::size_t least = ~std::size_t{0};
  for (const std::string& candidate : names) {
    const std::size_t d = edit_distance(name, candidate);
    if (d < least) least = d, best = candidate;
  }
  return best;
}

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : separator) + word;
  return out;
}

void unknown(const std::string& what, const std::string& name, const std::vector<std::string>& allowed) {
  std::string message = "unknown " + what + " '" + name + "'";
  if (!allowed.empty()) message += "; did you mean '" + nearest(name, allowed) + "'? allowed: " + join(allowed);
  throw BadInput(message);
}

}  // namespace ssm
