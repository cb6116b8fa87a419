// hip_blas.cpp - hipBLAS (2.1 or newer: 64-bit sizes), in float only: what AMD calls XF32 is not asked for.
#include <hipblas/hipblas.h>

#include <stdexcept>

#include "error.hpp"
#include "lib/gpu.hpp"
#include "lib/gpu_blas.hpp"

namespace ssm::gpu_blas {
namespace hip_blas {

void check(hipblasStatus_t status, const char* call) {
  if (status != HIPBLAS_STATUS_SUCCESS) throw std::runtime_error(std::string(call) + ": " + hipblasStatusToString(status));
}

// One handle a process, that takes its workspace when it is made, before any capture.
hipblasHandle_t handle(const Run& r) {
  static hipblasHandle_t one = [] {
    hipblasHandle_t made = nullptr;
    check(hipblasCreate(&made), "hipblasCreate");
    check(hipblasSetAtomicsMode(made, HIPBLAS_ATOMICS_NOT_ALLOWED), "hipblasSetAtomicsMode");
    return made;
  }();
  check(hipblasSetStream(one, gpu_stream(r.exec)), "hipblasSetStream");
  return one;
}

hipblasOperation_t op(bool t) { return t ? HIPBLAS_OP_T : HIPBLAS_OP_N; }

auto strided(float) { return hipblasSgemmStridedBatched_64; }
auto strided(double) { return hipblasDgemmStridedBatched_64; }

}  // namespace hip_blas

void product(const Run& r, const Gemm& g, Real beta) {
  using namespace hip_blas;
  check(as_columns(strided(Real()), handle(r), op, g, beta), "hipblas gemm");
}

bool whole(const Run&, const Gemm&) { return false; }
Real* spare() { return nullptr; }
Room workspace() { return {}; }

void set_precision(const std::string& precision) {
  if (precision != "fp32") throw Unsupported("run.gemm = " + precision + ": products by hipBLAS have float precision only");
}
bool tf32() { return false; }

std::string name() {
  return "hipBLAS " + std::to_string(hipblasVersionMajor) + '.' + std::to_string(hipblasVersionMinor) + '.' +
         std::to_string(hipblasVersionPatch);
}

}  // namespace ssm::gpu_blas
