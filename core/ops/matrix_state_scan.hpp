// matrix_state_scan.hpp - the scan view: the recurrence step by step, values as lanes; and one step of a stream.
#pragma once
#include "matrix_state.hpp"

namespace ssm::matrix_state_op {

KOKKOS_FUNCTION inline void scan_forward(const Team& team, const Arguments& a, const Tiles& m, Real* S, Index n) {
  const Index Kw = a.Kw(), Vw = a.Vw(), K = a.K;
  team.lanes(Vw, [&](const Index first) {
    for (Index i = 0; i < n; ++i) {
      const Real *decay = m.decay + i * Kw, *key = m.K + i * Kw, *query = m.Q + i * Kw, *value = m.V + i * Vw + first;
      Real sum[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = 0;
      for (Index k = 0; k < K; ++k) {
        Real* s = S + k * Vw + first;
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) {
          s[l] = decay[k] * s[l] + key[k] * value[l];
          sum[l] += query[k] * s[l];
        }
      }
      for (int l = 0; l < kVec; ++l) m.O[i * Vw + first + l] = sum[l];
    }
  });
}

// From g.dO, m.V and the state S at the start of the chunk: g.dV, shares of g.dQ, g.dK and the gate's gradient; moves G.
KOKKOS_FUNCTION inline void scan_backward(const Team& team, const Arguments& a, const Tiles& m, const Back& g, const Real* S, Real* G,
                                          Index n, const Grad& dgate, Index gate_at) {
  const Index Kw = a.Kw(), Vw = a.Vw(), K = a.K, state = Kw * Vw;
  team.lanes(Vw, [&](const Index first) {
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < K; ++k) {
        const Real *before = (i ? g.St + (i - 1) * state : S) + k * Vw + first, *value = m.V + i * Vw + first;
        const Real decay = m.decay[i * Kw + k], key = m.K[i * Kw + k];
        Real* now = g.St + i * state + k * Vw + first;
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) now[l] = decay * before[l] + key * value[l];
      }
    for (Index i = n - 1; i >= 0; --i) {
      const Real* dO = g.dO + i * Vw + first;
      Real sum[kVec];
      for (int l = 0; l < kVec; ++l) sum[l] = 0;
      for (Index k = 0; k < K; ++k) {
        const Real query = m.Q[i * Kw + k], key = m.K[i * Kw + k], decay = m.decay[i * Kw + k];
        Real *carry = G + k * Vw + first, *adjoint = g.Dt + i * state + k * Vw + first;
        SSM_INDEPENDENT
        for (int l = 0; l < kVec; ++l) {
          const Real full = carry[l] + query * dO[l];
          adjoint[l] = full;
          sum[l] += key * full;
          carry[l] = decay * full;
        }
      }
      for (int l = 0; l < kVec; ++l) g.dV[i * Vw + first + l] = sum[l];
    }
  });
  team.sync();
  Real* dlog = g.dQi;
  team.grid(n, K, [&](const Index i, const Index k) {
    const Real *now = g.St + i * state + k * Vw, *adjoint = g.Dt + i * state + k * Vw;
    const Real to_key = dot(Vw, adjoint, m.V + i * Vw);
    g.dQ[i * Kw + k] += dot(Vw, now, g.dO + i * Vw);
    g.dK[i * Kw + k] += to_key;
    dlog[i * Kw + k] = dot(Vw, adjoint, now) - m.K[i * Kw + k] * to_key;
  });
  team.sync();
  const Index heads = a.heads;
  if (a.kind == Gate::channel) team.grid(n, K, [&](const Index i, const Index k) { dgate(gate_at + i * heads * K + k, dlog[i * Kw + k]); });
  if (a.kind == Gate::time)
    team.grid(n, 1, [&](const Index i, const Index) {
      Real sum = 0;
      for (Index k = 0; k < K; ++k) sum += dlog[i * Kw + k];
      dgate(gate_at + i * heads, sum);
    });
}

// One step of a stream: S (B,heads,K,columns) carried, o (B,heads,columns) before the normaliser.
struct Step {
  Arguments a;
  Real *S, *o;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index first) const {
    const Index b = row / a.heads, h = row - b * a.heads, columns = a.columns(), K = a.K;
    const Index from = (b * a.groups + h / (a.heads / a.groups)) * K;
    const Real one = a.kind == Gate::time ? exp2_decay(a.gate[row] * kLog2e) : a.kind == Gate::head ? a.head_decay(h) : Real(1);
    const Real delta = a.delta ? a.delta[row] : Real(1);
    Real value[W], sum[W];
    for (int l = 0; l < W; ++l) value[l] = first + l < a.V ? delta * a.v[row * a.V + first + l] : Real(1), sum[l] = 0;
    for (Index k = 0; k < K; ++k) {
      const Real decay = a.kind == Gate::channel ? exp2_decay(a.gate[row * K + k] * kLog2e) : one;
      const Real key = a.k[from + k], query = a.scale * a.q[from + k];
      Real* s = S + (row * K + k) * columns + first;
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        s[l] = decay * s[l] + key * value[l];
        sum[l] += query * s[l];
      }
    }
    for (int l = 0; l < W; ++l) o[row * columns + first + l] = sum[l];
  }
};

}  // namespace ssm::matrix_state_op
