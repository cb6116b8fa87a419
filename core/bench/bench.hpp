// bench.hpp - timings that can be trusted: checked against the reference in the same process, first call and warm-up apart, raw samples
// kept, ceilings of the machine beside them, in a shuffled order that is recorded. Google Benchmark underneath.
#pragma once
#include <string>
#include <vector>

#include "bench/rig.hpp"
#include "record/record.hpp"

namespace ssm {

struct BenchOptions {
  KeyValues keys;                                                              // model.*, train.*, <variant>.<knob>, as for `train`
  std::vector<std::string> variants;                                           // empty: all
  std::vector<std::string> levels = {"mixer"};                                 // of op, mixer, step
  std::vector<std::string> modes = {"forward", "forward_backward", "decode"};  // of the mixer level
  std::vector<Index> B = {16}, T = {1024}, D = {128};
  int samples = 20;
  std::uint64_t order_seed = 1;
  bool check = true, ceilings = true;
  bool quiet = false;                        // no table on stdout
  std::vector<std::string> benchmark_flags;  // --benchmark_filter=..., passed through
};

// All points of the grid, in the order they will run. Throws BadInput naming an unknown variant, level or mode, or an extent below 1.
std::vector<BenchCase> bench_cases(const BenchOptions& options);
// The configuration all cases share: every variant's knobs. Throws BadInput for keys and values, before anything runs.
Config bench_config(const BenchOptions& options);

// Runs the grid. Into the record: /timing/<case> raw samples with the case's numbers as attributes, table /bench (one row per case, with
// state ok, unstable, skipped or failed, and the reason), table /check/variants, /timing/ceiling_<name>. Returns the number of failed cases.
int run_bench(const BenchOptions& options, Device& device, Record& record);

}  // namespace ssm
