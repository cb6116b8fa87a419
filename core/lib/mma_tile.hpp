// mma_tile.hpp - products of tiles of 64 rows on tensor cores by 256 threads (CUDA, compute capability 8 and later).
//
// Tiles lie on chip without padding, entry (row, column) at place<kWide>(row, column): groups of four columns are exchanged by the row, so that
// neither eight rows of one group (ldmatrix) nor four rows of eight columns meet a bank twice. An operand is Along, the sum's index along its
// rows, or Across, a row per index. Eight warps, two by four: warp (w, x) owns the rows 32 w and 8 N x of the result, as
//   acc[m][n][e]: row 32 w + 16 m + 8 (e / 2) + g, column 8 N x + 8 n + 2 t + e % 2, thread 4 g + t of its warp.
// kPasses as in mma.hpp: 1 TF32, 3 split; with three passes a product is summed apart before it is added.
#pragma once
#include <type_traits>

#include "mma.hpp"

#if defined(SSM_TENSOR_CORES)
namespace ssm::gpu_tile {

__device__ inline int turned(int row) { return (((row & 3) << 1) ^ ((row >> 2 & 1) * 3)) << 2; }
template <int kWide>
__device__ int place(int row, int column) {
  return row * kWide + (column ^ turned(row));
}

// (count, columns) of leading extent ld to a tile (kRows, kWide), zeros beyond; copies as copy_tiles has them.
template <int kThreads, int kRows, int kWide>
__device__ void copy_turned(int thread, const Real* from, Index ld, int count, int columns, bool whole, Real* to) {
  if (whole && !kDouble) {
    constexpr int kFours = kWide / 4;
#pragma unroll
    for (int at = thread; at < kRows * kFours; at += kThreads) {
      const int row = at / kFours, c = at % kFours * 4, bytes = row < count && c < columns ? 16 : 0;
      const Index source = bytes ? row * ld + c : 0;
      const unsigned to_byte = static_cast<unsigned>(__cvta_generic_to_shared(to + place<kWide>(row, c)));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_byte), "l"(from + source), "r"(bytes) : "memory");
    }
    return;
  }
  for (int at = thread; at < kRows * kWide; at += kThreads) {
    const int row = at / kWide, c = at % kWide;
    to[place<kWide>(row, c)] = row < count && c < columns ? from[row * ld + c] : Real(0);
  }
}

// kCount numbers in a row by the threads [0, kCount / 4), beside the program; both addresses are multiples of 16 bytes.
template <int kCount>
__device__ void copy_line(int thread, const Real* from, Real* to) {
  if (thread < 0 || thread >= kCount / 4) return;
  const unsigned to_byte = static_cast<unsigned>(__cvta_generic_to_shared(to + 4 * thread));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to_byte), "l"(from + 4 * thread) : "memory");
}

__device__ inline void load_matrices(gpu_tile::Bits (&x)[4], const Real* p) {
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(p));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(at)
               : "memory");
}

struct Along {};
struct Across {};

template <int kPasses>
struct MmaTile {
  static constexpr int kThreads = 256;
  int lane, g, t, down, right;  // warp (down, right)

  __device__ explicit MmaTile(int thread)
      : lane(thread % 32), g(thread % 32 / 4), t(thread % 4), down(thread / 128), right(thread / 32 % 4) {}
  __device__ int row(int m, int e) const { return 32 * down + 16 * m + 8 * (e / 2) + g; }
  template <int N>
  __device__ int column(int n, int e) const {
    return 8 * N * right + 8 * n + 2 * t + e % 2;
  }

  // Where a thread's loads of an operand start: four steps of eight k, exchanged by the row.
  template <class How, int kWide>
  struct Left {
    const Real *low, *high;  // rows of k: t and t + 4
    int at[4];
    __device__ Left(const MmaTile& o, const Real* A) {
      if constexpr (std::is_same_v<How, Along>) {
        const int row = 32 * o.down + o.lane % 16;
        low = high = A + row * kWide;
        for (int q = 0; q < 4; ++q) at[q] = (8 * q + o.lane / 16 * 4) ^ turned(row);
      } else {
        low = A + o.t * kWide + 32 * o.down, high = low + 4 * kWide;
        for (int q = 0; q < 4; ++q) at[q] = (8 * q + o.g) ^ turned(o.t);
      }
    }
    __device__ void load(const MmaTile& o, int k, int q, Bits (&x)[2][4]) const {
      if constexpr (std::is_same_v<How, Along>) {
#pragma unroll
        for (int m = 0; m < 2; ++m) load_matrices(x[m], low + m * 16 * kWide + k + at[q]);
      } else {
        const int flip = turned(o.t) ^ turned(o.t + 4), first = (k + 8 * q) * kWide;
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            x[m][e] = __float_as_uint(e < 2 ? low[first + at[2 * m + e]] : high[first + (at[2 * m + e - 2] ^ flip)]);
      }
    }
  };
  template <class How, int kWide, int N>
  struct Right {
    static_assert(std::is_same_v<How, Across> || N % 2 == 0);
    const Real *low, *high;
    int at[4];
    __device__ Right(const MmaTile& o, const Real* B) {
      if constexpr (std::is_same_v<How, Along>) {
        const int row = 8 * N * o.right + o.lane / 16 * 8 + o.lane % 8;
        low = high = B + row * kWide;
        for (int q = 0; q < 4; ++q) at[q] = (8 * q + o.lane / 8 % 2 * 4) ^ turned(row);
      } else {
        const int first = 8 * N * o.right;
        low = B + o.t * kWide + first / 32 * 32, high = low + 4 * kWide;
        for (int n = 0; n < 4; ++n) at[n] = (first % 32 + 8 * (n % N) + o.g) ^ turned(o.t);
      }
    }
    __device__ void load(const MmaTile& o, int k, int q, Bits (&x)[N][2]) const {
      if constexpr (std::is_same_v<How, Along>) {
#pragma unroll
        for (int n = 0; n < N; n += 2) {
          Bits four[4];
          load_matrices(four, low + n * 8 * kWide + k + at[q]);
          x[n][0] = four[0], x[n][1] = four[1], x[n + 1][0] = four[2], x[n + 1][1] = four[3];
        }
      } else {
        const int flip = turned(o.t) ^ turned(o.t + 4), first = (k + 8 * q) * kWide;
#pragma unroll
        for (int n = 0; n < N; ++n) {
          x[n][0] = __float_as_uint(low[first + n / 4 * 32 + at[n % 4]]);
          x[n][1] = __float_as_uint(high[first + n / 4 * 32 + (at[n % 4] ^ flip)]);
        }
      }
    }
  };

  // acc (64, 32 N) += sum over k in [0, K) of times(k) A B, from tiles of kA and kB columns.
  template <int K, class HowA, int kA, class HowB, int kB, int N, class Times>
  __device__ void add(float (&acc)[2][N][4], const Real* A, const Real* B, const Times& times) const {
    if constexpr (kPasses == 1) {
      onto<K, HowA, kA, HowB, kB>(acc, A, B, times);
    } else {
      float part[2][N][4] = {};
      onto<K, HowA, kA, HowB, kB>(part, A, B, times);
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) acc[m][n][e] += part[m][n][e];
    }
  }
  struct One {};
  template <int K, class HowA, int kA, class HowB, int kB, int N>
  __device__ void add(float (&acc)[2][N][4], const Real* A, const Real* B) const {
    add<K, HowA, kA, HowB, kB>(acc, A, B, One{});
  }
  // The same where acc is 0.
  template <int K, class HowA, int kA, class HowB, int kB, int N, class Times = One>
  __device__ void onto(float (&acc)[2][N][4], const Real* A, const Real* B, const Times& times = {}) const {
    const Left<HowA, kA> left(*this, A);
    const Right<HowB, kB, N> rights(*this, B);
#pragma unroll 1
    for (int k = 0; k < K; k += 32)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        Bits a[2][4], al[2][4], b[N][2], bl[N][2];
        left.load(*this, k, q, a);
        rights.load(*this, k, q, b);
        if constexpr (!std::is_same_v<Times, One>) {
          const float early = times(k + 8 * q + t), late = times(k + 8 * q + t + 4);
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e) a[m][e] = __float_as_uint(__uint_as_float(a[m][e]) * (e < 2 ? early : late));
        }
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
          for (int e = 0; e < 4; ++e) split(a[m][e], al[m][e]);
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) split(b[n][e], bl[n][e]);
#pragma unroll
        for (int pass = kPasses > 1 ? 0 : 2; pass < 3; ++pass)
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int m = 0; m < 2; ++m)
              mma(acc[m][n][0], acc[m][n][1], acc[m][n][2], acc[m][n][3], pass == 0 ? al[m] : a[m], pass == 1 ? bl[n] : b[n]);
      }
  }
  __device__ static void split(Bits& x, Bits& low) {
    const Part<kPasses> part(__uint_as_float(x));
    x = part.high, low = part.low;
  }
};

// f(row, column, entry, next): entries of neighbouring columns, the first of them even.
template <int kPasses, int N, class F>
__device__ void pairs(const MmaTile<kPasses>& layout, float (&acc)[2][N][4], const F& f) {
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int e = 0; e < 4; e += 2)
#pragma unroll
      for (int n = 0; n < N; ++n) f(layout.row(m, e), layout.template column<N>(n, e), acc[m][n][e], acc[m][n][e + 1]);
}

}  // namespace ssm::gpu_tile
#endif
