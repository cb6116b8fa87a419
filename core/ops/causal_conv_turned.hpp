// causal_conv_turned.hpp - the short causal convolution of 2 to 4 taps from (B,T,C) into (B,C,T), on CUDA and HIP: a block turns tiles of 32
// channels on chip, so that both sides are read and written by neighbours, once. No activation.
#pragma once
#include "lib/launch_shared.hpp"
#include "ops/causal_conv_kernels.hpp"

#if defined(SSM_GPU)
namespace ssm::causal_conv_op {

constexpr int kEdge = 32, kTurned = 64;              // channels and positions of a tile
constexpr int kLines = 8, kEach = kTurned / kLines;  // warps of a block; positions of a thread
constexpr Index kTurnedRun = 512;                    // positions that a block of the backward pass takes, whose sums of dW are one

// Tile `block` of (B, pieces of time, tiles of channels): channels [c0, c0 + 32) of positions [t0, ..) of sequence b.
struct TurnedPlace {
  Index b, piece, c0;
  __device__ TurnedPlace(const Arguments& a, Index block, Index pieces) {
    const Index across = (a.D + kEdge - 1) / kEdge, row = quotient(block, across);
    c0 = (block - row * across) * kEdge;
    b = quotient(row, pieces);
    piece = row - b * pieces;
  }
};

template <int taps>
struct TurnedForward {
  static constexpr int kThreads = kEdge * kLines, kBlocks = 8, kRows = kTurned + taps - 1, kLd = kEdge + 1;
  static constexpr std::size_t kBytes = sizeof(Real) * kRows * kLd;
  Arguments a;
  Index pieces;

  __device__ void operator()(Index block, int thread, Real* tile) const {
    const TurnedPlace at(a, block, pieces);
    const int lane = thread % kEdge, line = thread / kEdge;
    const Index t0 = at.piece * kTurned;
    const Real* from = a.x + (at.b * a.T) * a.wide + at.c0 + lane;
    const bool there = at.c0 + lane < a.D;
    SSM_UNROLL
    for (int i = line; i < kRows; i += kLines) {
      const Index t = t0 + i - (taps - 1);
      tile[i * kLd + lane] = there && t >= 0 && t < a.T ? from[t * a.wide] : Real(0);
    }
    __syncthreads();
    SSM_UNROLL
    for (int j = line; j < kEdge; j += kLines) {
      const Index c = at.c0 + j;
      if (c >= a.D) continue;
      SSM_UNROLL
      for (int half = 0; half < kTurned; half += kEdge) {
        Real sum = a.b[c];
        SSM_UNROLL
        for (int k = 0; k < taps; ++k) sum += a.W[c * taps + k] * tile[(half + lane + k) * kLd + j];
        if (t0 + half + lane < a.T) a.y[(at.b * a.D + c) * a.T + t0 + half + lane] = sum;
      }
    }
  }
};

// A thread has a channel and kEach positions of every tile: dx from the tile of dy, dW with its own window of x.
template <int taps>
struct TurnedBackward {
  static constexpr int kThreads = kEdge * kLines, kBlocks = 4, kPast = taps - 1, kLd = kTurned + 5;
  static constexpr std::size_t kBytes = sizeof(Real) * kEdge * kLd;
  static_assert(kPast <= 4 && kLd % 2 == 1 && kEdge * kLd >= (taps + 1) * kThreads);
  Arguments a;
  Index pieces;

  __device__ void operator()(Index block, int thread, Real* tile) const {
    const TurnedPlace at(a, block, pieces);
    const int lane = thread % kEdge, line = thread / kEdge;
    const Index c = at.c0 + lane, begin = at.piece * kTurnedRun, end = begin + kTurnedRun < a.T ? begin + kTurnedRun : a.T;
    const bool there = c < a.D;
    Real tap[taps], dW[taps], db = 0;
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) tap[k] = there ? a.W[c * taps + k] : Real(0), dW[k] = 0;
    for (Index t0 = begin; t0 < end; t0 += kTurned) {
      const Index own = t0 + line * kEach;
      Real x[kEach + kPast];
      SSM_UNROLL
      for (int s = 0; s < kEach + kPast; ++s) {
        const Index t = own + s - kPast;
        x[s] = there && t >= 0 && t < a.T ? a.x[(at.b * a.T + t) * a.wide + c] : Real(0);
      }
      SSM_UNROLL
      for (int j = line; j < kEdge; j += kLines) {
        const Real* from = a.dy + (at.b * a.D + at.c0 + j) * a.T + t0;
        SSM_UNROLL
        for (int i = 0; i < kTurned + kPast; i += kEdge)
          if (i + lane < kTurned + kPast) tile[j * kLd + i + lane] = at.c0 + j < a.D && t0 + i + lane < a.T ? from[i + lane] : Real(0);
      }
      __syncthreads();
      Real g[kEach + kPast];
      SSM_UNROLL
      for (int s = 0; s < kEach + kPast; ++s) g[s] = tile[lane * kLd + line * kEach + s];
      SSM_UNROLL
      for (int s = 0; s < kEach; ++s) {
        Real dx = 0;
        SSM_UNROLL
        for (int k = 0; k < taps; ++k) {
          dW[k] += g[s] * x[s + k];
          dx += tap[k] * g[s + kPast - k];
        }
        db += g[s];
        if (there && own + s < a.T) a.dx((at.b * a.T + own + s) * a.wide + c, dx);
      }
      __syncthreads();
    }
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) tile[k * kThreads + thread] = dW[k];
    tile[taps * kThreads + thread] = db;
    __syncthreads();
    if (line > 0 || !there) return;
    Real* part = a.parts + (at.b * pieces + at.piece) * a.D * (taps + 1);
    SSM_UNROLL
    for (int k = 0; k <= taps; ++k) {
      Real sum = 0;
      SSM_UNROLL
      for (int i = 0; i < kLines; ++i) sum += tile[k * kThreads + i * kEdge + lane];
      part[k < taps ? c * taps + k : a.D * taps + c] = sum;
    }
  }
};

template <template <int> class Kernel>
void launch_turned(const char* label, const Run& r, Index B, Index pieces, const Arguments& a) {
  const Index blocks = B * pieces * ((a.D + kEdge - 1) / kEdge);
  if (a.w == 2) launch_shared(label, r, blocks, Kernel<2>::kBytes, Kernel<2>{a, pieces});
  else if (a.w == 3) launch_shared(label, r, blocks, Kernel<3>::kBytes, Kernel<3>{a, pieces});
  else launch_shared(label, r, blocks, Kernel<4>::kBytes, Kernel<4>{a, pieces});
}

}  // namespace ssm::causal_conv_op
#endif
