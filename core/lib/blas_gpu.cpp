// blas_gpu.cpp - products on a GPU by its vendor's library (lib/gpu_blas.hpp), and around them what the library leaves to us: biases, sums
// over a batch in a fixed order, sums of rows.
#include <cstdint>
#include <limits>

#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/few_rows.hpp"
#include "lib/gpu_blas.hpp"
#include "lib/launch_shared.hpp"
#include "lib/reduce.hpp"
#include "lib/turn_gpu.hpp"
#include "lib/warp.hpp"
#include "lib/wide_sum.hpp"

namespace ssm {
namespace blas_gpu {

template <int W>
struct alignas(W * sizeof(Real)) Piece {
  Real at[W];
};

// W neighbours of a row by one thread; Int counts all pieces, and divides many times faster with 32 bits.
template <int W, class Int>
void start_pieces(const Run& r, const Gemm& g) {
  const Real *bias = g.bias, *onto = g.onto;
  Real* C = g.C;
  const Int M = static_cast<Int>(g.M), pieces = static_cast<Int>(g.N / W);
  const Index ldc = g.ldc, stride = g.stride_c;
  const bool per_row = g.bias_per_row;
  launch(
      "ssm::gemm_start", r, g.batch * g.M * (g.N / W), KOKKOS_LAMBDA(const Index i) {
        const Int item = static_cast<Int>(i), row = item / pieces, matrix = row / M, m = row - matrix * M, n = (item - row * pieces) * W;
        Piece<W> p;
        const Index at = matrix * stride + m * ldc + n;
        if (onto) p = *reinterpret_cast<const Piece<W>*>(onto + at);
        for (int l = 0; l < W; ++l) p.at[l] = (onto ? p.at[l] : Real(0)) + (bias ? bias[per_row ? m : n + l] : Real(0));
        *reinterpret_cast<Piece<W>*>(C + at) = p;
      });
}

// C = onto + bias, of which one may be absent, before a product that is added to it.
void start(const Run& r, const Gemm& g) {
  const auto aligned = [](const Real* p) { return reinterpret_cast<std::uintptr_t>(p) % (4 * sizeof(Real)) == 0; };
  const bool whole = g.N % 4 == 0 && g.ldc % 4 == 0 && g.stride_c % 4 == 0 && aligned(g.C) && aligned(g.onto);
  const bool small = g.batch * g.M * g.N <= std::numeric_limits<std::int32_t>::max();
  if (whole) small ? start_pieces<4, std::int32_t>(r, g) : start_pieces<4, Index>(r, g);
  else small ? start_pieces<1, std::int32_t>(r, g) : start_pieces<1, Index>(r, g);
}

// out[piece * rows + row] = alpha sum over that piece of row `row` of A, cut in `pieces` of `length`; rows = batch * M. A block of threads has
// one piece, and eight loads of a thread are on their way: one warp a row took three times as long as the memory needs.
struct SumOfPiece {
  static constexpr int kThreads = 256, kBlocks = 8, kAtOnce = 8;
  const Real* A;
  Real *out, alpha;
  Index M, K, lda, stride, rows, length;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index piece = quotient(block, rows), row = block - piece * rows, matrix = quotient(row, M);
    const Real* from = A + matrix * stride + (row - matrix * M) * lda;
    const Index first = piece * length, last = first + length < K ? first + length : K;
    Real sum[kAtOnce];
    SSM_UNROLL
    for (int q = 0; q < kAtOnce; ++q) sum[q] = 0;
    for (Index k = first + thread; k < last; k += kAtOnce * kThreads) {
      SSM_UNROLL
      for (int q = 0; q < kAtOnce; ++q) sum[q] += k + q * kThreads < last ? from[k + q * kThreads] : Real(0);
    }
    const Real mine = sum_of_warp(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
    if (thread % kWarp == 0) memory[thread / kWarp] = mine;
    __syncthreads();
    if (thread > 0) return;
    Real total = 0;
    SSM_UNROLL
    for (int w = 0; w < kThreads / kWarp; ++w) total += memory[w];
    out[block] = alpha * total;
  }
};

// row_sum(m) += alpha sum of A(m, k) over k and the batch; needs no more scratch than the product's parts. False where that is too little.
bool sum_rows(const Run& r, const Gemm& g, Real* row_sum, Real* scratch) {
  const Index M = g.M, K = g.K, lda = g.lda, stride = g.stride_a, room = sum_cut(M, g.N, K, g.batch).parts * M * (g.N + 1);
  const Real* A = g.A;
  const Real alpha = g.alpha;
  if (g.ta) {
    if (sum_columns_scratch(g.batch * K, M) > room) return false;
    if (g.batch == 1 || stride == K * lda)
      sum_columns(
          "ssm::bias_gradient", r, g.batch * K, M, scratch,
          KOKKOS_LAMBDA(const Index row, const Index m) { return alpha * A[row * lda + m]; }, Grad{row_sum, true});
    else
      sum_columns(
          "ssm::bias_gradient", r, g.batch * K, M, scratch,
          KOKKOS_LAMBDA(const Index row, const Index m) {
            const Index matrix = quotient(row, K);
            return alpha * A[matrix * stride + (row - matrix * K) * lda + m];
          },
          Grad{row_sum, true});
    return true;
  }
  const Index rows = g.batch * M;
  if (rows > room) return false;
  constexpr Index kBlocksWanted = 1024, kLeast = 4096;  // blocks at once on a GPU; entries that are worth a block
  Index pieces = 1;
  while (rows * pieces < kBlocksWanted && K > kLeast * pieces && 2 * rows * pieces <= room) pieces *= 2;
  launch_shared("ssm::bias_gradient", r, rows * pieces, sizeof(Real) * (SumOfPiece::kThreads / kWarp),
                SumOfPiece{A, scratch, alpha, M, K, lda, stride, rows, (K + pieces - 1) / pieces});
  plain::add_parts(r, scratch, pieces * g.batch, M, M, 1, row_sum);
  return true;
}

// Tensor cores read both operands of a TF32 product along the sum, and cuBLAS is slow to turn one that lies across it: (32768,1024) by (1024,512)
// took 151 us on an H200, by the transpose of (512,1024) 96. Where one operand is small, as weights are, it is turned beforehand: 4 us.
constexpr double kWorthTurning = 1e10;  // operations

bool turns(Index across, Index along, Index others) {
  return across * along <= gpu_blas::kSpare && along % 4 == 0 && across % 4 == 0 && others >= 4 * along && others >= 4 * across;
}
Gemm along_the_sum(const Run& r, const Gemm& g) {
  const double work = 2.0 * static_cast<double>(g.batch) * static_cast<double>(g.M) * static_cast<double>(g.N) * static_cast<double>(g.K);
  if (work < kWorthTurning) return g;
  const bool turn_B = !g.tb && (g.batch == 1 || g.stride_b == 0) && turns(g.N, g.K, g.batch * g.M),
             turn_A = !turn_B && g.ta && (g.batch == 1 || g.stride_a == 0) && turns(g.M, g.K, g.batch * g.N);
  Real* room = turn_A || turn_B ? gpu_blas::spare() : nullptr;
  if (!room) return g;
  Gemm turned = g;
  const Index width = turn_B ? g.N : g.M;
  turn_tiles("ssm::gemm_turn", r, 1,
             {.from = turn_B ? g.B : g.A,
              .to = {room, false},
              .rows = g.K,
              .columns = width,
              .from_step = 0,
              .from_ld = turn_B ? g.ldb : g.lda,
              .to_step = 0,
              .to_ld = g.K});
  if (turn_B) turned.tb = true, turned.B = room, turned.ldb = g.K;
  else turned.ta = false, turned.A = room, turned.lda = g.K;
  return turned;
}

}  // namespace blas_gpu

void gemm(const Run& r, const Gemm& asked) {
  if (gemm_of_few_rows(r, asked)) return;
  const Gemm g = blas_gpu::along_the_sum(r, asked);
  const bool more = g.bias || g.onto;
  if (more && gpu_blas::whole(r, g)) return;
  if (more) blas_gpu::start(r, g);
  gpu_blas::product(r, g, more ? Real(1) : g.beta);
}

// Of TF32 whose operands lie across the sum: lib/wide_sum. One matrix: the library divides a long sum itself. Several: groups of as many matrices as there are parts, then the parts in order.
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room room) {
  Real* scratch = plain::parts_of_sum(g, room);
#if defined(SSM_TENSOR_CORES)
  if (tf32_products() && wide_sum::sum(r, g, row_sum, gpu_blas::workspace())) return;
#endif
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
  plain::gemm_sum(r, sums, row_sum, room);
}

void set_gemm_precision(const std::string& precision) { gpu_blas::set_precision(precision); }
bool tf32_products() { return gpu_blas::tf32(); }
std::string blas_name() { return gpu_blas::name(); }
std::string better_blas_core(const std::string&) { return ""; }
void choose_blas_core(char**) {}

}  // namespace ssm
