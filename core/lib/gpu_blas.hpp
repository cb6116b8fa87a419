// gpu_blas.hpp - what lib/blas_gpu asks of a vendor's library of products: cuda_blas.cpp by cuBLAS, hip_blas.cpp by hipBLAS. Both are
// column-major: a row-major C = A B is asked for as C^T = B^T A^T. Work goes to the stream of the run's instance, waits for nothing, and gives
// the same bits each time.
#pragma once
#include <string>

#include "lib/blas.hpp"

namespace ssm::gpu_blas {

// C = alpha op(A) op(B) + beta C for every matrix of the batch; g.bias and g.onto are left out. Throws std::runtime_error where the library
// refuses.
void product(const Run& r, const Gemm& g, Real beta);

// The whole of g, which has a bias or `onto`, in one call that adds them on its way out. False, and nothing done, where the library has none.
bool whole(const Run& r, const Gemm& g);

// By the library's own strided, batched product and its word for transposed.
template <class Call, class Handle, class Op>
auto as_columns(Call call, Handle handle, Op op, const Gemm& g, const Real& beta) {
  return call(handle, op(g.tb), op(g.ta), g.N, g.M, g.K, &g.alpha, g.B, g.ldb, g.stride_b, g.A, g.lda, g.stride_a, &beta, g.C, g.ldc,
              g.stride_c, g.batch);
}

// Room for kSpare numbers that the next product may read, or null where the library gains nothing by operands turned beforehand.
constexpr Index kSpare = Index(1) << 22;
Real* spare();

// What the library works in, between its calls: room for kernels of ours that stand in for it. Empty where it has none.
Room workspace();

// For the products that follow. Throws Unsupported where the library or this build does not have it.
void set_precision(const std::string& precision);
bool tf32();

std::string name();  // with its version

}  // namespace ssm::gpu_blas
