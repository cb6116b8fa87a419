// attention_gpu.hpp - softmax attention on a GPU, forward: tiles in on-chip memory, products on registers or tensor cores.
//
// A block of 128 threads owns kQueries queries of one head and sweeps the tiles of keys they see. Scores are kept in units of log 2: the factor
// log2(e) / sqrt(dh) makes e^s a plain 2^x. While a tile's scores become weights, its successor's keys are on their way; values likewise.
// Bytes through device memory are far below the floor of arithmetic: 4 T^2/2 dh operations a head at 67 (fp32), 495/3 (split), 495 (tf32) TFLOP/s.
#pragma once
#include "attention_plain.hpp"
#include "lib/blas.hpp"
#include "lib/mma.hpp"

namespace ssm::attention_op {

using namespace gpu_tile;

constexpr Index kMaxHead = kOnCuda ? 256 : 128;  // larger heads take the plain kernels
constexpr Real kLog2e = Real(1.44269504088896340736), kLn2 = Real(0.69314718055994530942);

// Sizes of tiles for heads of up to D channels. CUDA: two blocks a multiprocessor, all tiles of both in its 227 KiB, at most 255 registers a
// thread; heads of 256 one block. HIP: one block in 64 KiB.
template <int D>
struct Sizes {
#if defined(SSM_CUDA_CODE)
  static constexpr int kQueries = D <= 64 ? 128 : 64, kKeys = D <= 64 ? 64 : 32;  // forward
  static constexpr int kOwned = 64, kSwept = D <= 64 ? 64 : 32;                   // backward
#else
  static constexpr int kQueries = D <= 64 ? 64 : 32, kKeys = D <= 64 ? 32 : 16;
  static constexpr int kOwned = D <= 64 ? 64 : 32, kSwept = D <= 64 ? 32 : 16;
#endif
  static constexpr int kRow = D + 4;  // leading extent of q, k, v, dy; of weights: columns + 8 (mma.hpp)
};

// What the scores of one head need beside the products: j is seen by i where j < end, j <= i + ahead, j > i - window.
struct Sight {
  int end, ahead, window;
  Real scale, slope;  // in units of log 2

  __device__ Sight(const Heads& a, Index b, Index h)
      : end(static_cast<int>(a.lengths ? a.lengths[b] : a.T)),
        ahead(a.causal ? 0 : far(a.window) - 1),
        window(far(a.window)),
        scale(a.scale * kLog2e),
        slope(a.slope(h) * kLog2e) {}
  __device__ static int far(Index window) { return window && window < (1 << 29) ? static_cast<int>(window) : 1 << 29; }

  // acc of queries [i, i + queries) and keys [j, j + keys): scaled, biased, kHidden where not seen. Rows are queries, or keys where kKeyRows.
  template <bool kKeyRows, int kRows, int kColumns, class L, int R, int C>
  __device__ void apply(const L& layout, Real (&acc)[R][C], int i, int j) const {
    constexpr int queries = kKeyRows ? kColumns : kRows, keys = kKeyRows ? kRows : kColumns;
    if (j + keys <= end && j + keys - 1 <= i + ahead && j > i + queries - 1 - window && slope == Real(0)) {
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < C; ++c) acc[r][c] *= scale;
      return;
    }
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int row = layout.template row<R>(r), column = layout.column_nt(c);
        const int query = i + (kKeyRows ? column : row), key = j + (kKeyRows ? row : column), apart = query - key;
        const Real s = acc[r][c] * scale - slope * static_cast<Real>(apart < 0 ? -apart : apart);
        acc[r][c] = key < end && -apart <= ahead && apart < window ? s : kHidden;
      }
  }
};

// acc to on-chip memory, for a product whose A it is.
template <class L, int R, int C>
__device__ void put_weights(const L& layout, const Real (&acc)[R][C], Real* to, int ld) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) to[layout.template row<R>(r) * ld + layout.column_nt(c)] = acc[r][c];
}

// acc (rows of a tile, D) times `factor` to the first `count` rows and `width` columns of `to`.
template <class L, int R, int C>
__device__ void put_rows(const L& layout, const Real (&acc)[R][C], Real factor, Real* to, Index ld, int count, int width) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = layout.template row<R>(r);
    if (row >= count) continue;
    Real* p = to + row * ld;
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (layout.column_nn(c) < width) p[layout.column_nn(c)] = factor * acc[r][c];
  }
}

__device__ inline int at_most(Index n, int limit) { return n < limit ? static_cast<int>(n) : limit; }

template <class L, int D>
struct ForwardBlock {
  using S = Sizes<D>;
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = kOnCuda ? 2 : 1, kQ = S::kQueries, kK = S::kKeys, kRow = S::kRow,
                       kP = kK + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * (kQ * kRow + 2 * kK * kRow + kQ * kP);
  static_assert(kBytes <= kChipMemory);
  Heads a;
  Real *Y, *lse;
  Index tiles;
  bool whole;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    // the last queries see most keys: first
    const Index i = (tiles - 1 - block % tiles) * kQ, h = block / tiles % a.H, b = block / (tiles * a.H);
    const L layout(thread);
    const Sight sight(a, b, h);
    const int count = at_most(a.T - i, kQ), width = static_cast<int>(a.dh);
    Real *Q = memory, *K = Q + kQ * kRow, *V = K + kK * kRow, *P = V + kK * kRow;
    const Index last = a.end_key(b, i + count - 1), first = a.first_key(i) / kK * kK;
    copy_tile<kQ, D>(thread, a.query(b, i, h), a.ld, count, width, whole, Q, kRow);
    const auto keys = [&](Index j) {
      if (j < last) copy_tile<kK, D>(thread, a.key(b, j, h), a.ld, at_most(a.T - j, kK), width, whole, K, kRow);
      copies_end();
    };
    const auto values = [&](Index j) {
      if (j < last) copy_tile<kK, D>(thread, a.value(b, j, h), a.ldv, at_most(a.T - j, kK), width, whole, V, kRow);
      copies_end();
    };
    keys(first);
    values(first);
    constexpr int R = L::template rows<kQ>, C = L::template columns<kK>, O = L::template columns<D>;
    Real sums[R][O] = {}, top[R], total[R] = {};
#pragma unroll
    for (int r = 0; r < R; ++r) top[r] = kHidden;
    for (Index j = first; j < last; j += kK) {
      copies_wait<1>();
      __syncthreads();
      Real p[R][C] = {};
      layout.template product_nt<D>(p, Q, kRow, K, kRow);
      __syncthreads();
      keys(j + kK);
      sight.apply<false, kQ, kK>(layout, p, static_cast<int>(i), static_cast<int>(j));
      weigh(p, sums, top, total);
      put_weights(layout, p, P, kP);
      copies_wait<1>();
      __syncthreads();
      layout.template product_nn<kK>(sums, P, kP, V, kRow);
      __syncthreads();
      values(j + kK);
    }
    Real* y = Y + ((b * a.T + i) * a.H + h) * a.dh;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Real all = lanes_sum<L::kLanes>(total[r]), part = all > 0 ? 1 / all : Real(0);
      const int row = layout.template row<R>(r);
#pragma unroll
      for (int c = 0; c < O; ++c) sums[r][c] *= part;
      if (row < count && layout.column_nt(0) == 0) lse[(b * a.H + h) * a.T + i + row] = all > 0 ? top[r] * kLn2 + fast_log(all) : Real(0);
    }
    put_rows(layout, sums, Real(1), y, a.H * a.dh, count, width);
  }

  // Scores to weights against the running maximum; rescales the sums.
  template <int R, int C, int O>
  __device__ static void weigh(Real (&p)[R][C], Real (&sums)[R][O], Real (&top)[R], Real (&total)[R]) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      Real best = top[r];
#pragma unroll
      for (int c = 0; c < C; ++c) best = best < p[r][c] ? p[r][c] : best;
      best = lanes_max<L::kLanes>(best);
      const Real from = best == kHidden ? Real(0) : best, shrink = exp2_weight(top[r] - from);
      top[r] = best;
      Real sum = 0;
#pragma unroll
      for (int c = 0; c < C; ++c) sum += p[r][c] = exp2_weight(p[r][c] - from);
      total[r] = total[r] * shrink + sum;
#pragma unroll
      for (int c = 0; c < O; ++c) sums[r][c] *= shrink;
    }
  }
};

// May rows be copied 16 bytes at a time?
inline bool whole_rows(const Heads& a, const Real* dY) {
  const auto even = [](const Real* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  return sizeof(Real) == 4 && a.dh % 4 == 0 && a.ld % 4 == 0 && a.ldv % 4 == 0 && even(a.q) && even(a.k) && even(a.v) && (!dY || even(dY));
}

// Products in float and, where run.gemm allows it, in TF32. Mma<3> in the place of Exact's Fma is 1.4 to 1.5 times as fast on an H200, with
// errors within 2e-6 of the largest entry (Fma: within 3e-6); it is not what "fp32" means to the other products of a run.
using Exact = Fma;
#if defined(SSM_TENSOR_CORES)
using Rounded = std::conditional_t<kDouble, Fma, Mma<1>>;
#else
using Rounded = Fma;
#endif

// f(layout type, width constant) for what this head and precision need.
template <class F>
void with_layout(bool tf32, Index dh, const F& f) {
  const auto with_width = [&](auto layout) {
    if (dh <= 32) f(layout, std::integral_constant<int, 32>());
    else if (dh <= 64) f(layout, std::integral_constant<int, 64>());
    else if (!kOnCuda || dh <= 128) f(layout, std::integral_constant<int, 128>());
#if defined(SSM_CUDA_CODE)
    else f(layout, std::integral_constant<int, 256>());
#endif
  };
  if (tf32) with_width(std::type_identity<Rounded>());
  else with_width(std::type_identity<Exact>());
}

inline void tiled_forward(const Run& r, Index B, const Heads& a, Real* Y, Real* lse) {
  with_layout(tf32_products(), a.dh, [&](auto layout, auto width) {
    using Block = ForwardBlock<typename decltype(layout)::type, decltype(width)::value>;
    const Index tiles = (a.T + Block::kQ - 1) / Block::kQ;
    launch_shared("ssm::attention", r, B * a.H * tiles, Block::kBytes, Block{a, Y, lse, tiles, whole_rows(a, nullptr)});
  });
}

}  // namespace ssm::attention_op
