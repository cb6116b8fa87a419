// complex_selective_scan_kernels.hpp - the two kernels of complex_selective_scan.cpp: W channels at a time, lanes fastest, time in order.
//
// An array of N modes of W channels has 2N rows of W lanes: re and im of one mode after the other.
#pragma once
#include "ops/selective_scan_kernels.hpp"
#include "sine_cosine.hpp"

namespace ssm::complex_selective_scan_op {

using selective_scan_op::fold;
using selective_scan_op::gather;
using selective_scan_op::kChunk;
using selective_scan_op::kFoldMost;
using selective_scan_op::kFoldOf;
using selective_scan_op::kLog2e;
using selective_scan_op::Outputs;  // without dz; rows of dB, dC and of what A, B and C leave in `partial`: re and im of N modes
using selective_scan_op::run_groups;
using selective_scan_op::sums_of_channel;
using selective_scan_op::unfold;
using C1 = Complex<Real>;

// Numbers per lane of a forward item: A, B, C, h, exp(delta A).
SSM_FN Index forward_work(Index N) { return 10 * N; }
// Of a backward item: A, B, C, lambda, dB, dC, the state before a chunk; every h and exp(delta A) of a chunk, and four rows of it; bias, D,
// zeros; folded dB and dC.
SSM_FN Index work_of_item(Index W, Index N) { return W * (14 * N + kChunk * (4 * N + 4) + 3) + 4 * kChunk * N * kFoldMost; }

struct Inputs {
  const Real *u, *raw, *B, *C, *A_log, *A_imag, *D, *bias;  // raw: null where absent; B, C: (B,T,N,2), or (E,N,2) parameters
  Real *boundary, *work;                                    // boundary (B,chunks,E,2N) in lane order, null in evaluation
  Index T, E, N, chunks;
  bool selects_B, selects_C;
  const Real* starts;  // (B,T) of sequence_starts(), null: one sequence a row
};

template <int W>
SSM_FN C1 get(const Real* x, Index k, int l) {
  return {x[2 * k * W + l], x[(2 * k + 1) * W + l]};
}
template <int W>
SSM_FN void put(Real* x, Index k, int l, C1 value) {
  x[2 * k * W + l] = value.re;
  x[(2 * k + 1) * W + l] = value.im;
}
// Re(conj(a) b)
SSM_FN Real inner(C1 a, C1 b) { return a.re * b.re + a.im * b.im; }

template <int W>
SSM_FN void clear(Real* x, Index rows) {
  for (Index k = 0; k < rows * W; ++k) x[k] = 0;
}
// What one position gives to all channels.
template <int W>
SSM_FN void spread(const Real* from, Index rows, Real* to) {
  for (Index k = 0; k < rows; ++k)
    for (int l = 0; l < W; ++l) to[k * W + l] = from[k];
}
template <int W>
SSM_FN void eigenvalues(const Inputs& p, Index first, Real* A) {
  for (Index k = 0; k < p.N; ++k)
    for (int l = 0; l < W; ++l) put<W>(A, k, l, {-fast_exp(p.A_log[(first + l) * p.N + k]), p.A_imag[(first + l) * p.N + k]});
}

// a = exp(delta A)     h = a before + du B
template <int W>
SSM_FN void advance(Index N, const Real* A, const Real* B, const Real* delta, const Real* du, const Real* before, Real* a, Real* h) {
  for (Index k = 0; k < N; ++k) {
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const C1 rate = get<W>(A, k, l);
      const SineCosine<Real> turn = sine_cosine(delta[l] * rate.im);
      const C1 factor = exp2_decay(kLog2e * (delta[l] * rate.re)) * C1{turn.cosine, turn.sine};
      put<W>(a, k, l, factor);
      put<W>(h, k, l, factor * get<W>(before, k, l) + du[l] * get<W>(B, k, l));
    }
  }
}

struct Forward {
  Inputs p;
  Real *y, *carried;  // carried (B,E,N,2): the state of a stream, null for whole sequences

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index first) const {
    const Index T = p.T, E = p.E, N = p.N, rows = 2 * N;
    Real* A = p.work + (b * E + first) * forward_work(N);
    Real *B = A + rows * W, *C = B + rows * W, *h = C + rows * W, *a = h + rows * W;
    eigenvalues<W>(p, first, A);
    if (!p.selects_B) gather<W>(p.B, first, rows, B);
    if (!p.selects_C) gather<W>(p.C, first, rows, C);
    if (carried) gather<W>(carried + b * E * rows, first, rows, h);
    else clear<W>(h, rows);

    for (Index t = 0; t < T; ++t) {
      if (starts_at(p.starts, T, b, t)) clear<W>(h, rows);
      if (p.boundary && t % kChunk == 0) {
        Real* to = p.boundary + ((b * p.chunks + t / kChunk) * E + first) * rows;
        for (Index k = 0; k < rows * W; ++k) to[k] = h[k];
      }
      const Index row = b * T + t, at = row * E + first;
      if (p.selects_B) spread<W>(p.B + row * rows, rows, B);
      if (p.selects_C) spread<W>(p.C + row * rows, rows, C);
      Real delta[W], du[W], sum[W];
      for (int l = 0; l < W; ++l) {
        delta[l] = softplus((p.raw ? p.raw[at + l] : Real(0)) + p.bias[first + l]);
        du[l] = delta[l] * p.u[at + l];
        sum[l] = p.D[first + l] * p.u[at + l];
      }
      advance<W>(N, A, B, delta, du, h, a, h);
      for (Index k = 0; k < N; ++k) {
        SSM_INDEPENDENT
        for (int l = 0; l < W; ++l) sum[l] += 2 * (get<W>(h, k, l) * get<W>(C, k, l)).re;
      }
      for (int l = 0; l < W; ++l) y[at + l] = sum[l];
    }
    if (carried)
      for (Index k = 0; k < rows; ++k)
        for (int l = 0; l < W; ++l) carried[(b * E + first + l) * rows + k] = h[k * W + l];
  }
};

// One item = one sequence and one block of channels, its groups of lanes one after the other.
struct Backward {
  Inputs p;
  Outputs o;

  KOKKOS_FUNCTION void operator()(const Index i) const { run_groups(*this, i, p.E, o.blocks); }

  struct Group {
    Index b, first;
    Real *A, *B, *C, *lambda, *toB, *toC, *start;
    Real *h, *a;                   // (kChunk,2N,W)
    Real *delta, *slope, *u, *dy;  // (kChunk,W)
    Real *bias, *skip, *zero, *foldB, *foldC, *sums;
  };

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index block, Index first, bool fresh) const {
    const Index E = p.E, rows = 2 * p.N, size = rows * W;
    Group g;
    g.b = b, g.first = first;
    Real* next = p.work + (b * o.blocks + block) * work_of_item(kLanes, p.N);
    for (Real** part : {&g.A, &g.B, &g.C, &g.lambda, &g.toB, &g.toC, &g.start}) *part = next, next += size;
    for (Real** part : {&g.h, &g.a}) *part = next, next += kChunk * size;
    for (Real** part : {&g.delta, &g.slope, &g.u, &g.dy}) *part = next, next += kChunk * W;
    for (Real** part : {&g.bias, &g.skip, &g.zero}) *part = next, next += W;
    g.foldB = next, g.foldC = next + kChunk * rows * kFoldOf<W>;
    g.sums = o.partial + (b * E + first) * sums_of_channel(rows);
    eigenvalues<W>(p, first, g.A);
    if (!p.selects_B) gather<W>(p.B, first, rows, g.B);
    if (!p.selects_C) gather<W>(p.C, first, rows, g.C);
    for (int l = 0; l < W; ++l) g.bias[l] = p.bias[first + l], g.skip[l] = p.D[first + l], g.zero[l] = 0;
    clear<W>(g.lambda, rows);
    clear<W>(g.sums, sums_of_channel(rows));

    for (Index chunk = p.chunks - 1; chunk >= 0; --chunk) {
      const Index t0 = chunk * kChunk, length = p.T - t0 < kChunk ? p.T - t0 : kChunk;
      const Real* from = p.boundary + ((b * p.chunks + chunk) * E + first) * rows;
      for (Index k = 0; k < size; ++k) g.start[k] = from[k];
      for (Index q = 0; q < length; ++q) again<W>(g, t0 + q, q);
      for (Index q = length - 1; q >= 0; --q) back<W>(g, t0 + q, q);
      const Index place = ((block * o.batch + b) * p.T + t0) * rows;
      if (p.selects_B) unfold<W>(g.foldB, length * rows, fresh, o.dB + place);
      if (p.selects_C) unfold<W>(g.foldC, length * rows, fresh, o.dC + place);
    }
    for (Index k = 0; k < p.N; ++k)
      for (int l = 0; l < W; ++l) g.sums[2 * k * W + l] *= g.A[2 * k * W + l];  // dRe A -> dA_log
  }

  // Step t, the q-th of its chunk, forward again: fills h, a and the rows.
  template <int W>
  KOKKOS_FUNCTION void again(const Group& g, Index t, Index q) const {
    const Index rows = 2 * p.N, row = g.b * p.T + t, at = row * p.E + g.first;
    const Real *raw = p.raw ? p.raw + at : g.zero, *u = p.u + at, *before = q ? g.h + (q - 1) * rows * W : g.start;
    Real *delta = g.delta + q * W, du[W];
    if (q && starts_at(p.starts, p.T, g.b, t)) {
      clear<W>(g.start, rows);  // read for the last time at q = 0
      before = g.start;
    }
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const Real x = raw[l] + g.bias[l];
      delta[l] = softplus(x);
      du[l] = delta[l] * u[l];
      g.slope[q * W + l] = softplus_slope(x);
      g.u[q * W + l] = u[l];
      g.dy[q * W + l] = o.dy[at + l];
    }
    if (p.selects_B) spread<W>(p.B + row * rows, rows, g.B);
    advance<W>(p.N, g.A, g.B, delta, du, before, g.a + q * rows * W, g.h + q * rows * W);
  }

  // Step t back. lambda holds conj(exp(delta_{t+1} A)) lambda_{t+1} on entry, conj(exp(delta_t A)) lambda_t on return.
  template <int W>
  KOKKOS_FUNCTION void back(const Group& g, Index t, Index q) const {
    const Index rows = 2 * p.N, size = rows * W, row = g.b * p.T + t, at = row * p.E + g.first;
    const Real *h = g.h + q * size, *a = g.a + q * size;
    Real *dA = g.sums, *dD = dA + size, *dbias = dD + W, *dB = dbias + W, *dC = dB + size;
    if (p.selects_B) spread<W>(p.B + row * rows, rows, g.B);
    if (p.selects_C) spread<W>(p.C + row * rows, rows, g.C);
    Real delta[W], u[W], du[W], dy[W], along_B[W], along_A[W];
    for (int l = 0; l < W; ++l) {
      delta[l] = g.delta[q * W + l], u[l] = g.u[q * W + l], dy[l] = g.dy[q * W + l];
      du[l] = delta[l] * u[l];
      along_B[l] = along_A[l] = 0;
    }
    for (Index k = 0; k < p.N; ++k) {
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const C1 Bk = get<W>(g.B, k, l), now = get<W>(h, k, l), decay = get<W>(a, k, l), rate = get<W>(g.A, k, l);
        const C1 full = get<W>(g.lambda, k, l) + 2 * dy[l] * conj(get<W>(g.C, k, l));
        const C1 turn = full * conj(now - du[l] * Bk);  // lambda conj(r)
        along_B[l] += inner(full, Bk);
        along_A[l] += inner(turn, rate);
        put<W>(dA, k, l, get<W>(dA, k, l) + delta[l] * turn);
        put<W>(g.lambda, k, l, conj(decay) * full);
        put<W>(g.toB, k, l, du[l] * full);
        put<W>(g.toC, k, l, 2 * dy[l] * conj(now));
      }
    }
    if (starts_at(p.starts, p.T, g.b, t)) clear<W>(g.lambda, rows);
    hand_over<W>(p.selects_B, g.toB, g.foldB + q * rows * kFoldOf<W>, dB);
    hand_over<W>(p.selects_C, g.toC, g.foldC + q * rows * kFoldOf<W>, dC);
    for (int l = 0; l < W; ++l) {
      const Real draw = (u[l] * along_B[l] + along_A[l]) * g.slope[q * W + l];
      o.du(at + l, g.skip[l] * dy[l] + delta[l] * along_B[l]);
      if (p.raw) o.draw(at + l, draw);
      dD[l] += dy[l] * u[l];
      dbias[l] += draw;
    }
  }

  // The gradient of a position's B or C: to the sum over its channels, or over the positions of a parameter.
  template <int W>
  KOKKOS_FUNCTION void hand_over(bool selects, const Real* x, Real* folded, Real* sums) const {
    if (selects) return fold<W>(x, 2 * p.N, folded);
    for (Index k = 0; k < 2 * p.N * W; ++k) sums[k] += x[k];
  }
};

}  // namespace ssm::complex_selective_scan_op
