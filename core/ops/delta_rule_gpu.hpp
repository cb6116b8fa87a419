// delta_rule_gpu.hpp - the delta rule on tensor cores: what a chunk of 64 steps needs before its state is known, and its outputs after.
//
// With L_ij = k_i.k_j E_ij below the diagonal, E_ij the decay from step j to step i, c_i that from the chunk's start, w_j that to its end, errors e
// (values that the state takes in over beta), S the state at the chunk's start, G the adjoint of the one at its end, X = the adjoint of beta e:
//   forward   M = (I + L beta)^-1     e = M V - W S      W = M c K       O = scale c Q S + A beta e     S' = c_63 S + (w beta K)^T e
//   back      M = (I + L^T beta)^-1   X = M A^T dO + W G   W = M w K     G' = c_63 G + scale (c Q)^T dO - (c beta K)^T X
//   A_ij = scale q_i.k_j E_ij, i >= j
// Prepare makes M V (M A^T dO) and W of every chunk at once, Walk (delta_rule_gpu_walk.hpp) goes through the chunks, 32 columns of a state a
// block, Outputs and Gradients (delta_rule_gpu_back.hpp) take every chunk on its own again. All of it goes segment by segment of some chunks, so
// that the states of one segment are all that is held; backward() starts each from the state that forward() kept. Keys of unit length and
// beta up to 2 keep the entries of M at most 2; it is inverted in float.
#pragma once
#include "delta_rule_kernels.hpp"
#include "matrix_state_gpu.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
#define SSM_DELTA_RULE_ON_TILES
namespace ssm::delta_rule_op {

constexpr int kSince = kForwardRows, kStepRows = kSince + 1;  // factors of steps: those of matrix states with beta as delta, and c
constexpr int kFactorCount = kStepRows * kSteps, kSquare = kSteps * kSteps, kSlice = 32;  // kSlice: columns of a walk

// Chunks [first, first + count) of all heads; an item is one of them of one head, (b heads + h) count + chunk.
struct Segment {
  Arguments a;  // delta: beta
  const Real* dy;
  Real *rows, *A, *W, *e, *X;  // (items,kStepRows,kSteps); (items,kSteps,kSteps); (items,kSteps,Kp); (items,kSteps,Vp)
  Real *S, *G;                 // (items,Vp,Kp)
  Index Kp, Vp, first, count;
  bool whole, even;  // may rows of inputs be copied 16 bytes at a time, and pairs of results written at once?

  SSM_FN Index items() const { return a.B * a.heads * count; }
  SSM_FN Index k_tiles(int D) const { return (a.K + D - 1) / D; }
  SSM_FN Index v_tiles() const { return Vp / kValues; }
  SSM_FN Index slices() const { return (a.V + kSlice - 1) / kSlice; }
};

struct ItemPlace {
  const Segment& s;
  int thread, count;   // steps of the chunk
  Index item, h, row;  // row = b T + first step

  __device__ ItemPlace(const Segment& s_, Index item_, int thread_) : s(s_), thread(thread_), item(item_) {
    const Index bh = item / s.count, step = (s.first + item % s.count) * kSteps;
    h = bh % s.a.heads, row = bh / s.a.heads * s.a.T + step;
    count = at_most(s.a.T - step, kSteps);
  }
  // Columns [first, first + kWide) of the head's rows of `from`, each `width` wide.
  template <int kWide>
  __device__ void tile(const Real* from, Index width, Index first, Real* to) const {
    copy_turned<256, kSteps, kWide>(thread, from + (row * s.a.heads + h) * width + first, s.a.heads * width, count,
                                    at_most(width - first, kWide), s.whole, to);
  }
  // The same of scratch with kSteps whole rows an item.
  template <int kWide>
  __device__ void own(const Real* from, Index width, Index first, Real* to) const {
    copy_turned<256, kSteps, kWide>(thread, from + item * kSteps * width + first, width, kSteps, at_most(width - first, kWide), true, to);
  }
  template <int kWide>
  __device__ void state(const Real* from, Index vt, Index k0, Real* to) const {
    copy_turned<256, kValues, kWide>(thread, from + (item * s.Vp + vt * kValues) * s.Kp + k0, s.Kp, at_most(s.a.V - vt * kValues, kValues),
                                     kWide, true, to);
  }
  __device__ void factors(Real* to) const { copy_line<kFactorCount>(thread, s.rows + item * kFactorCount, to); }
};

template <int kPasses>
__device__ void put_square(const MmaTile<kPasses>& layout, float (&x)[2][2][4], Real* to) {
  pairs(layout, x, [&](int i, int j, float a, float b) { *reinterpret_cast<float2*>(to + place<kSteps>(i, j)) = {a, b}; });
}

// M = (I + A)^-1 of a strictly lower triangular A, both (64,64); A's upper part is scratch. Columns of blocks of 16 by substitution, then twice
// M21 = -M22 A21 M11.
__device__ inline void invert(int thread, Real* A, Real* M) {
  constexpr int kBlock = 16;
  for (int i = 4 * thread; i < kSquare; i += 4 * 256) *reinterpret_cast<gpu_tile::Four*>(M + i) = gpu_tile::Four{};
  __syncthreads();
  if (thread < kSteps) {
    const int first = thread / kBlock * kBlock, j = thread % kBlock;
    Real x[kBlock];
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      x[i] = i == j ? Real(1) : Real(0);
#pragma unroll
      for (int k = 0; k < i; ++k) x[i] -= A[place<kSteps>(first + i, first + k)] * x[k];
      M[place<kSteps>(first + i, first + j)] = x[i];
    }
  }
  __syncthreads();
  const auto join = [&](auto size) {
    constexpr int n = decltype(size)::value, kFours = n * n / 4;
    for (int at = thread; at < kSteps / (2 * n) * kFours; at += 256) {
      const int first = at / kFours * 2 * n, i = at % kFours / (n / 4), j = at % (n / 4) * 4;
      gpu_tile::Four sum{};
      for (int k = 0; k < n; ++k) {
        const Real left = A[place<kSteps>(first + n + i, first + k)];
        const gpu_tile::Four right = four(M + place<kSteps>(first + k, first + j));
        for (int e = 0; e < 4; ++e) sum.at[e] += left * right.at[e];
      }
      *reinterpret_cast<gpu_tile::Four*>(A + place<kSteps>(first + i, first + n + j)) = sum;
    }
    __syncthreads();
    for (int at = thread; at < kSteps / (2 * n) * kFours; at += 256) {
      const int first = at / kFours * 2 * n, i = at % kFours / (n / 4), j = at % (n / 4) * 4;
      gpu_tile::Four sum{};
      for (int k = 0; k < n; ++k) {
        const Real left = M[place<kSteps>(first + n + i, first + n + k)];
        const gpu_tile::Four right = four(A + place<kSteps>(first + k, first + n + j));
        for (int e = 0; e < 4; ++e) sum.at[e] -= left * right.at[e];
      }
      *reinterpret_cast<gpu_tile::Four*>(M + place<kSteps>(first + n + i, first + j)) = sum;
    }
    __syncthreads();
  };
  join(std::integral_constant<int, kBlock>());
  join(std::integral_constant<int, 2 * kBlock>());
}

// A block an item; keys and values in tiles of D.
template <int kPasses, int D, bool kBack>
struct PrepareBlock {
  static constexpr int kThreads = 256, kBlocks = 2, N = D / 32;
  static constexpr int kX = 0, kY = kX + kSteps * D, kA = kY + kSteps * D, kM = kA + kSquare, kF = kM + kSquare, kEnd = kF + kFactorCount;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  using L = MmaTile<kPasses>;
  Segment s;

  __device__ void operator()(Index item, int thread, Real* m) const {
    const Arguments& a = s.a;
    const ItemPlace at(s, item, thread);
    const L layout(thread);
    Real* rows = m + kF;
    if (kBack) at.factors(rows);
    else if (thread < 32) make_factors(at, rows);
    float kk[2][2][4] = {}, qk[2][2][4] = {};
    const Index tiles = s.k_tiles(D);
    for (Index kt = 0; kt < tiles; ++kt) {
      __syncthreads();
      at.template tile<D>(a.k, a.K, kt * D, m + kX), at.template tile<D>(a.q, a.K, kt * D, m + kY);
      arrive();
      layout.template add<D, Along<D>, Along<D>>(kk, m + kX, m + kX);
      layout.template add<D, Along<D>, Along<D>>(qk, m + kY, m + kX);
    }
    // What is multiplied with M: tiles of keys, the last of which is here, then of values; one comes in while the one before it is worked on.
    const Index v_tiles = (s.Vp + D - 1) / D;
    const auto fetch = [&](Index n) {
      Real* to = m + (n % 2 ? kY : kX);
      if (n < tiles) at.template tile<D>(a.k, a.K, (tiles - 1 - n) * D, to);
      else if (n < tiles + v_tiles) at.template tile<D>(kBack ? s.dy : a.v, a.V, (n - tiles) * D, to);
      copies_end();
    };
    weigh(layout, kk, qk, rows, item, m);
    __syncthreads();
    fetch(1);
    invert(thread, m + kA, m + kM);
    if constexpr (kBack) {  // A M in the place of A
      put_square(layout, qk, m + kA);
      __syncthreads();
      float product[2][2][4] = {};
      layout.template onto<kSteps, Along<kSteps>, Across<kSteps>>(product, m + kA, m + kM);
      __syncthreads();
      put_square(layout, product, m + kA);
    }
    using Left = std::conditional_t<kBack, Across<kSteps>, Along<kSteps>>;
    const Real* times = rows + (kBack ? kTo : kSince) * kSteps;
    for (Index n = 0; n < tiles + v_tiles; ++n) {
      const Real* right = m + (n % 2 ? kY : kX);
      if (n) {
        copies_wait<0>();
        __syncthreads();
        fetch(n + 1);
      }
      float acc[2][N][4] = {};
      if (n < tiles) {
        layout.template onto<kSteps, Left, Across<D>>(acc, m + kM, right, [&](int k) { return times[k]; });
        put(layout, acc, s.W + item * kSteps * s.Kp, s.Kp, (tiles - 1 - n) * D, [](float x) { return ready<kPasses>(x); });
      } else {
        layout.template onto<kSteps, Left, Across<D>>(acc, m + (kBack ? kA : kM), right);
        put(layout, acc, (kBack ? s.X : s.e) + item * kSteps * s.Vp, s.Vp, (n - tiles) * D, [](float x) { return x; });
      }
    }
  }
  // Columns from `first` on of rows of `width` numbers.
  template <class F>
  __device__ static void put(const L& layout, float (&acc)[2][N][4], Real* to, Index width, Index first, const F& f) {
    pairs(layout, acc, [&](int i, int c, float x, float y) {
      if (first + c < width) *reinterpret_cast<float2*>(to + i * width + first + c) = {f(x), f(y)};
    });
  }

  // Two steps a lane. Behind the end beta is 0, and keys are.
  __device__ void make_factors(const ItemPlace& at, Real* rows) const {
    const Arguments& a = s.a;
    const int lane = at.thread;
    double b[2];
    for (int e = 0; e < 2; ++e) {
      const bool inside = 2 * lane + e < at.count && a.gate;
      const double log_gate = inside ? a.gate[(at.row + 2 * lane + e) * a.heads + at.h] * double(kLog2e) : 0;
      b[e] = log_gate < -1e6 ? -1e6 : log_gate;
    }
    b[1] += b[0];
    double sum = b[1];
    for (int other = 1; other < 32; other *= 2) {
      const double before = __shfl_up_sync(0xffffffffu, sum, other);
      if (lane >= other) sum += before;
    }
    const double last = __shfl_sync(0xffffffffu, sum, 31), before = sum - b[1];
    for (int e = 0; e < 2; ++e) {
      const int i = 2 * lane + e;
      const double full = before + b[e];
      const Real high = static_cast<Real>(full), since = exp2_weight(high), to = exp2_weight(static_cast<Real>(last - full));
      const Real beta = i < at.count ? a.delta ? a.delta[(at.row + i) * a.heads + at.h] : Real(1) : Real(0);
      const Real all[kStepRows] = {high, static_cast<Real>(full - double(high)), beta, a.scale * since, to, to * beta, since};
      for (int r = 0; r < kStepRows; ++r) rows[r * kSteps + i] = s.rows[at.item * kFactorCount + r * kSteps + i] = all[r];
    }
  }

  // L beta (back: beta L) to the chip; qk becomes A, and forward A beta goes to Outputs.
  __device__ void weigh(const L& layout, const float (&kk)[2][2][4], float (&qk)[2][2][4], const Real* rows, Index item, Real* m) const {
    const Decays<L> decays(layout, rows);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        const float own = rows[kDelta * kSteps + i];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int j = layout.template column<2>(n, 0);
          float below[2];
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            const float decay = i < j + next ? 0 : decays(mm, e, n, next), beta = kBack ? own : decays.delta[n][next];
            below[next] = i > j + next ? kk[mm][n][2 * e + next] * decay * beta : 0;
            qk[mm][n][2 * e + next] *= s.a.scale * decay * (kBack ? 1 : beta);
          }
          *reinterpret_cast<float2*>(m + kA + place<kSteps>(i, j)) = {below[0], below[1]};
          if (!kBack && s.A)
            *reinterpret_cast<float2*>(s.A + item * kSquare + i * kSteps + j) = {ready<kPasses>(qk[mm][n][2 * e]),
                                                                                 ready<kPasses>(qk[mm][n][2 * e + 1])};
        }
      }
  }
};

// A block an item and 64 values.
template <int kPasses, int D>
struct OutputsBlock {
  static constexpr int kThreads = 256, kBlocks = 2;
  static constexpr int kQ = 0, kS = kQ + kSteps * D, kE = kS + kValues * D, kA = kE + kSteps * kValues, kF = kA + kSquare,
                       kEnd = kF + kFactorCount;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBlocks * (kBytes + 1024) <= 228 * 1024);
  Segment s;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = s.a;
    const Index vt = block % s.v_tiles(), item = block / s.v_tiles();
    const ItemPlace at(s, item, thread);
    const MmaTile<kPasses> layout(thread);
    at.factors(m + kF);
    at.template own<kValues>(s.e, s.Vp, vt * kValues, m + kE), at.template own<kSteps>(s.A, kSteps, 0, m + kA);
    float acc[2][2][4] = {};
    for (Index kt = 0; kt < s.k_tiles(D); ++kt) {
      if (kt) __syncthreads();
      at.template tile<D>(a.q, a.K, kt * D, m + kQ), at.template state<D>(s.S, vt, kt * D, m + kS);
      arrive();
      layout.template add<D, Along<D>, Along<D, true>>(acc, m + kQ, m + kS);
    }
    const Real* from = m + kF + kFrom * kSteps;
    pairs(layout, acc, [&](int i, int, float& x, float& y) { x *= from[i], y *= from[i]; });
    layout.template add<kSteps, Along<kSteps, true>, Across<kValues>>(acc, m + kA, m + kE);
    const int width = at_most(a.V - vt * kValues, kValues), first = layout.template column<2>(0, 0);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        const float y[2][2] = {{acc[mm][0][2 * e], acc[mm][0][2 * e + 1]}, {acc[mm][1][2 * e], acc[mm][1][2 * e + 1]}};
        if (i < at.count) store_pairs(Grad{a.y, false}, ((at.row + i) * a.heads + at.h) * a.V + vt * kValues, first, width, s.even, y);
      }
  }
};

}  // namespace ssm::delta_rule_op
#endif
