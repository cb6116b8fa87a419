// blas_gpu.cpp - cuBLAS, on the stream of the run's instance with a workspace of its own, so that a step can be captured in a graph and
// gives the same bits each time. cuBLAS is column-major: a row-major C = A B is asked for as C^T = B^T A^T.
#include <cublas_v2.h>

#include <cstdint>
#include <limits>
#include <stdexcept>

#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/reduce.hpp"

namespace ssm {
namespace blas_gpu {

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
  return one->on(r.exec.space.cuda_stream());
}

cublasOperation_t op(bool t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; }

auto strided(float) { return cublasSgemmStridedBatched_64; }
auto strided(double) { return cublasDgemmStridedBatched_64; }

template <int W>
struct alignas(W * sizeof(Real)) Piece {
  Real at[W];
};

// W neighbours of a row by one thread; Int counts all pieces, and divides many times faster with 32 bits.
template <int W, class Int>
void start_pieces(const Run& r, const Gemm& g) {
  const Real* bias = g.bias;
  Real* C = g.C;
  const Int M = static_cast<Int>(g.M), pieces = static_cast<Int>(g.N / W);
  const Index ldc = g.ldc, stride = g.stride_c;
  const bool per_row = g.bias_per_row;
  launch(
      "ssm::gemm_bias", r, g.batch * g.M * (g.N / W), KOKKOS_LAMBDA(const Index i) {
        const Int item = static_cast<Int>(i), row = item / pieces, matrix = row / M, m = row - matrix * M, n = (item - row * pieces) * W;
        Piece<W> p;
        for (int l = 0; l < W; ++l) p.at[l] = bias[per_row ? m : n + l];
        *reinterpret_cast<Piece<W>*>(C + matrix * stride + m * ldc + n) = p;
      });
}

// C = bias, before a product that is added to it.
void start_from_bias(const Run& r, const Gemm& g) {
  const bool whole =
      g.N % 4 == 0 && g.ldc % 4 == 0 && g.stride_c % 4 == 0 && reinterpret_cast<std::uintptr_t>(g.C) % (4 * sizeof(Real)) == 0;
  const bool small = g.batch * g.M * g.N <= std::numeric_limits<std::int32_t>::max();
  if (whole) small ? start_pieces<4, std::int32_t>(r, g) : start_pieces<4, Index>(r, g);
  else small ? start_pieces<1, std::int32_t>(r, g) : start_pieces<1, Index>(r, g);
}

// row_sum(m) += alpha sum of A(m, k) over k and the batch; needs no more scratch than the product's parts. False where that is too little.
bool sum_rows(const Run& r, const Gemm& g, Real* row_sum, Real* scratch) {
  const Index M = g.M, K = g.K, lda = g.lda, stride = g.stride_a, room = sum_cut(M, g.N, K, g.batch).parts * M * (g.N + 1);
  const Real* A = g.A;
  const Real alpha = g.alpha;
  if (g.ta) {
    if (sum_columns_scratch(g.batch * K, M) > room) return false;
    sum_columns(
        "ssm::bias_gradient", r, g.batch * K, M, scratch,
        KOKKOS_LAMBDA(const Index row, const Index m) { return alpha * A[row / K * stride + row % K * lda + m]; }, Grad{row_sum, true});
    return true;
  }
  if (g.batch * M > room) return false;
  launch_rows(
      "ssm::bias_gradient", r, g.batch * M, KOKKOS_LAMBDA(const Row& row, const Index i) {
        const Real* from = A + i / M * stride + i % M * lda;
        const Real sum = row.sum(K, [&](const Index k) { return from[k]; });
        row.once([&] { scratch[i] = alpha * sum; });
      });
  plain::add_parts(r, scratch, g.batch, M, M, 1, row_sum);
  return true;
}

}  // namespace blas_gpu

void gemm(const Run& r, const Gemm& g) {
  if (g.bias) blas_gpu::start_from_bias(r, g);
  const Real beta = g.bias ? Real(1) : g.beta;
  blas_gpu::check(blas_gpu::strided(Real())(blas_gpu::handle(r), blas_gpu::op(g.tb), blas_gpu::op(g.ta), g.N, g.M, g.K, &g.alpha, g.B,
                                            g.ldb, g.stride_b, g.A, g.lda, g.stride_a, &beta, g.C, g.ldc, g.stride_c, g.batch),
                  "cublas gemm");
}

// One matrix: cuBLAS divides a long sum itself. Several: groups of as many matrices as there are parts, then the parts in order.
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Real* scratch) {
  if (g.C && g.batch == 1) gemm(r, g);
  if (g.C && g.batch > 1) {
    const Index parts = sum_cut(g.M, g.N, g.K, g.batch).parts, width = parts < g.batch ? parts : g.batch;
    for (Index first = 0; first < g.batch; first += width) {
      Gemm group = g;
      group.A += first * g.stride_a;
      group.B += first * g.stride_b;
      group.beta = first > 0 ? Real(1) : Real(0);
      group.C = scratch;
      group.stride_c = g.M * g.N;
      group.batch = g.batch - first < width ? g.batch - first : width;
      gemm(r, group);
    }
    plain::add_parts(r, scratch, width, g.M * g.N, g.M * g.N, g.beta, g.C);
  }
  if (!row_sum || blas_gpu::sum_rows(r, g, row_sum, scratch)) return;
  Gemm sums = g;
  sums.C = nullptr;
  plain::gemm_sum(r, sums, row_sum, scratch);
}

void set_gemm_precision(const std::string& precision) {
  if (kDouble && precision != "fp32") throw Unsupported("run.gemm = " + precision + ": this build computes in double");
  blas_gpu::tf32 = precision == "tf32";
}
bool tf32_products() { return blas_gpu::tf32; }

std::string blas_name() {
  return "cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + '.' + std::to_string(CUBLAS_VER_MINOR) + '.' + std::to_string(CUBLAS_VER_PATCH);
}

}  // namespace ssm
