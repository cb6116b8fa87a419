// fft_columns.hpp - the outer part of complex Fourier transforms that do not fit on a chip: N = R M points as R lines of M, point n M + j in line n
// (CUDA). It takes the points n = 0 .. R-1 of a column j to
//
//   z_{k,j} = e^{-i pi j (2 k + half) / N} sum_n e^{-i pi n (2 k + half) / R} x_{n M + j}      k = 0 .. R-1
//
// after which line k goes through a transform of M of its own (fft_chip.hpp, half 0) and holds the spectrum at k, k + R, ..
// R = A P: a thread transforms P points in registers and, where A > 1, A of them before, with an exchange through on-chip memory between.
#pragma once
#include "lib/fft_chip.hpp"

#if defined(SSM_CUDA_CODE)
namespace ssm::fft_chip {

// A slab of J neighbouring columns for a block. Thread (a, lane) starts with the points n = a + A m of column j, m < P in register m, which is
// point m G + g of the row, and ends with k = a + A b, b < P.
template <int A_, int P_>
struct Columns {
  static constexpr int M = 4096, A = A_, P = P_, R = A * P, N = R * M, G = A * M;
  static constexpr int kThreads = 256, J = kThreads / A, kSlabs = M / J;
  static constexpr int kArea = A > 1 ? R *J : 0, kInner = A > 1 ? 2 * R : 0, kLow = 8, kHigh = P / 4 - 1;
  static constexpr std::size_t kBytes = (kArea + kInner + (kLow + kHigh) * kThreads) * sizeof(Z);
  static_assert(P % A == 0 && P % 4 == 0 && M % J == 0);

  int thread, a, j, g;
  Z *area, *inner, *table;

  __device__ Columns(int thread_, int slab, Real* memory)
      : thread(thread_),
        a(thread_ / J),
        j(slab * J + thread_ % J),
        g(a * M + j),
        area(reinterpret_cast<Z*>(memory)),
        inner(area + kArea),
        table(inner + kInner) {
    // e^{-i pi j (2 (a + A b) + half) / N} in row 4 half + b, e^{-i pi j 8 A c / N} in row 7 + c
#pragma unroll 1
    for (int row = 0; row < kLow + kHigh; ++row)
      table[row * kThreads + thread] = root(j * (row < kLow ? 2 * (a + A * (row % 4)) + row / 4 : 8 * A * (row - kLow + 1)), N);
    // e^{-i pi (2 n k + half a) / R} for n = a + A i, k < A: what is left of line n between the two passes
    for (int i = thread; i < kInner; i += kThreads) {
      const int half = i / R, line = i % R / A, k = i % A, first = line % A;
      inner[half * R + line * A + k] = root(2 * line * k + half * first, R);
    }
    __syncthreads();
  }

  // Where a thread's points of line k, k + A, .. lie, from the first line on.
  __device__ Index line() const { return static_cast<Index>(a) * M + j; }

  __device__ __forceinline__ void forward(Z* z, int half) const {
    if constexpr (A > 1) {
      __syncthreads();
#pragma unroll
      for (int i = 0; i < P / A; ++i) {
        Z x[A];
#pragma unroll
        for (int n = 0; n < A; ++n) x[n] = z[i + P / A * n];
        dft<A, false>(x);
#pragma unroll
        for (int k = 0; k < A; ++k) *place(k, a + A * i) = x[k] * inner_root(half, i, k);
      }
      __syncthreads();
#pragma unroll
      for (int n = 0; n < P; ++n) z[n] = *place(a, n);
    }
    dft<P, false>(z);
    by_roots<P, false>(z, table + half * 4 * kThreads + thread, table + kLow * kThreads + thread, kThreads,
                       [](Z x, Z root) { return x * root; });
  }

  // R times the inverse of forward().
  __device__ __forceinline__ void inverse(Z* z, int half) const {
    by_roots<P, false>(z, table + half * 4 * kThreads + thread, table + kLow * kThreads + thread, kThreads,
                       [](Z x, Z root) { return conj(root) * x; });
    dft<P, true>(z);
    if constexpr (A > 1) {
      __syncthreads();
#pragma unroll
      for (int n = 0; n < P; ++n) *place(a, n) = z[n];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < P / A; ++i) {
        Z x[A];
#pragma unroll
        for (int k = 0; k < A; ++k) x[k] = conj(inner_root(half, i, k)) * *place(k, a + A * i);
        dft<A, true>(x);
#pragma unroll
        for (int n = 0; n < A; ++n) z[i + P / A * n] = x[n];
      }
    }
  }

 private:
  // e^{-i pi m / n}
  __device__ static Z root(int m, int n) {
    Real s, c;
    sine_cosine_pi(static_cast<Real>(m) / n, s, c);
    return {c, -s};
  }
  __device__ Z* place(int k, int n) const { return area + (k * P + n) * J + thread % J; }
  __device__ Z inner_root(int half, int i, int k) const { return inner[half * R + (a + A * i) * A + k]; }
};

}  // namespace ssm::fft_chip
#endif
