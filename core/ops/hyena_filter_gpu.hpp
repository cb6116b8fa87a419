// hyena_filter_gpu.hpp - the dense layers of hyena_filter.cpp on a GPU: a block has kAtOnce steps, a thread one unit at some of them.
//
// Weights pass through on-chip memory, what a layer gives the next stays there. At T 1024 and 64 units: 128 blocks of 3 x 32768 products and
// 3 x 512 sines in double, 5 us at 64 a clock. Measured, H200: 37 us forward, 25 back; what remains is waiting for weights layer by layer.
#pragma once
#include "lib/launch_shared.hpp"
#include "ops/hyena_filter_kernels.hpp"

namespace ssm::hyena_filter_op {

#if defined(SSM_GPU_CODE)

constexpr int kAtOnce = 8, kDeep = 32;  // steps of a block; columns of weights on chip at a time

// Where a thread of a block works: unit j, steps [from, from + kPer) of the block's.
template <int kSpan>
struct Part {
  static constexpr int kThreads = kMost, kPer = kAtOnce * kSpan / kThreads;
  int j, from;
  __device__ explicit Part(int thread) : j(thread % kSpan), from(thread / kSpan * kPer) {}
};

template <int kSpan>
struct LayersBlock : Layers {
  static constexpr int kThreads = kMost, kBlocks = 4, kPer = Part<kSpan>::kPer, kRow = kSpan + 1;
  static constexpr std::size_t kBytes = sizeof(Wide) * kMost * kAtOnce + sizeof(Real) * kDeep * kRow;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Part<kSpan> at(thread);
    const int j = at.j;
    const Index t0 = block * kAtOnce;
    Wide* s = reinterpret_cast<Wide*>(memory);  // (units of the layer below, kAtOnce)
    Real* w = reinterpret_cast<Real*>(s + kMost * kAtOnce);
    for (int i = thread; i < emb * kAtOnce; i += kThreads) {
      const Index t = t0 + i % kAtOnce;
      s[i] = t < T ? static_cast<Wide>(z[t * emb + i / kAtOnce]) : Wide(0);
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      const int width = layer ? units : emb;
      Wide sum[kPer];
#pragma unroll
      for (int q = 0; q < kPer; ++q) sum[q] = j < units ? static_cast<Wide>(b[layer][j]) : Wide(0);
      for (int i0 = 0; i0 < width; i0 += kDeep) {
        const int deep = width - i0 < kDeep ? width - i0 : kDeep;
        __syncthreads();
        for (int i = thread; i < units * kDeep; i += kThreads)
          if (i % kDeep < deep) w[i % kDeep * kRow + i / kDeep] = W[layer][i / kDeep * width + i0 + i % kDeep];
        __syncthreads();
        if (j < units)
          for (int i = 0; i < deep; ++i) {
            const Wide x = static_cast<Wide>(w[i * kRow + j]);
#pragma unroll
            for (int q = 0; q < kPer; ++q) sum[q] += x * s[(i0 + i) * kAtOnce + at.from + q];
          }
      }
      __syncthreads();
      if (j >= units) continue;
      const Wide f = static_cast<Wide>(freq[j]);
#pragma unroll
      for (int q = 0; q < kPer; ++q) {
        const Index t = t0 + at.from + q;
        if (t < T) pre[(layer * units + j) * T + t] = sum[q];
        const Wide sine = s[j * kAtOnce + at.from + q] = ::sin(f * sum[q]);
        if (t < T && layer == kLayers - 1) last[j * T + t] = static_cast<Real>(sine);
      }
    }
  }
};

template <int kSpan>
struct LayersBackwardBlock : LayersBackward {
  static constexpr int kThreads = kMost, kBlocks = 4, kPer = Part<kSpan>::kPer;
  static constexpr std::size_t kBytes = sizeof(Real) * kMost * kAtOnce;

  __device__ void operator()(Index block, int thread, Real* here) const {
    const Part<kSpan> at(thread);
    const int j = at.j;
    const Index t0 = block * kAtOnce + at.from;
    Real grad[kPer];
#pragma unroll
    for (int q = 0; q < kPer; ++q) grad[q] = j < units && t0 + q < T ? ds[j * T + t0 + q] : Real(0);
    for (int layer = kLayers - 1; layer >= 0; --layer) {
      const int width = layer ? units : emb;
      __syncthreads();
      if (j < units) {
#pragma unroll
        for (int q = 0; q < kPer; ++q) {
          const Index place = (layer * units + j) * T + t0 + q;
          const bool there = t0 + q < T;
          const Wide p = there ? pre[place] : Wide(0);
          const SineCosine<Wide> v = sine_cosine(static_cast<Wide>(freq[j]) * p);
          const Real tau = grad[q] * static_cast<Real>(v.cosine), g_here = tau * freq[j];
          here[j * kAtOnce + at.from + q] = g_here;
          if (!there) continue;
          sines[place] = static_cast<Real>(v.sine);
          moved[place] = tau * static_cast<Real>(p);
          g[place] = g_here;
        }
      }
      __syncthreads();
#pragma unroll
      for (int q = 0; q < kPer; ++q) grad[q] = 0;
      if (j >= width) continue;
      const Real* w = W[layer] + j;
#pragma unroll 8
      for (int k = 0; k < units; ++k) {
        const Real x = w[k * width];
#pragma unroll
        for (int q = 0; q < kPer; ++q) grad[q] += x * here[k * kAtOnce + at.from + q];
      }
    }
    if (!dz || j >= emb) return;
#pragma unroll
    for (int q = 0; q < kPer; ++q)
      if (t0 + q < T) dz[(t0 + q) * emb + j] += grad[q];
  }
};

template <template <int> class Block, class Shape>
void run_blocks(const char* label, const Run& r, const Shape& shape) {
  const Index blocks = (shape.T + kAtOnce - 1) / kAtOnce;
  if (shape.units <= kMost / 2 && shape.emb <= kMost / 2)
    launch_shared(label, r, blocks, Block<kMost / 2>::kBytes, Block<kMost / 2>{shape});
  else launch_shared(label, r, blocks, Block<kMost>::kBytes, Block<kMost>{shape});
}
inline void run_layers(const char* label, const Run& r, const Layers& layers) { run_blocks<LayersBlock>(label, r, layers); }
inline void run_layers(const char* label, const Run& r, const LayersBackward& layers) { run_blocks<LayersBackwardBlock>(label, r, layers); }

#else

template <class Shape>
void run_layers(const char* label, const Run& r, const Shape& layers) {
  launch_lanes(label, r, 1, layers.T, layers);
}

#endif

}  // namespace ssm::hyena_filter_op
