// matrix_state_gpu.hpp - matrix states on tensor cores, forward: a block per chunk and heads that share its keys, from the states at its start.
#pragma once
#include "matrix_state_gpu_states.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

// Which chunk of which heads a block owns, and how its tiles come on chip; keys in tiles of D.
template <int D>
struct ChunkPlace {
  static constexpr int kRow = D + 4;
  const Chunked& t;
  int thread, count;
  Index chunk, group, part, b, row, first, last;  // row = b T + first step; heads [first, last)

  __device__ ChunkPlace(const Chunked& t_, Index block, int thread_) : t(t_), thread(thread_) {
    const Arguments& a = t.a;
    chunk = block % t.chunks(), block /= t.chunks();
    const Place at(a, block);
    b = at.b, group = at.group, part = at.block, first = at.first, last = at.last;
    row = b * a.T + chunk * kSteps, count = at_most(a.T - chunk * kSteps, kSteps);
  }
  __device__ Index item(Index h) const { return (b * t.a.heads + h) * t.chunks() + chunk; }
  __device__ void keys(const Real* from, Index kt, Real* to) const {
    copy_tile<kSteps, D>(thread, from + row * t.ld() + group * t.a.K + kt * D, t.ld(), count, at_most(t.a.K - kt * D, D), t.whole, to,
                         kRow);
  }
  __device__ void values(const Real* from, Index h, Index vt, Real* to) const {
    const Index ld = t.a.heads * t.a.V, v0 = vt * kValues;
    copy_tile<kSteps, kValues>(thread, from + row * ld + h * t.a.V + v0, ld, count, at_most(t.a.V - v0, kValues), t.whole, to, kValueRow);
  }
  __device__ const Real* part_of(const Real* states, Index h, Index vt, Index kt) const {
    return states + (item(h) * t.Vp + vt * kValues) * t.Kp + kt * D;
  }
  __device__ void state(const Real* states, Index h, Index vt, Index kt, Real* to) const {
    copy_tile<kValues, D>(thread, part_of(states, h, vt, kt), t.Kp, kValues, at_most(t.Kp - kt * D, D), true, to, kRow);
  }
  template <int kCount>
  __device__ void factors(Index h, Real* to) const {
    copy_tile<kCount, kSteps>(thread, t.rows + item(h) * kRows * kSteps, kSteps, kCount, kSteps, true, to, kSteps);
  }
  // The normaliser's column of a state, keys of one tile.
  __device__ void ones_state(const Real* z, Index h, Index kt, Real* to) const {
    const Real* from = z + item(h) * 4 * t.Kp + kt * D;
    if (thread < D && kt * D + thread < t.Kp) {
      const Real* p = from + thread;
      to[thread] = (p[0] + p[t.Kp]) + (p[2 * t.Kp] + p[3 * t.Kp]);
    } else if (thread < D) {
      to[thread] = 0;
    }
  }
};
// All copies asked for are there, and every thread sees them.
__device__ inline void arrive() {
  copies_end();
  copies_wait<0>();
  __syncthreads();
}

template <int kPasses, int D>
struct OutputsBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = D <= 64 ? 3 : 2, kRow = D + 4;
  static constexpr int kQ = 0, kK = kQ + kSteps * kRow, kV = kK + kSteps * kRow, kA = kV + kSteps * kValueRow, kF = kA + kSteps * kScoreRow,
                       kZ = kF + kForwardRows * kSteps, kEnd = kZ + D;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = Mma<kPasses>;
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const ChunkPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index k_tiles = t.k_tiles(D);
    Real scores[2][16] = {};
    for (Index kt = 0; kt < k_tiles; ++kt) {
      __syncthreads();
      at.keys(a.q, kt, m + kQ);
      at.keys(a.k, kt, m + kK);
      arrive();
      layout.template product_nt<D>(scores, m + kQ, kRow, m + kK, kRow);
    }
    for (Index h = at.first; h < at.last; ++h) {
      Real ones[2] = {};
      for (Index vt = 0; vt < t.v_tiles(); ++vt) {
        Real acc[2][16] = {};
        for (Index kt = 0; kt < k_tiles; ++kt) {
          __syncthreads();
          if (k_tiles > 1) at.keys(a.q, kt, m + kQ);
          at.state(t.S, h, vt, kt, m + kK);
          if (kt == 0) at.values(a.v, h, vt, m + kV);
          if (kt == 0 && vt == 0) at.template factors<kForwardRows>(h, m + kF);
          if (a.normalise && vt == 0) at.ones_state(t.z, h, kt, m + kZ);
          arrive();
          layout.template product_nt<D>(acc, m + kQ, kRow, m + kK, kRow);
          if (a.normalise && vt == 0)
            for (int r = 0; r < 2; ++r)
              for (int k = layout.t; k < D; k += 4) ones[r] += m[kQ + layout.template row<2>(r) * kRow + k] * m[kZ + k];
        }
        if (vt == 0) weigh(layout, scores, m, ones);
        entries(layout, acc, [&](int i, int, Real& x) { x *= m[kF + kFrom * kSteps + i]; });
        layout.template product_nn<kSteps>(acc, m + kA, kScoreRow, m + kV, kValueRow);
        store(at, layout, acc, m, ones, h, vt);
      }
    }
  }

  // Scores of this head to the chip; `ones` becomes the sum of a row's scores and what the state adds: the normaliser.
  __device__ void weigh(const L& layout, const Real (&scores)[2][16], Real* m, Real (&ones)[2]) const {
    const Real *rows = m + kF, scale = t.a.scale;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = layout.template row<2>(r);
      Real sum = 0;
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const int j = layout.column_nt(c);
        const Real weight = scale * scores[r][c] * between(rows, i, j);
        sum += weight;
        m[kA + i * kScoreRow + j] = weight * rows[kDelta * kSteps + j];
      }
      ones[r] = lanes_sum<4>(sum + rows[kFrom * kSteps + i] * ones[r]) + kNormaliser;
    }
    warp_sync();
  }

  __device__ void store(const ChunkPlace<D>& at, const L& layout, const Real (&acc)[2][16], const Real* m, const Real (&ones)[2], Index h,
                        Index vt) const {
    const Arguments& a = t.a;
    const int width = at_most(a.V - vt * kValues, kValues);
    const Real skip = a.skip ? a.skip[h] : Real(0);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = layout.template row<2>(r);
      if (i >= at.count) continue;
      const Index row = (at.row + i) * a.heads + h;
      const Real per = a.normalise ? 1 / ones[r] : Real(1);
      Real* y = a.y + row * a.V + vt * kValues;
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const int v = layout.column_nt(c);
        if (v < width) y[v] = acc[r][c] * per + skip * m[kV + i * kValueRow + v];
      }
      if (a.den && vt == 0 && layout.t == 0) a.den[row] = ones[r];
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
