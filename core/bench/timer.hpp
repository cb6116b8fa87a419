// timer.hpp - the clock of the benchmarks and what a sample of times says.
#pragma once
#include <algorithm>
#include <vector>

#include "exec.hpp"

namespace ssm {

// Seconds from `f` being launched until the device has finished it.
template <class F>
double seconds_of(Device& device, const F& f) {
  device.start_clock();
  f();
  return device.stop_clock();
}

struct Quartiles {
  double low = 0, median = 0, high = 0;
  // Half of the samples lie in a band wider than a tenth of the median: the number should not be quoted.
  bool unstable() const { return high - low > 0.1 * median; }
};
inline Quartiles quartiles(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double q) {  // linear between neighbours
    const double place = q * static_cast<double>(samples.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, samples.size() - 1);
    return samples[below] + (place - static_cast<double>(below)) * (samples[above] - samples[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

}  // namespace ssm
