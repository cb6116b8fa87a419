// largest.hpp - the largest batch of a training step that fits a memory limit: found by bisection on the memory plan, in which nothing of a
// net is allocated, then proven by one real step.
#pragma once
#include <functional>
#include <string>

#include "bench/bench.hpp"

namespace ssm {

constexpr Index kMostExamples = Index{1} << 20;  // as train.batch

// The largest B in 1 .. most with planned(B) <= limit, for a plan that grows with B; 0 when not even one example fits.
Index largest_batch(const std::function<Index(Index B)>& planned, Index limit, Index most = kMostExamples);

// Bytes that a run may use, and where the number comes from: what the device has free; on a CPU nine tenths of what the system says is
// available (of the control group, where that allows less).
struct MemoryLimit {
  Index bytes = 0;
  std::string source;
};
MemoryLimit memory_limit();

// "512", "64K", "1.5G": bytes, with binary units. Throws BadInput.
Index parse_bytes(const std::string& text);

// Every (variant, T, D, N, view) of the options; a limit of 0 bytes is memory_limit() at each case. Into the record: table /largest_batch, one row per
// case, with state ok, skipped or failed, and the reason. Where libraries need room beside the plan, so that the step does not run, less of
// the limit is planned for, in steps of a sixteenth. Returns the number of failed cases.
int run_largest(const BenchOptions& options, Index limit, Device& device, Record& record);

}  // namespace ssm
