// mma.hpp - the products of gpu_tile.hpp on tensor cores (CUDA, compute capability 8 and later): mma.sync m16n8k8 on TF32.
//
// Mma<1> rounds operands to TF32 (relative error 2^-11). Mma<3> splits each into two TF32 numbers, x = high + low, and adds the
// products low high, high low, high high: relative error 2^-21.
// On-chip rows: leading extents of 4 mod 32 for both operands of nt and B of nn, 8 mod 32 for A of nn meet no bank twice.
#pragma once
#include "gpu_tile.hpp"

#if defined(SSM_CUDA_CODE) && !defined(KOKKOS_ARCH_KEPLER) && !defined(KOKKOS_ARCH_MAXWELL) && !defined(KOKKOS_ARCH_PASCAL) && \
    !defined(KOKKOS_ARCH_VOLTA) && !defined(KOKKOS_ARCH_TURING75)
#define SSM_TENSOR_CORES 1
namespace ssm::gpu_tile {

template <int kPasses>
struct Part {
  Bits high, low;
  __device__ explicit Part(float x) {
    high = __float_as_uint(x) + 0x1000u;
    low = 0;
    if (kPasses > 1) {
      high &= 0xffffe000u;
      low = __float_as_uint(x - __uint_as_float(high));
    }
  }
};

// Four warps, one below the other. In a block of 16 x 8 a thread holds the rows g, g + 8 and the columns 2t, 2t + 1.
template <int kPasses>
struct Mma {
  static constexpr int kLanes = 4, kGroup = 4;
  template <int kRows>
  static constexpr int rows = kRows / 32;
  template <int kColumns>
  static constexpr int columns = kColumns / 4;
  int warp, g, t;

  __device__ explicit Mma(int thread) : warp(thread / 32), g(thread % 32 / 4), t(thread % 4) {}
  template <int R>
  __device__ int row(int r) const {
    return warp * 8 * R + 8 * r + g;
  }
  __device__ int column_nt(int c) const { return 8 * (c / 2) + 2 * t + c % 2; }
  __device__ int column_nn(int c) const { return column_nt(c); }

  // Columns [c, c + 2 kGroup) of acc, from one pair of entries of B for every two. The passes are the outer loop: consecutive products on the
  // same sums would wait for each other.
  template <int kGroup, int R, int C>
  __device__ static void multiply(Real (&acc)[R][C], int c, const Bits (&high)[R / 2][4], const Bits (&low)[R / 2][4],
                                  const float (&b)[kGroup][2]) {
    Bits bh[kGroup][2], bl[kGroup][2];
#pragma unroll
    for (int n = 0; n < kGroup; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) split(b[n][e], bh[n][e], bl[n][e]);
#pragma unroll
    for (int pass = kPasses > 1 ? 0 : 2; pass < 3; ++pass)
#pragma unroll
      for (int n = 0; n < kGroup; ++n)
#pragma unroll
        for (int m = 0; m < R; m += 2)
          mma(acc[m][c + 2 * n], acc[m][c + 2 * n + 1], acc[m + 1][c + 2 * n], acc[m + 1][c + 2 * n + 1],
              pass == 0 ? low[m / 2] : high[m / 2], pass == 1 ? bl[n] : bh[n]);
  }
  __device__ static void split(float x, Bits& high, Bits& low) {
    const Part<kPasses> part(x);
    high = part.high, low = part.low;
  }

  // Slots t and t + 4 of the sum are k = t and t + 4.
  template <int K, int R, int C>
  __device__ void product_nt(Real (&acc)[R][C], const Real* A, int lda, const Real* B, int ldb) const {
    const Real *a = A + row<R>(0) * lda + t, *b = B + g * ldb + t;
#pragma unroll 2
    for (int k = 0; k < K; k += 8) {
      Bits high[R / 2][4], low[R / 2][4];
#pragma unroll
      for (int m = 0; m < R; m += 2)
#pragma unroll
        for (int e = 0; e < 4; ++e) split(a[(8 * m + e % 2 * 8) * lda + k + e / 2 * 4], high[m / 2][e], low[m / 2][e]);
#pragma unroll
      for (int c = 0; c < C; c += 2 * kGroup) {
        float right[kGroup][2];
#pragma unroll
        for (int n = 0; n < kGroup; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) right[n][e] = b[(4 * c + 8 * n) * ldb + k + 4 * e];
        multiply(acc, c, high, low, right);
      }
    }
  }
  // Tensor cores cut the low bits of a sum instead of rounding them: with three passes every tile is summed apart, and added in float.
  template <int K, int R, int C>
  __device__ void product_nn(Real (&acc)[R][C], const Real* A, int lda, const Real* B, int ldb) const {
    if constexpr (kPasses == 1) {
      add_nn<K>(acc, A, lda, B, ldb);
    } else {
      constexpr int kApart = C < 16 ? C : 16;
#pragma unroll
      for (int first = 0; first < C; first += kApart) {
        Real part[R][kApart] = {};
        add_nn<K>(part, A, lda, B + 4 * first, ldb);
#pragma unroll
        for (int r = 0; r < R; ++r)
#pragma unroll
          for (int c = 0; c < kApart; ++c) acc[r][first + c] += part[r][c];
      }
    }
  }
  // Slots t and t + 4 are k = 2t and 2t + 1: pairs of A are read at once, and rows of B that are two apart lie in different banks.
  template <int K, int R, int C>
  __device__ void add_nn(Real (&acc)[R][C], const Real* A, int lda, const Real* B, int ldb) const {
    const Real *a = A + row<R>(0) * lda + 2 * t, *b = B + 2 * t * ldb + g;
#pragma unroll 2
    for (int k = 0; k < K; k += 8) {
      Bits high[R / 2][4], low[R / 2][4];
#pragma unroll
      for (int m = 0; m < R; ++m) {
        const float2 pair = *reinterpret_cast<const float2*>(a + 8 * m * lda + k);
        split(pair.x, high[m / 2][m % 2], low[m / 2][m % 2]);
        split(pair.y, high[m / 2][m % 2 + 2], low[m / 2][m % 2 + 2]);
      }
#pragma unroll
      for (int c = 0; c < C; c += 2 * kGroup) {
        float right[kGroup][2];
#pragma unroll
        for (int n = 0; n < kGroup; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) right[n][e] = b[(k + e) * ldb + 4 * c + 8 * n];
        multiply(acc, c, high, low, right);
      }
    }
  }
};

}  // namespace ssm::gpu_tile
#endif
