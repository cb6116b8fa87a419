// delta_rule_kernels.hpp - both views of delta_rule.cpp, on the tiles of matrix_state.hpp; one work item is one head of one sequence.
//
// Chunked: with N_ij = beta_i (k_i . k_j) decay_ij for i > j, the values that the state takes in are U = (I + N)^{-1} beta (V - (K e) S), found
// by forward substitution; from there on the chunk is a matrix state with values U.
#pragma once
#include "matrix_state_chunked.hpp"

namespace ssm::delta_rule_op {

using namespace matrix_state_op;

struct DeltaTiles {
  Real* beta;             // (C)
  Real *Ke, *R;           // K e; V - Ke S
  Real *KK, *N, *dN;      // K K^T, N, its gradient
  Real *back, *dKe, *ST;  // -beta times the gradient of beta R; the gradient of Ke; S transposed
  KOKKOS_FUNCTION DeltaTiles(const Arguments& a, TileMemory& memory) {
    const Index C = a.C(), square = a.scan ? 0 : C * C;
    beta = memory.take(C);
    for (Real** tile : {&Ke, &dKe}) *tile = memory.take(C * a.Kw());
    for (Real** tile : {&R, &back}) *tile = memory.take(C * a.Vw());
    for (Real** tile : {&KK, &N, &dN}) *tile = memory.take(square);
    ST = memory.take(a.scan ? 0 : a.Kw() * a.Vw());
  }
};

// Everything a chunk needs before its state is known.
KOKKOS_FUNCTION inline void load_chunk(const Team& team, const Arguments& a, const Place& at, const Real* beta, Index t0, Index n,
                                       const Tiles& m, const DeltaTiles& d) {
  const Index heads = a.heads, C = a.C(), Kw = a.Kw();
  const Real* from = beta ? beta + (at.b * a.T + t0) * heads + at.first : nullptr;
  load_queries(team, a, at, t0, n, m);
  load_values(team, a, at, at.first, t0, n, m);
  load_decays(team, a, at, at.first, t0, n, m);
  team.grid(C, 1, [&](const Index i, const Index) { d.beta[i] = i >= n ? Real(0) : from ? from[i * heads] : Real(1); });
  team.sync();
  if (a.scan) return;
  raw_scores(team, a, m);
  product(team, C, C, a.K, m.K, Kw, 1, m.Kt, C, d.KK, C, false);
  cumulate_decays(team, a, m);
  scores(team, a, m);
  team.sync();
  team.grid(C, Kw, [&](const Index i, const Index k) { d.Ke[i * Kw + k] = m.K[i * Kw + k] * m.e[i * Kw + k]; });
  team.grid(C, C, [&](const Index i, const Index j) { d.N[i * C + j] = j < i ? d.beta[i] * d.KK[i * C + j] * m.E[i * C + j] : Real(0); });
  team.sync();
}

// m.V: V -> U.
KOKKOS_FUNCTION inline void solve_values(const Team& team, const Arguments& a, const Tiles& m, const DeltaTiles& d, const Real* S) {
  const Index C = a.C(), Vw = a.Vw();
  product(team, C, Vw, a.K, d.Ke, a.Kw(), 1, S, Vw, d.R, Vw, false);
  team.grid(C, Vw, [&](const Index i, const Index c) {
    d.R[i * Vw + c] = m.V[i * Vw + c] - d.R[i * Vw + c];
    m.V[i * Vw + c] = d.beta[i] * d.R[i * Vw + c];
  });
  team.sync();
  team.lanes(Vw, [&](const Index first) {
    Real* U = m.V + first;
    for (Index i = 1; i < C; ++i) {
      Real sum[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = U[i * Vw + l];
      for (Index j = 0; j < i; ++j)
        for (int l = 0; l < kVec; ++l) sum[l] -= d.N[i * C + j] * U[j * Vw + l];
      for (int l = 0; l < kVec; ++l) U[i * Vw + l] = sum[l];
    }
  });
  team.sync();
}

// From g.dO, load_chunk and S: g.dQ, g.dK, d.back = -dV, dbeta and the gate's gradient; moves G. (variants.md 11.8)
KOKKOS_FUNCTION inline void delta_backward(const Team& team, const Arguments& a, const Tiles& m, const Back& g, const DeltaTiles& d,
                                           const Real* S, Real* G, Index n, const Grad& dbeta, const Grad& dgate, Index row) {
  const Index C = a.C(), Kw = a.Kw(), Vw = a.Vw(), heads = a.heads;
  solve_values(team, a, m, d, S);
  transpose_tile(team, S, Kw, Vw, d.ST);
  team.sync();
  chunk_backward(team, a, m, g, d.ST, G, n);
  team.sync();
  team.lanes(Vw, [&](const Index first) {
    Real* X = g.dV + first;
    for (Index j = C - 1; j >= 0; --j) {
      Real sum[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = X[j * Vw + l];
      for (Index i = j + 1; i < C; ++i)
        for (int l = 0; l < kVec; ++l) sum[l] -= d.N[i * C + j] * X[i * Vw + l];
      for (int l = 0; l < kVec; ++l) X[j * Vw + l] = sum[l], d.back[j * Vw + first + l] = -d.beta[j] * sum[l];
    }
  });
  team.sync();
  product(team, C, C, a.V, g.dV, Vw, 1, g.Vt, C, d.dN, C, false);
  product(team, C, Kw, a.V, d.back, Vw, 1, d.ST, Kw, d.dKe, Kw, false);
  team.grid(C, C, [&](const Index i, const Index j) { d.dN[i * C + j] = j < i ? -d.dN[i * C + j] * m.E[i * C + j] : Real(0); });
  team.grid(C, Kw, [&](const Index i, const Index k) { g.dK[i * Kw + k] += m.e[i * Kw + k] * d.dKe[i * Kw + k]; });
  team.sync();
  team.grid(n, 1, [&](const Index i, const Index) {
    if (dbeta.p) dbeta(row + i * heads, dot(Vw, g.dV + i * Vw, d.R + i * Vw) + dot(C, d.dN + i * C, d.KK + i * C));
  });
  team.sync();
  if (a.kind == Gate::time) {
    team.grid(C, C, [&](const Index i, const Index j) { g.F[i * C + j] += d.beta[i] * d.dN[i * C + j] * d.KK[i * C + j]; });
    team.grid(C, 1, [&](const Index i, const Index) { g.q_sum[i] += dot(Kw, d.Ke + i * Kw, d.dKe + i * Kw); });
  }
  team.grid(C, C, [&](const Index i, const Index j) { d.dN[i * C + j] *= d.beta[i]; });
  team.sync();
  product(team, C, Kw, n, d.dN, C, 1, m.K, Kw, g.dK, Kw, true);
  product(team, C, Kw, n, d.dN, 1, C, m.K, Kw, g.dK, Kw, true);
  gate_gradient(team, a, m, g, n, dgate, row);
  chunk_carry(team, a, m, g, G, n);
  product(team, Kw, Vw, n, d.Ke, 1, Kw, d.back, Vw, G, Vw, true);
  shared_gradients(team, a, m, g, n);
}

KOKKOS_FUNCTION inline void delta_scan(const Team& team, const Arguments& a, const Tiles& m, const DeltaTiles& d, Real* S, Index n) {
  const Index Kw = a.Kw(), Vw = a.Vw(), K = a.K;
  team.lanes(Vw, [&](const Index first) {
    for (Index i = 0; i < n; ++i) {
      const Real *key = m.K + i * Kw, *query = m.Q + i * Kw, decay = m.decay[i * Kw];
      Real error[kVec], sum[kVec];
      for (int l = 0; l < kVec; ++l) error[l] = m.V[i * Vw + first + l], sum[l] = 0;
      for (Index k = 0; k < K; ++k) {
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) error[l] -= decay * key[k] * S[k * Vw + first + l];
      }
      for (int l = 0; l < kVec; ++l) error[l] *= d.beta[i];
      for (Index k = 0; k < K; ++k) {
        Real* s = S + k * Vw + first;
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) {
          s[l] = decay * s[l] + key[k] * error[l];
          sum[l] += query[k] * s[l];
        }
      }
      for (int l = 0; l < kVec; ++l) m.O[i * Vw + first + l] = sum[l];
    }
  });
}

// The same as delta_backward, step by step. d.R: errors; g.dV: G^T k; g.St: decayed states; g.Dt: adjoints of the states.
KOKKOS_FUNCTION inline void delta_scan_backward(const Team& team, const Arguments& a, const Tiles& m, const Back& g, const DeltaTiles& d,
                                                const Real* S, Real* G, Index n, const Grad& dbeta, const Grad& dgate, Index row) {
  const Index Kw = a.Kw(), Vw = a.Vw(), K = a.K, state = Kw * Vw, heads = a.heads;
  team.lanes(Vw, [&](const Index first) {
    for (Index i = 0; i < n; ++i) {
      const Real decay = m.decay[i * Kw], *key = m.K + i * Kw;
      Real error[kVec];
      for (int l = 0; l < kVec; ++l) error[l] = m.V[i * Vw + first + l];
      for (Index k = 0; k < K; ++k)
        for (int l = 0; l < kVec; ++l) {
          const Index at = k * Vw + first + l, last = (i - 1) * state + at;
          const Real before = i ? g.St[last] + d.beta[i - 1] * m.K[(i - 1) * Kw + k] * d.R[(i - 1) * Vw + first + l] : S[at];
          g.St[i * state + at] = decay * before;
          error[l] -= key[k] * decay * before;
        }
      for (int l = 0; l < kVec; ++l) d.R[i * Vw + first + l] = error[l];
    }
    for (Index i = n - 1; i >= 0; --i) {
      const Real decay = m.decay[i * Kw], *key = m.K + i * Kw, *query = m.Q + i * Kw;
      Real along[kVec];
      for (int l = 0; l < kVec; ++l) along[l] = 0;
      for (Index k = 0; k < K; ++k)
        for (int l = 0; l < kVec; ++l) {
          const Index at = k * Vw + first + l;
          const Real full = G[at] + query[k] * g.dO[i * Vw + first + l];
          g.Dt[i * state + at] = full;
          along[l] += full * key[k];
        }
      for (Index k = 0; k < K; ++k)
        for (int l = 0; l < kVec; ++l) {
          const Index at = k * Vw + first + l;
          G[at] = decay * (g.Dt[i * state + at] - d.beta[i] * key[k] * along[l]);
        }
      for (int l = 0; l < kVec; ++l) {
        g.dV[i * Vw + first + l] = along[l];
        d.back[i * Vw + first + l] = -d.beta[i] * along[l];
      }
    }
  });
  team.sync();
  team.grid(n, K, [&](const Index i, const Index k) {
    const Real *before = g.St + i * state + k * Vw, *adjoint = g.Dt + i * state + k * Vw, *error = d.R + i * Vw, *along = g.dV + i * Vw;
    const Real key = m.K[i * Kw + k], beta = d.beta[i], to_key = dot(Vw, adjoint, error), kept = dot(Vw, before, along);
    g.dQ[i * Kw + k] += dot(Vw, before, g.dO + i * Vw) + beta * key * dot(Vw, error, g.dO + i * Vw);
    g.dK[i * Kw + k] += beta * (to_key - kept);
    g.dQi[i * Kw + k] = dot(Vw, adjoint, before) - beta * key * kept;
  });
  team.sync();
  team.grid(n, 1, [&](const Index i, const Index) {
    if (dbeta.p) dbeta(row + i * heads, dot(Vw, d.R + i * Vw, g.dV + i * Vw));
    Real sum = 0;
    for (Index k = 0; k < K; ++k) sum += g.dQi[i * Kw + k];
    if (a.kind == Gate::time) dgate(row + i * heads, sum);
  });
}

// One step of a stream: S (B,heads,K,V) carried.
struct Step {
  Arguments a;
  const Real* beta;
  Real* S;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index K = a.K, V = a.V;
    const Real decay = a.gate ? exp2_decay(a.gate[row] * kLog2e) : Real(1), *key = a.k + row * K, *query = a.q + row * K;
    const Real strength = beta ? beta[row] : Real(1);
    Real error[W], sum[W];
    for (int l = 0; l < W; ++l) error[l] = a.v[row * V + first + l], sum[l] = 0;
    for (Index k = 0; k < K; ++k)
      for (int l = 0; l < W; ++l) error[l] -= decay * key[k] * S[(row * K + k) * V + first + l];
    for (Index k = 0; k < K; ++k) {
      Real* s = S + (row * K + k) * V + first;
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        s[l] = decay * s[l] + strength * key[k] * error[l];
        sum[l] += a.scale * query[k] * s[l];
      }
    }
    for (int l = 0; l < W; ++l) a.y[row * V + first + l] = sum[l];
  }
};

}  // namespace ssm::delta_rule_op
