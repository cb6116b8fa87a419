// gpu_tile.hpp - tiles in on-chip memory and their products, by 128 threads: the form for every GPU, on fused multiply-adds.
//
// A product leaves its result in registers, acc[r][c] of every thread; a layout says which entry that is. product_nt and product_nn add
//   nt: acc += sum_k A[row][k] B[column][k]        nn: acc += sum_k A[row][k] B[k][column]
// with row-major operands of leading extents lda and ldb. All threads that share a row of acc are neighbours of one warp. mma.hpp has the same
// on tensor cores.
#pragma once
#include "instructions.hpp"
#include "launch_shared.hpp"
#include "math.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::gpu_tile {

constexpr int kThreads = 128;
#if defined(SSM_CUDA_CODE)
constexpr bool kOnCuda = true;
#else
constexpr bool kOnCuda = false;
#endif

// Over kLanes neighbours, the same bits for each.
template <int kLanes>
__device__ Real lanes_max(Real x) {
#pragma unroll
  for (int other = 1; other < kLanes; other *= 2) {
    const Real y = from_lane(x, other);
    x = x < y ? y : x;
  }
  return x;
}
template <int kLanes>
__device__ Real lanes_sum(Real x) {
#pragma unroll
  for (int other = 1; other < kLanes; other *= 2) x += from_lane(x, other);
  return x;
}

// Copies n arrays of one shape, whose places are reckoned once: from[i] + offset (count, columns) of leading extent ld to to[i] (kRows, kWide)
// of leading extent to_ld, zeros beyond; a null from[i] is left out. Where `whole` (columns, ld and the addresses are multiples of 16 bytes)
// the copies go on beside the program (instructions.hpp).
template <int kRows, int kWide, int n>
__device__ void copy_tiles(int thread, const Real* const (&from)[n], Index offset, Index ld, int count, int columns,
                           [[maybe_unused]] bool whole, Real* const (&to)[n], int to_ld) {
#if defined(SSM_CUDA_CODE)
  if (whole && !kDouble) {
#pragma unroll 4
    for (int at = thread; at < kRows * (kWide / 4); at += kThreads) {
      const int row = at / (kWide / 4), c = at % (kWide / 4) * 4;
      const bool there = row < count && c < columns;
      const Index source = there ? offset + row * ld + c : 0;
#pragma unroll
      for (int i = 0; i < n; ++i) {
        if (from[i]) copy_16(chip_address(to[i] + row * to_ld + c), from[i] + source, there);
      }
    }
    return;
  }
#endif
  for (int at = thread; at < kRows * kWide; at += kThreads) {
    const int row = at / kWide, c = at % kWide;
    const bool there = row < count && c < columns;
#pragma unroll
    for (int i = 0; i < n; ++i)
      if (from[i]) to[i][row * to_ld + c] = there ? from[i][offset + row * ld + c] : Real(0);
  }
}
template <int kRows, int kWide>
__device__ void copy_tile(int thread, const Real* from, Index ld, int count, int columns, bool whole, Real* to, int to_ld) {
  copy_tiles<kRows, kWide, 1>(thread, {from}, 0, ld, count, columns, whole, {to}, to_ld);
}
struct alignas(16) Four {
  Real at[4];
};
__device__ inline Four four(const Real* p) { return *reinterpret_cast<const Four*>(p); }

// 16 lines of 8 threads. Rows of a thread are 16 apart; columns 8 apart (nt), or groups of four, 32 apart (nn).
struct Fma {
  static constexpr int kLanes = 8;
  template <int kRows>
  static constexpr int rows = kRows / 16;
  template <int kColumns>
  static constexpr int columns = kColumns / 8;
  int line, lane;

  __device__ explicit Fma(int thread) : line(thread / 8), lane(thread % 8) {}
  template <int R>
  __device__ int row(int r) const {
    return line + 16 * r;
  }
  __device__ int column_nt(int c) const { return lane + 8 * c; }
  __device__ int column_nn(int c) const { return 4 * lane + 32 * (c / 4) + c % 4; }

  template <int K, int R, int C>
  __device__ void product_nt(Real (&acc)[R][C], const Real* A, int lda, const Real* B, int ldb) const {
    const Real *a = A + line * lda, *b = B + lane * ldb;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
      Four right[C];
#pragma unroll
      for (int c = 0; c < C; ++c) right[c] = four(b + 8 * c * ldb + k);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const Four left = four(a + 16 * r * lda + k);
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int c = 0; c < C; ++c) acc[r][c] += left.at[e] * right[c].at[e];
      }
    }
  }
  template <int K, int R, int C>
  __device__ void product_nn(Real (&acc)[R][C], const Real* A, int lda, const Real* B, int ldb) const {
    const Real *a = A + line * lda, *b = B + 4 * lane;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
      Four left[R];
#pragma unroll
      for (int r = 0; r < R; ++r) left[r] = four(a + 16 * r * lda + k);
#pragma unroll
      for (int e = 0; e < 4; ++e)
#pragma unroll
        for (int c = 0; c < C; c += 4) {
          const Four right = four(b + (k + e) * ldb + 8 * c);
#pragma unroll
          for (int r = 0; r < R; ++r)
#pragma unroll
            for (int f = 0; f < 4; ++f) acc[r][c + f] += left[r].at[e] * right.at[f];
        }
    }
  }
};

}  // namespace ssm::gpu_tile
#endif
