// mimo_scan_gpu.hpp - mimo_scan's walk along time and the product behind it as one kernel on tensor cores, in TF32, both ways (CUDA).
//
//   forward: x_t = lambda x_{t-1} + w_t              y = x C^T + D u
//   back:    l_t = g_t + conj(lambda) l_{t+1}        du = l B + D dy    dlambda = sum l_t conj(x_{t-1})    dD = sum dy u
//
// Pieces of kPiece steps, each from the state at its start: ends of pieces run from 0 (PieceEnds), carried over the pieces of a sequence
// (PieceCarry), then Walk. A block of Walk holds its columns of C or B in registers, one entry a slot of mma's right operand, for all rows that
// it takes in turn: weights cross the chip once, and what remains is the memory's work. A thread has one mode of one piece of a tile.
//
// Floor: forward 4 (2 S + 2 H) bytes a row, back 4 (3 S + 3 H), at 4.8 TB/s: 56 and 84 us for 65,536 rows at S = H = 256. Measured there on an H200:
// 147 and 193 us. What binds is that a block's eight warps walk, multiply and load in turn, with too few registers left to load ahead.
#pragma once
#include <algorithm>

#include "lib/mma_tile.hpp"
#include "math.hpp"

#if defined(SSM_TENSOR_CORES)
#define SSM_MIMO_ON_TILES
namespace ssm::mimo_scan_op {

using namespace gpu_tile;

constexpr int kPiece = 16;           // steps, a power of two
constexpr Index kProcessors = 132;   // blocks that a device runs at once, or half of them where two share a multiprocessor
constexpr Index kMostModes = 128;    // complex; columns of their product are cut among blocks
constexpr Index kMostColumns = 512;  // beyond: the same states would be walked by too many blocks

SSM_FN Index pieces_of(Index T) { return (T + kPiece - 1) / kPiece; }
struct Pieces {
  const Real *lambda, *from;  // (4,p); (B,T,2p)
  Real* carry;                // (B,pieces,2p)
  Index B, T, p;
  bool adjoint;

  SSM_FN Index count() const { return pieces_of(T); }
};

// The last state of every piece run from 0; the adjoint's from the piece's end. Later pieces first: the product before has just written them.
struct PieceEnds {
  Pieces s;
  KOKKOS_FUNCTION void operator()(const Index item) const {
    const Index n = s.count(), back = quotient(item, s.p), k = item - back * s.p, row = s.B * n - 1 - back, b = quotient(row, n),
                first = (row - b * n) * kPiece;
    const int steps = static_cast<int>(s.T - first < kPiece ? s.T - first : kPiece);
    const Real* from = s.from + (b * s.T + first) * 2 * s.p + k;
    const Real sign = s.adjoint ? Real(-1) : Real(1);
    const Real a[4] = {s.lambda[k], sign * s.lambda[s.p + k], s.lambda[2 * s.p + k], sign * s.lambda[3 * s.p + k]};
    Real in[kPiece][2], re = 0, im = 0;
    SSM_UNROLL
    for (int i = 0; i < kPiece; ++i) {
      const int at = s.adjoint ? steps - 1 - i : i;
      const bool there = at >= 0 && at < steps;
      in[i][0] = there ? from[at * 2 * s.p] : Real(0), in[i][1] = there ? from[at * 2 * s.p + s.p] : Real(0);
    }
    SSM_UNROLL
    for (int i = 0; i < kPiece; ++i) {
      if (i >= steps) break;
      const Real old = re;
      re = (a[0] * re + (a[2] * re + in[i][0])) - (a[1] * im + a[3] * im);
      im = (a[0] * im + (a[2] * im + in[i][1])) + (a[1] * old + a[3] * old);
    }
    Real* to = s.carry + row * 2 * s.p + k;
    to[0] = re, to[s.p] = im;
  }
};

// From the ends to the states before each piece. A block has 32 modes of a sequence, cut in kRuns runs of pieces.
struct PieceCarry {
  static constexpr int kModes = 32, kRuns = 32, kThreads = kModes * kRuns, kBlocks = 1, kAhead = 4;
  static constexpr std::size_t kBytes = sizeof(double) * 2 * kThreads;
  Pieces s;
  Index run;  // pieces, a power of two

  explicit PieceCarry(const Pieces& pieces) : s(pieces), run(1) {
    while (run * kRuns < s.count()) run *= 2;
  }
  Index blocks() const { return s.B * ((s.p + kModes - 1) / kModes); }

  __device__ static void advance(const Complex<double>& a, double re, double im, Complex<double>& x) {
    x = a * x + Complex<double>{re, im};
  }
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index groups = (s.p + kModes - 1) / kModes, b = block / groups, k = (block - b * groups) * kModes + thread % kModes,
                n = s.count(), first = thread / kModes * run;
    const bool mine = k < s.p;
    double* ends = reinterpret_cast<double*>(memory);
    Complex<double> power{0, 0};
    if (mine)
      power = {static_cast<double>(s.lambda[k]) + static_cast<double>(s.lambda[2 * s.p + k]),
               static_cast<double>(s.lambda[s.p + k]) + static_cast<double>(s.lambda[3 * s.p + k])};
    if (s.adjoint) power = conj(power);
    for (int q = 1; q < kPiece; q *= 2) power = power * power;
    const auto walk = [&](Complex<double> before, bool write) {
      for (Index at = 0; at < run && first + at < n; at += kAhead) {
        Real re[kAhead], im[kAhead];
#pragma unroll
        for (int q = 0; q < kAhead; ++q) {
          const bool there = at + q < run && first + at + q < n;
          const Real* p = s.carry + place(b, n, there ? first + at + q : first, k);
          re[q] = p[0], im[q] = p[s.p];
        }
#pragma unroll
        for (int q = 0; q < kAhead; ++q) {
          if (at + q >= run || first + at + q >= n) break;
          Real* p = s.carry + place(b, n, first + at + q, k);
          if (write) p[0] = static_cast<Real>(before.re), p[s.p] = static_cast<Real>(before.im);
          advance(power, static_cast<double>(re[q]), static_cast<double>(im[q]), before);
        }
      }
      return before;
    };
    Complex<double> before{0, 0};
    if (mine) before = walk(before, false);
    ends[2 * thread] = before.re, ends[2 * thread + 1] = before.im;
    __syncthreads();
    if (thread < kModes) {
      Complex<double> far = power, state{0, 0};
      for (Index q = 1; q < run; q *= 2) far = far * far;
      for (int q = 0; q < kRuns; ++q) {
        double* end = ends + 2 * (q * kModes + thread);
        const double re = end[0], im = end[1];
        end[0] = state.re, end[1] = state.im;
        advance(far, re, im, state);
      }
    }
    __syncthreads();
    if (mine) walk({ends[2 * thread], ends[2 * thread + 1]}, true);
  }
  // Where the i-th piece of the walk lies.
  __device__ Index place(Index b, Index n, Index i, Index k) const { return (b * n + (s.adjoint ? n - 1 - i : i)) * 2 * s.p + k; }
};

struct Walking {
  Pieces s;             // carry: states before each piece, or null: one piece a sequence
  const Real* weights;  // forward C (H,2p), back B (2p,H)
  const Real *D, *in;   // in: what passes by, u or dy (B,T,H)
  Real* states;         // x or l, (B,T,2p); s.from itself only where one block has all columns
  Grad out;             // y or du
  Index H;
  const Real *x, *u;             // back
  Real *dlambda, *dD;            // back: sums of each walker, (walkers * pieces of a tile,2p), (walkers,H)
  Index walkers = 0, parts = 0;  // blocks that share the tiles; blocks that share the columns
};

// K columns of a padded row of states, real parts, then imaginary; each of eight warps makes 8 N columns of the product.
template <int K, int N, bool kBack>
struct Walk {
  static constexpr int kThreads = 256, kModes = K / 2, kPieces = kThreads / kModes, kRows = kPieces * kPiece, kColumns = 64 * N,
                       kStages = 3, kTile = kRows * K, kStage = kBack ? 2 * kTile : kTile;
  static constexpr int kBlocks = kBack || K * N > 256 ? 1 : 2, kM = N > 2 || kBlocks > 1 ? 1 : 2;
  static constexpr std::size_t kBytes = sizeof(Real) * kStages * kStage;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Walking a;

  explicit Walk(const Walking& arguments) : a(arguments) {
    a.parts = (a.H + kColumns - 1) / kColumns;
    a.walkers = std::min(tiles(), std::max(Index(1), kProcessors * kBlocks / a.parts));
  }
  SSM_FN Index tiles_of_row() const { return (a.s.T + kRows - 1) / kRows; }
  SSM_FN Index tiles() const { return a.s.B * tiles_of_row(); }
  Index blocks() const { return a.walkers * a.parts; }

  // One tile: rows [row, row + count) of all, from step `first` of sequence b.
  struct Tile {
    Index b, first, row;
    int count;
    __device__ Tile(const Walk& w, Index index) {
      const Index n = w.tiles_of_row();
      b = quotient(index, n), first = (index - b * n) * kRows, row = b * w.a.s.T + first;
      count = static_cast<int>(w.a.s.T - first < kRows ? w.a.s.T - first : kRows);
    }
  };

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Index p = a.s.p, S = 2 * p, n = a.s.count(), walker = block / a.parts, all = tiles();
    const int part = static_cast<int>(block - walker * a.parts), lane = thread % 32, g = lane / 4, t = lane % 4;
    const Index column = static_cast<Index>(part) * kColumns + thread / 32 * 8 * N;  // of this warp
    const int piece = thread / kModes, k = thread % kModes;
    const bool mode = k < p, owns = piece % static_cast<int>(a.parts) == part;  // owns: its states are this block's to write
    const auto load = [&](Index index, int stage) {
      if (index < all) {
        const Tile tile(*this, index);
        Real* to = m + stage * kStage;
        fetch(thread, part, a.s.from + tile.row * S, tile.count, 0, false, to);
        if (kBack) fetch(thread, part, a.x + (tile.row - 1) * S, tile.count, tile.first == 0 ? 1 : 0, true, to + kTile);
        for (int line = thread; line < kRows * (kColumns / 32); line += kThreads) {
          const Index row = line / (kColumns / 32), c = part * kColumns + line % (kColumns / 32) * 32;
          if (row >= tile.count || c >= a.H) continue;
          gpu_tile::prefetch(a.in + (tile.row + row) * a.H + c);
          if (kBack) gpu_tile::prefetch(a.u + (tile.row + row) * a.H + c);
        }
      }
      copies_end();
    };
    const auto carried = [&](Index index, float(&state)[2]) {
      state[0] = state[1] = 0;
      if (index >= all || !a.s.carry || !mode) return;
      const Tile tile(*this, index);
      const Index at = tile.first / kPiece + piece;
      if (at >= n) return;
      const Real* from = a.s.carry + (tile.b * n + at) * S + k;
      state[0] = from[0], state[1] = from[p];
    };
    load(walker, 0), load(walker + a.walkers, 1);
    float next[2], lambda[4] = {}, sums[2] = {}, skip[N][2], passed[N][2] = {};
    carried(walker, next);
    if (mode)
#pragma unroll
      for (int q = 0; q < 4; ++q) lambda[q] = (kBack && q % 2 ? -1.f : 1.f) * a.s.lambda[q * p + k];
    gpu_tile::Bits w[K / 8][N][2];
    hold(w, column + g, t);
#pragma unroll
    for (int c = 0; c < N; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) skip[c][e] = column + 8 * c + 2 * t + e < a.H ? a.D[column + 8 * c + 2 * t + e] : 0.f;
    unsigned at[4];
    const unsigned base = chip_address(m);
#pragma unroll
    for (int q = 0; q < 4; ++q) at[q] = base + 4u * static_cast<unsigned>(lane % 16 * K + ((8 * q + lane / 16 * 4) ^ turned(lane % 16)));
    int stage = 0;
    for (Index index = walker; index < all; index += a.walkers) {
      const Tile tile(*this, index);
      copies_wait<1>();
      __syncthreads();
      load(index + 2 * a.walkers, stage == 0 ? 2 : stage - 1);
      float state[2] = {next[0], next[1]};
      carried(index + a.walkers, next);
      Real* rows = m + stage * kStage + piece * kPiece * K;
      if (mode) scan(rows, k, lambda, state, owns, tile.count - piece * kPiece, a.states + (tile.row + piece * kPiece) * S + k, sums);
      __syncthreads();
#pragma unroll 1
      for (int first = 0; first < kRows; first += 16 * kM)
        if (first < tile.count) product(at, stage, first, w, tile, column, g, t, skip, passed);
      stage = stage == 2 ? 0 : stage + 1;
    }
    copies_wait<0>();
    if constexpr (kBack) {
      if (mode && owns) {
        Real* to = a.dlambda + (walker * kPieces + piece) * S + k;
        to[0] = sums[0], to[p] = sums[1];
      }
#pragma unroll
      for (int c = 0; c < N; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float sum = passed[c][e];
#pragma unroll
          for (int other = 4; other < 32; other *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
          if (g == 0 && column + 8 * c + 2 * t + e < a.H) a.dD[walker * a.H + column + 8 * c + 2 * t + e] = sum;
        }
    }
  }

  // Rows [skipped, count) of states to a tile, zeros before and behind; `shared`: only the pieces that this part owns.
  __device__ void fetch(int thread, int part, const Real* from, int count, int skipped, bool shared, Real* to) const {
    const Index p = a.s.p;
    constexpr int kFours = K / 4, kAtOnce = kThreads / kFours;
    static_assert(kPiece % kAtOnce == 0);
    const int c = thread % kFours * 4, k = c % kModes;
    const Real* source = from + (c < kModes ? c : p + k);
#pragma unroll
    for (int q = 0; q < kRows; q += kAtOnce) {
      const int row = q + thread / kFours;
      if (shared && q / kPiece % static_cast<int>(a.parts) != part) continue;
      const bool there = row >= skipped && row < count && k < p;
      copy_16(chip_address(to + place<K>(row, c)), there ? source + row * 2 * p : a.s.from, there);
    }
  }

  // The right operand, for good: rows k of the sum, column n of the product, that is n = column + 8 c and k = 8 q + t + 4 e.
  __device__ void hold(gpu_tile::Bits (&w)[K / 8][N][2], Index column, int t) const {
    const Index p = a.s.p;
#pragma unroll
    for (int q = 0; q < K / 8; ++q)
#pragma unroll
      for (int c = 0; c < N; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int k = 8 * q + t + 4 * e, of_mode = k % kModes;
          const Index from = k < kModes ? k : p + of_mode, to = column + 8 * c;
          float x = 0;
          if (of_mode < p && to < a.H) x = kBack ? a.weights[from * a.H + to] : a.weights[to * 2 * p + from];
          w[q][c][e] = __float_as_uint(ready<1>(x));
        }
  }

  // One mode of one piece, in place; back: from the last step, with the states x before each step in the tile behind.
  __device__ void scan(Real* rows, int k, const float (&lambda)[4], float (&state)[2], bool owns, int count, Real* to,
                       float (&sums)[2]) const {
    float re = state[0], im = state[1];
    const Index p = a.s.p;
    float in[kPiece][2];
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      const Real* from = rows + i * K + (k ^ turned(i));
      in[i][0] = from[0], in[i][1] = from[kModes];
    }
#pragma unroll
    for (int q = 0; q < kPiece; ++q) {
      const int i = kBack ? kPiece - 1 - q : q;
      const float old = re;
      re = (lambda[0] * re + (lambda[2] * re + in[i][0])) - (lambda[1] * im + lambda[3] * im);
      im = (lambda[0] * im + (lambda[2] * im + in[i][1])) + (lambda[1] * old + lambda[3] * old);
      Real* here = rows + i * K + (k ^ turned(i));
      here[0] = ready<1>(re), here[kModes] = ready<1>(im);
      if (!owns || i >= count) continue;
      to[i * 2 * p] = re, to[i * 2 * p + p] = im;
      if constexpr (kBack) {
        const float x = here[kTile], z = here[kTile + kModes];
        sums[0] += re * x + im * z, sums[1] += im * x - re * z;
      }
    }
  }

  // Rows [first, first + 16 kM) of the tile times the weights, and what passes by.
  __device__ void product(const unsigned (&at)[4], int stage, int first, const gpu_tile::Bits (&w)[K / 8][N][2], const Tile& tile,
                          Index column, int g, int t, const float (&skip)[N][2], float (&passed)[N][2]) const {
    float2 by[kM][2][N], u[kM][2][N], old[kM][2][N];
    const auto each = [&](auto f) {
#pragma unroll
      for (int q = 0; q < kM; ++q)
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int c = 0; c < N; ++c) {
            const int row = first + 16 * q + 8 * h + g;
            const Index n = column + 8 * c + 2 * t;
            f(q, h, c, row < tile.count && n < a.H, (tile.row + row) * a.H + n);
          }
    };
    each([&](int q, int h, int c, bool there, Index i) {
      const float2 none = {0, 0};
      by[q][h][c] = there ? *reinterpret_cast<const float2*>(a.in + i) : none;
      if (kBack) u[q][h][c] = there ? *reinterpret_cast<const float2*>(a.u + i) : none;
      if (kBack) old[q][h][c] = there && a.out.add ? *reinterpret_cast<const float2*>(a.out.p + i) : none;
    });
    float acc[kM][N][4] = {};
    const unsigned offset = 4u * static_cast<unsigned>(stage * kStage + first * K);
#pragma unroll
    for (int q = 0; q < K / 8; ++q) {
      gpu_tile::Bits x[kM][4];
#pragma unroll
      for (int r = 0; r < kM; ++r) load_matrices(x[r], at[q % 4] + offset + 4u * static_cast<unsigned>(r * 16 * K + q / 4 * 32));
#pragma unroll
      for (int c = 0; c < N; ++c)
#pragma unroll
        for (int r = 0; r < kM; ++r) mma(acc[r][c][0], acc[r][c][1], acc[r][c][2], acc[r][c][3], x[r], w[q][c]);
    }
    each([&](int q, int h, int c, bool there, Index i) {
      if (!there) return;
      const float2 x = by[q][h][c];
      float2 y = {acc[q][c][2 * h] + skip[c][0] * x.x, acc[q][c][2 * h + 1] + skip[c][1] * x.y};
      if constexpr (kBack) {
        y.x += old[q][h][c].x, y.y += old[q][h][c].y;
        passed[c][0] += x.x * u[q][h][c].x, passed[c][1] += x.y * u[q][h][c].y;
      }
      *reinterpret_cast<float2*>(a.out.p + i) = y;
    });
  }
};

inline Index parts_of(Index p, Index H) { return (H + (p > 64 || H <= 128 ? 127 : 255)) / (p > 64 || H <= 128 ? 128 : 256); }
inline bool takes_tiles(Index p, Index H) { return !kDouble && p % 4 == 0 && H % 4 == 0 && p <= kMostModes && H <= kMostColumns; }

// f(a Walk of Walking): as many columns a block as registers have room for.
template <bool kBack, class F>
void with_walk(const Walking& a, const F& f) {
  if constexpr (!kDouble) {
    if (a.s.p > 64) f(Walk<256, 2, kBack>(a));
    else if (a.s.p > 32) a.H > 128 ? f(Walk<128, 4, kBack>(a)) : f(Walk<128, 2, kBack>(a));
    else a.H > 128 ? f(Walk<64, 4, kBack>(a)) : f(Walk<64, 2, kBack>(a));
  }
}
// Rows of sums, at most: of a walker for each piece of its tile.
constexpr Index kMostSums = kProcessors * 8;

// What the way back leaves in dlambda and dD: rows of sums.
struct Walkers {
  Index pieces, count;
};
// From w or g in a.s.from; a.s.carry has room for the states before all pieces.
template <bool kBack>
Walkers walk_tiles(const Run& r, Walking a) {
  if (a.s.count() > 1) {
    launch("ssm::mimo_ends", r, a.s.B * a.s.count() * a.s.p, PieceEnds{a.s});
    const PieceCarry carry(a.s);
    launch_shared("ssm::mimo_carry", r, carry.blocks(), PieceCarry::kBytes, carry);
  } else {
    a.s.carry = nullptr;
  }
  Walkers summed{};
  with_walk<kBack>(a, [&](const auto& walk) {
    using W = std::decay_t<decltype(walk)>;
    launch_shared(kBack ? "ssm::mimo_walk_back" : "ssm::mimo_walk", r, walk.blocks(), W::kBytes, walk);
    summed = {walk.a.walkers * W::kPieces, walk.a.walkers};
  });
  return summed;
}

}  // namespace ssm::mimo_scan_op
#endif
