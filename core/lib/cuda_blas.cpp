// cuda_blas.cpp - cuBLAS, with a workspace of its own, so that a step can be captured in a graph.
#include <cublas_v2.h>

#include <stdexcept>

#include "error.hpp"
#include "lib/gpu.hpp"
#include "lib/gpu_blas.hpp"

namespace ssm::gpu_blas {
namespace cuda_blas {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(std::string(call) + ": " + cublasGetStatusString(status));
}

// One handle a process. It lives until the process ends: the driver may be gone before static objects are destroyed.
bool tf32 = false;
struct Handle {
  cublasHandle_t cublas = nullptr;
  void* workspace = nullptr;
  cudaStream_t stream = nullptr;
  bool on_stream = false, with_tf32 = false;
  static constexpr std::size_t kWorkspace = std::size_t(32) << 20;  // what cuBLAS asks for on compute capability 9

  Handle() {
    check(cublasCreate(&cublas), "cublasCreate");
    if (cudaMalloc(&workspace, kWorkspace) != cudaSuccess) throw std::runtime_error("no device memory for the 32 MiB workspace of cuBLAS");
  }
  cublasHandle_t on(cudaStream_t wanted) {
    if (on_stream && stream == wanted && with_tf32 == tf32) return cublas;
    check(cublasSetStream(cublas, wanted), "cublasSetStream");  // forgets the workspace
    check(cublasSetWorkspace(cublas, workspace, kWorkspace), "cublasSetWorkspace");
    check(cublasSetMathMode(cublas, tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
    stream = wanted;
    with_tf32 = tf32;
    on_stream = true;
    return cublas;
  }
};
cublasHandle_t handle(const Run& r) {
  static Handle* one = new Handle;
  return one->on(gpu_stream(r.exec));
}

cublasOperation_t op(bool t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; }

auto strided(float) { return cublasSgemmStridedBatched_64; }
auto strided(double) { return cublasDgemmStridedBatched_64; }

}  // namespace cuda_blas

void product(const Run& r, const Gemm& g, Real beta) {
  using namespace cuda_blas;
  check(as_columns(strided(Real()), handle(r), op, g, beta), "cublas gemm");
}

void set_precision(const std::string& precision) {
  if (kDouble && precision != "fp32") throw Unsupported("run.gemm = " + precision + ": this build computes in double");
  cuda_blas::tf32 = precision == "tf32";
}
bool tf32() { return cuda_blas::tf32; }

std::string name() {
  return "cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + '.' + std::to_string(CUBLAS_VER_MINOR) + '.' + std::to_string(CUBLAS_VER_PATCH);
}

}  // namespace ssm::gpu_blas
