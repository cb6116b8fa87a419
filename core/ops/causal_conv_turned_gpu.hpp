// causal_conv_turned_gpu.hpp - the short causal convolution of 2 to 4 taps from x (B,T,C) to tensors (B,size,T), on CUDA and HIP, where two of
// them may be multiplied without being in memory themselves.
//
// A block takes 32 channels of an output over 64 positions; a thread holds 16 positions of a channel in registers. x and dx are read and
// written along channels, 128 bytes a warp. Outputs and their gradients are turned on chip and written and read along time, 16 bytes a
// thread. Rows on chip are 17 times 16 bytes apart, so that both ways meet every bank once.
// Bytes an entry: forward 8, of a product 12 for two; backward 12, of a product 20 for two.
#pragma once
#include <cstdint>

#include "lib/add_few.hpp"
#include "lib/gpu_tile.hpp"
#include "lib/launch_shared.hpp"
#include "lib/warp.hpp"
#include "tensor.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::causal_conv_op {

// The channels [first, first + size) of x convolved; product: those times the convolved next `size`.
struct TurnedOutput {
  Real* y = nullptr;
  const Real* dy = nullptr;
  int first = 0, size = 0;
  bool product = false;
};

struct TurnedArguments {
  static constexpr int kMost = 9;  // outputs
  const Real *x, *W, *b;
  Real* parts = nullptr;  // (B pieces, C (taps + 1)): dW (C,taps), db (C)
  Grad dx{};
  int T, C, pieces;          // of a sequence, one a block
  int count = 0, tiles = 0;  // outputs; tiles of 32 channels in them
  TurnedOutput outputs[kMost]{};
};

template <int taps>
struct Turned {
  static constexpr int kThreads = gpu_tile::kThreads, kPast = taps - 1, kHere = 16, kWarps = kThreads / kWarp, kSteps = kWarps * kHere,
                       kLd = kSteps + 4;
  static constexpr std::size_t kBytes = kWarp * kLd * sizeof(Real);
  TurnedArguments a;

  // Where a thread works: `rows` channels of an output from its channel c on, of which it has `channel` of x; positions from `begin` on of
  // sequence b, which has `left` from there, its own from `first` on.
  struct Place {
    int output, c, piece, lane, warp, rows, channel, begin, first, left;
    Index b;
  };
  __device__ Place place(Index block, int thread) const {
    const int row = static_cast<int>(block) / a.tiles, b = row / a.pieces, piece = row - b * a.pieces;
    int output = 0, tile = static_cast<int>(block) - row * a.tiles;
    for (int tiles; (tiles = (a.outputs[output].size + kWarp - 1) / kWarp) <= tile; ++output) tile -= tiles;
    const TurnedOutput& out = a.outputs[output];
    const int c = tile * kWarp, lane = thread % kWarp, warp = thread / kWarp, rows = out.size - c < kWarp ? out.size - c : kWarp,
              begin = piece * kSteps;
    return {output, c, piece, lane, warp, rows, out.first + c + (lane < rows ? lane : 0), begin, begin + warp * kHere, a.T - begin, b};
  }
  // What a thread holds of its channel in each of the convolutions that its output is the product of.
  template <int many>
  struct Weights {
    Real tap[many][taps], bias[many];
    __device__ Weights(const TurnedArguments& a, int c, int next) {
#pragma unroll
      for (int m = 0; m < many; ++m, c += next) {
        bias[m] = a.b[c];
#pragma unroll
        for (int k = 0; k < taps; ++k) tap[m][k] = a.W[c * taps + k];
      }
    }
    __device__ Real convolve(int m, const Real* window) const {
      Real sum = bias[m];
#pragma unroll
      for (int k = 0; k < taps; ++k) sum += tap[m][k] * window[k];
      return sum;
    }
  };
  // f(m, j, at) for the j with position first + j in the sequence: its entry of channel m next is `at` beyond that of `first`.
  template <int many, int n, class F>
  __device__ void each_step(int first, int next, const F& f) const {
    const auto walk = [&](const auto& there) {
#pragma unroll
      for (int m = 0; m < many; ++m)
#pragma unroll
        for (int j = 0; j < n; ++j)
          if (there(j)) f(m, j, m * next + j * a.C);
    };
    if (first >= 0 && first + n <= a.T) walk([](int) { return true; });
    else walk([&](int j) { return first + j >= 0 && first + j < a.T; });
  }
  // x[m][j] = entry of position first + j, 0 outside of the sequence; from: its first entry of the thread's channel.
  template <int many, int n>
  __device__ void load(Real (&x)[many][n], const Real* from, int next, int first) const {
#pragma unroll
    for (int m = 0; m < many; ++m)
#pragma unroll
      for (int j = 0; j < n; ++j) x[m][j] = 0;
    from += first * static_cast<Index>(a.C);
    each_step<many, n>(first, next, [&](int m, int j, int at) { x[m][j] = from[at]; });
  }
  // Rows of outputs and of their gradients: may they be read and written by fours?
  __device__ bool by_fours(const Real* p) const {
    return (a.T | static_cast<Index>(reinterpret_cast<std::uintptr_t>(p) / sizeof(Real))) % 4 == 0;
  }
  __device__ static Four& four(Real* p) { return *reinterpret_cast<Four*>(p); }
};

template <int taps>
struct TurnedForward : Turned<taps> {
  using Base = Turned<taps>;
  using Base::a, Base::kHere, Base::kLd, Base::kPast, Base::kSteps, Base::kThreads, Base::kWarps;
  static constexpr int kBlocks = 6;

  template <int many>
  __device__ void work(const typename Base::Place& at, int thread, Real* tile) const {
    const TurnedOutput& out = a.outputs[at.output];
    Real x[many][kPast + kHere];
    this->load(x, a.x + at.b * a.T * a.C + at.channel, out.size, at.first - kPast);
    const typename Base::template Weights<many> weights(a, at.channel, out.size);
#pragma unroll
    for (int s = 0; s < kHere; s += 4) {
      Four y;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        y.v[e] = weights.convolve(0, x[0] + s + e);
        if constexpr (many > 1) y.v[e] *= weights.convolve(1, x[1] + s + e);
      }
      Base::four(tile + at.lane * kLd + at.warp * kHere + s) = y;
    }
    __syncthreads();
    Real* to = out.y + (at.b * out.size + at.c) * a.T + at.begin;
    if (this->by_fours(to)) {
      constexpr int kFours = kSteps / 4;
#pragma unroll
      for (int i = thread; i < kWarp * kFours; i += kThreads) {
        const int row = i / kFours, s = i % kFours * 4;
        if (row < at.rows && s < at.left) Base::four(to + row * a.T + s) = Base::four(tile + row * kLd + s);
      }
    } else {
      for (int i = thread; i < at.rows * kSteps; i += kThreads)
        if (i % kSteps < at.left) to[i / kSteps * a.T + i % kSteps] = tile[i / kSteps * kLd + i % kSteps];
    }
  }
};

template <int taps>
struct TurnedBackward : Turned<taps> {
  using Base = Turned<taps>;
  using Base::a, Base::kHere, Base::kLd, Base::kPast, Base::kSteps, Base::kThreads, Base::kWarps;
  static constexpr int kBlocks = 4;

  template <int many>
  __device__ void work(const typename Base::Place& at, int thread, Real* tile) const {
    const TurnedOutput& out = a.outputs[at.output];
    const Index origin = at.b * a.T * a.C + at.channel;
    const typename Base::template Weights<many> weights(a, at.channel, out.size);
    const Real* dy = out.dy + (at.b * out.size + at.c) * a.T + at.begin;
    gpu_tile::copy_tile<kWarp, kLd>(thread, dy, a.T, at.rows, at.left < kLd ? at.left : kLd, this->by_fours(dy), tile, kLd);
    gpu_tile::copies_end();
    Real x[many][kPast + kHere + (many > 1 ? kPast : 0)], dx[many][kHere], sums[many][taps + 1] = {};  // sums: dW, db
    this->load(x, a.x + origin, out.size, at.first - kPast);
    gpu_tile::copies_wait<0>();
    __syncthreads();
    steps_back<many>(weights, x, tile + at.lane * kLd + at.warp * kHere, dx, sums);
    if (at.lane < at.rows) write(dx, a.dx.p + origin, out.size, at.first);
    add_up(sums, out, at, thread, tile);
  }
  // x[m][j] is position first - kPast + j, dy[j] and g[m][j], the gradient of convolution m, are of position first + j.
  template <int many, int n>
  __device__ static void steps_back(const typename Base::template Weights<many>& weights, const Real (&x)[many][n], Real* dy,
                                    Real (&dx)[many][kHere], Real (&sums)[many][taps + 1]) {
    Real g[many][kHere + 4];
#pragma unroll
    for (int j = 0; j < kHere + kPast; ++j) {
      if (j % 4 == 0) {
        const Four up = Base::four(dy + j);
#pragma unroll
        for (int e = 0; e < 4; ++e) g[0][j + e] = up.v[e];
      }
      if constexpr (many > 1) {
        const Real up = g[0][j];
        g[0][j] = up * weights.convolve(1, x[1] + j), g[1][j] = up * weights.convolve(0, x[0] + j);
      }
#pragma unroll
      for (int m = 0; m < many; ++m) {
        if (j < kHere) {
#pragma unroll
          for (int k = 0; k < taps; ++k) sums[m][k] += g[m][j] * x[m][j + k];
          sums[m][taps] += g[m][j];
        }
        if (j < kPast) continue;
        Real sum = 0;
#pragma unroll
        for (int k = 0; k < taps; ++k) sum += weights.tap[m][k] * g[m][j - k];
        dx[m][j - kPast] = sum;
      }
    }
  }
  // All entries that are added to are on their way before the first is written.
  template <int many>
  __device__ void write(Real (&dx)[many][kHere], Real* to, int next, int first) const {
    to += first * static_cast<Index>(a.C);
    if (a.dx.add) this->template each_step<many, kHere>(first, next, [&](int m, int s, int at) { dx[m][s] += to[at]; });
    this->template each_step<many, kHere>(first, next, [&](int m, int s, int at) { to[at] = dx[m][s]; });
  }
  // The sums of the block's warps, one after another.
  template <int many>
  __device__ void add_up(const Real (&sums)[many][taps + 1], const TurnedOutput& out, const typename Base::Place& at, int thread,
                         Real* tile) const {
    constexpr int kSums = many * (taps + 1) * kWarp;
    static_assert(kWarps * kSums <= kWarp * kLd);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < many; ++m)
#pragma unroll
      for (int k = 0; k <= taps; ++k) tile[at.warp * kSums + (m * (taps + 1) + k) * kWarp + at.lane] = sums[m][k];
    __syncthreads();
    Real* part = a.parts + (at.b * a.pieces + at.piece) * a.C * (taps + 1);
    for (int i = thread; i < kSums && at.lane < at.rows; i += kThreads) {
      Real sum = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) sum += tile[warp * kSums + i];
      const int m = i / kWarp / (taps + 1), k = i / kWarp % (taps + 1);
      const int c = out.first + m * out.size + at.c + at.lane;
      part[k < taps ? c * taps + k : a.C * taps + c] = sum;
    }
  }
};

// dW and db += the sums of their parts.
struct TurnedSums : FewSums {
  static constexpr std::size_t kBytes = sizeof(Real) * kThreads;
  const Real* parts;
  Index count;  // parts
  Real *dW, *db;
  Index weights, numbers;  // of dW, of both

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index i = block * kWarp + thread % kWarp;
    const Real total = sum(parts + (i < numbers ? i : 0), count, numbers, thread, memory);
    if (thread < kWarp && i < numbers) (i < weights ? dW[i] : db[i - weights]) += total;
  }
};

constexpr int kTurnedSteps = Turned<2>::kSteps;  // positions of a tile

template <template <int> class Work, int taps>
struct TurnedBlock : Work<taps> {
  __device__ void operator()(Index block, int thread, Real* tile) const {
    const auto at = this->place(block, thread);
    if (this->a.outputs[at.output].product) this->template work<2>(at, thread, tile);
    else this->template work<1>(at, thread, tile);
  }
};

template <template <int> class Work>
void launch_turned(const char* label, const Run& r, Index B, int w, const TurnedArguments& a) {
  const Index blocks = B * a.pieces * a.tiles;
  if (w == 2) launch_shared(label, r, blocks, Turned<2>::kBytes, TurnedBlock<Work, 2>{{{a}}});
  else if (w == 3) launch_shared(label, r, blocks, Turned<3>::kBytes, TurnedBlock<Work, 3>{{{a}}});
  else launch_shared(label, r, blocks, Turned<4>::kBytes, TurnedBlock<Work, 4>{{{a}}});
}

}  // namespace ssm::causal_conv_op
#endif
