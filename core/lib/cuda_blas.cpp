// cuda_blas.cpp - cuBLAS, with a workspace of its own, so that a step can be captured in a graph; and cuBLASLt for products that add a bias
// or a matrix on their way out.
#include <cublasLt.h>
#include <cublas_v2.h>

#include <array>
#include <cstdint>
#include <map>
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
  void *workspace = nullptr, *spare = nullptr;
  cudaStream_t stream = nullptr;
  bool on_stream = false, with_tf32 = false;
  static constexpr std::size_t kWorkspace = std::size_t(32) << 20;  // what cuBLAS asks for on compute capability 9

  Handle() {
    check(cublasCreate(&cublas), "cublasCreate");
    if (cudaMalloc(&workspace, kWorkspace) != cudaSuccess) throw std::runtime_error("no device memory for the 32 MiB workspace of cuBLAS");
    if (!kDouble && cudaMalloc(&spare, sizeof(Real) * kSpare) != cudaSuccess)
      throw std::runtime_error("no device memory for the 16 MiB in which products turn their weights");
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
Handle& handle() {
  static Handle* one = new Handle;
  return *one;
}

cublasOperation_t op(bool t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; }

auto strided(float) { return cublasSgemmStridedBatched_64; }
auto strided(double) { return cublasDgemmStridedBatched_64; }

// A product that cuBLASLt was asked about: what it is to do, and how. Made once for a shape, so that a step asks and allocates nothing.
struct Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;  // column-major: a is the row-major B, and so on; c serves C and D
  cublasLtMatmulAlgo_t algorithm{};
  bool found = false;
};

template <class Value>
void set(cublasLtMatmulDesc_t to, cublasLtMatmulDescAttributes_t what, Value value) {
  check(cublasLtMatmulDescSetAttribute(to, what, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
}
template <class Value>
void set(cublasLtMatrixLayout_t to, cublasLtMatrixLayoutAttribute_t what, Value value) {
  check(cublasLtMatrixLayoutSetAttribute(to, what, &value, sizeof value), "cublasLtMatrixLayoutSetAttribute");
}
template <class Value>
void set(cublasLtMatmulPreference_t to, cublasLtMatmulPreferenceAttributes_t what, Value value) {
  check(cublasLtMatmulPreferenceSetAttribute(to, what, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
}

cublasLtHandle_t lt() {
  static cublasLtHandle_t one = [] {
    cublasLtHandle_t made = nullptr;
    check(cublasLtCreate(&made), "cublasLtCreate");
    return made;
  }();
  return one;
}

constexpr cudaDataType_t kType = kDouble ? CUDA_R_64F : CUDA_R_32F;

cublasComputeType_t compute_type() {
  if (kDouble) return CUBLAS_COMPUTE_64F;
  return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
}

cublasLtMatrixLayout_t layout(Index rows, Index columns, Index ld, Index stride, Index batch) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, kType, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), ld),
        "cublasLtMatrixLayoutCreate");
  set(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
  set(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, static_cast<std::int64_t>(stride));
  return made;
}

// The power of two, up to 256, that an address is a multiple of.
std::uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

Plan make_plan(const Gemm& g) {
  Plan p;
  check(cublasLtMatmulDescCreate(&p.product, compute_type(), kType), "cublasLtMatmulDescCreate");
  set(p.product, CUBLASLT_MATMUL_DESC_TRANSA, op(g.tb));
  set(p.product, CUBLASLT_MATMUL_DESC_TRANSB, op(g.ta));
  if (g.bias)
    set(p.product, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), set(p.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
  p.a = layout(g.tb ? g.K : g.N, g.tb ? g.N : g.K, g.ldb, g.stride_b, g.batch);
  p.b = layout(g.ta ? g.M : g.K, g.ta ? g.K : g.M, g.lda, g.stride_a, g.batch);
  p.c = layout(g.N, g.M, g.ldc, g.stride_c, g.batch);
  cublasLtMatmulPreference_t wanted = nullptr;
  check(cublasLtMatmulPreferenceCreate(&wanted), "cublasLtMatmulPreferenceCreate");
  set(wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t(Handle::kWorkspace));
  // A cut sum over K: of parts that lie apart, in the precision of the products; others do not repeat their bits.
  set(wanted, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g.B));
  set(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g.A));
  set(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(g.onto ? g.onto : g.C));
  set(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(g.C));
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(lt(), p.product, p.a, p.b, p.c, p.c, wanted, 1, &best, &count);
  check(cublasLtMatmulPreferenceDestroy(wanted), "cublasLtMatmulPreferenceDestroy");
  if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE) check(status, "cublasLtMatmulAlgoGetHeuristic");
  p.found = status == CUBLAS_STATUS_SUCCESS && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  p.algorithm = best.algo;
  return p;
}

Plan& plan_of(const Gemm& g) {
  static auto* plans = new std::map<std::array<Index, 20>, Plan>;
  const std::array<Index, 20> key = {g.ta,
                                     g.tb,
                                     g.M,
                                     g.N,
                                     g.K,
                                     g.lda,
                                     g.ldb,
                                     g.ldc,
                                     g.stride_a,
                                     g.stride_b,
                                     g.stride_c,
                                     g.batch,
                                     tf32,
                                     g.bias != nullptr,
                                     g.onto != nullptr,
                                     alignment(g.A),
                                     alignment(g.B),
                                     alignment(g.C),
                                     alignment(g.onto),
                                     alignment(g.bias)};
  const auto at = plans->find(key);
  return at != plans->end() ? at->second : plans->emplace(key, make_plan(g)).first->second;
}

}  // namespace cuda_blas

void product(const Run& r, const Gemm& g, Real beta) {
  using namespace cuda_blas;
  check(as_columns(strided(Real()), handle().on(gpu_stream(r.exec)), op, g, beta), "cublas gemm");
}

// A bias of every column of the row-major C is one of every row to cuBLASLt, which has no other.
bool whole(const Run& r, const Gemm& g) {
  using namespace cuda_blas;
  if (g.bias && g.bias_per_row) return false;
  const Plan& p = plan_of(g);
  if (!p.found) return false;
  if (g.bias) set(p.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
  const Real beta = g.onto ? 1 : 0;
  check(cublasLtMatmul(lt(), p.product, &g.alpha, g.B, p.a, g.A, p.b, &beta, g.onto ? g.onto : g.C, p.c, g.C, p.c, &p.algorithm,
                       handle().workspace, Handle::kWorkspace, gpu_stream(r.exec)),
        "cublasLtMatmul");
  return true;
}

void set_precision(const std::string& precision) {
  if (kDouble && precision != "fp32") throw Unsupported("run.gemm = " + precision + ": this build computes in double");
  cuda_blas::tf32 = precision == "tf32";
}
bool tf32() { return cuda_blas::tf32; }
Real* spare() { return tf32() ? static_cast<Real*>(cuda_blas::handle().spare) : nullptr; }
Room workspace() {
  return {static_cast<Real*>(cuda_blas::handle().workspace), static_cast<Index>(cuda_blas::Handle::kWorkspace / sizeof(Real))};
}

std::string name() {
  return "cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + '.' + std::to_string(CUBLAS_VER_MINOR) + '.' + std::to_string(CUBLAS_VER_PATCH);
}

}  // namespace ssm::gpu_blas
