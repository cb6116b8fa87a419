// blas.hpp - dense matrix products, the only door to a BLAS. Row-major, Real, on the run's own instance.
//
// blas_host.cpp (CBLAS), blas_gpu.cpp (cuBLAS) or blas_hip.cpp (the plain kernels) define the functions of namespace ssm; blas_plain.cpp
// defines those of ssm::plain on every backend. The order of every sum depends on the shape alone, never on the number of threads.
#pragma once
#include <string>

#include "run.hpp"
#include "tensor.hpp"

namespace ssm {

// For each b in [0, batch):  C_b (M,N) = alpha op(A_b) op(B_b) + beta C_b,   op(A_b) (M,K), op(B_b) (K,N), op = transpose where asked.
// Instead of beta C, with beta = 0, a bias may be added, of (N), or of (M) when bias_per_row, and onto_b, a matrix with the ld and stride of C
// and not C itself. C is never read when beta = 0.
// M, N, K < 2^31.
struct Gemm {
  bool ta = false, tb = false;
  Index M = 0, N = 0, K = 0;
  Real alpha = 1;
  const Real* A = nullptr;
  Index lda = 0, stride_a = 0;
  const Real* B = nullptr;
  Index ldb = 0, stride_b = 0;
  Real beta = 0;
  Real* C = nullptr;
  Index ldc = 0, stride_c = 0;
  Index batch = 1;
  const Real* bias = nullptr;
  bool bias_per_row = false;
  const Real* onto = nullptr;
  bool fixed = false;  // B is a parameter in a stream, which no step writes: a GPU's kernel may read it before the one before has ended
};
void gemm(const Run& r, const Gemm& g);

inline void gemm(const Run& r, bool ta, bool tb, Index M, Index N, Index K, Real alpha, const Real* A, Index lda, const Real* B, Index ldb,
                 Real beta, Real* C, Index ldc) {
  gemm(r, Gemm{.ta = ta,
               .tb = tb,
               .M = M,
               .N = N,
               .K = K,
               .alpha = alpha,
               .A = A,
               .lda = lda,
               .B = B,
               .ldb = ldb,
               .beta = beta,
               .C = C,
               .ldc = ldc});
}

// Products with a long sum (weight gradients):  C (M,N) = beta C + alpha sum_b op(A_b) op(B_b), and where row_sum is given
// row_sum (M) += alpha sum_b sum_k op(A_b)(m,k). C must be dense (ldc = N) and may be null: then only row_sum is wanted.
// Throws std::logic_error where `scratch` has less than gemm_sum_scratch of the same M, N, K and batch.
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room scratch);

// How gemm_sum cuts its sum: every matrix of the batch into `cuts` pieces along K, and the batch * cuts pieces into `parts` runs, each of
// which one work item sums; the parts are then added in order.
struct SumCut {
  Index cuts, parts;
};
SumCut sum_cut(Index M, Index N, Index K, Index batch);
inline Index gemm_sum_scratch(Index M, Index N, Index K, Index batch) { return sum_cut(M, N, K, batch).parts * M * (N + 1); }

// "fp32" or "tf32" for all products from now on. Throws Unsupported where the library or the build has no such products.
void set_gemm_precision(const std::string& precision);
bool tf32_products();  // what it was set to

// "OpenBLAS 0.3.21 ... core SkylakeX", "cuBLAS 13.0.0", "plain".
std::string blas_name();

// For a processor younger than itself OpenBLAS falls back to kernels of 2004 ("core Prescott"), a quarter of the speed. It reads
// OPENBLAS_CORETYPE when it is loaded, so the program starts itself again, once, with what this processor has; a value of the user's stays.
// argv: main's. Returns where there is nothing to change.
void choose_blas_core(char** argv);
// The core to ask for where OpenBLAS chose `chosen`; empty: that one is good.
std::string better_blas_core(const std::string& chosen);

namespace plain {
void gemm(const Run& r, const Gemm& g);
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room scratch);
Real* parts_of_sum(const Gemm& g, Room scratch);  // its address, once it is known to be large enough
// y[i] = beta y[i] + sum over parts in order of part[p * stride + i], i < count.
void add_parts(const Run& r, const Real* part, Index parts, Index stride, Index count, Real beta, Real* y);
}  // namespace plain

}  // namespace ssm
