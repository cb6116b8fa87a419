// pixels.hpp - images as sequences: the order in which pixels are read, and a picture of an example for people.
#pragma once
#include <numeric>
#include <string>
#include <vector>

#include "rng.hpp"

namespace ssm {

// "rows"; "reversed-bits": the numbers below n sorted by their reversed bits (what the S4 code does for psMNIST); "permuted": a fixed
// random permutation (the older literature's psMNIST).
inline std::vector<int> pixel_order(const std::string& kind, int n) {
  std::vector<int> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (kind == "permuted") {
    Rng rng(92916, hash_name("pixel_order"), 0);
    for (int i = n - 1; i > 0; --i) std::swap(order[static_cast<std::size_t>(i)], order[rng.below(static_cast<std::uint32_t>(i + 1))]);
  } else if (kind == "reversed-bits") {
    order.clear();
    int bits = 0;
    while (1 << bits < n) ++bits;
    for (int i = 0; i < 1 << bits; ++i) {
      int reversed = 0;
      for (int b = 0; b < bits; ++b) reversed |= (i >> b & 1) << (bits - 1 - b);
      if (reversed < n) order.push_back(reversed);
    }
  }
  return order;
}

// Darker to brighter; `pixels` in reading order of `order`, `features` values a pixel, of which the first is shown.
inline std::string picture(const std::vector<float>& pixels, int width, int features, const std::vector<int>& order, double low,
                           double high) {
  static constexpr char shades[] = " .:-=+*#%@";
  std::string flat(order.size(), ' ');
  for (std::size_t i = 0; i < order.size(); ++i) {
    const double x = (static_cast<double>(pixels[i * static_cast<std::size_t>(features)]) - low) / (high - low);
    flat[static_cast<std::size_t>(order[i])] = shades[x <= 0 ? 0 : x >= 1 ? 9 : static_cast<int>(10 * x)];
  }
  std::string out;
  for (std::size_t i = 0; i < flat.size(); i += static_cast<std::size_t>(width))
    out += flat.substr(i, static_cast<std::size_t>(width)) + '\n';
  return out;
}

}  // namespace ssm
