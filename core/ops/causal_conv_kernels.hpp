// causal_conv_kernels.hpp - the short causal convolution in plain Kokkos: any number of taps, several sequences a row, single steps.
#pragma once
#include "launch.hpp"
#include "math.hpp"
#include "ops/starts.hpp"
#include "tensor.hpp"

namespace ssm::causal_conv_op {

constexpr int kMaxWidth = 16;             // taps
constexpr int kChunk = kOnHost ? 64 : 8;  // positions that a work item holds at once
constexpr Index kRun = 64;                // positions of a work item, at least
constexpr int kHold = kChunk + kMaxWidth - 1;

inline bool few_taps(int w) { return w >= 2 && w <= 4; }  // what the kernels for GPUs take

// Of D neighbouring channels: rows of x, dx and the state are `wide` apart, those of y and dy D.
struct Arguments {
  const Real *x, *W, *b, *dy = nullptr;
  Real *y, *parts = nullptr, *state = nullptr;
  Grad dx{};
  Index T, D, wide, run, runs;  // positions of a work item, items of a sequence
  int w;
  bool silu;
  const Real* starts;  // (B,T) of sequence_starts(), null: one sequence a row
};

// The first of w taps that position t uses when its sequence starts at `begin`.
SSM_FN int first_tap(int w, Real begin, Index t) {
  const Index before = t - static_cast<Index>(begin);
  return before >= w - 1 ? 0 : w - 1 - static_cast<int>(before);
}

// Weights of W channels, tap by tap, and W channels of a chunk of x with the w-1 positions before it.
template <int W>
struct Window {
  Real tap[kMaxWidth * W], bias[W], x[(kHold + kMaxWidth - 1) * W];

  KOKKOS_FUNCTION Window(const Arguments& a, Index c) {
    for (int l = 0; l < W; ++l) bias[l] = a.b[c + l];
    for (int k = 0; k < a.w; ++k)
      for (int l = 0; l < W; ++l) tap[k * W + l] = a.W[(c + l) * a.w + k];
  }
  // from: channel c of position 0 of the sequence.
  KOKKOS_FUNCTION void load(const Arguments& a, const Real* from, Index first, int count) {
    for (int s = 0; s < count + a.w - 1; ++s) {
      const Index t = first + s - (a.w - 1);
      for (int l = 0; l < W; ++l) x[s * W + l] = t < 0 ? Real(0) : from[t * a.wide + l];
    }
  }
  // begin: where the sequence of each position starts, from the first of the chunk at position `first` on. Cut: several sequences a row.
  template <bool Cut>
  KOKKOS_FUNCTION void convolve(const Arguments& a, int count, const Real* begin, Index first, Real* pre) const {
    for (int s = 0; s < count; ++s) {
      Real sum[W];
      for (int l = 0; l < W; ++l) sum[l] = bias[l];
      for (int k = Cut ? first_tap(a.w, begin[s], first + s) : 0; k < a.w; ++k)
        for (int l = 0; l < W; ++l) sum[l] += tap[k * W + l] * x[(s + k) * W + l];
      for (int l = 0; l < W; ++l) pre[s * W + l] = sum[l];
    }
  }
};

template <bool Cut>
struct Forward {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index c) const {
    const Index b = row / a.runs, begin = (row - b * a.runs) * a.run, end = begin + a.run < a.T ? begin + a.run : a.T;
    Window<W> window(a, c);
    Real y[kChunk * W];
    for (Index first = begin; first < end; first += kChunk) {
      const int count = static_cast<int>(end - first < kChunk ? end - first : kChunk);
      window.load(a, a.x + b * a.T * a.wide + c, first, count);
      window.template convolve<Cut>(a, count, Cut ? a.starts + b * a.T + first : nullptr, first, y);
      if (a.silu)
        for (int i = 0; i < count * W; ++i) y[i] = silu(y[i]);
      Real* to = a.y + (b * a.T + first) * a.D + c;
      for (int s = 0; s < count; ++s)
        for (int l = 0; l < W; ++l) to[s * a.D + l] = y[s * W + l];
    }
  }
};

template <bool Cut>
struct Backward {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index c) const {
    const Index b = row / a.runs, begin = (row - b * a.runs) * a.run, end = begin + a.run < a.T ? begin + a.run : a.T;
    Window<W> window(a, c);
    Real dW[kMaxWidth * W], db[W], g[kHold * W], slope[kHold * W];
    for (int i = 0; i < a.w * W; ++i) dW[i] = 0;
    for (int l = 0; l < W; ++l) db[l] = 0;
    for (Index first = begin; first < end; first += kChunk) {
      const int count = static_cast<int>(end - first < kChunk ? end - first : kChunk), held = count + a.w - 1;
      const int ahead = static_cast<int>(a.T - first < held ? a.T - first : held);  // g is 0 beyond the end of the sequence
      const Index origin = (b * a.T + first) * a.D + c, origin_x = (b * a.T + first) * a.wide + c;
      const Real* own = Cut ? a.starts + b * a.T + first : nullptr;
      window.load(a, a.x + b * a.T * a.wide + c, first, ahead);
      for (int s = 0; s < held; ++s)
        for (int l = 0; l < W; ++l) g[s * W + l] = s < ahead ? a.dy[origin + s * a.D + l] : Real(0);
      if (a.silu) {
        window.template convolve<Cut>(a, ahead, own, first, slope);
        for (int i = 0; i < ahead * W; ++i) g[i] *= silu_slope(slope[i]);
      }
      for (int k = 0; k < a.w; ++k) {
        Real sum[W];
        for (int l = 0; l < W; ++l) sum[l] = dW[k * W + l];
        for (int s = 0; s < count; ++s) {
          if (Cut && k < first_tap(a.w, own[s], first + s)) continue;
          for (int l = 0; l < W; ++l) sum[l] += g[s * W + l] * window.x[(s + k) * W + l];
        }
        for (int l = 0; l < W; ++l) dW[k * W + l] = sum[l];
      }
      for (int s = 0; s < count; ++s) {
        Real dx[W];
        for (int l = 0; l < W; ++l) dx[l] = 0;
        for (int k = 0; k < a.w; ++k) {
          const int later = s + a.w - 1 - k;
          if (Cut && later < ahead && k < first_tap(a.w, own[later], first + later)) continue;
          for (int l = 0; l < W; ++l) dx[l] += window.tap[k * W + l] * g[later * W + l];
        }
        for (int l = 0; l < W; ++l) db[l] += g[s * W + l];
        for (int l = 0; l < W; ++l) a.dx(origin_x + s * a.wide + l, dx[l]);
      }
    }
    Real* part = a.parts + row * a.D * (a.w + 1);
    for (int k = 0; k < a.w; ++k)
      for (int l = 0; l < W; ++l) part[(c + l) * a.w + k] = dW[k * W + l];
    for (int l = 0; l < W; ++l) part[a.D * a.w + c + l] = db[l];
  }
};

// One position; state (B, w-1, wide) holds the inputs before it, oldest first.
struct Step {
  Arguments a;

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index c) const {
    const Window<W> window(a, c);
    Real* past = a.state + b * (a.w - 1) * a.wide + c;
    Real pre[W], now[W];
    for (int l = 0; l < W; ++l) now[l] = a.x[b * a.wide + c + l];
    for (int l = 0; l < W; ++l) pre[l] = window.bias[l] + window.tap[(a.w - 1) * W + l] * now[l];
    for (int k = 0; k < a.w - 1; ++k)
      for (int l = 0; l < W; ++l) {
        pre[l] += window.tap[k * W + l] * past[k * a.wide + l];
        past[k * a.wide + l] = k + 1 < a.w - 1 ? past[(k + 1) * a.wide + l] : now[l];
      }
    for (int l = 0; l < W; ++l) a.y[b * a.D + c + l] = a.silu ? silu(pre[l]) : pre[l];
  }
};

}  // namespace ssm::causal_conv_op
