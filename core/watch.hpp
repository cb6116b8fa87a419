// watch.hpp - what Kokkos Tools says about memory and waiting, and what the system says about the process.
#pragma once
#include <string>
#include <vector>

#include "real.hpp"

namespace ssm {

struct Watched {
  Index bytes = 0, peak = 0;          // allocated through Kokkos now, and at most since reset_peak()
  Index allocations = 0, fences = 0;  // events since the program started
};

// Installs the callbacks; only allocation and fence events, which cost nothing inside kernels. Call once, after Kokkos has started.
void watch_kokkos();
Watched watched();
std::string last_allocation();  // its label
void reset_peak();

// Kernel times by label. While it runs Kokkos waits after every kernel, so a profiled run is not a timed run.
struct KernelTime {
  std::string label;
  Index calls = 0;
  double seconds = 0;
};
void start_profile();
std::vector<KernelTime> stop_profile();  // longest first

// Resident memory of the process in bytes: highest so far, and now (0 where the system does not say).
Index peak_rss();
Index rss();
// CPU seconds of all threads of the process.
double cpu_seconds();

}  // namespace ssm
