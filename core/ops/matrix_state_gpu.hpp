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

// The same by 256 threads, to tiles of mma_tile.hpp.
template <int D>
struct TurnedPlace : ChunkPlace<D> {
  static constexpr int kThreads = 256;
  using ChunkPlace<D>::ChunkPlace, ChunkPlace<D>::t, ChunkPlace<D>::thread, ChunkPlace<D>::count, ChunkPlace<D>::row;
  __device__ void keys(const Real* from, Index kt, Real* to) const {
    copy_turned<kThreads, kSteps, D>(thread, from + row * t.ld() + this->group * t.a.K + kt * D, t.ld(), count, at_most(t.a.K - kt * D, D),
                                     t.whole, to);
  }
  __device__ void values(const Real* from, Index h, Index vt, Real* to) const {
    const Index ld = t.a.heads * t.a.V, v0 = vt * kValues;
    copy_turned<kThreads, kSteps, kValues>(thread, from + row * ld + h * t.a.V + v0, ld, count, at_most(t.a.V - v0, kValues), t.whole, to);
  }
  __device__ void state(const Real* states, Index h, Index vt, Index kt, Real* to) const {
    copy_turned<kThreads, kValues, D>(thread, this->part_of(states, h, vt, kt), t.Kp, kValues, at_most(t.Kp - kt * D, D), true, to);
  }
  template <int kCount>
  __device__ void factors(Index h, Real* to) const {
    copy_line<kCount * kSteps>(thread, t.rows + this->item(h) * kRows * kSteps, to);
  }
};

// Pairs of neighbouring entries of a row, eight columns apart, the first at `column` of `width`; `even`: may pairs be written at once?
template <int N>
__device__ void store_pairs(const Grad& to, Index i, int column, int width, bool even, const float (&x)[N][2]) {
  if (even && column + 8 * N - 7 < width) {
    float2* p = reinterpret_cast<float2*>(to.p + i + column);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float2 old = to.add ? p[4 * n] : float2{0, 0};
      p[4 * n] = {x[n][0] + old.x, x[n][1] + old.y};
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < 2 * N; ++n)
    if (column + 8 * (n / 2) + n % 2 < width) to(i + column + 8 * (n / 2) + n % 2, x[n / 2][n % 2]);
}

// Factors of the decays between a thread's rows and columns of scores: high and low parts of b, and delta of the columns.
template <class L>
struct Decays {
  float row_high[2][2], row_low[2][2], high[2][2], low[2][2], delta[2][2];
  __device__ Decays(const L& layout, const Real* rows) {
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(m, 2 * e), j = layout.template column<2>(m, e);
        row_high[m][e] = rows[kHigh * kSteps + i], row_low[m][e] = rows[kLow * kSteps + i];
        high[m][e] = rows[kHigh * kSteps + j], low[m][e] = rows[kLow * kSteps + j], delta[m][e] = rows[kDelta * kSteps + j];
      }
  }
  // 2^{b_i - b_j} of row (m, e) and column (n, next), where it is not above the diagonal.
  __device__ float operator()(int m, int e, int n, int next) const {
    return exp2_weight((row_high[m][e] - high[n][next]) + (row_low[m][e] - low[n][next]));
  }
};

// Keys in one tile. A state comes in while the values are worked on, and these while the next state is.
template <int kPasses, int D>
struct OutputsBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = D <= 128 ? 2 : 1;
  static constexpr int kQ = 0, kS = kQ + kSteps * D, kV = kS + kValues * D, kA = kV + kSteps * kValues, kF = kA + kSteps * kSteps,
                       kZ = kF + 2 * kForwardRows * kSteps, kOnes = kZ + D, kSums = kOnes + kSteps, kEnd = kSums + 4 * kSteps;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = MmaTile<kPasses>;
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = t.a;
    const TurnedPlace<D> at(t, block, thread);
    const L layout(thread);
    const Index v_tiles = t.v_tiles(), units = (at.last - at.first) * v_tiles;
    const auto fetch_state = [&](Index u) {
      const Index h = at.first + u / v_tiles, vt = u % v_tiles;
      if (u < units) at.state(t.S, h, vt, 0, m + kS);
      if (u < units && vt == 0) at.template factors<kForwardRows>(h, m + kF + h % 2 * kForwardRows * kSteps);
      copies_end();
    };
    const auto fetch_values = [&](Index u) {
      if (u < units) at.values(a.v, at.first + u / v_tiles, u % v_tiles, m + kV);
      copies_end();
    };
    at.keys(a.q, 0, m + kQ), at.keys(a.k, 0, m + kS);
    fetch_values(0);
    arrive();
    float scores[2][2][4] = {};
    layout.template onto<D, Along<D>, Along<D>>(scores, m + kQ, m + kS);
    __syncthreads();
    make_ready<kPasses, kThreads, kSteps * D>(thread, m + kQ);
    fetch_state(0);
    for (Index u = 0; u < units; ++u) {
      const Index h = at.first + u / v_tiles, vt = u % v_tiles;
      const Real* rows = m + kF + h % 2 * kForwardRows * kSteps;
      if (u == 0) copies_wait<0>();
      else copies_wait<1>();
      __syncthreads();
      if (vt == 0) {
        if (a.normalise) ones(at, h, m);
        weigh(layout, scores, rows, m);
      }
      float acc[2][2][4] = {};
      layout.template onto<D, Along<D, true>, Along<D, true>>(acc, m + kQ, m + kS);
      copies_wait<0>();
      __syncthreads();
      fetch_state(u + 1);
      pairs(layout, acc, [&](int i, int, float& x, float& y) { x *= rows[kFrom * kSteps + i], y *= rows[kFrom * kSteps + i]; });
      layout.template add<kSteps, Along<kSteps, true>, Across<kValues>>(acc, m + kA, m + kV);
      store(at, layout, acc, rows, m, h, vt);
      __syncthreads();
      fetch_values(u + 1);
    }
  }

  // kOnes: what the state adds to a row's normaliser, before its decay. Four threads a row.
  __device__ void ones(const TurnedPlace<D>& at, Index h, Real* m) const {
    at.ones_state(t.z, h, 0, m + kZ);
    __syncthreads();
    const int i = at.thread / 4;
    Real sum = 0;
    for (int k = at.thread % 4; k < D; k += 4) sum += m[kQ + place<D>(i, k)] * m[kZ + k];
    sum = lanes_sum<4>(sum);
    if (at.thread % 4 == 0) m[kOnes + i] = sum;
  }

  // Scores of this head to the chip, and kSums: their sums over 16 columns.
  __device__ void weigh(const L& layout, const float (&scores)[2][2][4], const Real* rows, Real* m) const {
    const Real scale = t.a.scale;
    const Decays<L> decays(layout, rows);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        Real sum = 0;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int j = layout.template column<2>(n, 0);
          const float x = i < j ? 0 : scale * scores[mm][n][2 * e] * decays(mm, e, n, 0);
          const float y = i <= j ? 0 : scale * scores[mm][n][2 * e + 1] * decays(mm, e, n, 1);
          sum += x + y;
          *reinterpret_cast<float2*>(m + kA + place<kSteps>(i, j)) = {ready<kPasses>(x * decays.delta[n][0]),
                                                                      ready<kPasses>(y * decays.delta[n][1])};
        }
        if (!t.a.normalise) continue;
        sum = lanes_sum<4>(sum);
        if (layout.t == 0) m[kSums + layout.right * kSteps + i] = sum;
      }
  }

  __device__ void store(const TurnedPlace<D>& at, const L& layout, const float (&acc)[2][2][4], const Real* rows, const Real* m, Index h,
                        Index vt) const {
    const Arguments& a = t.a;
    const int width = at_most(a.V - vt * kValues, kValues), first = layout.template column<2>(0, 0);
    const Real skip = a.skip ? a.skip[h] : Real(0);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        if (i >= at.count) continue;
        const Index row = (at.row + i) * a.heads + h;
        Real per = 1;
        if (a.normalise) {
          const Real* sums = m + kSums + i;
          const Real inside = (sums[0] + sums[kSteps]) + (sums[2 * kSteps] + sums[3 * kSteps]);
          const Real den = inside + rows[kFrom * kSteps + i] * m[kOnes + i] + kNormaliser;
          if (a.den && vt == 0 && layout.t == 0 && layout.right == 0) a.den[row] = den;
          per = 1 / den;
        }
        float y[2][2];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            y[n][next] = acc[mm][n][2 * e + next] * per;
            if (a.skip) y[n][next] += skip * m[kV + place<kValues>(i, first + 8 * n + next)];
          }
        store_pairs(Grad{a.y, false}, row * a.V + vt * kValues, first, width, t.even, y);
      }
  }
};

}  // namespace ssm::matrix_state_op
#endif
