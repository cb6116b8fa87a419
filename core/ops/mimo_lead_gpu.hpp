// mimo_lead_gpu.hpp - the product before the walk with the ends of its pieces, w = u B^T or g = dy C, on tensor cores (mimo_scan_gpu.hpp).
//
// Sixteen rows of mma are a piece, whose last state from 0 is a weighted sum of them: sum_i lambda^(15-i) w_i, for the adjoint sum_i conj(lambda)^i g_i.
// So the ends cost a few instructions behind the product and no second reading of w. A block holds all of B or C in registers while rows of u or
// dy pass by: up to 128 of their columns. A warp has the real and the imaginary parts of 4 N modes.
//
// Bytes: 4 (H + S) a row. Per row and block ldmatrix takes 32 K / 128 cycles, 2,048 for a tile of 64 at K = 128, mma at N = 2 as many;
// the memory's share takes 3,600.
#pragma once
#include <algorithm>

#include "ops/mimo_pieces_gpu.hpp"

#if defined(SSM_TENSOR_CORES)
namespace ssm::mimo_scan_op {

struct Leading {
  Pieces s;                  // carry: where the ends go, or null
  const Real *in, *weights;  // u or dy (B,T,H); forward B (2p,H), back C (H,2p)
  Real* to;                  // w or g (B,T,2p)
  Index H;
};

template <int K, int N, bool kBack>
struct Lead {
  static constexpr int kThreads = 256, kTile = 8192, kRows = kTile / K, kOfWarp = 4 * N, kMost = 8 * kOfWarp, kPairs = N / 2,
                       kBlocks = N > 2 ? 1 : 2, kSlots = kBlocks > 1 ? 3 : 4;
  static constexpr std::size_t kBytes = sizeof(Real) * kTile * kSlots;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Leading a;
  int T, p, H, per_row, tiles, walkers;  // tiles of a sequence, of all; blocks

  explicit Lead(const Leading& arguments)
      : a(arguments), T(static_cast<int>(a.s.T)), p(static_cast<int>(a.s.p)), H(static_cast<int>(a.H)), per_row((T + kRows - 1) / kRows) {
    tiles = static_cast<int>(a.s.B) * per_row;
    walkers = std::min(tiles, static_cast<int>(kProcessors) * kBlocks);
  }
  Index blocks() const { return walkers; }

  // Of a lane: modes first + 8 c + 2 t + e, rows g and g + 8 of a piece and their weights in its end.
  struct Modes {
    int first, g, t;
    Complex<float> weight[kPairs][2][2];  // of pair c, row g + 8 h, mode e
  };

  __device__ void operator()(Index block, int thread, Real* m) const {
    const int walker = static_cast<int>(block), lane = thread % 32, mine = (tiles - walker + walkers - 1) / walkers;
    const auto tile_of = [&](int i) { return Tile(T, per_row, kRows, walker + i * walkers); };
    const auto load = [&](int i) {
      if (i < mine) {
        const Tile tile = tile_of(i);
        copy_turned<kThreads, kRows, K>(thread, a.in + tile.row * H, H, tile.count, H, true, m + i % kSlots * kTile);
      }
      copies_end();
    };
#pragma unroll
    for (int i = 0; i < kSlots - 1; ++i) load(i);
    Modes own{thread / 32 * kOfWarp, lane / 4, lane % 4, {}};
    gpu_tile::Bits w[K / 8][N][2];
    hold(w, own);
    weigh(own);
    unsigned at[4];
    left_starts<K>(m, lane, at);
    for (int i = 0; i < mine; ++i) {
      copies_wait<kSlots - 2>();
      __syncthreads();
      load(i + kSlots - 1);
      if (own.first < p) product(at, i % kSlots * kTile, tile_of(i), w, own);
    }
  }

  // The right operand, for good: row k of the sum, and of pair c the column of mode first + 8 c + g, real or imaginary.
  __device__ void hold(gpu_tile::Bits (&w)[K / 8][N][2], const Modes& own) const {
#pragma unroll
    for (int c = 0; c < N; ++c) {
      const int mode = own.first + c / 2 * 8 + own.g, n = mode + c % 2 * p;
      const Real* from = a.weights + (kBack ? n : n * H);
#pragma unroll
      for (int q = 0; q < K / 8; ++q)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int k = 8 * q + own.t + 4 * e;
          w[q][c][e] = __float_as_uint(ready<1>(mode < p && k < H ? from[kBack ? k * 2 * p : k] : 0.f));
        }
    }
  }

  __device__ void weigh(Modes& own) const {
#pragma unroll
    for (int c = 0; c < kPairs; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int k = own.first + 8 * c + 2 * own.t + e;
        Complex<double> power{0, 0};
        if (k < p)
          power = {static_cast<double>(a.s.lambda[k]) + static_cast<double>(a.s.lambda[2 * p + k]),
                   static_cast<double>(a.s.lambda[p + k]) + static_cast<double>(a.s.lambda[3 * p + k])};
        if (kBack) power = conj(power);
        Complex<double> one{1, 0}, eighth = power;
        for (int left = kBack ? own.g : kPiece / 2 - 1 - own.g; left > 0; --left) one = one * power;
        for (int q = 1; q < kPiece / 2; q *= 2) eighth = eighth * eighth;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const Complex<double> x = (h == 1) == kBack ? one * eighth : one;
          own.weight[c][h][e] = {static_cast<float>(x.re), static_cast<float>(x.im)};
        }
      }
  }

  __device__ void product(const unsigned (&at)[4], int tile_at, const Tile& tile, const gpu_tile::Bits (&w)[K / 8][N][2],
                          const Modes& own) const {
#pragma unroll 1
    for (int first = 0; first < tile.count; first += kPiece) {
      float acc[N][4] = {};
      const unsigned offset = 4u * static_cast<unsigned>(tile_at + first * K);
#pragma unroll
      for (int q = 0; q < K / 8; ++q) {
        gpu_tile::Bits x[4];
        load_matrices(x, at[q % 4] + offset + 4u * static_cast<unsigned>(q / 4 * 32));
#pragma unroll
        for (int e = 0; e < 4; ++e) x[e] += 0x1000u;  // rounded, as Part<1> does it
#pragma unroll
        for (int c = 0; c < N; ++c) mma(acc[c][0], acc[c][1], acc[c][2], acc[c][3], x, w[q][c]);
      }
      Real* to = a.to + (tile.row + first + own.g) * 2 * p;
#pragma unroll
      for (int c = 0; c < kPairs; ++c) {
        const int k = own.first + 8 * c + 2 * own.t;
        const float(&re)[4] = acc[2 * c], (&im)[4] = acc[2 * c + 1];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (first + 8 * h + own.g >= tile.count || k >= p) continue;
          put(to + 16 * h * p + k, re[2 * h], re[2 * h + 1]);
          put(to + 16 * h * p + p + k, im[2 * h], im[2 * h + 1]);
        }
        if (a.s.carry) end(re, im, own, c, a.s.carry + (tile.piece + first / kPiece) * 2 * p);
      }
    }
  }

  // The sum over the rows of a piece: eight lanes have two of each mode. The first exchange leaves real parts to half of the lanes and imaginary
  // parts to the others, the second one mode of two.
  __device__ void end(const float (&re)[4], const float (&im)[4], const Modes& own, int c, Real* to) const {
    Complex<float> sum[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const Complex<float>(&x)[2][2] = own.weight[c];
      sum[e] = {x[0][e].re * re[e] - x[0][e].im * im[e] + (x[1][e].re * re[2 + e] - x[1][e].im * im[2 + e]),
                x[0][e].re * im[e] + x[0][e].im * re[e] + (x[1][e].re * im[2 + e] + x[1][e].im * re[2 + e])};
    }
    const bool imaginary = own.g & 4, second = own.g & 2;
    const auto exchange = [](float keep, float give, int lanes) { return keep + __shfl_xor_sync(0xffffffffu, give, lanes); };
    float of[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) of[e] = exchange(imaginary ? sum[e].im : sum[e].re, imaginary ? sum[e].re : sum[e].im, 16);
    float all = exchange(second ? of[1] : of[0], second ? of[0] : of[1], 8);
    all = exchange(all, all, 4);
    const int k = own.first + 8 * c + 2 * own.t + second;
    if (!(own.g & 1) && k < p) to[k + (imaginary ? p : 0)] = all;
  }
};

// Columns of u that registers have room for.
constexpr Index kMostLed = 128;

// f(a Lead of Leading).
template <bool kBack, class F>
void with_lead(const Leading& a, const F& f) {
  if constexpr (!kDouble) {
    if (a.H > 64) a.s.p > 64 ? f(Lead<128, 4, kBack>(a)) : f(Lead<128, 2, kBack>(a));
    else a.s.p > 64 ? f(Lead<64, 4, kBack>(a)) : f(Lead<64, 2, kBack>(a));
  }
}

}  // namespace ssm::mimo_scan_op
#endif
