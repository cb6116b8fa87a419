// delta_rule_gpu_back.hpp - gradients of delta_rule.cpp on CUDA: adjoints of the states at the chunks' ends by one more walk, then every
// chunk of every head on its own, by products of tiles.
//
// With U = beta e, E_ij = decay from step j to step i, c_i = from the chunk's start to after step i, w_j = from after step j to its end:
//   Y_ij = scale dO_i . U_j E_ij, i >= j        Z_ij = -beta_i X_i . U_j E_ij, i > j        dV = beta X        dbeta_i = X_i . e_i
//   dQ = Y K + scale c (dO S^T)                 dK = Y^T Q + (Z + Z^T) K + w (U G^T) - beta c (X S^T)
//   dgate_t = sum_{i >= t > j} (Y_ij q_i.k_j + Z_ij k_i.k_j) + sum_{j < t} k_j.(w U G^T)_j + sum_{i >= t} c_i (...)_i + c_last <G, S>
// Eight products of C W^2 or C^2 W, ten where gated. Measured, H200, B16 T1024, 2 heads of 64: 98 us, 22 of 51 TFLOP/s.
#pragma once
#include "ops/delta_rule_gpu.hpp"

namespace ssm::delta_rule_op {

template <int W, bool kGated>
struct ChunkGradients : Head {
  using L = gpu_tile::Fma;
  static constexpr int kThreads = gpu_tile::kThreads, kBlocks = W <= 64 ? 2 : 1, C = chunk_for(W);
  static constexpr int kRow = W + 4, kSquare = C + 4, kTile = C * (kRow > kSquare ? kRow : kSquare),
                       kState = W * kRow > C *kSquare ? W *kRow : C *kSquare;
  static constexpr int R = L::rows<C>, N = L::columns<W>, M = L::columns<C>;  // rows and columns of a thread
  static constexpr int kSmall = 5 * C + kThreads / kWarp + 4;
  static constexpr std::size_t kBytes = sizeof(Real) * (5 * kTile + kState + kSmall) + sizeof(double) * C;
  const Real *dy, *errors, *along;  // (B,T,heads,V)
  const Real *states, *adjoints;    // (B,chunks,heads,V,Wk)
  Index Wk;
  Grad dq, dk, dv, dbeta, dgate;

  // What a chunk needs of its steps: strengths, c, w, and what the gate's gradient collects.
  struct Small {
    double* level;  // sum of log2 decays up to and with a step
    Real *beta, *start, *end, *inner, *outer, *parts;
    __device__ explicit Small(Real* p)
        : level(reinterpret_cast<double*>(p)),
          beta(p + C * static_cast<int>(sizeof(double) / sizeof(Real))),
          start(beta + C),
          end(start + C),
          inner(end + C),
          outer(inner + C),
          parts(outer + C) {}
    __device__ Real decay(int from, int to) const { return kGated ? exp2_decay(static_cast<Real>(level[to] - level[from])) : Real(1); }
  };

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index h = block % a.heads, t0 = block / a.heads % chunks() * C, b = block / (a.heads * chunks());
    const Index row0 = row(b, t0, h), place = state(b, t0, h) * Wk;
    const int count = steps(t0, C), V = static_cast<int>(a.V), K = static_cast<int>(a.K);
    Real *dO = memory, *e = dO + kTile, *X = e + kTile, *keys = X + kTile, *queries = keys + kTile, *S = queries + kTile;
    const Small m(S + kState);
    const L layout(thread);
    const auto tile = [&](const Real* from, Index width, Real* to) {
      gpu_tile::copy_tile<C, W>(thread, from + row0 * width, a.heads * width, count, static_cast<int>(width), whole, to, kRow);
    };
    const auto square = [&](const Real* from) {
      gpu_tile::copy_tile<W, W>(thread, from + place, Wk, V, static_cast<int>(Wk), true, S, kRow);
      gpu_tile::copies_end();
    };
    tile(dy, a.V, dO), tile(errors, a.V, e), tile(along, a.V, X);
    gpu_tile::copies_end();
    square(states);
    tile(a.q, a.K, queries), tile(a.k, a.K, keys);
    gpu_tile::copies_end();
    Real states_product = 0;
    if constexpr (kGated) states_product = load_levels(thread, b, t0, h, place, m);
    if (thread < C) m.beta[thread] = strength(b, t0 + thread, h);
    gpu_tile::copies_wait<2>();
    __syncthreads();
    if (thread < C) {
      m.start[thread] = kGated ? exp2_decay(static_cast<Real>(m.level[thread])) : Real(1);
      m.end[thread] = m.decay(thread, C - 1);
    }

    Real Y[R][M] = {}, Z[R][M] = {}, to_q[R][N] = {}, to_k[R][N] = {};
    layout.template product_nt<W>(Y, dO, kRow, e, kRow);
    layout.template product_nt<W>(Z, X, kRow, e, kRow);
    gpu_tile::copies_wait<1>();
    __syncthreads();
    layout.template product_nn<W>(to_q, dO, kRow, S, kRow);
    layout.template product_nn<W>(to_k, X, kRow, S, kRow);
    __syncthreads();
    square(adjoints);
    mask(layout, m, Y, Z, row0, count);
    for (int at = thread; at < count * V; at += kThreads) {
      const int i = at / V, c = at % V;
      dv((row0 + i * a.heads) * a.V + c, m.beta[i] * X[i * kRow + c]);
    }
    scale_rows(layout, to_q, [&](int i) { return a.scale * m.start[i]; });
    scale_rows(layout, to_k, [&](int i) { return -m.beta[i] * m.start[i]; });
    gpu_tile::copies_wait<0>();
    __syncthreads();
    Real ends[R][N] = {};
    layout.template product_nn<W>(ends, e, kRow, S, kRow);
    scale_rows(layout, ends, [&](int i) { return m.beta[i] * m.end[i]; });
    Real F[R][M] = {};
    if constexpr (kGated) {
      row_products(layout, ends, keys, ends, keys, false, m.inner);
      row_products(layout, to_q, queries, to_k, keys, true, m.outer);
      weigh(layout, Y, Z, queries, keys, F);
    }
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < N; ++c) to_k[r][c] += ends[r][c];
    __syncthreads();
    Real *Yt = e, *Zs = X;
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < M; ++c) {
        const int i = layout.template row<R>(r), j = layout.column_nt(c);
        dO[i * kSquare + j] = Yt[j * kSquare + i] = Y[r][c];
        if (j <= i) Zs[i * kSquare + j] = Zs[j * kSquare + i] = Z[r][c];
        if (kGated) S[i * kSquare + j] = F[r][c];
      }
    __syncthreads();
    layout.template product_nn<C>(to_q, dO, kSquare, keys, kRow);
    put_rows(layout, to_q, dq, row0, count, K);
    layout.template product_nn<C>(to_k, Yt, kSquare, queries, kRow);
    layout.template product_nn<C>(to_k, Zs, kSquare, keys, kRow);
    put_rows(layout, to_k, dk, row0, count, K);
    if constexpr (kGated) gate_gradient(thread, S, m, states_product, row0, count);
  }

  // Levels of all steps; returns this thread's part of <G, S>. Levels in double: a decay is 2 to the difference of two of them.
  __device__ Real load_levels(int thread, Index b, Index t0, Index h, Index place, const Small& m) const {
    if (thread < C) m.inner[thread] = log2_decay(b, t0 + thread, h);
    __syncthreads();
    if (thread < C) {
      double sum = 0;
      for (int i = 0; i <= thread; ++i) sum += static_cast<double>(m.inner[i]);
      m.level[thread] = sum;
    }
    Real sum = 0;
    for (Index i = thread; i < a.V * Wk; i += kThreads) sum += states[place + i] * adjoints[place + i];
    return sum;
  }

  // Y and Z from dO e^T and X e^T, whose diagonal is dbeta.
  __device__ void mask(const L& layout, const Small& m, Real (&Y)[R][M], Real (&Z)[R][M], Index row0, int count) const {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < M; ++c) {
        const int i = layout.template row<R>(r), j = layout.column_nt(c);
        if (i == j && i < count && dbeta.p) dbeta(row0 + i * a.heads, Z[r][c]);
        const Real part = i < j ? Real(0) : m.beta[j] * m.decay(j, i);
        Y[r][c] *= a.scale * part;
        Z[r][c] = i == j ? Real(0) : -m.beta[i] * part * Z[r][c];
      }
  }
  template <class F>
  __device__ static void scale_rows(const L& layout, Real (&x)[R][N], const F& factor) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Real by = factor(layout.template row<R>(r));
#pragma unroll
      for (int c = 0; c < N; ++c) x[r][c] *= by;
    }
  }

  // to[i] = x_i . p_i, plus y_i . s_i where `both`; p, s tiles.
  __device__ static void row_products(const L& layout, const Real (&x)[R][N], const Real* p, const Real (&y)[R][N], const Real* s,
                                      bool both, Real* to) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = layout.template row<R>(r);
      Real sum = 0;
#pragma unroll
      for (int c = 0; c < N; ++c) {
        const int at = i * kRow + layout.column_nn(c);
        sum += x[r][c] * p[at];
        if (both) sum += y[r][c] * s[at];
      }
      sum = gpu_tile::lanes_sum<L::kLanes>(sum);
      if (layout.lane == 0) to[i] = sum;
    }
  }
  // F = Y o Q K^T + Z o K K^T
  __device__ static void weigh(const L& layout, const Real (&Y)[R][M], const Real (&Z)[R][M], const Real* queries, const Real* keys,
                               Real (&F)[R][M]) {
    Real other[R][M] = {};
    layout.template product_nt<W>(F, queries, kRow, keys, kRow);
    layout.template product_nt<W>(other, keys, kRow, keys, kRow);
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < M; ++c) F[r][c] = Y[r][c] * F[r][c] + Z[r][c] * other[r][c];
  }

  __device__ void gate_gradient(int thread, Real* F, const Small& m, Real states_product, Index row0, int count) const {
    const Real sum = gpu_tile::lanes_sum<kWarp>(states_product);
    if (thread % kWarp == 0) m.parts[thread / kWarp] = sum;
    if (thread < C)
      for (int j = 1; j < thread; ++j) F[thread * kSquare + j] += F[thread * kSquare + j - 1];
    __syncthreads();
    if (thread >= count) return;
    Real total = 0;
    for (int w = 0; w < kThreads / kWarp; ++w) total += m.parts[w];
    total *= m.start[C - 1];
    for (int j = 0; j < thread; ++j) total += m.inner[j];
    for (int i = thread; i < C; ++i) total += m.outer[i] + (thread ? F[i * kSquare + thread - 1] : Real(0));
    dgate(row0 + thread * a.heads, total);
  }

  __device__ void put_rows(const L& layout, const Real (&x)[R][N], const Grad& to, Index row0, int count, int K) const {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = layout.template row<R>(r);
      if (i >= count) continue;
      const Index from = (row0 + i * a.heads) * K;
#pragma unroll
      for (int c = 0; c < N; c += 4) {
        const int k = layout.column_nn(c);
        if (whole) {
          if (k >= K) continue;
          auto* p = reinterpret_cast<gpu_tile::Four*>(to.p + from + k);
          gpu_tile::Four sum = to.add ? *p : gpu_tile::Four{};
#pragma unroll
          for (int j = 0; j < 4; ++j) sum.at[j] += x[r][c + j];
          *p = sum;
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j)
            if (k + j < K) to(from + k + j, x[r][c + j]);
        }
      }
    }
  }
};

// What the op is told: whether the sizes fit, and what is kept from forward to backward.
struct Walks {
  bool fit;
  int chunk;
  Index states, rows;  // numbers of kept states; of errors and of scratch

  explicit Walks(const Arguments& a) : fit(!a.scan && a.K <= kWidest && a.V <= kWidest) {
    const Index widest = a.K < a.V ? a.V : a.K;
    chunk = chunk_for(widest);
    with_width(a.K, [&](auto W) { states = a.B * ((a.T + chunk - 1) / chunk) * a.heads * a.V * decltype(W)::value; });
    with_width(widest, [&](auto W) { fit = fit && ChunkGradients<decltype(W)::value, true>::kBytes <= kChipMemory; });
    rows = a.B * a.T * a.heads * a.V;
  }
  Index scratch() const { return rows + states; }

  Head head(const Arguments& a, const Real* beta, std::initializer_list<const Real*> others) const {
    bool whole = !kDouble && a.K % 4 == 0 && a.V % 4 == 0;
    for (const Real* p : {a.q, a.k, a.v}) whole = whole && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
    for (const Real* p : others) whole = whole && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
    return {a, beta, chunk, whole};
  }
  // errors, kept: null where no gradient is wanted.
  void forward(const Run& r, const Arguments& a, const Real* beta, Real* errors, Real* kept) const {
    walk<false>(r, head(a, beta, {}), a.v, a.y, errors, kept);
  }
  // work: scratch() numbers.
  void backward(const Run& r, const Arguments& a, const Real* beta, const Real* dy, const Real* errors, const Real* kept, Real* work,
                Grad dq, Grad dk, Grad dv, Grad dbeta, Grad dgate) const {
    Real *along = work + states, *adjoints = work;
    const Head h = head(a, beta, {dy, errors, along, dq.p, dk.p});
    walk<true>(r, h, dy, nullptr, along, adjoints);
    Index Wk = 0;
    with_width(a.K, [&](auto W) { Wk = decltype(W)::value; });
    with_width(a.K < a.V ? a.V : a.K, [&](auto width) {
      constexpr int W = decltype(width)::value;
      const auto run = [&](auto block) {
        launch_shared("ssm::delta_rule_back", r, a.B * a.heads * h.chunks(), decltype(block)::kBytes, block);
      };
      if (a.gate) run(ChunkGradients<W, true>{h, dy, errors, along, kept, adjoints, Wk, dq, dk, dv, dbeta, dgate});
      else run(ChunkGradients<W, false>{h, dy, errors, along, kept, adjoints, Wk, dq, dk, dv, dbeta, dgate});
    });
  }
};

}  // namespace ssm::delta_rule_op
