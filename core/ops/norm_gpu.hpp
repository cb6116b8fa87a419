// norm_gpu.hpp - layer and RMS normalisation of rows that a warp holds in registers (D <= 1024), on CUDA and HIP: every array is read or
// written once, forward 8 D bytes a row, backward 12 D (16 D where dx adds) with the gradients of weight and bias summed on the way.
#pragma once
#include "lib/held_row.hpp"
#include "lib/launch_shared.hpp"
#include "lib/reduce.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::norm_op {

constexpr int kWarps = 8;  // of a block
constexpr Index kHeld = 1024;

struct NormArguments {
  const Real *x, *weight, *bias, *dy;  // (rows,D), (D), (D) or null, (rows,D)
  Real *y, *mean, *scale;              // (rows,D), (rows) or null: RMS, (rows)
  Grad dx;
  Real *dweight, *dbias;  // (blocks,D) each, sums of a block; dbias null: RMS
  Index rows;
  int D;
  Real eps;
};

// K: entries of a lane.
template <int K>
struct NormForward {
  static constexpr int kThreads = kWarps * kWarp, kBlocks = K <= 4 ? 8 : K <= 8 ? 6 : K <= 16 ? 4 : 2;
  NormArguments a;

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index i = block * kWarps + thread / kWarp;
    const int lane = thread % kWarp, D = a.D;
    if (i >= a.rows) return;
    Real x[K], square = 0;
    load_row(a.x + i * D, D, lane, x);
    Real mean = 0;
    if (a.mean) {
      SSM_UNROLL
      for (int q = 0; q < K; ++q) mean += x[q];
      mean = sum_of_warp(mean) / static_cast<Real>(D);
    }
    SSM_UNROLL
    for (int q = 0; q < K; ++q) {
      x[q] -= mean;
      if (lane + kWarp * q < D) square += x[q] * x[q];
    }
    const Real s = 1 / Kokkos::sqrt(sum_of_warp(square) / static_cast<Real>(D) + a.eps);
    if (lane == 0) {
      a.scale[i] = s;
      if (a.mean) a.mean[i] = mean;
    }
    const Real *weight = a.weight + lane, *bias = a.bias ? a.bias + lane : nullptr;
    Real* y = a.y + i * D + lane;
    SSM_UNROLL
    for (int q = 0; q < K; ++q)
      if (kWarp * q < D - lane) y[kWarp * q] = x[q] * s * weight[kWarp * q] + (bias ? bias[kWarp * q] : Real(0));
  }
};

// Rows block, block + blocks, .. of groups of 8 rows, a warp each. Where dx adds, its old entries are loaded together with those of x and dy:
// read one by one as they are written, they took twice the time of all the rest. Their registers are those of the weight, then read row by row.
template <int K, bool add>
struct NormBackward {
  static constexpr int kThreads = kWarps * kWarp, kBlocks = K <= 16 ? 2 : 1;
  NormArguments a;
  Index blocks;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const int lane = thread % kWarp, warp = thread / kWarp, D = a.D, left = D - lane;
    const Real* weight = a.weight + lane;
    Real w[add ? 1 : K], dw[K], db[K];
    if constexpr (!add) load_row(a.weight, D, lane, w);
    SSM_UNROLL
    for (int q = 0; q < K; ++q) dw[q] = db[q] = 0;
    const Real per = 1 / static_cast<Real>(D);
    for (Index i = block * kWarps + warp; i < a.rows; i += blocks * kWarps) {
      Real h[K], g[K], old[add ? K : 1], g1 = 0, g2 = 0;
      load_row(a.x + i * D, D, lane, h);
      load_row(a.dy + i * D, D, lane, g);
      if constexpr (add) load_row(a.dx.p + i * D, D, lane, old);
      const Real mean = a.mean ? a.mean[i] : Real(0), s = a.scale[i];
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        h[q] = (h[q] - mean) * s;
        dw[q] += g[q] * h[q];
        db[q] += g[q];
        if constexpr (add) g[q] *= kWarp * q < left ? weight[kWarp * q] : Real(0);
        else g[q] *= w[q];
        g1 += g[q];
        g2 += g[q] * h[q];
      }
      g1 = a.mean ? per * sum_of_warp(g1) : Real(0);
      g2 = per * sum_of_warp(g2);
      Real* dx = a.dx.p + i * D + lane;
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        const Real value = s * (g[q] - g1 - h[q] * g2);
        if (kWarp * q < left) dx[kWarp * q] = add ? old[add ? q : 0] + value : value;
      }
    }
    sum_of_block<kThreads>(dw, memory, a.dweight + block * D, D, thread);
    if (a.dbias) sum_of_block<kThreads>(db, memory, a.dbias + block * D, D, thread);
  }
};

template <int K>
void forward_held(const Run& r, const NormArguments& a) {
  launch_shared("ssm::norm", r, (a.rows + kWarps - 1) / kWarps, 0, NormForward<K>{a});
}
template <int K>
void backward_held(const Run& r, const NormArguments& a, Index blocks) {
  constexpr std::size_t bytes = sizeof(Real) * kWarps * kWarp * K;
  if (a.dx.add) launch_shared("ssm::norm_backward", r, blocks, bytes, NormBackward<K, true>{a, blocks});
  else launch_shared("ssm::norm_backward", r, blocks, bytes, NormBackward<K, false>{a, blocks});
}

inline void forward_on_gpu(const Run& r, const NormArguments& a) {
  if (a.D <= 64) forward_held<2>(r, a);
  else if (a.D <= 128) forward_held<4>(r, a);
  else if (a.D <= 256) forward_held<8>(r, a);
  else if (a.D <= 512) forward_held<16>(r, a);
  else forward_held<32>(r, a);
}
// dweight, dbias: sums of `blocks` blocks, to be added in order.
inline void backward_on_gpu(const Run& r, const NormArguments& a, Index blocks) {
  if (a.D <= 64) backward_held<2>(r, a, blocks);
  else if (a.D <= 128) backward_held<4>(r, a, blocks);
  else if (a.D <= 256) backward_held<8>(r, a, blocks);
  else if (a.D <= 512) backward_held<16>(r, a, blocks);
  else backward_held<32>(r, a, blocks);
}

}  // namespace ssm::norm_op
#endif
