// attention_gpu_back.hpp - gradients of attention on a GPU: one pass owns tiles of keys (dK, dV), one tiles of queries (dQ).
//
// Seven products instead of five, and no sum of two blocks anywhere: every gradient has one owner, so the bits do not depend on the schedule.
// Sharing the scores would need dQ of every tile of keys in memory (T / 64 times the size of q) or atomics.
#pragma once
#include "attention_gpu.hpp"

namespace ssm::attention_op {

// delta (B,H,T) = rowsum(dY * Y): eight neighbours a row.
struct RowSums {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 1, kRows = kThreads / 8;
  Index T, H, dh, rows;
  const Real *Y, *dY;
  Real* delta;

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index row = block * kRows + thread / 8, h = row % H, t = row / H % T, b = row / (T * H);
    Real sum = 0;
    for (Index c = thread % 8; c < dh && row < rows; c += 8) sum += Y[row * dh + c] * dY[row * dh + c];
    sum = lanes_sum<8>(sum);
    if (thread % 8 == 0 && row < rows) delta[(b * H + h) * T + t] = sum;
  }
};
inline void tiled_rowsum(const Run& r, Index B, const Heads& a, const Real* Y, const Real* dY, Real* delta) {
  const Index rows = B * a.T * a.H;
  launch_shared("ssm::attention_delta", r, (rows + RowSums::kRows - 1) / RowSums::kRows, 0, RowSums{a.T, a.H, a.dh, rows, Y, dY, delta});
}

// ds = p (dp - delta), p = 2^(s - lse); the row's numbers, or the column's.
template <bool kOfColumn, class L, int R, int C>
__device__ void differentiate(const L& layout, Real (&p)[R][C], Real (&ds)[R][C], const Real* lse, const Real* delta) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int at = kOfColumn ? layout.column_nt(c) : layout.template row<R>(r);
      p[r][c] = exp2_weight(p[r][c] - lse[at]);
      ds[r][c] = p[r][c] * (ds[r][c] - delta[at]);
    }
}

// lse (in units of log 2) and delta of queries [i, i + kCount); queries beyond the end get no weight.
template <int kCount>
__device__ void copy_sums(int thread, const Heads& a, Index row, Index i, const Real* lse, const Real* delta, Real* to) {
  if (thread >= kCount) return;
  const bool inside = i + thread < a.T;
  to[thread] = inside ? lse[row + i + thread] * kLog2e : -kHidden;
  to[kCount + thread] = inside ? delta[row + i + thread] : Real(0);
}

// What both passes are told. dY (B,T,H dh), lse and delta (B,H,T), dQKV (B,T,(H + 2 KV) dh).
struct Backward {
  Heads a;
  const Real *dY, *lse, *delta;
  Real* dQKV;
  Index tiles;
  bool whole;

  __device__ const Real* out(Index b, Index t, Index h) const { return dY + ((b * a.T + t) * a.H + h) * a.dh; }
  __device__ Index wide() const { return (a.H + 2 * a.KV) * a.dh; }
};

// Heads of 256: dK and dV of all channels are more than the registers hold. Two blocks make half of them each, and both all scores.
template <class L, int D>
struct KeysBlock : Backward {
  using S = Sizes<D>;
  static constexpr int kHalves = D > 128 ? 2 : 1, kWide = D / kHalves;
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = kOnCuda ? 2 : 1, kK = S::kOwned, kQ = S::kSwept, kRow = S::kRow,
                       kP = kQ + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kK * kRow + 2 * kQ * kRow + kK * kP + 2 * kQ);
  static constexpr int kTile = kK;
  static_assert(kBytes <= kChipMemory);

  // Rows of the tiles are keys, columns queries.
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index tile = block / kHalves, j = tile % tiles * kK, g = tile / tiles % a.KV, b = tile / (tiles * a.KV), group = a.H / a.KV;
    const int from = static_cast<int>(block % kHalves) * kWide;
    const L layout(thread);
    const int count = at_most(a.T - j, kK), width = static_cast<int>(a.dh);
    Real *K = memory, *V = K + kK * kRow, *Q = V + kK * kRow, *dO = Q + kQ * kRow, *P = dO + kQ * kRow, *sums = P + kK * kP;
    const Index reach = a.end_query(b, j + count - 1);  // 0 where the last key is padding
    const Index first = a.first_query(j) / kQ * kQ, last = a.end_query(b, j) == 0 ? 0 : reach ? reach : a.T;
    const Index steps = last > first ? (last - first + kQ - 1) / kQ : 0;
    copy_tile<kK, D>(thread, a.key(b, j, g * group), a.ld, count, width, whole, K, kRow);
    copy_tile<kK, D>(thread, a.value(b, j, g * group), a.ldv, count, width, whole, V, kRow);
    const auto queries = [&](Index h, Index i) {
      if (h < (g + 1) * group) copy_tile<kQ, D>(thread, a.query(b, i, h), a.ld, at_most(a.T - i, kQ), width, whole, Q, kRow);
      copies_end();
    };
    const auto outs = [&](Index h, Index i) {
      if (h < (g + 1) * group) copy_tile<kQ, D>(thread, out(b, i, h), a.H * a.dh, at_most(a.T - i, kQ), width, whole, dO, kRow);
      copies_end();
    };
    constexpr int R = L::template rows<kK>, C = L::template columns<kQ>, O = L::template columns<kWide>;
    Real dk[R][O] = {}, dv[R][O] = {};
    Index h = g * group, i = first;
    if (steps) queries(h, i), outs(h, i);
    for (Index step = 0; step < steps * group; ++step) {
      const Sight sight(a, b, h);
      copy_sums<kQ>(thread, a, (b * a.H + h) * a.T, i, lse, delta, sums);
      copies_wait<1>();
      __syncthreads();
      Real p[R][C] = {}, ds[R][C] = {};
      layout.template product_nt<D>(p, K, kRow, Q, kRow);
      sight.apply<true, kK, kQ>(layout, p, static_cast<int>(i), static_cast<int>(j));
      copies_wait<0>();
      __syncthreads();
      layout.template product_nt<D>(ds, V, kRow, dO, kRow);
      differentiate<true>(layout, p, ds, sums, sums + kQ);
      i += kQ;
      if (i >= last) i = first, ++h;
      put_weights(layout, ds, P, kP);
      warp_sync();
      layout.template product_nn<kQ>(dk, P, kP, Q + from, kRow);
      __syncthreads();
      queries(h, i);
      put_weights(layout, p, P, kP);
      warp_sync();
      layout.template product_nn<kQ>(dv, P, kP, dO + from, kRow);
      __syncthreads();
      outs(h, i);
    }
    Real* to = dQKV + (b * a.T + j) * wide() + (a.H + g) * a.dh + from;
    put_rows(layout, dk, a.scale, to, wide(), count, width - from);
    put_rows(layout, dv, Real(1), to + a.KV * a.dh, wide(), count, width - from);
  }
};

template <class L, int D>
struct QueriesBlock : Backward {
  using S = Sizes<D>;
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = kOnCuda ? 2 : 1, kQ = S::kOwned, kK = S::kSwept, kRow = S::kRow,
                       kP = kK + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kQ * kRow + 2 * kK * kRow + kQ * kP + 2 * kQ);
  static constexpr int kTile = kQ;
  static_assert(kBytes <= kChipMemory);

  // Rows of the tiles are queries, columns keys.
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index i = (tiles - 1 - block % tiles) * kQ, h = block / tiles % a.H, b = block / (tiles * a.H);
    const L layout(thread);
    const Sight sight(a, b, h);
    const int count = at_most(a.T - i, kQ), width = static_cast<int>(a.dh);
    Real *Q = memory, *dO = Q + kQ * kRow, *K = dO + kQ * kRow, *V = K + kK * kRow, *P = V + kK * kRow, *sums = P + kQ * kP;
    const Index last = a.end_key(b, i + count - 1), first = a.first_key(i) / kK * kK;
    copy_tile<kQ, D>(thread, a.query(b, i, h), a.ld, count, width, whole, Q, kRow);
    copy_tile<kQ, D>(thread, out(b, i, h), a.H * a.dh, count, width, whole, dO, kRow);
    copy_sums<kQ>(thread, a, (b * a.H + h) * a.T, i, lse, delta, sums);
    const auto keys = [&](Index j) {
      if (j < last) copy_tile<kK, D>(thread, a.key(b, j, h), a.ld, at_most(a.T - j, kK), width, whole, K, kRow);
      copies_end();
    };
    const auto values = [&](Index j) {
      if (j < last) copy_tile<kK, D>(thread, a.value(b, j, h), a.ldv, at_most(a.T - j, kK), width, whole, V, kRow);
      copies_end();
    };
    values(first);
    keys(first);
    constexpr int R = L::template rows<kQ>, C = L::template columns<kK>, O = L::template columns<D>;
    Real dq[R][O] = {};
    for (Index j = first; j < last; j += kK) {
      copies_wait<1>();
      __syncthreads();
      Real p[R][C] = {}, ds[R][C] = {};
      layout.template product_nt<D>(ds, dO, kRow, V, kRow);
      copies_wait<0>();
      __syncthreads();
      values(j + kK);
      layout.template product_nt<D>(p, Q, kRow, K, kRow);
      sight.apply<false, kQ, kK>(layout, p, static_cast<int>(i), static_cast<int>(j));
      differentiate<false>(layout, p, ds, sums, sums + kQ);
      put_weights(layout, ds, P, kP);
      warp_sync();
      layout.template product_nn<kK>(dq, P, kP, K, kRow);
      __syncthreads();
      keys(j + kK);
    }
    put_rows(layout, dq, a.scale, dQKV + (b * a.T + i) * wide() + h * a.dh, wide(), count, width);
  }
};

inline void tiled_backward(const Run& r, Index B, const Heads& a, const Real* dY, const Real* lse, const Real* delta, Real* dQKV) {
  with_layout(tf32_products(), a.dh, [&](auto layout, auto width) {
    using Layout = typename decltype(layout)::type;
    using OfQueries = QueriesBlock<Layout, decltype(width)::value>;
    using OfKeys = KeysBlock<Layout, decltype(width)::value>;
    const Index tiles = (a.T + OfKeys::kTile - 1) / OfKeys::kTile;
    const Backward b{a, dY, lse, delta, dQKV, tiles, whole_rows(a, dY)};
    launch_shared("ssm::attention_backward_q", r, B * a.H * tiles, OfQueries::kBytes, OfQueries{b});
    launch_shared("ssm::attention_backward_kv", r, B * a.KV * tiles * OfKeys::kHalves, OfKeys::kBytes, OfKeys{b});
  });
}

}  // namespace ssm::attention_op
