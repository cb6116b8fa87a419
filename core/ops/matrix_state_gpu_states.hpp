// matrix_state_gpu_states.hpp - matrix states on tensor cores: what is known of every step, and the states at the starts of chunks.
//
//   A_ij = scale q_i.k_j 2^{b_i - b_j} delta_j, i >= j      O = A V + scale 2^{b_i} Q S      S' = 2^{b_63} S + (2^{b_63 - b_j} delta_j k_j)^T V
//
// Three kernels: rows of factors per step (Rows); states at the starts of chunks, which one block carries through a sequence for 64 values and
// 32 to 128 keys (States); outputs, a block per chunk and heads (Outputs). b is the sum of log gates inside the chunk, kept as a pair of floats,
// so that b_i - b_j is as exact as b_i - b_j is small; nothing above 2^0 is ever formed. Channel gates: matrix_state_gpu_gates.hpp.
//
// Floor: 2 C K / (heads of a group) + 2 C V + 4 K V operations a step and head at 165 (split) or 495 (TF32) TFLOP/s, and 12 V + 8 K V / C bytes:
// values twice, y, states written and read, at 4.8 TB/s. At K 128, V 64, T 2048, B 16, 32 heads: 0.17 ms in States, 0.22 ms in Outputs. What
// binds at short sequences is the walk of States: 1 us a chunk.
#pragma once
#include "lib/mma_tile.hpp"
#include "matrix_state.hpp"

#if defined(SSM_TENSOR_CORES)
#define SSM_MATRIX_STATE_ON_TILES
namespace ssm::matrix_state_op {

using namespace gpu_tile;

constexpr int kSteps = 64, kValues = 64, kKeys = 32;  // steps of a chunk; values and keys of the least part of a state
constexpr int kValueRow = kValues + 4, kScoreRow = kSteps + 8;
static_assert(kSteps == kChunk);

// What is known of every step of a chunk of a head: b as two floats, delta, scale 2^b, 2^{b_63 - b}, that times delta; and on the way back
// 1 / normaliser, scale 2^b / normaliser, the gradient of the normaliser, scale 2^b times it.
enum Factor { kHigh, kLow, kDelta, kFrom, kTo, kToDelta, kPer, kFromPer, kExtra, kFromExtra, kRows };
constexpr int kForwardRows = kToDelta + 1;

struct Chunked {
  Arguments a;
  const Real* dy;
  Real *rows, *totals;  // (B,heads,chunks,kRows,kSteps); (B,heads,chunks,Kp): decay of the whole chunk
  Real *S, *z, *G,
      *Gz;  // (B,heads,chunks,Vp,Kp), (B,heads,chunks,4,Kp): states, in the normaliser's column four sums to add; their adjoints
  // Channel gates: scale q times its decay since the chunk's start and k times its decay to the end, (B,T,heads,K); scores and the gradient of
  // q k^T, (B,heads,chunks,kSteps,kSteps); what comes to q and k through the states, before their decay, (B,heads,chunks,kSteps,Kp);
  // sums over values of S times adjoint, (B,heads,chunks,Kp).
  Real *Qe, *Kd, *A, *F, *Qs, *Ks, *products;
  Real* end;  // of the scratch behind a.work
  Real*
      shares;  // on the way back, where keys come in several tiles: each one's share of dv, dgate, ddelta, (tiles,V + 2,B,T,heads), else null
  Index Kp, Vp;
  bool whole, even;  // may rows of inputs be copied 16 bytes at a time, and pairs of results written at once? Those of scratch always may

  SSM_FN Index chunks() const { return (a.T + kSteps - 1) / kSteps; }
  SSM_FN Index items() const { return a.B * a.heads * chunks(); }
  SSM_FN Index k_tiles(int D) const { return (a.K + D - 1) / D; }
  SSM_FN Index v_tiles() const { return Vp / kValues; }
  SSM_FN Index share_width() const { return a.V + 2; }
  SSM_FN Index ld() const { return a.groups * a.K; }
  SSM_FN Index blocks() const { return a.B * a.groups * a.blocks * chunks(); }
  SSM_FN bool channel() const { return a.kind == Gate::channel; }
};

__device__ inline int at_most(Index n, int limit) { return n < limit ? static_cast<int>(n) : limit; }

// f(row, column, entry) for all entries a thread holds.
template <class L, int R, int C, class F>
__device__ void entries(const L& layout, Real (&acc)[R][C], const F& f) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) f(layout.template row<R>(r), layout.column_nt(c), acc[r][c]);
}

// One warp a chunk of a head, two steps a lane.
struct RowsBlock {
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = 8;
  Chunked t;

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index item = block * (kThreads / 32) + thread / 32;
    if (item >= t.items()) return;
    const Arguments& a = t.a;
    const int lane = thread % 32;
    const Index t0 = item % t.chunks() * kSteps, h = item / t.chunks() % a.heads, first = item / (t.chunks() * a.heads) * a.T + t0;
    Real* to = t.rows + item * kRows * kSteps;
    double b[2];
    for (int e = 0; e < 2; ++e) {
      const bool inside = t0 + 2 * lane + e < a.T;
      const double log_gate = inside && a.kind == Gate::time ? a.gate[(first + 2 * lane + e) * a.heads + h] * double(kLog2e) : 0;
      b[e] = inside && a.kind == Gate::head ? ::log2(double(a.head_decay(h))) : log_gate < -1e6 ? -1e6 : log_gate;
    }
    b[1] += b[0];
    double sum = b[1];
    for (int other = 1; other < 32; other *= 2) {
      const double before = __shfl_up_sync(0xffffffffu, sum, other);
      if (lane >= other) sum += before;
    }
    const double last = __shfl_sync(0xffffffffu, sum, 31), before = sum - b[1], scale = a.scale;
    if (t.dy && a.normalise) normaliser_gradient(first, at_most(a.T - t0, kSteps), h, lane, to);
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * lane + e;
      const bool inside = t0 + i < a.T;
      const double full = before + b[e];
      const Real high = static_cast<Real>(full), delta = inside ? a.delta ? a.delta[(first + i) * a.heads + h] : Real(1) : Real(0);
      const Real from = static_cast<Real>(scale) * exp2_weight(high), end = exp2_weight(static_cast<Real>(last - full));
      to[kHigh * kSteps + i] = high, to[kLow * kSteps + i] = static_cast<Real>(full - double(high));
      to[kDelta * kSteps + i] = delta, to[kFrom * kSteps + i] = from, to[kTo * kSteps + i] = end, to[kToDelta * kSteps + i] = end * delta;
      if (!t.dy) continue;
      const Real per = a.normalise && inside ? 1 / a.den[(first + i) * a.heads + h] : Real(1);
      const Real extra = a.normalise && inside ? to[kExtra * kSteps + i] : Real(0);
      to[kPer * kSteps + i] = per, to[kFromPer * kSteps + i] = from * per;
      to[kExtra * kSteps + i] = extra, to[kFromExtra * kSteps + i] = from * extra;
    }
    for (Index k = lane; k < t.Kp; k += 32) t.totals[item * t.Kp + k] = exp2_weight(static_cast<Real>(last));
  }

  // Eight lanes a step.
  __device__ void normaliser_gradient(Index first, int count, Index h, int lane, Real* to) const {
    const Arguments& a = t.a;
    for (int i = lane / 8; i < kSteps; i += 4) {
      const Index row = (first + (i < count ? i : 0)) * a.heads + h;
      const Real skip = a.skip ? a.skip[h] : Real(0);
      Real sum = 0;
      for (Index c = lane % 8; c < a.V; c += 8) sum += t.dy[row * a.V + c] * (a.y[row * a.V + c] - skip * a.v[row * a.V + c]);
      sum = lanes_sum<8>(sum);
      if (lane % 8 == 0) to[kExtra * kSteps + i] = -sum / a.den[row];
    }
    __syncwarp();
  }
};

// Rows of leading extent ld from a thread's pairs: neighbours exchange pairs of neighbouring blocks of columns, and write four entries at once.
template <int kPasses, int N>
__device__ void leave_state(const MmaTile<kPasses>& layout, float (&acc)[2][N][4], float* to, Index ld) {
  if constexpr (N % 2) {
    pairs(layout, acc, [&](int v, int k, float x, float y) { put(to + v * ld + k, ready<kPasses>(x), ready<kPasses>(y)); });
  } else {
    const bool odd = layout.t % 2;
    float* first = to + layout.row(0, 0) * ld + layout.template column<N>(odd, 0) - (odd ? 2 : 0);
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
          const float x = ready<kPasses>(acc[m][n][e]), y = ready<kPasses>(acc[m][n][e + 1]);
          const float z = ready<kPasses>(acc[m][n + 1][e]), w = ready<kPasses>(acc[m][n + 1][e + 1]);
          const float one = from_lane(odd ? x : z, 1), two = from_lane(odd ? y : w, 1);
          put(first + (16 * m + 4 * e) * ld + 8 * n, odd ? one : x, odd ? two : y, odd ? z : one, odd ? w : two);
        }
  }
}

// States from the first chunk on, and, in the second half of the blocks, their adjoints from the last chunk on: 64 values, kPart keys a block.
// kFactors: keys have a factor of their step, else what keys come with it already, rounded.
template <int kPasses, int kPart, bool kFactors = true>
struct StatesBlock {
  static constexpr int kThreads = MmaTile<kPasses>::kThreads, kBlocks = 2, kStages = kPart <= 64 ? 3 : 2;
  static constexpr int kX = 0, kY = kX + kSteps * kPart, kF = kY + kSteps * kValues, kOnes = kF + kSteps, kTotal = kOnes + kSteps,
                       kBuffer = kTotal + kPart, kShares = (4 * kPart + kThreads - 1) / kThreads;
  static constexpr std::size_t kBytes = sizeof(Real) * kStages * kBuffer;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Chunked t;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Arguments& a = t.a;
    const MmaTile<kPasses> layout(thread);
    const Index chunks = t.chunks(), k_parts = t.Kp / kPart, parts = k_parts * t.v_tiles(), ways = a.B * a.heads * parts;
    const bool back = block >= ways;
    const Index own = back ? block - ways : block, k0 = own % k_parts * kPart, v0 = own / k_parts % t.v_tiles() * kValues;
    const Index bh = own / parts, b = bh / a.heads, h = bh - b * a.heads, group = h / (a.heads / a.groups);
    const Real* of_keys = back ? (kFactors ? a.q : t.Qe) : (kFactors ? a.k : t.Kd);
    const Real *X = of_keys + b * a.T * t.ld() + group * a.K + k0, *Y = (back ? t.dy : a.v) + (b * a.T * a.heads + h) * a.V + v0;
    const int keys = at_most(a.K - k0, kPart), values = at_most(a.V - v0, kValues);
    const auto fetch = [&](Index n) {
      const Index c = back ? chunks - 1 - n : n, step = c * kSteps, item = bh * chunks + c;
      Real* to = memory + n % kStages * kBuffer;
      if (n + 1 < chunks) {
        const int count = at_most(a.T - step, kSteps);
        const Real* rows = t.rows + item * kRows * kSteps;
        copy_turned<kThreads, kSteps, kPart>(thread, X + step * t.ld(), t.ld(), count, keys, t.whole, to + kX);
        copy_turned<kThreads, kSteps, kValues>(thread, Y + step * a.heads * a.V, a.heads * a.V, count, values, t.whole, to + kY);
        if (kFactors) {
          copy_line<kSteps>(thread, rows + (back ? kFromPer : kToDelta) * kSteps, to + kF);
          copy_line<kSteps>(thread - 32, rows + (back ? kFromExtra : kTo) * kSteps, to + kOnes);
        }
        copy_line<kPart>(thread - 64, t.totals + item * t.Kp + k0, to + kTotal);
      }
      copies_end();
    };
    float acc[2][kPart / 32][4] = {}, sums[kShares] = {};
    for (int n = 0; n + 1 < kStages; ++n) fetch(n);
    for (Index n = 0; n < chunks; ++n) {
      const Index item = bh * chunks + (back ? chunks - 1 - n : n);
      Real* state = (back ? t.G : t.S) + (item * t.Vp + v0) * t.Kp + k0;
      leave_state(layout, acc, state, t.Kp);
      const bool ones = kFactors && a.normalise && v0 == 0;
#pragma unroll
      for (int s = 0; s < kShares; ++s) {
        const int i = thread + s * kThreads;
        if (ones && i < 4 * kPart) (back ? t.Gz : t.z)[(item * 4 + i / kPart) * t.Kp + k0 + i % kPart] = sums[s];
      }
      if (n + 1 == chunks) break;
      fetch(n + kStages - 1);
      copies_wait<kStages - 1>();
      __syncthreads();
      const Real* from = memory + n % kStages * kBuffer;
      pairs(layout, acc, [&](int, int k, float& x, float& y) { x *= from[kTotal + k], y *= from[kTotal + k + 1]; });
      if constexpr (kFactors)
        layout.template add<kSteps, Across<kValues>, Across<kPart>>(acc, from + kY, from + kX, [&](int k) { return from[kF + k]; });
      else layout.template add<kSteps, Across<kValues>, Across<kPart, true>>(acc, from + kY, from + kX);
#pragma unroll
      for (int s = 0; s < kShares; ++s) {
        const int i = thread + s * kThreads, k = i % kPart;
        if (!ones || i >= 4 * kPart) continue;
        sums[s] *= from[kTotal + k];
#pragma unroll 8
        for (int step = i / kPart * 16; step < i / kPart * 16 + 16; ++step)
          sums[s] += from[kX + place<kPart>(step, k)] * from[kOnes + step];
      }
      __syncthreads();
    }
  }
};

}  // namespace ssm::matrix_state_op
#endif
