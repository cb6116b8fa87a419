// mma_tile.hpp - products of tiles of 64 rows on tensor cores by 256 threads (CUDA, compute capability 8 and later).
//
// Tiles lie on chip without padding, entry (row, column) at place<kWide>(row, column): groups of four columns are exchanged by the row, so that
// neither eight rows of one group (ldmatrix) nor four rows of eight columns meet a bank twice. An operand is Along, the sum's index along its
// rows, or Across, a row per index; kRounded: it holds TF32 numbers already (ready()), which saves as many additions as there are
// loads. Eight warps, two by four: warp (w, x) owns the rows 32 w and the columns 8 N x of the result, as
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
    constexpr int kFours = kWide / 4, kAtOnce = kThreads / kFours;
    static_assert(kAtOnce % 4 == 0 && kRows % kAtOnce == 0);
    const int first = thread / kFours, c = thread % kFours * 4;
    const Real* p = from + first * ld + c;
    const unsigned base = chip_address(to + first * kWide);
    const unsigned even = base + 4u * static_cast<unsigned>(c ^ turned(first)),
                   odd = base + 4u * static_cast<unsigned>(c ^ turned(first + 4));
    if (count >= kRows && columns >= kWide) {
#pragma unroll
      for (int row = 0; row < kRows; row += kAtOnce) {
        copy_16((row / 4 % 2 ? odd : even) + 4u * row * kWide, p);
        p += kAtOnce * ld;
      }
      return;
    }
#pragma unroll 1
    for (int row = 0; row < kRows; row += kAtOnce) {
      const bool there = first + row < count && c < columns;
      copy_16((row / 4 % 2 ? odd : even) + 4u * row * kWide, there ? p : from, there);
      p += kAtOnce * ld;
    }
    return;
  }
#pragma unroll 1
  for (int at = thread; at < kRows * kWide; at += kThreads) {
    const int row = at / kWide, c = at % kWide;
    to[place<kWide>(row, c)] = row < count && c < columns ? from[row * ld + c] : Real(0);
  }
}

// kCount numbers in a row by the threads [0, kCount / 4), beside the program; both addresses are multiples of 16 bytes.
template <int kCount>
__device__ void copy_line(int thread, const Real* from, Real* to) {
  if (thread < 0 || thread >= kCount / 4) return;
  copy_16(chip_address(to + 4 * thread), from + 4 * thread);
}

// x as a product takes it: a TF32 number where there is one pass.
template <int kPasses>
__device__ float ready(float x) {
  return kPasses > 1 ? x : __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u);
}
// The same for a tile, whose entries each thread of the block finds where it put none: call it between barriers.
template <int kPasses, int kThreads, int kCount>
__device__ void make_ready(int thread, Real* tile) {
  if constexpr (kPasses == 1) {
#pragma unroll 4
    for (int at = 4 * thread; at < kCount; at += 4 * kThreads) {
      Four x = four(tile + at);
      for (Real& e : x.at) e = ready<kPasses>(e);
      *reinterpret_cast<Four*>(tile + at) = x;
    }
  }
}

template <int kWide_, bool kRounded_ = false>
struct Along {
  static constexpr int kWide = kWide_;
  static constexpr bool kAlong = true, kRounded = kRounded_;
};
template <int kWide_, bool kRounded_ = false>
struct Across {
  static constexpr int kWide = kWide_;
  static constexpr bool kAlong = false, kRounded = kRounded_;
};

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
  template <class Tile>
  struct Left {
    static constexpr int W = Tile::kWide;
    unsigned at[4];                // Along
    const Real *low[4], *high[4];  // Across: rows of k = t and t + 4
    __device__ Left(const MmaTile& o, const Real* A) {
      const int row = 32 * o.down + o.lane % 16;
      const unsigned base = chip_address(A);
      for (int q = 0; q < 4; ++q) {
        at[q] = base + 4u * static_cast<unsigned>(row * W + ((8 * q + o.lane / 16 * 4) ^ turned(row)));
        low[q] = A + o.t * W + 32 * o.down + ((8 * q + o.g) ^ turned(o.t));
        high[q] = A + (o.t + 4) * W + 32 * o.down + ((8 * q + o.g) ^ turned(o.t + 4));
      }
    }
    __device__ void load(int k, int q, Bits (&x)[2][4]) const {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (Tile::kAlong) {
          load_matrices(x[m], at[q] + 4u * static_cast<unsigned>(m * 16 * W + k));
        } else {
#pragma unroll
          for (int e = 0; e < 4; ++e) x[m][e] = __float_as_uint((e < 2 ? low : high)[2 * m + e % 2][(k + 8 * q) * W]);
        }
      }
    }
  };
  template <class Tile, int N>
  struct Right {
    static_assert(!Tile::kAlong || N % 2 == 0);
    static constexpr int W = Tile::kWide;
    unsigned at[4];
    const Real *low[4], *high[4];
    __device__ Right(const MmaTile& o, const Real* B) {
      const int row = 8 * N * o.right + o.lane / 16 * 8 + o.lane % 8, first = 8 * N * o.right;
      const unsigned base = chip_address(B);
      for (int q = 0; q < 4; ++q) {
        at[q] = base + 4u * static_cast<unsigned>(row * W + ((8 * q + o.lane / 8 % 2 * 4) ^ turned(row)));
        const int column = first % 32 + 8 * (q % N) + o.g;
        low[q] = B + o.t * W + first / 32 * 32 + (column ^ turned(o.t));
        high[q] = B + (o.t + 4) * W + first / 32 * 32 + (column ^ turned(o.t + 4));
      }
    }
    __device__ void load(int k, int q, Bits (&x)[N][2]) const {
      if constexpr (Tile::kAlong) {
#pragma unroll
        for (int n = 0; n < N; n += 2) {
          Bits both[4];
          load_matrices(both, at[q] + 4u * static_cast<unsigned>(n * 8 * W + k));
          x[n][0] = both[0], x[n][1] = both[1], x[n + 1][0] = both[2], x[n + 1][1] = both[3];
        }
      } else {
#pragma unroll
        for (int n = 0; n < N; ++n) {
          x[n][0] = __float_as_uint(low[n % 4][(k + 8 * q) * W + n / 4 * 32]);
          x[n][1] = __float_as_uint(high[n % 4][(k + 8 * q) * W + n / 4 * 32]);
        }
      }
    }
  };

  struct One {};
  // acc (64, 32 N) += sum over k in [0, K) of times(k) A B.
  template <int K, class A, class B, int N, class Times = One>
  __device__ void add(float (&acc)[2][N][4], const Real* a, const Real* b, const Times& times = {}) const {
    if constexpr (kPasses == 1) {
      onto<K, A, B>(acc, a, b, times);
    } else {
      float part[2][N][4] = {};
      onto<K, A, B>(part, a, b, times);
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) acc[m][n][e] += part[m][n][e];
    }
  }
  // The same where acc is 0.
  template <int K, class A, class B, int N, class Times = One>
  __device__ void onto(float (&acc)[2][N][4], const Real* a, const Real* b, const Times& times = {}) const {
    constexpr bool kWeighted = !std::is_same_v<Times, One>;
    [[maybe_unused]] constexpr int kUnrolled = kPasses > 1 ? 1 : K / 32 < 2 ? K / 32 : 2;
    const Left<A> left(*this, a);
    const Right<B, N> rights(*this, b);
#pragma unroll kUnrolled
    for (int k = 0; k < K; k += 32)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        Bits x[2][4], xl[2][4], y[N][2], yl[N][2];
        left.load(k, q, x);
        rights.load(k, q, y);
        if constexpr (kWeighted) {
          const float early = times(k + 8 * q + t), late = times(k + 8 * q + t + 4);
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e) x[m][e] = __float_as_uint(__uint_as_float(x[m][e]) * (e < 2 ? early : late));
        }
        if constexpr (kPasses > 1 || kWeighted || !A::kRounded)
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e) split(x[m][e], xl[m][e]);
        if constexpr (kPasses > 1 || !B::kRounded)
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e) split(y[n][e], yl[n][e]);
#pragma unroll
        for (int pass = kPasses > 1 ? 0 : 2; pass < 3; ++pass)
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int m = 0; m < 2; ++m)
              mma(acc[m][n][0], acc[m][n][1], acc[m][n][2], acc[m][n][3], pass == 0 ? xl[m] : x[m], pass == 1 ? yl[n] : y[n]);
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
