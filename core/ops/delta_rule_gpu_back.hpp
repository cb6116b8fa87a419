// delta_rule_gpu_back.hpp - gradients of the delta rule on tensor cores, every chunk on its own, from S, e, G and X of delta_rule_gpu.hpp.
//
// With U = beta e, and c, w, E as there:
//   Y_ij = scale dO_i . U_j E_ij, i >= j        Z_ij = -beta_i X_i . U_j E_ij, i > j        dV = beta X        dbeta_i = X_i . e_i
//   dQ = Y K + scale c (dO S^T)                 dK = Y^T Q + (Z + Z^T) K + w (U G^T) - beta c (X S^T)
//   dgate_t = sum_{i >= t > j} (Y_ij q_i.k_j + Z_ij k_i.k_j) + sum_{j < t} k_j.(w U G^T)_j + sum_{i >= t} c_i (...)_i + c_last <G, S>
#pragma once
#include "delta_rule_gpu_walk.hpp"

#if defined(SSM_DELTA_RULE_ON_TILES)
namespace ssm::delta_rule_op {

struct DeltaGradients {
  Grad dq, dk, dv, dbeta, dgate;
  Real* shares;  // (tiles of keys,B,T,heads): each one's share of the gate's gradient, where there are several
};

// A block an item and tile of D keys.
template <int kPasses, int D>
struct GradientsBlock {
  static constexpr int kThreads = 256, kBlocks = 1, N = D / 32, kTile = kSteps * D, kPart = kSteps * kValues;
  static constexpr int kQ = 0, kK = kQ + kTile, kS = kK + kTile, kG = kS + kTile, kDo = kG + kTile, kX = kDo + kPart, kE = kX + kPart,
                       kF = kE + 2 * kPart, kInner = kF + kFactorCount, kOuter = kInner + 4 * kSteps, kParts = kOuter + 4 * kSteps,
                       kEnd = kParts + 8;
  static constexpr std::size_t kBytes = sizeof(Real) * kEnd;
  static_assert(kBytes + 1024 <= 228 * 1024 && kTile >= kSquare);
  using L = MmaTile<kPasses>;
  using Square = float[2][2][4];
  using Wide = float[2][N][4];
  Segment s;
  DeltaGradients o;

  __device__ void operator()(Index block, int thread, Real* m) const {
    const Arguments& a = s.a;
    const Index k_tiles = s.k_tiles(D), v_tiles = s.v_tiles(), kt = block % k_tiles;
    const ItemPlace at(s, block / k_tiles, thread);
    const L layout(thread);
    const bool gated = a.kind == Gate::time;
    const Real* rows = m + kF;
    const auto fetch_first = [&](Index vt) {
      if (vt < v_tiles) {
        at.template state<D>(s.S, vt, kt * D, m + kS);
        at.template tile<kValues>(s.dy, a.V, vt * kValues, m + kDo);
        at.template own<kValues>(s.X, s.Vp, vt * kValues, m + kX),
            at.template own<kValues>(s.e, s.Vp, vt * kValues, m + kE + vt % 2 * kPart);
      }
      copies_end();
    };
    const auto fetch_adjoint = [&](Index vt) {
      if (vt < v_tiles) at.template state<D>(s.G, vt, kt * D, m + kG);
      copies_end();
    };
    at.factors(m + kF);
    at.template tile<D>(a.q, a.K, kt * D, m + kQ), at.template tile<D>(a.k, a.K, kt * D, m + kK);
    fetch_first(0), fetch_adjoint(0);
    Square Y = {}, Z = {};
    Wide dq = {}, dk = {}, ends = {};
    float of_state = 0;
    for (Index vt = 0; vt < v_tiles; ++vt) {
      const Real* e = m + kE + vt % 2 * kPart;
      copies_wait<1>();
      __syncthreads();
      layout.template add<kValues, Along<kValues>, Along<kValues>>(Y, m + kDo, e);
      layout.template add<kValues, Along<kValues>, Along<kValues>>(Z, m + kX, e);
      layout.template add<kValues, Along<kValues>, Across<D, true>>(dq, m + kDo, m + kS);
      layout.template add<kValues, Along<kValues>, Across<D, true>>(dk, m + kX, m + kS);
      if (kt == 0) store_values(at, vt, rows, m + kX);
      copies_wait<0>();
      __syncthreads();
      if (gated) {
        of_state += against(thread, m);
        __syncthreads();
      }
      fetch_first(vt + 1);
      layout.template add<kValues, Along<kValues>, Across<D, true>>(ends, e, m + kG);
      __syncthreads();
      fetch_adjoint(vt + 1);
    }
    copies_wait<0>();
    factored(layout, dq, dk, ends, rows, gated, m);
    if (gated) weigh_gates(layout, Y, Z, rows, m);
    mask(at, layout, Y, Z, kt, rows);
    put_square(layout, Y, m + kS), put_square(layout, Z, m + kG);
    if (gated) leave_state(thread, of_state, m);
    __syncthreads();
    layout.template add<kSteps, Along<kSteps>, Across<D>>(dq, m + kS, m + kK);
    store_keys(at, layout, dq, o.dq, kt);
    layout.template add<kSteps, Across<kSteps>, Across<D>>(dk, m + kS, m + kQ);
    layout.template add<kSteps, Along<kSteps>, Across<D>>(dk, m + kG, m + kK);
    layout.template add<kSteps, Across<kSteps>, Across<D>>(dk, m + kG, m + kK);
    store_keys(at, layout, dk, o.dk, kt);
    if (gated) gate_gradient(at, kt, rows, m);
  }

  __device__ void store_values(const ItemPlace& at, Index vt, const Real* rows, const Real* X) const {
    const int width = at_most(s.a.V - vt * kValues, kValues);
#pragma unroll 4
    for (int n = 4 * at.thread; n < kPart; n += 4 * kThreads) {
      const int i = n / kValues, c = n % kValues;
      if (i >= at.count || c >= width) continue;
      const Index to = ((at.row + i) * s.a.heads + at.h) * s.a.V + vt * kValues + c;
      const Real beta = rows[kDelta * kSteps + i];
      gpu_tile::Four x = four(X + place<kValues>(i, c));
      if (s.even) {
        gpu_tile::Four* p = reinterpret_cast<gpu_tile::Four*>(o.dv.p + to);
        const gpu_tile::Four old = o.dv.add ? *p : gpu_tile::Four{};
#pragma unroll
        for (int e = 0; e < 4; ++e) x.at[e] = old.at[e] + beta * x.at[e];
        *p = x;
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (c + e < width) o.dv(to + e, beta * x.at[e]);
      }
    }
  }

  // A thread's share of <S, G>.
  __device__ static float against(int thread, const Real* m) {
    float sum = 0;
#pragma unroll 4
    for (int i = 4 * thread; i < kTile; i += 4 * kThreads) {
      const gpu_tile::Four x = four(m + kS + i), y = four(m + kG + i);
      sum += (x.at[0] * y.at[0] + x.at[1] * y.at[1]) + (x.at[2] * y.at[2] + x.at[3] * y.at[3]);
    }
    return sum;
  }
  __device__ static void leave_state(int thread, float sum, Real* m) {
    sum = lanes_sum<32>(sum);
    if (thread % 32 == 0) m[kParts + thread / 32] = sum;
  }

  // What came through the states times the factors of steps; dk takes `ends`. Gated: row by row their products with queries and keys.
  __device__ static void factored(const L& layout, Wide& dq, Wide& dk, Wide& ends, const Real* rows, bool gated, Real* m) {
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int i = layout.row(mm, e);
        const float to_q = rows[kFrom * kSteps + i], to_k = -rows[kSince * kSteps + i] * rows[kDelta * kSteps + i],
                    to_end = rows[kToDelta * kSteps + i];
        float inner = 0, outer = 0;
#pragma unroll
        for (int n = 0; n < N; ++n) {
          const int on_chip = place<D>(i, layout.template column<N>(n, 0));
          const float2 q = gated ? *reinterpret_cast<const float2*>(m + kQ + on_chip) : float2{0, 0},
                       k = gated ? *reinterpret_cast<const float2*>(m + kK + on_chip) : float2{0, 0};
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            float &x = dq[mm][n][e + next], &y = dk[mm][n][e + next], &z = ends[mm][n][e + next];
            x *= to_q, y *= to_k, z *= to_end;
            outer += x * (next ? q.y : q.x) + y * (next ? k.y : k.x), inner += z * (next ? k.y : k.x);
            y += z;
          }
        }
        if (!gated) continue;
        inner = lanes_sum<4>(inner), outer = lanes_sum<4>(outer);
        if (layout.t == 0) m[kInner + layout.right * kSteps + i] = inner, m[kOuter + layout.right * kSteps + i] = outer;
      }
  }

  // Y and Z from dO e^T and X e^T, whose diagonal is dbeta.
  __device__ void mask(const ItemPlace& at, const L& layout, Square& Y, Square& Z, Index kt, const Real* rows) const {
    const Decays<L> decays(layout, rows);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        const float beta = rows[kDelta * kSteps + i];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            const int j = layout.template column<2>(n, next);
            float &y = Y[mm][n][2 * e + next], &z = Z[mm][n][2 * e + next];
            if (i == j && kt == 0 && o.dbeta.p && i < at.count) o.dbeta((at.row + i) * s.a.heads + at.h, z);
            const float part = i < j ? 0 : decays(mm, e, n, next) * decays.delta[n][next];
            y *= s.a.scale * part;
            z *= i == j ? 0 : -beta * part;
          }
      }
  }
  // Y o Q K^T + Z o K K^T over this tile's keys, in the place of dO; Y and Z as they are before mask().
  __device__ void weigh_gates(const L& layout, const Square& Y, const Square& Z, const Real* rows, Real* m) const {
    const Decays<L> decays(layout, rows);
    Square qk = {}, kk = {};
    layout.template add<D, Along<D>, Along<D>>(qk, m + kQ, m + kK);
    layout.template add<D, Along<D>, Along<D>>(kk, m + kK, m + kK);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        const float beta = rows[kDelta * kSteps + i];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int next = 0; next < 2; ++next) {
            const int j = layout.template column<2>(n, next), f = 2 * e + next;
            const float part = i <= j ? 0 : decays(mm, e, n, next) * decays.delta[n][next];
            qk[mm][n][f] = part * (s.a.scale * Y[mm][n][f] * qk[mm][n][f] - beta * Z[mm][n][f] * kk[mm][n][f]);
          }
      }
    put_square(layout, qk, m + kDo);
  }

  __device__ void gate_gradient(const ItemPlace& at, Index kt, const Real* rows, Real* m) const {
    const int t = at.thread;
    Real* F = m + kDo;
    if (t < kSteps)
      for (int j = 1; j < t; ++j) F[place<kSteps>(t, j)] += F[place<kSteps>(t, j - 1)];
    __syncthreads();
    if (t >= at.count) return;
    const auto four_warps = [&](const Real* of, int i) { return (of[i] + of[kSteps + i]) + (of[2 * kSteps + i] + of[3 * kSteps + i]); };
    Real total = 0;
    for (int w = 0; w < kThreads / 32; ++w) total += m[kParts + w];
    total *= rows[kSince * kSteps + kSteps - 1];
    for (int j = 0; j < t; ++j) total += four_warps(m + kInner, j);
    for (int i = t; i < kSteps; ++i) total += four_warps(m + kOuter, i) + (t ? F[place<kSteps>(i, t - 1)] : Real(0));
    const Index to = (at.row + t) * s.a.heads + at.h;
    if (o.shares) o.shares[kt * s.a.B * s.a.T * s.a.heads + to] = total;
    else o.dgate(to, total);
  }

  __device__ void store_keys(const ItemPlace& at, const L& layout, const Wide& acc, const Grad& to, Index kt) const {
    const int width = at_most(s.a.K - kt * D, D);
#pragma unroll
    for (int mm = 0; mm < 2; ++mm)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = layout.row(mm, 2 * e);
        float x[N][2];
#pragma unroll
        for (int n = 0; n < 2 * N; ++n) x[n / 2][n % 2] = acc[mm][n / 2][2 * e + n % 2];
        if (i < at.count)
          store_pairs(to, ((at.row + i) * s.a.heads + at.h) * s.a.K + kt * D, layout.template column<N>(0, 0), width, s.even, x);
      }
  }
};

}  // namespace ssm::delta_rule_op
#endif
