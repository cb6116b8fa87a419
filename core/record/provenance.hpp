// provenance.hpp - what a reader needs to know about the program and the machine behind a results file.
#pragma once
#include <string>

#include "record/tree.hpp"

namespace ssm {

// What only the caller knows; empty strings are recorded as such.
struct Runtime {
  std::string backend, device, driver, kokkos_version, kokkos_configuration, blas, fft, gemm_precision;
  int threads = 1;
};

// Fills the attributes of /meta: build (record/build_info.hpp), argv, machine and `runtime`.
void provenance(Tree& tree, int argc, const char* const* argv, const Runtime& runtime);

// "Intel(R) Xeon(R) ..." or the architecture's name.
std::string cpu_model();
// Bytes of physical memory.
std::int64_t memory_bytes();

}  // namespace ssm
