// mimo_scan_gpu.hpp - mimo_scan's walk along time and the product behind it as one kernel on tensor cores, in TF32, both ways (CUDA).
//
//   forward: x_t = lambda x_{t-1} + w_t              y = x C^T + D u
//   back:    l_t = g_t + conj(lambda) l_{t+1}        du = l B + D dy    dlambda = sum l_t conj(x_{t-1})    dD = sum dy u
//
// Pieces of kPiece steps, each from the state at its start: ends of pieces run from 0 (Lead, mimo_lead_gpu.hpp, or PieceEnds), carried over the
// pieces of a sequence (PieceCarry), then Walk (mimo_walk_gpu.hpp).
//
// Floor of Walk: forward 4 (2 S + 2 H) bytes a row, back 4 (3 S + 3 H), at 4.2 TB/s: 64 and 96 us for 65,536 rows at S = H = 256.
#pragma once
#include <algorithm>

#include "math.hpp"
#include "ops/mimo_lead_gpu.hpp"
#include "ops/mimo_walk_gpu.hpp"

#if defined(SSM_TENSOR_CORES)
#define SSM_MIMO_ON_TILES
namespace ssm::mimo_scan_op {

constexpr Index kMostModes = 128;    // complex; columns of their product are cut among blocks
constexpr Index kMostColumns = 512;  // beyond: the same states would be walked by too many blocks

// The last state of every piece run from 0; the adjoint's from the piece's end. A thread has two neighbouring modes. Later pieces first: the product
// before has just written them.
struct PieceEnds {
  struct alignas(2 * sizeof(Real)) Two {
    Real at[2];
  };
  Pieces s;

  Index items() const { return s.B * s.count() * (s.p / 2); }
  KOKKOS_FUNCTION void operator()(const Index item) const {
    const Index n = s.count(), back = quotient(item, s.p / 2), k = 2 * (item - back * (s.p / 2)), row = s.B * n - 1 - back,
                b = quotient(row, n), first = (row - b * n) * kPiece;
    const int p = static_cast<int>(s.p), steps = static_cast<int>(s.T - first < kPiece ? s.T - first : kPiece),
              stride = s.adjoint ? -2 * p : 2 * p;
    const Real* from = s.from + (b * s.T + first + (s.adjoint ? steps - 1 : 0)) * 2 * p + k;
    const auto two = [](const Real* at) { return *reinterpret_cast<const Two*>(at); };
    Two in[kPiece][2];
    SSM_UNROLL
    for (int i = 0; i < kPiece; ++i) {
      const Two none = {{0, 0}};
      in[i][0] = i < steps ? two(from + i * stride) : none, in[i][1] = i < steps ? two(from + i * stride + p) : none;
    }
    const Real sign = s.adjoint ? Real(-1) : Real(1);
    Two end[2];
    SSM_UNROLL
    for (int l = 0; l < 2; ++l) {
      const Real* at = s.lambda + k + l;
      const Real a[4] = {at[0], sign * at[p], at[2 * p], sign * at[3 * p]};
      Real re = 0, im = 0;
      SSM_UNROLL
      for (int i = 0; i < kPiece; ++i) {
        if (i >= steps) break;
        const Real old = re;
        re = (a[0] * re + (a[2] * re + in[i][0].at[l])) - (a[1] * im + a[3] * im);
        im = (a[0] * im + (a[2] * im + in[i][1].at[l])) + (a[1] * old + a[3] * old);
      }
      end[0].at[l] = re, end[1].at[l] = im;
    }
    Real* to = s.carry + row * 2 * p + k;
    *reinterpret_cast<Two*>(to) = end[0], *reinterpret_cast<Two*>(to + p) = end[1];
  }
};

// From the ends to the states before each piece. A block has kModes modes of a sequence, cut in runs of pieces: each run is summed from 0, the sums
// are carried over the runs in log2(kRuns) exchanges on chip, and each run is walked from the state before it. All is latency, so runs of up to
// kAhead pieces are loaded at once, and once: few modes a block for long sequences.
template <int kModes>
struct PieceCarry {
  static constexpr int kThreads = 1024, kRuns = kThreads / kModes, kBlocks = 1, kAhead = 8;
  using State = Complex<double>;
  static constexpr std::size_t kBytes = sizeof(State) * 2 * kThreads;
  Pieces s;
  int run, runs;  // pieces of a run, a power of two; runs

  explicit PieceCarry(const Pieces& pieces) : s(pieces), run(1) {
    const int n = static_cast<int>(s.count());
    while (run * kRuns < n) run *= 2;
    runs = (n + run - 1) / run;
  }
  Index blocks() const { return s.B * ((s.p + kModes - 1) / kModes); }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const int p = static_cast<int>(s.p), n = static_cast<int>(s.count()), groups = (p + kModes - 1) / kModes,
              b = static_cast<int>(block) / groups, k = (static_cast<int>(block) - b * groups) * kModes + thread % kModes,
              of_run = thread / kModes, first = of_run * run,
              count = k >= p || first >= n ? 0
                      : n - first < run    ? n - first
                                           : run;
    // The i-th piece of the walk.
    const int stride = s.adjoint ? -2 * p : 2 * p;
    Real* const pieces = s.carry + (static_cast<Index>(b) * n + (s.adjoint ? n - 1 - first : first)) * 2 * p + k;
    Real re[kAhead], im[kAhead];
    const auto load = [&](int at) {
#pragma unroll
      for (int q = 0; q < kAhead; ++q) {
        const bool there = at + q < count;
        const Real* from = pieces + (at + q) * stride;
        re[q] = there ? from[0] : Real(0), im[q] = there ? from[p] : Real(0);
      }
    };
    load(0);
    State power{0, 0};
    if (count > 0)
      power = {static_cast<double>(s.lambda[k]) + static_cast<double>(s.lambda[2 * p + k]),
               static_cast<double>(s.lambda[p + k]) + static_cast<double>(s.lambda[3 * p + k])};
    if (s.adjoint) power = conj(power);
    for (int q = 1; q < kPiece; q *= 2) power = power * power;
    State far = power, state{0, 0};
    for (int q = 1; q < run; q *= 2) far = far * far;
    const auto advance = [&](int q) { state = power * state + State{static_cast<double>(re[q]), static_cast<double>(im[q])}; };
#pragma unroll 1
    for (int at = 0; at < count; at += kAhead) {
      if (at > 0) load(at);
#pragma unroll
      for (int q = 0; q < kAhead; ++q)
        if (at + q < count) advance(q);
    }
    State *sums = reinterpret_cast<State*>(memory), *others = sums + kThreads;
    sums[thread] = state;
    __syncthreads();
    for (int apart = 1; apart < runs; apart *= 2) {
      if (of_run >= apart) state = state + far * sums[thread - apart * kModes];
      others[thread] = state;
      far = far * far;
      State* const then = sums;
      sums = others, others = then;
      __syncthreads();
    }
    state = of_run > 0 ? sums[thread - kModes] : State{0, 0};
#pragma unroll 1
    for (int at = 0; at < count; at += kAhead) {
      if (run > kAhead) load(at);
#pragma unroll
      for (int q = 0; q < kAhead; ++q) {
        if (at + q >= count) break;
        Real* to = pieces + (at + q) * stride;
        to[0] = static_cast<Real>(state.re), to[p] = static_cast<Real>(state.im);
        advance(q);
      }
    }
  }
};

inline bool takes_tiles(Index p, Index H) { return !kDouble && p % 4 == 0 && H % 4 == 0 && p <= kMostModes && H <= kMostColumns; }

// Rows of sums, at most: of a walker for each piece of its tile.
constexpr Index kMostSums = kProcessors * 8;

// dlambda and dD from what the blocks of the walk back left: sums of `pieces` rows and of `walkers` rows. A block has 32 columns of one of the two.
struct WalkSums {
  static constexpr int kColumns = 32, kLines = 32, kThreads = kColumns * kLines, kBlocks = 1, kAhead = 8;
  static constexpr std::size_t kBytes = sizeof(double) * kThreads;
  const Real *lambda_parts, *D_parts;
  Grad dlambda, dD;
  int pieces, walkers, S, H;

  Index blocks() const { return (S + kColumns - 1) / kColumns + (H + kColumns - 1) / kColumns; }
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const int before = (S + kColumns - 1) / kColumns, group = static_cast<int>(block), line = thread / kColumns;
    const bool of_lambda = group < before;
    const int column = (of_lambda ? group : group - before) * kColumns + thread % kColumns, columns = of_lambda ? S : H,
              rows = column >= columns ? 0
                     : of_lambda       ? pieces
                                       : walkers;
    const Real* part = (of_lambda ? lambda_parts : D_parts) + column;
    double sum = 0;
    for (int row = line; row < rows; row += kLines * kAhead) {
      Real x[kAhead];
#pragma unroll
      for (int q = 0; q < kAhead; ++q) x[q] = row + q * kLines < rows ? part[(row + q * kLines) * columns] : Real(0);
#pragma unroll
      for (int q = 0; q < kAhead; ++q) sum += static_cast<double>(x[q]);
    }
    double* sums = reinterpret_cast<double*>(memory);
    sums[thread] = sum;
    __syncthreads();
    if (line > 0 || column >= columns) return;
    for (int q = 1; q < kLines; ++q) sum += sums[q * kColumns + thread];
    const Real total = static_cast<Real>(sum);
    if (!of_lambda) return dD(column, total);
    dlambda(column, total);
    dlambda(S + column, total);
  }
};

// w or g to `to`, by product() where Lead does not take H, and the states before all pieces to s.carry, which has room for them.
// -> s.carry, or null where a sequence is one piece.
template <bool kBack, class F>
Real* lead_tiles(const Run& r, Leading a, const F& product) {
  if (a.s.count() == 1) a.s.carry = nullptr;
  if (a.H <= kMostLed) with_lead<kBack>(a, [&](const auto& lead) { launch_shared("ssm::mimo_lead", r, lead.blocks(), lead.kBytes, lead); });
  else product();
  if (!a.s.carry) return nullptr;
  if (a.H > kMostLed) {
    const PieceEnds ends{a.s};
    launch("ssm::mimo_ends", r, ends.items(), ends);
  }
  const auto carry = [&](auto over) { launch_shared("ssm::mimo_carry", r, over.blocks(), over.kBytes, over); };
  if (a.s.count() > 256) carry(PieceCarry<8>(a.s));
  else carry(PieceCarry<32>(a.s));
  return a.s.carry;
}
// From w or g in a.s.from and the states in a.s.carry. Back: the gradients of lambda and D too.
template <bool kBack>
void walk_tiles(const Run& r, Walking a, Grad dlambda = {}, Grad dD = {}) {
  a.backwards = a.H <= kMostLed;
  with_walk<kBack>(a, [&](const auto& walk) {
    using W = std::decay_t<decltype(walk)>;
    launch_shared(kBack ? "ssm::mimo_walk_back" : "ssm::mimo_walk", r, walk.blocks(), W::kBytes, walk);
    if constexpr (kBack) {
      const WalkSums sums{a.dlambda, a.dD, dlambda, dD, walk.a.walkers * W::kPieces, walk.a.walkers, walk.S, walk.H};
      launch_shared("ssm::mimo_sums", r, sums.blocks(), WalkSums::kBytes, sums);
    }
  });
}

}  // namespace ssm::mimo_scan_op
#endif
