// gated_norm_gpu.hpp - RMS norm and SiLU gate of rows that up to eight warps hold in registers (D <= 2048), on CUDA and HIP: every array is
// read or written once, forward 12 D bytes a row, backward 20 D (4 D more for each of dx, dz that adds), the gradient of the weight summed on
// the way. Memory binds both; on its way are, of a multiprocessor, 96 KiB forward, 72 KiB backward.
//
// Eight entries a thread: x, z, dy and the sums of the weight's gradient fit into the 80 registers of three blocks, the weight is on chip.
// Where one warp held 32 entries a lane, 255 registers would not do. What the warps of a row tell each other is one sum a row, two buffers
// in turn, so one barrier.
#pragma once
#include "lib/held_row.hpp"
#include "lib/launch_shared.hpp"
#include "tensor.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::gated_norm_op {

constexpr Index kHeld = 2048;
constexpr int kThreads = 256;

// Blocks on a multiprocessor on the way back. A grid is as many on each of an H200's 132, the same on every device: it orders the sums.
template <int entries, bool add>
constexpr int kBlocksBack = add ? 2 : (entries > 4 ? 3 : 4);
template <int entries>
constexpr Index kMostBlocks = 132 * kBlocksBack<entries, false>;

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
  return f(Width<8, 8>{});
}

// Sum over the threads that hold a row, in each of them. memory: a number a warp, not those of the call before.
template <int lanes>
__device__ Real sum_of_row(Real x, [[maybe_unused]] Real* memory, [[maybe_unused]] int thread) {
  x = sum_of_warp(x);
  if constexpr (lanes > kWarp) {
    constexpr int W = lanes / kWarp;
    if (thread % kWarp == 0) memory[thread / kWarp] = x;
    __syncthreads();
    x = memory[thread / lanes * W + thread % W];
    SSM_UNROLL
    for (int mask = W / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  }
  return x;
}

template <class Width, bool gate_first>
struct HeldForward {
  static constexpr int K = Width::entries, lanes = Width::lanes, kThreads = gated_norm_op::kThreads, kBlocks = 6, kRows = kThreads / lanes;
  HeldArguments a;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index i = block * kRows + thread / lanes, at = i * a.D;
    const int p = thread % lanes, D = i < a.rows ? a.D : 0, left = D - p;
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
    const Real* weight = a.weight + p;
    Real* y = a.y + at + p;
    SSM_UNROLL
    for (int q = 0; q < K; ++q)
      if (lanes * q < left) y[lanes * q] = x[q] * s * weight[lanes * q] * (gate_first ? Real(1) : silu(z[q]));
  }
};

// Rows block, block + blocks, .. of groups of kRows. What dx and dz add to is loaded together with the rest, by fewer threads at once.
template <class Width, bool gate_first, bool add>
struct HeldBackward {
  static constexpr int K = Width::entries, lanes = Width::lanes, kThreads = gated_norm_op::kThreads, kRows = kThreads / lanes;
  static constexpr int kBlocks = kBlocksBack<K, add>;
  HeldArguments a;
  Index blocks;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const int p = thread % lanes;
    const Real per = 1 / static_cast<Real>(a.D);
    Real dw[K], *sums = memory, *next = memory + kThreads / kWarp, *weight = memory + 2 * kThreads / kWarp;
    for (int c = thread; c < lanes * K; c += kThreads) weight[c] = c < a.D ? a.weight[c] : Real(0);
    __syncthreads();
    weight += p;
    SSM_UNROLL
    for (int q = 0; q < K; ++q) dw[q] = 0;
    for (Index first = block * kRows; first < a.rows; first += blocks * kRows) {
      const Index i = first + thread / lanes, at = i * a.D;
      const int D = i < a.rows ? a.D : 0, left = D - p;
      Real x[K], z[K], g[K], slope[gate_first ? K : 1], old_x[add ? K : 1], old_z[add ? K : 1], along = 0;
      load_row<lanes>(a.x + at, D, p, x);
      load_row<lanes>(a.z + at, D, p, z);
      load_row<lanes>(a.dy + at, D, p, g);
      if constexpr (add) {
        load_row<lanes>(a.dx.p + at, a.dx.add ? D : 0, p, old_x);
        load_row<lanes>(a.dz.p + at, a.dz.add ? D : 0, p, old_z);
      }
      const Real s = D > 0 ? a.scale[i] : Real(0);
      Real *to_x = a.dx.p + at + p, *to_z = a.dz.p + at + p;
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        const Real gate = sigmoid(z[q]), by = z[q] * gate, steep = gate * (1 + z[q] * (1 - gate)), e = x[q] * s * by;  // e = y / w
        dw[q] += g[q] * e;
        g[q] *= weight[lanes * q];
        along += g[q] * e;
        if constexpr (gate_first) {
          z[q] = by, slope[q] = x[q] * steep, x[q] *= by;
        } else {
          if (lanes * q < left) to_z[lanes * q] = (add ? old_z[add ? q : 0] : 0) + g[q] * s * x[q] * steep;
          g[q] *= by;
        }
      }
      along = s * per * sum_of_row<lanes>(along, sums, thread);
      SSM_UNROLL
      for (int q = 0; q < K; ++q) {
        const Real du = s * (g[q] - x[q] * along);
        if (lanes * q >= left) continue;
        to_x[lanes * q] = (add ? old_x[add ? q : 0] : 0) + (gate_first ? du * z[q] : du);
        if constexpr (gate_first) to_z[lanes * q] = (add ? old_z[add ? q : 0] : 0) + du * slope[q];
      }
      Real* const used = sums;
      sums = next, next = used;
    }
    sum_of_block<kThreads, lanes>(dw, memory, a.dweight + block * a.D, a.D, thread);
  }
};

// Blocks of a backward pass of rows of D, and sums of the weight's gradient.
inline Index blocks_back(Index rows, Index D) {
  return by_width(D, [&](auto width) {
    constexpr Index each = kThreads / decltype(width)::lanes, most = kMostBlocks<decltype(width)::entries>;
    const Index wanted = (rows + each - 1) / each;
    return wanted < most ? wanted : most;
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
    constexpr std::size_t bytes = sizeof(Real) * kThreads * (decltype(width)::entries + 1);
    if (a.dx.add || a.dz.add)
      launch_shared("ssm::gated_norm_backward", r, blocks, bytes, HeldBackward<decltype(width), gate_first, true>{a, blocks});
    else launch_shared("ssm::gated_norm_backward", r, blocks, bytes, HeldBackward<decltype(width), gate_first, false>{a, blocks});
  });
}

}  // namespace ssm::gated_norm_op
#endif
