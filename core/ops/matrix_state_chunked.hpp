// matrix_state_chunked.hpp - the chunked view: products of small tiles inside a chunk, one product with the state per chunk.
//
//   A_ij = q_i . (k_j decay_ij), i >= j      O = A V + (q e) S      S' = total S + (k w)^T V
//   with G the adjoint of S':   dA = dO V^T      dV = A^T dO + (k w) G      d(q e) = dO S^T      d(k w) = V G^T      G <- total G + (q e)^T dO
// For channel gates A is made by a recurrence over steps whose lanes are the keys of the chunk; for all others by a product.
#pragma once
#include "matrix_state.hpp"

namespace ssm::matrix_state_op {

// e, w, total and the queries and keys they multiply.
KOKKOS_FUNCTION inline void cumulate_decays(const Team& team, const Arguments& a, const Tiles& m) {
  const Index Kw = a.Kw(), C = a.C();
  team.lanes(Kw, [&](const Index first) {
    Real p[kVec];
    for (int l = 0; l < kVec; ++l) p[l] = 1;
    for (Index i = 0; i < C; ++i) {
      const Index at = i * Kw + first;
      SSM_INDEPENDENT
      for (int l = 0; l < kVec; ++l) {
        const Real shrunk = p[l] * m.decay[at + l];
        p[l] = shrunk < kTiny ? Real(0) : shrunk;
        m.e[at + l] = p[l];
        m.Qe[at + l] = m.Q[at + l] * p[l];
      }
    }
    for (int l = 0; l < kVec; ++l) m.total[first + l] = p[l], p[l] = 1;
    for (Index i = C - 1; i >= 0; --i) {
      const Index at = i * Kw + first;
      SSM_INDEPENDENT
      for (int l = 0; l < kVec; ++l) {
        const Real shrunk = p[l] * m.decay[at + l];
        m.w[at + l] = p[l];
        m.Kd[at + l] = m.K[at + l] * p[l];
        p[l] = shrunk < kTiny ? Real(0) : shrunk;
      }
    }
  });
}

// A, and E where all channels of a head decay alike.
KOKKOS_FUNCTION inline void scores(const Team& team, const Arguments& a, const Tiles& m) {
  const Index C = a.C(), Kw = a.Kw(), K = a.K;
  if (a.kind == Gate::channel) {
    team.lanes(C, [&](const Index first) {
      Real* R = m.R + first;
      for (Index k = 0; k < K; ++k)
        for (int l = 0; l < kVec; ++l) R[k * C + l] = 0;
      for (Index i = 0; i < C; ++i) {
        const Real *decay = m.decay + i * Kw, *query = m.Q + i * Kw, *key = m.K + i * Kw;
        Real sum[kVec], now[kVec];
        for (int l = 0; l < kVec; ++l) sum[l] = 0, now[l] = first + l == i ? Real(1) : Real(0);
        for (Index k = 0; k < K; ++k) {
          SSM_INDEPENDENT
          for (int l = 0; l < kVec; ++l) {
            const Real seen = R[k * C + l] * decay[k] + now[l] * key[k];
            R[k * C + l] = seen;
            sum[l] += query[k] * seen;
          }
        }
        for (int l = 0; l < kVec; ++l) m.A[i * C + first + l] = sum[l];
      }
    });
    return;
  }
  team.lanes(C, [&](const Index first) {
    Real p[kVec];
    for (int l = 0; l < kVec; ++l) p[l] = 0;
    for (Index i = 0; i < C; ++i) {
      const Real decay = m.decay[i * Kw];
      const Index at = i * C + first;
      SSM_INDEPENDENT
      for (int l = 0; l < kVec; ++l) {
        const Real shrunk = p[l] * decay < kTiny ? Real(0) : p[l] * decay;
        p[l] = first + l == i ? Real(1) : shrunk;
        m.E[at + l] = p[l];
        m.A[at + l] = m.P[at + l] * p[l];
      }
    }
  });
}

// P, shared by the heads of a group.
KOKKOS_FUNCTION inline void raw_scores(const Team& team, const Arguments& a, const Tiles& m) {
  if (a.kind == Gate::channel) return;
  const Index C = a.C(), Kw = a.Kw();
  transpose_tile(team, m.K, C, Kw, m.Kt);
  team.sync();
  product(team, C, C, a.K, m.Q, Kw, 1, m.Kt, C, m.P, C, false);
}

// S -> S', from cumulate_decays.
KOKKOS_FUNCTION inline void chunk_state(const Team& team, const Arguments& a, const Tiles& m, Real* S, Index n) {
  const Index Kw = a.Kw(), Vw = a.Vw();
  team.grid(Kw, Vw, [&](const Index k, const Index c) { S[k * Vw + c] *= m.total[k]; });
  team.sync();
  product(team, Kw, Vw, n, m.Kd, 1, Kw, m.V, Vw, S, Vw, true);
}

// O of a chunk, and S -> S', from cumulate_decays and scores.
KOKKOS_FUNCTION inline void chunk_forward(const Team& team, const Arguments& a, const Tiles& m, Real* S, Index n) {
  const Index C = a.C(), Kw = a.Kw(), Vw = a.Vw();
  product(team, C, Vw, n, m.A, C, 1, m.V, Vw, m.O, Vw, false);
  product(team, C, Vw, a.K, m.Qe, Kw, 1, S, Vw, m.O, Vw, true);
  chunk_state(team, a, m, S, n);
}

// The state at the next chunk from the one at this, transposed (Vw,Kw).
KOKKOS_FUNCTION inline void chunk_advance(const Team& team, const Arguments& a, const Tiles& m, const Real* now, Real* next, Index n) {
  const Index Kw = a.Kw(), Vw = a.Vw();
  cumulate_decays(team, a, m);
  team.sync();
  team.grid(Vw, Kw, [&](const Index c, const Index k) { next[c * Kw + k] = now[c * Kw + k] * m.total[k]; });
  team.sync();
  product(team, Vw, Kw, n, m.V, 1, Vw, m.Kd, Kw, next, Kw, true);
}

// dQi, dKi: what A gives to queries and keys through channel gates; m.R, m.e hold intermediate rows.
KOKKOS_FUNCTION inline void inner_gradients(const Team& team, const Arguments& a, const Tiles& m, const Back& g) {
  const Index C = a.C(), Kw = a.Kw();
  team.lanes(Kw, [&](const Index first) {
    Real* R = m.R + first * C;  // (C,kVec)
    for (Index i = 0; i < C; ++i) {
      const Index at = i * Kw + first;
      Real sum[kVec], decay[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = 0, decay[l] = m.decay[at + l], R[i * kVec + l] = m.K[at + l];
      for (Index j = 0; j < i; ++j) {
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) {
          const Real seen = R[j * kVec + l] * decay[l];
          R[j * kVec + l] = seen;
          sum[l] += g.F[i * C + j] * seen;
        }
      }
      for (int l = 0; l < kVec; ++l) g.dQi[at + l] = sum[l] + g.F[i * C + i] * m.K[at + l];
    }
    for (Index j = C - 1; j >= 0; --j) {
      const Index at = j * Kw + first;
      Real sum[kVec], decay[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = 0, decay[l] = j + 1 < C ? m.decay[at + Kw + l] : Real(1), R[j * kVec + l] = m.Q[at + l];
      for (Index i = j + 1; i < C; ++i) {
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) {
          const Real seen = R[i * kVec + l] * decay[l];
          R[i * kVec + l] = seen;
          sum[l] += g.F[i * C + j] * seen;
        }
      }
      for (int l = 0; l < kVec; ++l) g.dKi[at + l] = sum[l] + g.F[j * C + j] * m.Q[at + l];
    }
  });
}

// Log gates of a head, F_ij = A_ij dA_ij: d_t = sum_{i >= t > j} F_ij + sum_{j < t} (k w)_j d(k w)_j + sum_{i >= t} (q e)_i d(q e)_i + total <G, S>.
// No difference of large sums but, for channel gates, inside a chunk.
KOKKOS_FUNCTION inline void time_gate_gradient(const Team& team, const Arguments& a, const Tiles& m, const Back& g, Index n, const Grad& to,
                                               Index at) {
  const Index C = a.C(), Kw = a.Kw(), heads = a.heads;
  team.lanes(C, [&](const Index first) {
    Real sum[kVec];
    for (int l = 0; l < kVec; ++l) sum[l] = 0;
    for (Index t = C - 1; t >= 0; --t)
      for (int l = 0; l < kVec; ++l) {
        sum[l] += g.F[t * C + first + l];
        g.F[t * C + first + l] = first + l < t ? sum[l] : Real(0);
      }
  });
  team.sync();
  team.grid(n, 1, [&](const Index t, const Index) { g.inner[t] = dot(C, g.F + t * C, g.ones); });
  team.sync();
  team.once([&] {
    Real before = dot(Kw, g.GS, m.total);
    for (Index t = 0; t < n; ++t) {
      g.inner[t] += before;
      before += g.k_sum[t];
    }
    Real after = 0;
    for (Index t = n - 1; t >= 0; --t) {
      after += g.q_sum[t];
      to(at + t * heads, g.inner[t] + after);
    }
  });
}
KOKKOS_FUNCTION inline void channel_gate_gradient(const Team& team, const Arguments& a, const Tiles& m, const Back& g, Index n,
                                                  const Grad& to, Index at) {
  const Index Kw = a.Kw(), K = a.K, ld = a.heads * a.K;
  team.lanes(Kw, [&](const Index first) {
    Real before[kVec], after[kVec];
    for (int l = 0; l < kVec; ++l) before[l] = m.total[first + l] * g.GS[first + l], after[l] = 0;
    for (Index t = 0; t < n; ++t)
      for (int l = 0; l < kVec; ++l) {
        const Index i = t * Kw + first + l;
        m.w[i] = before[l];
        before[l] += m.Kd[i] * g.dKd[i];
      }
    for (Index t = n - 1; t >= 0; --t)
      for (int l = 0; l < kVec; ++l) {
        const Index i = t * Kw + first + l;
        after[l] += m.Q[i] * g.dQi[i] - m.K[i] * g.dKi[i] + m.Qe[i] * g.dQe[i];
        if (first + l < K) to(at + t * ld + first + l, m.w[i] + after[l]);
      }
  });
}

// From g.dO, m.V and ST, the state at the start of the chunk, transposed: g.dV, and shares of g.dQ, g.dK. Leaves what gate_gradient reads.
KOKKOS_FUNCTION inline void chunk_backward(const Team& team, const Arguments& a, const Tiles& m, const Back& g, const Real* ST,
                                           const Real* G, Index n) {
  const Index C = a.C(), Kw = a.Kw(), Vw = a.Vw();
  transpose_tile(team, G, Kw, Vw, g.GT);
  transpose_tile(team, m.V, C, Vw, g.Vt);
  team.sync();
  product(team, C, Vw, n, m.A, 1, C, g.dO, Vw, g.dV, Vw, false);
  product(team, C, Vw, a.K, m.Kd, Kw, 1, G, Vw, g.dV, Vw, true);
  product(team, C, Kw, a.columns(), g.dO, Vw, 1, ST, Kw, g.dQe, Kw, false);
  product(team, C, Kw, a.columns(), m.V, Vw, 1, g.GT, Kw, g.dKd, Kw, false);
  product(team, C, C, a.columns(), g.dO, Vw, 1, g.Vt, C, g.F, C, false);
  team.grid(C, Kw, [&](const Index i, const Index k) {
    g.dQ[i * Kw + k] += m.e[i * Kw + k] * g.dQe[i * Kw + k];
    g.dK[i * Kw + k] += m.w[i * Kw + k] * g.dKd[i * Kw + k];
  });
  if (a.kind == Gate::time || a.kind == Gate::channel)
    team.lanes(Kw, [&](const Index first) {
      Real sum[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = 0;
      for (Index c = 0; c < Vw; ++c)
        for (int l = 0; l < kVec; ++l) sum[l] += g.GT[c * Kw + first + l] * ST[c * Kw + first + l];
      for (int l = 0; l < kVec; ++l) g.GS[first + l] = sum[l];
    });
  team.sync();
  if (a.kind == Gate::channel) {
    inner_gradients(team, a, m, g);
    team.sync();
    team.grid(C, Kw, [&](const Index i, const Index k) {
      g.dQ[i * Kw + k] += g.dQi[i * Kw + k];
      g.dK[i * Kw + k] += g.dKi[i * Kw + k];
    });
    return;
  }
  team.grid(C, C, [&](const Index i, const Index j) { g.dP[i * C + j] += m.E[i * C + j] * g.F[i * C + j]; });
  if (a.kind != Gate::time) return;
  team.sync();
  team.grid(C, C, [&](const Index i, const Index j) { g.F[i * C + j] *= m.A[i * C + j]; });
  team.grid(C, 1, [&](const Index i, const Index) {
    g.q_sum[i] = dot(Kw, m.Qe + i * Kw, g.dQe + i * Kw);
    g.k_sum[i] = dot(Kw, m.Kd + i * Kw, g.dKd + i * Kw);
    g.ones[i] = 1;
  });
}

KOKKOS_FUNCTION inline void gate_gradient(const Team& team, const Arguments& a, const Tiles& m, const Back& g, Index n, const Grad& to,
                                          Index at) {
  team.sync();
  if (a.kind == Gate::time) time_gate_gradient(team, a, m, g, n, to, at);
  if (a.kind == Gate::channel) channel_gate_gradient(team, a, m, g, n, to, at);
  team.sync();
}

// G, the adjoint of the state that a chunk leaves -> of the state it starts from.
KOKKOS_FUNCTION inline void chunk_carry(const Team& team, const Arguments& a, const Tiles& m, const Back& g, Real* G, Index n) {
  const Index Kw = a.Kw(), Vw = a.Vw();
  team.grid(Kw, Vw, [&](const Index k, const Index c) { G[k * Vw + c] *= m.total[k]; });
  team.sync();
  product(team, Kw, Vw, n, m.Qe, 1, Kw, g.dO, Vw, G, Vw, true);
}

// Queries and keys of all heads of the item through P.
KOKKOS_FUNCTION inline void shared_gradients(const Team& team, const Arguments& a, const Tiles& m, const Back& g, Index n) {
  if (a.kind == Gate::channel) return;
  const Index C = a.C(), Kw = a.Kw();
  product(team, C, Kw, n, g.dP, C, 1, m.K, Kw, g.dQ, Kw, true);
  product(team, C, Kw, n, g.dP, 1, C, m.Q, Kw, g.dK, Kw, true);
}

}  // namespace ssm::matrix_state_op
