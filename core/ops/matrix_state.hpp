// matrix_state.hpp - what both views of matrix_state.cpp work on: one work item's place, its tiles, and the decays of a chunk.
//
// Decays are products of factors in (0,1], taken step by step inside a chunk: no difference of cumulative sums, nothing above 1, and one
// exponential per gate. The products are what e^{b_i - b_j} is, b the cumulative log gates; 0 where they underflow.
#pragma once
#include "lib/tile.hpp"
#include "math.hpp"

namespace ssm::matrix_state_op {

// Steps worked on at once. A step costs 2 C (K + V) operations inside the chunk and 4 K V with the state. CPU: 32 keeps the first below the
// second from K = V = 32 on, and the tiles in the first-level cache. GPU: twice as many, for a team has 256 threads to feed.
constexpr Index kChunk = kOnHost ? 32 : 64;
// Steps between saved states of the scan view, which holds K V numbers of every step of a chunk.
constexpr Index kScanChunk = kOnHost ? 16 : 4;
constexpr Real kLog2e = Real(1.4426950408889634);
constexpr Real kTiny = Real(1e-30);        // products of decays below it are 0: denormal numbers would be slow
constexpr Real kNormaliser = Real(1e-10);  // added to the normaliser

enum class Gate { none, head, time, channel };

struct Arguments {
  const Real *q, *k, *v, *gate, *delta, *skip;  // absent: null
  Real *y, *den, *work, *states;                // den (B,T,heads); states (B,chunks,heads,Kw,Vw)
  Index B, T, heads, groups, K, V, blocks, of_item;
  Real scale;
  double decay_first, decay_step;
  Gate kind;
  bool normalise, scan;

  SSM_FN Index C() const { return scan ? kScanChunk : kChunk; }
  SSM_FN Index chunks() const { return (T + C() - 1) / C(); }
  SSM_FN Index columns() const { return V + (normalise ? 1 : 0); }  // the normaliser is a column of values that are all 1
  // Widths of tiles: whole registers.
  SSM_FN Index Kw() const { return round_up(K, kVec); }
  SSM_FN Index Vw() const { return round_up(columns(), kVec); }
  SSM_FN Real head_decay(Index h) const { return Real(1 - ::exp2(-(decay_first + decay_step * static_cast<double>(h)))); }
  SSM_FN Real* state(Index b, Index chunk, Index h) const { return states + ((b * chunks() + chunk) * heads + h) * Kw() * Vw(); }
};

// A work item: some heads of one group of one sequence.
struct Place {
  Index b, group, block, first, last;
  SSM_FN Place(const Arguments& a, Index item) {
    const Index of_group = a.heads / a.groups;
    b = item / (a.groups * a.blocks);
    group = item / a.blocks % a.groups;
    block = item % a.blocks;
    first = group * of_group + of_group * block / a.blocks;
    last = group * of_group + of_group * (block + 1) / a.blocks;
  }
};
// The most heads a work item has.
inline Index most_heads(const Arguments& a) { return (a.heads / a.groups + a.blocks - 1) / a.blocks; }

// Rows of the tiles are steps of a chunk: Q, K, decay, e, w, Qe, Kw (C,Kw); V, O (C,Vw); P, E, A (C,C).
struct Tiles {
  Real *Q, *K, *Kt, *V, *O;
  Real *decay, *e, *w;  // of a step; from the start of the chunk to after the step; from after the step to the end of the chunk
  Real* total;          // (Kw): e of the last step
  Real *Qe, *Kd;        // Q e, K w
  Real *P, *E, *A;      // Q K^T; decays between two steps, 0 above the diagonal; P E
  Real* R;              // (Kw,C): keys as a step sees them; channel gates only
  KOKKOS_FUNCTION Tiles(const Arguments& a, TileMemory& memory) {
    const Index C = a.C(), wide = C * a.Kw(), square = a.scan ? 0 : C * C;
    for (Real** tile : {&Q, &K, &Kt, &decay, &e, &w, &Qe, &Kd, &R}) *tile = memory.take(wide);
    for (Real** tile : {&V, &O}) *tile = memory.take(C * a.Vw());
    for (Real** tile : {&P, &E, &A}) *tile = memory.take(square);
    total = memory.take(a.Kw());
  }
};

KOKKOS_FUNCTION inline void load_queries(const Team& team, const Arguments& a, const Place& at, Index t0, Index n, const Tiles& m) {
  const Index ld = a.groups * a.K, from = (at.b * a.T + t0) * ld + at.group * a.K;
  load_tile(team, a.q + from, ld, n, a.K, a.scale, a.C(), a.Kw(), m.Q);
  load_tile(team, a.k + from, ld, n, a.K, Real(1), a.C(), a.Kw(), m.K);
}

// Values times delta, and ones for the normaliser.
KOKKOS_FUNCTION inline void load_values(const Team& team, const Arguments& a, const Place& at, Index h, Index t0, Index n, const Tiles& m) {
  const Index ld = a.heads * a.V, row = at.b * a.T + t0, V = a.V, heads = a.heads, Vw = a.Vw();
  const Real *from = a.v + row * ld + h * V, *delta = a.delta ? a.delta + row * heads + h : nullptr;
  const Real last = a.normalise ? Real(1) : Real(0);
  Real* to = m.V;
  team.grid(a.C(), Vw, [&](const Index i, const Index c) {
    const Real scaled = i < n && c < V ? from[i * ld + c] * (delta ? delta[i * heads] : Real(1)) : Real(0);
    to[i * Vw + c] = i < n && c == V ? last : scaled;
  });
}

KOKKOS_FUNCTION inline void load_decays(const Team& team, const Arguments& a, const Place& at, Index h, Index t0, Index n, const Tiles& m) {
  const Index Kw = a.Kw(), K = a.K, row = at.b * a.T + t0, heads = a.heads;
  Real* to = m.decay;
  if (a.kind == Gate::channel) {
    const Real* from = a.gate + (row * heads + h) * K;
    team.grid(a.C(), Kw, [&](const Index i, const Index k) {
      const Real log2_decay = i < n && k < K ? from[i * heads * K + k] * kLog2e : Real(0);
      to[i * Kw + k] = exp2_decay(log2_decay);
    });
    return;
  }
  const Real* from = a.kind == Gate::time ? a.gate + row * heads + h : nullptr;
  const Real constant = a.kind == Gate::head ? a.head_decay(h) : Real(1);
  team.grid(a.C(), 1, [&](const Index i, const Index) {
    const Real decay = i >= n ? Real(1) : from ? exp2_decay(from[i * heads] * kLog2e) : constant;
    for (Index k = 0; k < Kw; ++k) to[i * Kw + k] = decay;
  });
}

// O -> y: divided by the normaliser, plus D x.
KOKKOS_FUNCTION inline void store_outputs(const Team& team, const Arguments& a, const Place& at, Index h, Index t0, Index n,
                                          const Tiles& m) {
  const Index ld = a.heads * a.V, row = at.b * a.T + t0, V = a.V, Vw = a.Vw(), heads = a.heads;
  const Real *O = m.O, *x = a.v + row * ld + h * V, skip = a.skip ? a.skip[h] : Real(0);
  Real *y = a.y + row * ld + h * V, *den = a.den ? a.den + row * heads + h : nullptr;
  const bool normalise = a.normalise;
  team.grid(n, V, [&](const Index i, const Index c) {
    const Real o = normalise ? O[i * Vw + c] / (O[i * Vw + V] + kNormaliser) : O[i * Vw + c];
    y[i * ld + c] = o + skip * x[i * ld + c];
  });
  if (den) team.grid(n, 1, [&](const Index i, const Index) { den[i * heads] = O[i * Vw + V] + kNormaliser; });
}

struct Gradients {
  const Real* dy;
  Grad dq, dk, dv, dgate, ddelta;
  Real *q_parts, *k_parts;  // (blocks,B,T,groups K) where several items share a group, else null
  Real* skip_parts;         // (B,heads); on tiles (B,chunks,heads)
};

// Tiles of a backward pass.
struct Back {
  Real *dQ, *dK;      // (C,Kw), over the heads of the item
  Real *dO, *dV, *X;  // (C,Vw); X: values without delta
  Real *G, *GT;       // (heads,Kw,Vw), its transpose for one head: the adjoint of the state that a chunk leaves
  Real *dQe, *dKd;    // (C,Kw), through the state
  Real *Vt, *F, *dP;  // (Vw,C), (C,C), (C,C)
  Real *dQi, *dKi;    // (C,Kw), inside the chunk; channel gates only
  Real *GS, *q_sum, *k_sum, *inner, *ones;
  Real *St, *Dt;  // (C,Kw,Vw): state and its adjoint at every step; scan view only
  Real* skip;     // (heads)
  KOKKOS_FUNCTION Back(const Arguments& a, Index heads, TileMemory& memory) {
    const Index C = a.C(), wide = C * a.Kw(), square = a.scan ? 0 : C * C, state = a.Kw() * a.Vw();
    for (Real** tile : {&dQ, &dK, &dQe, &dKd, &dQi, &dKi}) *tile = memory.take(wide);
    for (Real** tile : {&dO, &dV, &X, &Vt}) *tile = memory.take(C * a.Vw());
    for (Real** tile : {&F, &dP}) *tile = memory.take(square);
    for (Real** tile : {&q_sum, &k_sum, &inner, &ones}) *tile = memory.take(C);
    for (Real** tile : {&St, &Dt}) *tile = memory.take(a.scan ? C * state : 0);
    G = memory.take(heads * state);
    GT = memory.take(state);
    GS = memory.take(a.Kw());
    skip = memory.take(heads);
  }
};

}  // namespace ssm::matrix_state_op
