// bench.hpp - timings that can be trusted: checked against the reference in the same process, first call and warm-up apart, raw samples
// kept, ceilings of the machine beside them, in a shuffled order that is recorded. Google Benchmark underneath.
#pragma once
#include "bench/rig.hpp"
#include "record/record.hpp"

namespace ssm {

// Runs the grid. Into the record: /timing/<case> raw samples with the case's numbers as attributes, table /bench (one row per case, with
// state ok, unstable, skipped or failed, and the reason), table /check/variants (one row per variant, N,
// view, threads and precision), /timing/ceiling_<name>. Returns the number of failed cases.
int run_bench(const BenchOptions& options, Device& device, Record& record);

}  // namespace ssm
