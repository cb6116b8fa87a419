// grid.hpp - what `bench` is asked for: lists of values, of which every combination is a case, in a shuffled order. What a variant, this build
// or this machine does not have is found when the case has its turn, and becomes a row with its reason.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "config.hpp"
#include "exec.hpp"

namespace ssm {

struct BenchCase {
  std::string level;  // op, mixer, step
  std::string variant;
  std::string mode;  // mixer: forward, forward_backward, decode; op: forward_backward; step: train, or forward of the whole model
  Index B = 1, T = 1, D = 1;
  // 0 and "": not an axis, as the configuration and the build say.
  Index N = 0;  // the variant's d_state
  int threads = 0;
  std::string view{}, precision{}, device{};
  // "mixer.mamba.forward.B16.T1024.D128", and ".N64.scan.threads2.tf32.cpu" of the axes; for people, numbers are recorded as numbers
  std::string name() const;
  // What a check against the reference holds for, whatever the shape and the pass.
  std::string setting() const;
};

struct BenchOptions {
  KeyValues keys;                               // model.*, train.*, <variant>.<knob>, as for `train`
  std::vector<std::string> variants;            // empty: all
  std::vector<std::string> levels = {"mixer"};  // of op, mixer, step
  std::vector<std::string> modes;               // empty: of level mixer all that it has, of step train
  std::vector<Index> B = {16}, T = {1024}, D = {128};
  std::vector<Index> N, threads;                        // empty: one case, as the configuration says
  std::vector<std::string> views, precisions, devices;  // likewise; precisions of fp32, tf32, fp64, devices of cpu, cuda, hip
  int samples = 20;
  std::uint64_t order_seed = 1;
  bool check = true, ceilings = true;
  bool quiet = false;                        // no table on stdout
  std::vector<std::string> benchmark_flags;  // --benchmark_filter=..., passed through
};

// All points of the grid, in the order they will run. Throws BadInput naming an unknown variant, level, mode, view, precision or device, a
// mode that none of the levels has, an extent below 1, or a value that an axis has twice.
std::vector<BenchCase> bench_cases(const BenchOptions& options);
// The configuration all cases share: every variant's knobs; its task, where one is named, is open. Throws BadInput for keys, values and files,
// before anything runs.
Config bench_config(const BenchOptions& options);

// The knobs of the configuration with N and view of the case. Throws Unsupported where the variant has no such, BadInput for a value out of range.
VariantKnobs case_knobs(const BenchCase& c, const Config& config);
// The case with the values that hold where it asks for none; N -1 and view "" where the variant has none.
BenchCase resolved(const BenchCase& c, const Config& config, const Device& device);

// Threads and precision of the case for what runs from now on. Throws Unsupported for what this build or machine does not have.
void set_up(const BenchCase& c, Device& device);
// A new pool of threads for the run's instance; Kokkos itself keeps the one that it was started with.
void use_threads(Device& device, int threads);

}  // namespace ssm
