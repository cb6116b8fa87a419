// gated_norm_gpu.hpp - RMS norm and SiLU gate of rows that up to 16 warps hold in registers (D <= 4096), on CUDA and HIP: every array is read
// or written once, forward 12 D bytes a row, backward 20 D, 4 D more for each of dx, dz that adds, the gradient of the weight summed on the way.
//
// 4 or 8 entries a thread: with x, z, dy, the sums of the weight's gradient and the weight itself 64 registers suffice, two blocks of 512 threads
// are on a multiprocessor and have 96 KiB on their way. A row that one warp held in 32 entries a lane would not fit into 255.
#pragma once
#include "ops/norm_gpu.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::gated_norm_op {

using norm_op::load_row, norm_op::sum_of_block;

constexpr Index kHeld = 4096;
constexpr Index kMostBlocks = 264;  // of a backward pass, and sums of the weight's gradient: two on each of an H200's 132 multiprocessors
constexpr int kThreadsBack = 512;

struct HeldArguments {
  const Real *x, *z, *weight, *dy = nullptr;  // (rows,D), (rows,D), (D), (rows,D)
  Real *y = nullptr, *scale = nullptr;        // (rows,D), (rows); forward: scale may be null
  Grad dx{}, dz{};
  Real* dweight = nullptr;  // (blocks,D) sums of a block
  Index rows;
  int D;
  Real eps = 0;
};

// A row lies in K entries of each of 32 W threads.
template <int K, int W>
struct Width {
  static constexpr int entries = K, lanes = W * kWarp;
};
// f(Width) for rows of D.
template <class F>
auto by_width(Index D, const F& f) {
  if (D <= 128) return f(Width<4, 1>{});
  if (D <= 256) return f(Width<8, 1>{});
  if (D <= 512) return f(Width<8, 2>{});
  if (D <= 1024) return f(Width<8, 4>{});
  if (D <= 2048) return f(Width<8, 8>{});
  return f(Width<8, 16>{});
}

// Sum over the threads that hold a row, in each of them. memory: a number a warp, not those of the call before.
template <int lanes>
__device__ Real sum_of_row(Real x, [[maybe_unused]] Real* memory, [[maybe_unused]] int thread) {
  x = sum_of_warp(x);
  if constexpr (lanes > kWarp) {
    constexpr int W = lanes / kWarp;
    const int warp = thread / kWarp;
    if (thread % kWarp == 0) memory[warp] = x;
    __syncthreads();
    x = 0;
    SSM_UNROLL
    for (int k = 0; k < W; ++k) x += memory[warp / W * W + k];
  }
  return x;
}

template <class Width, bool gate_first>
struct HeldForward {
  static constexpr int K = Width::entries, lanes = Width::lanes, kThreads = lanes < 256 ? 256 : lanes, kBlocks = 1536 / kThreads;
  static constexpr int kRows = kThreads / lanes;
  HeldArguments a;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index i = block * kRows + thread / lanes, at = i * a.D;
    const int p = thread % lanes, D = i < a.rows ? a.D : 0;
    Real x[K], z[K], square = 0;
    load_row<lanes>(a.x + at, D, p, x);
    load_row<lanes>(a.z + at, D, p, z);
    SSM_UNROLL
    for (int q = 0; q < K; ++q) {
      if (gate_first) x[q] *= silu(z[q]);
      square += x[q] * x[q];
    }
    const Real s = 1 / Kokkos::sqrt(sum_of_row<lanes>(square, memory, thread) / static_cast<Real>(a.D) + a.eps);
    if (a.scale && D > 0 && p == 0) a.scale[i] = s;
    SSM_UNROLL
    for (int q = 0; q < K; ++q) {
      const int c = p + lanes * q;
      if (c < D) a.y[at + c] = x[q] * s * a.weight[c] * (gate_first ? Real(1) : silu(z[q]));
    }
  }
};

// Rows block, block + blocks, .. of groups of kRows. What dx and dz add to is loaded together with the rest, in half as many threads.
template <class Width, bool gate_first, bool add>
struct HeldBackward {
  static constexpr int K = Width::entries, lanes = Width::lanes, kThreads = kThreadsBack, kBlocks = add ? 1 : 2;
  static constexpr int kRows = kThreads / lanes;
  HeldArguments a;
  Index blocks;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const int p = thread % lanes;
    const Real per = 1 / static_cast<Real>(a.D);
    Real w[K], dw[K];
    load_row<lanes>(a.weight, a.D, p, w);
    SSM_UNROLL
    for (int q = 0; q < K; ++q) dw[q] = 0;
    Real *sums = memory, *next = memory + kThreads / kWarp;
    for (Index first = block * kRows; first < a.rows; first += blocks * kRows) {
      const Index i = first + thread / lanes, at = i * a.D;
      const int D = i < a.rows ? a.D : 0;
      Real x[K], z[K], g[K], slope[K], old_x[add ? K : 1], old_z[add ? K : 1], along = 0;
      load_row<lanes>(a.x + at, D, p, x);
      load_row<lanes>(a.z + at, D, p, z);
      load_row<lanes>(a.dy + at, D, p, g);
      if constexpr (add) {
        load_row<lanes>(a.dx.p + at, a.dx.add ? D : 0, p, old_x);
        load_row<lanes>(a.dz.p + at, a.dz.add ? D : 0, p, old_z);
      }
      const Real s = D > 0 ? a.scale[i] : Real(0);
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        const Real gate = sigmoid(z[q]);
        slope[q] = gate * (1 + z[q] * (1 - gate));
        z[q] *= gate;
        const Real e = x[q] * s * z[q];  // y / w
        dw[q] += g[q] * e;
        g[q] *= w[q];
        along += g[q] * e;
      }
      along = s * per * sum_of_row<lanes>(along, sums, thread);
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        const int c = p + lanes * q;
        const Real du = s * (gate_first ? g[q] - x[q] * z[q] * along : g[q] * z[q] - x[q] * along);
        const Real dx = gate_first ? du * z[q] : du, dz = (gate_first ? du : g[q] * s) * x[q] * slope[q];
        if (c < D) {
          a.dx.p[at + c] = add ? old_x[add ? q : 0] + dx : dx;
          a.dz.p[at + c] = add ? old_z[add ? q : 0] + dz : dz;
        }
      }
      Real* const used = sums;
      sums = next, next = used;
    }
    sum_of_block<kThreads, lanes>(dw, memory, a.dweight + block * a.D, a.D, thread);
  }
};

// Blocks of a backward pass of rows of D.
inline Index blocks_back(Index rows, Index D) {
  return by_width(D, [&](auto width) {
    const Index each = kThreadsBack / decltype(width)::lanes, wanted = (rows + each - 1) / each;
    return wanted < kMostBlocks ? wanted : kMostBlocks;
  });
}

template <bool gate_first>
void forward_held(const Run& r, const HeldArguments& a) {
  by_width(a.D, [&](auto width) {
    using F = HeldForward<decltype(width), gate_first>;
    launch_shared("ssm::gated_norm", r, (a.rows + F::kRows - 1) / F::kRows, sizeof(Real) * (F::kThreads / kWarp), F{a});
  });
}
// dweight: sums of blocks_back() blocks, to be added in order.
template <bool gate_first>
void backward_held(const Run& r, const HeldArguments& a) {
  const Index blocks = blocks_back(a.rows, a.D);
  by_width(a.D, [&](auto width) {
    constexpr std::size_t bytes = sizeof(Real) * kThreadsBack * decltype(width)::entries;
    if (a.dx.add || a.dz.add)
      launch_shared("ssm::gated_norm_backward", r, blocks, bytes, HeldBackward<decltype(width), gate_first, true>{a, blocks});
    else launch_shared("ssm::gated_norm_backward", r, blocks, bytes, HeldBackward<decltype(width), gate_first, false>{a, blocks});
  });
}

}  // namespace ssm::gated_norm_op
#endif
