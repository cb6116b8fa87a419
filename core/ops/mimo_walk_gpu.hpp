// mimo_walk_gpu.hpp - the walk along time and the product behind it as one kernel on tensor cores (mimo_scan_gpu.hpp has the formulas).
//
// A block takes tiles of pieces in turn and holds its columns of C or B in registers, one entry a slot of mma's right operand, so that weights
// cross the chip once. Between two barriers tile i + 1 is walked, a thread to one mode of one piece, and tile i multiplied, while tiles behind
// them come on chip. Half of the warps, as many on each scheduler, walk first, the others multiply first: the walk is chains of additions, the
// product is loads from the chip and tensor cores, and each fills what the other leaves idle.
//
// At K = 256 and N = 2 a tile of 32 rows takes 2,048 cycles of ldmatrix and as many of mma, and 768 of on-chip memory for walk and copies. Its
// share of the device's memory, 64 KB forward and 96 KB back at 18 bytes a cycle and multiprocessor (4.2 TB/s), takes 3,600 and 5,300.
#pragma once
#include <algorithm>

#include "ops/mimo_pieces_gpu.hpp"

#if defined(SSM_TENSOR_CORES)
namespace ssm::mimo_scan_op {

struct Walking {
  Pieces s;             // carry: states before each piece, or null: one piece a sequence
  const Real* weights;  // forward C (H,2p), back B (2p,H)
  const Real *D, *in;   // in: what passes by, u or dy (B,T,H)
  Real* states;         // x or l, (B,T,2p); s.from itself only where one block has all columns
  Grad out;             // y or du
  Index H;
  bool backwards;              // the last tiles first: those that the kernel before has just written
  const Real *x, *u;           // back
  Real *dlambda, *dD;          // back: sums of each walker, (walkers * pieces of a tile,2p), (walkers,H)
  int walkers = 0, parts = 0;  // blocks that share the tiles; blocks that share the columns
};

// K columns of a padded row of states, real parts, then imaginary; each of eight warps makes 8 N columns of the product.
template <int K, int N, bool kBack>
struct Walk {
  static constexpr int kThreads = 256, kModes = K / 2, kPieces = kThreads / kModes, kRows = kPieces * kPiece, kColumns = 64 * N,
                       kTile = kRows * K;
  static constexpr int kBlocks = kBack || N > 2 || K > 128 ? 1 : 2;
  static constexpr int kSlots = kBlocks > 1 ? 3 : 4, kSeen = kSlots - 1;  // tiles on chip; back: of x, which the product does not need
  // Sums of an entry of the product, every other k: a warp alone on its scheduler's tensor core needs four products that wait for no other.
  static constexpr int kSums = kBlocks > 1 || N > 2 ? 1 : 2, kAhead = 8;
  static constexpr std::size_t kBytes = sizeof(Real) * kTile * (kSlots + (kBack ? kSeen : 0));
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Walking a;
  int T, p, S, H, per_row, tiles;  // tiles of a sequence, of all

  explicit Walk(const Walking& arguments)
      : a(arguments), T(static_cast<int>(a.s.T)), p(static_cast<int>(a.s.p)), S(2 * p), H(static_cast<int>(a.H)) {
    per_row = (T + kRows - 1) / kRows;
    tiles = static_cast<int>(a.s.B) * per_row;
    a.parts = (H + kColumns - 1) / kColumns;
    a.walkers = std::min(tiles, std::max(1, static_cast<int>(kProcessors) * kBlocks / a.parts));
  }
  Index blocks() const { return a.walkers * a.parts; }

  struct Columns {
    int first, g, t;  // of this warp; lane = 4 g + t
    float skip[N][2], passed[N][2];
  };

  __device__ void operator()(Index block, int thread, Real* m) const {
    const int walker = static_cast<int>(block) / a.parts, part = static_cast<int>(block) - walker * a.parts, lane = thread % 32,
              mine = (tiles - walker + a.walkers - 1) / a.walkers;
    const int piece = thread / kModes, k = thread % kModes;
    unsigned owned = 0;  // a bit for every piece of a tile whose states are this block's to write
    for (int q = part; q < kPieces; q += a.parts) owned |= 1u << q;
    const bool mode = k < p, owns = owned >> piece & 1;
    const auto tile_of = [&](int i) {
      const int index = walker + i * a.walkers;
      return Tile(T, per_row, kRows, a.backwards ? tiles - 1 - index : index);
    };
    const auto load = [&](int i) {
      if (i < mine) {
        const Tile tile = tile_of(i);
        fetch(thread, ~0u, a.s.from + tile.row * S, tile.count, 0, m + i % kSlots * kTile);
        if (kBack) fetch(thread, owned, a.x + (tile.row - 1) * S, tile.count, tile.first == 0 ? 1 : 0, m + (kSlots + i % kSeen) * kTile);
        announce(thread, part, tile);
      }
      copies_end();
    };
    const auto carried = [&](int i, float(&state)[2]) {
      state[0] = state[1] = 0;
      if (i >= mine || !a.s.carry || !mode) return;
      const Tile tile = tile_of(i);
      if (piece * kPiece >= tile.count) return;
      const Real* from = a.s.carry + (tile.piece + piece) * S + k;
      state[0] = from[0], state[1] = from[p];
    };
#pragma unroll
    for (int i = 0; i < kSlots - 2; ++i) load(i);
    float state[2], lambda[4] = {}, sums[2] = {};
    carried(0, state);
    if (mode)
#pragma unroll
      for (int q = 0; q < 4; ++q) lambda[q] = (kBack && q % 2 ? -1.f : 1.f) * a.s.lambda[q * p + k];
    Columns own{part * kColumns + thread / 32 * 8 * N, lane / 4, lane % 4, {}, {}};
    gpu_tile::Bits w[K / 8][N][2];
    hold(w, own);
#pragma unroll
    for (int c = 0; c < N; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int n = own.first + 8 * c + 2 * own.t + e;
        own.skip[c][e] = n < H ? a.D[n] : 0.f;
      }
    unsigned at[4];
    left_starts<K>(m, lane, at);
    const int walks = thread / (kThreads / 2);
    for (int i = -1; i < mine; ++i) {
      copies_wait<kSlots - 3>();
      __syncthreads();
      load(i + kSlots - 1);
#pragma unroll 1
      for (int turn = 0; turn < 2; ++turn) {
        if (turn == walks) {
          if (i + 1 >= mine) continue;
          if (mode) {
            const Tile tile = tile_of(i + 1);
            Real* rows = m + (i + 1) % kSlots * kTile + piece * kPiece * K + k;
            const Real* seen = m + (kSlots + (i + 1) % kSeen) * kTile + piece * kPiece * K + k;
            Real* to = a.states + (tile.row + piece * kPiece) * S + k;
            const int count = tile.count - piece * kPiece;
            if (count >= kPiece && S == K) scan<true>(rows, seen, k, lambda, state, owns, kPiece, to, sums);
            else scan<false>(rows, seen, k, lambda, state, owns, count, to, sums);
          }
          carried(i + 2, state);
        } else if (i >= 0) {
          product(at, i % kSlots * kTile, tile_of(i), w, own);
        }
      }
    }
    if constexpr (kBack) {
      if (mode && owns) {
        Real* to = a.dlambda + static_cast<Index>(walker * kPieces + piece) * S + k;
        to[0] = sums[0], to[p] = sums[1];
      }
#pragma unroll
      for (int c = 0; c < N; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float sum = own.passed[c][e];
#pragma unroll
          for (int other = 4; other < 32; other *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
          const int n = own.first + 8 * c + 2 * own.t + e;
          if (own.g == 0 && n < H) a.dD[static_cast<Index>(walker) * H + n] = sum;
        }
    }
  }

  // Rows [skipped, count) of states to a tile, those of `pieces` alone; zeros before and behind.
  __device__ void fetch(int thread, unsigned pieces, const Real* from, int count, int skipped, Real* to) const {
    constexpr int kFours = K / 4, kAtOnce = kThreads / kFours;
    static_assert(kPiece % kAtOnce == 0 && kAtOnce % 4 == 0);
    const int first = thread / kFours, c = thread % kFours * 4;
    const unsigned base = chip_address(to) + 4u * static_cast<unsigned>(first * K),
                   even = base + 4u * static_cast<unsigned>(c ^ turned(first)),
                   odd = base + 4u * static_cast<unsigned>(c ^ turned(first + 4));
    if (count == kRows && skipped == 0 && p == kModes) {
      const Real* source = from + first * K + c;
#pragma unroll
      for (int q = 0; q < kRows; q += kAtOnce)
        if (pieces >> q / kPiece & 1) copy_16((q / 4 % 2 ? odd : even) + 4u * q * K, source + q * K);
      return;
    }
    const int k = c % kModes;
    const Real* source = from + (c < kModes ? c : p + k);
#pragma unroll 1
    for (int q = 0; q < kRows; q += kAtOnce) {
      const int row = q + first;
      if (!(pieces >> q / kPiece & 1)) continue;
      const bool there = row >= skipped && row < count && k < p;
      copy_16((q / 4 % 2 ? odd : even) + 4u * q * K, there ? source + static_cast<Index>(row) * 2 * p : a.s.from, there);
    }
  }

  // What passes by the tile on its way to the L2 cache.
  __device__ void announce(int thread, int part, const Tile& tile) const {
    constexpr int kLines = kColumns / 32, kAtOnce = kThreads / kLines;
    const int first = thread / kLines, c = part * kColumns + thread % kLines * 32;
    if (c >= H) return;
    const Index from = (tile.row + first) * H + c;
#pragma unroll
    for (int q = 0; q < kRows; q += kAtOnce) {
      if (first + q >= tile.count) continue;
      gpu_tile::prefetch(a.in + from + q * H);
      if (kBack) gpu_tile::prefetch(a.u + from + q * H);
    }
  }

  // The right operand, for good: rows k of the sum, column n of the product, that is n = first + 8 c + g and k = 8 q + t + 4 e.
  __device__ void hold(gpu_tile::Bits (&w)[K / 8][N][2], const Columns& own) const {
#pragma unroll
    for (int c = 0; c < N; ++c) {
      const int n = own.first + own.g + 8 * c;
      const Real* from = a.weights + (kBack ? n : n * S);
#pragma unroll
      for (int q = 0; q < K / 8; ++q)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int of_mode = 8 * (q % (kModes / 8)) + own.t + 4 * e, k = of_mode + (8 * q < kModes ? 0 : p);
          w[q][c][e] = __float_as_uint(ready<1>(n < H && of_mode < p ? from[kBack ? k * H : k] : 0.f));
        }
    }
  }

  // One mode of one piece, in place; back: from the last step, with the states x before each step in `seen`. kWhole: all steps, and S = K.
  template <bool kWhole>
  __device__ void scan(Real* rows, const Real* seen, int k, const float (&lambda)[4], const float (&state)[2], bool owns, int count,
                       Real* to, float (&sums)[2]) const {
    const int im_of = kWhole ? kModes : p;
    float re = state[0], im = state[1];
    const auto place = [&](int q) {
      const int i = kBack ? kPiece - 1 - q : q;
      return i * K + ((k ^ turned(i)) - k);
    };
#pragma unroll
    for (int first = 0; first < kPiece; first += kAhead) {
      float in[kAhead][2];
#pragma unroll
      for (int q = 0; q < kAhead; ++q) in[q][0] = rows[place(first + q)], in[q][1] = rows[place(first + q) + kModes];
#pragma unroll
      for (int q = 0; q < kAhead; ++q) {
        const int i = kBack ? kPiece - 1 - first - q : first + q, here = place(first + q);
        const float old = re;
        re = (lambda[0] * re + (lambda[2] * re + in[q][0])) - (lambda[1] * im + lambda[3] * im);
        im = (lambda[0] * im + (lambda[2] * im + in[q][1])) + (lambda[1] * old + lambda[3] * old);
        rows[here] = rounded(re), rows[here + kModes] = rounded(im);
        if (!owns || (!kWhole && i >= count)) continue;
        to[i * 2 * im_of] = re, to[i * 2 * im_of + im_of] = im;
        if constexpr (kBack) {
          const float x = seen[here], z = seen[here + kModes];
          sums[0] += re * x + im * z, sums[1] += im * x - re * z;
        }
      }
    }
  }
  // As mma, which does not look at the low bits, takes it.
  __device__ static float rounded(float x) { return __uint_as_float(__float_as_uint(x) + 0x1000u); }

  // A tile times the weights, and what passes by.
  __device__ void product(const unsigned (&at)[4], int tile_at, const Tile& tile, const gpu_tile::Bits (&w)[K / 8][N][2],
                          Columns& own) const {
#pragma unroll 1
    for (int first = 0; first < tile.count; first += 16) {
      const Index base = (tile.row + first + own.g) * H + own.first + 2 * own.t;
      float2 by[2][N], u[2][N], old[2][N];
      const auto each = [&](auto f) {
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int c = 0; c < N; ++c)
            f(h, c, first + 8 * h + own.g < tile.count && own.first + 8 * c + 2 * own.t < H, base + 8 * h * H + 8 * c);
      };
      each([&](int h, int c, bool there, Index i) {
        const float2 none = {0, 0};
        by[h][c] = there ? *reinterpret_cast<const float2*>(a.in + i) : none;
        if (kBack) u[h][c] = there ? *reinterpret_cast<const float2*>(a.u + i) : none;
        if (kBack) old[h][c] = there && a.out.add ? *reinterpret_cast<const float2*>(a.out.p + i) : none;
      });
      float acc[kSums][N][4] = {};
      const unsigned offset = 4u * static_cast<unsigned>(tile_at + first * K);
#pragma unroll
      for (int q = 0; q < K / 8; ++q) {
        gpu_tile::Bits x[4];
        load_matrices(x, at[q % 4] + offset + 4u * static_cast<unsigned>(q / 4 * 32));
#pragma unroll
        for (int c = 0; c < N; ++c) {
          float(&to)[4] = acc[q % kSums][c];
          mma(to[0], to[1], to[2], to[3], x, w[q][c]);
        }
      }
      each([&](int h, int c, bool there, Index i) {
        if (!there) return;
        const float2 x = by[h][c];
        float2 y = {acc[0][c][2 * h], acc[0][c][2 * h + 1]};
        if (kSums > 1) y.x += acc[kSums - 1][c][2 * h], y.y += acc[kSums - 1][c][2 * h + 1];
        y.x += own.skip[c][0] * x.x, y.y += own.skip[c][1] * x.y;
        if constexpr (kBack) {
          y.x += old[h][c].x, y.y += old[h][c].y;
          own.passed[c][0] += x.x * u[h][c].x, own.passed[c][1] += x.y * u[h][c].y;
        }
        put(a.out.p + i, y.x, y.y);
      });
    }
  }
};

inline Index parts_of(Index p, Index H) { return (H + (p > 64 || H <= 128 ? 127 : 255)) / (p > 64 || H <= 128 ? 128 : 256); }

// f(a Walk of Walking): as many columns a block as registers have room for.
template <bool kBack, class F>
void with_walk(const Walking& a, const F& f) {
  if constexpr (!kDouble) {
    if (a.s.p > 64) f(Walk<256, 2, kBack>(a));
    else if (a.s.p > 32) a.H > 128 ? f(Walk<128, 4, kBack>(a)) : f(Walk<128, 2, kBack>(a));
    else a.H > 128 ? f(Walk<64, 4, kBack>(a)) : f(Walk<64, 2, kBack>(a));
  }
}

}  // namespace ssm::mimo_scan_op
#endif
