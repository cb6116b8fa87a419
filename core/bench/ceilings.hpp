// ceilings.hpp - what this machine can do at best, measured in the same process as the benchmarks that are held against it.
#pragma once
#include <string>
#include <vector>

#include "exec.hpp"

namespace ssm {

struct Ceiling {
  std::string name, unit;       // "copy" in "B", "gemm" in "flop", "exp" in "call", "gemm_<precision>"
  double work = 0;              // units of one sample
  std::vector<double> seconds;  // raw samples
  double best_rate() const;     // work per second of the fastest sample
};

// copy: read and write of arrays far larger than any cache. gemm: one square product through the same door as the models,
// in the precision that is set; gemm_<precision>: in the others that this build has.
// exp: the exponential of the scans, from cache. timer, in "s": 10 ms by the device's own clock, what the timer makes of them; not on HIP.
std::vector<Ceiling> measure_ceilings(Device& device, int samples = 10);

}  // namespace ssm
