#include "watch.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <string_view>

namespace ssm {

namespace {

std::mutex mutex;
Watched now;
std::map<const void*, Index> sizes;
char last[128] = "";

// A launch of teams without scratch asks for nothing and is answered with nothing; page-locked memory of the host is not the device's.
void allocated(const Kokkos_Profiling_SpaceHandle space, const char* label, const void* p, const std::uint64_t size) {
  if (size == 0 || std::string_view(space.name).find("HostPinned") != std::string_view::npos) return;
  const std::lock_guard lock(mutex);
  sizes[p] = static_cast<Index>(size);
  now.bytes += static_cast<Index>(size);
  now.peak = std::max(now.peak, now.bytes);
  ++now.allocations;
  std::strncpy(last, label, sizeof last - 1);
}

// Only what was seen being allocated counts: memory from before watch_kokkos() may be freed later.
void freed(Kokkos_Profiling_SpaceHandle, const char*, const void* p, const std::uint64_t) {
  const std::lock_guard lock(mutex);
  const auto found = sizes.find(p);
  if (found == sizes.end()) return;
  now.bytes -= found->second;
  sizes.erase(found);
}

void fenced(const char*, const std::uint32_t, std::uint64_t*) {
  const std::lock_guard lock(mutex);
  ++now.fences;
}

using Clock = std::chrono::steady_clock;
std::map<std::string, KernelTime> kernels;
KernelTime* running = nullptr;
Clock::time_point began;

void kernel_began(const char* label, const std::uint32_t, std::uint64_t*) {
  running = &kernels[label];
  began = Clock::now();
}
void kernel_ended(const std::uint64_t) {
  ++running->calls;
  running->seconds += std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace

void start_profile() {
  kernels.clear();
  Kokkos::Tools::Experimental::set_begin_parallel_for_callback(kernel_began);
  Kokkos::Tools::Experimental::set_end_parallel_for_callback(kernel_ended);
}

std::vector<KernelTime> stop_profile() {
  Kokkos::Tools::Experimental::set_begin_parallel_for_callback(nullptr);
  Kokkos::Tools::Experimental::set_end_parallel_for_callback(nullptr);
  std::vector<KernelTime> out;
  for (auto& [label, time] : kernels) time.label = label, out.push_back(time);
  std::sort(out.begin(), out.end(), [](const KernelTime& a, const KernelTime& b) { return a.seconds > b.seconds; });
  return out;
}

void watch_kokkos() {
  Kokkos::Tools::Experimental::set_allocate_data_callback(allocated);
  Kokkos::Tools::Experimental::set_deallocate_data_callback(freed);
  Kokkos::Tools::Experimental::set_begin_fence_callback(fenced);
}

Watched watched() {
  const std::lock_guard lock(mutex);
  return now;
}

std::string last_allocation() {
  const std::lock_guard lock(mutex);
  return last;
}

void reset_peak() {
  const std::lock_guard lock(mutex);
  now.peak = now.bytes;
}

Index peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<Index>(usage.ru_maxrss) * 1024;
}

Index rss() {
  std::ifstream file("/proc/self/statm");
  Index size = 0, resident = 0;
  return file >> size >> resident ? resident * static_cast<Index>(sysconf(_SC_PAGESIZE)) : 0;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace ssm
