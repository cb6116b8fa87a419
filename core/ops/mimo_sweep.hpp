// mimo_sweep.hpp - the kernels of mimo_scan that run everywhere: the scan in chunks, either way, and what passes it by (mimo_scan.cpp has the
// formulas).
#pragma once
#include "launch.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "ops/starts.hpp"

namespace ssm::mimo_scan_op {

constexpr Index kChunk = kOnHost ? 64 : 32;     // steps, a power of two
constexpr Index kAhead = 8;                     // steps whose loads a GPU's thread has on their way: results may lie where they read from
constexpr Index kEndsAhead = kOnHost ? 8 : 32;  // chunks, the same of Carry

// x_t = a x_{t -+ 1} + from_t, with a = lambda, or its conjugate for an adjoint.
struct Sweep {
  const Real *lambda, *from;
  Real *to, *carry;  // carry (B, chunks, 2p): state before a chunk, or null: 0
  const Real* seen;  // adjoint: the states of the forward pass; else null
  Real* parts;       // adjoint: (B * chunks, 2p), sums of dlambda
  Index T, p, from_row, to_row, chunk, chunks;
  bool reversed, adjoint;
  const Real* starts;  // (B,T) of sequence_starts(), null: one sequence a row; one chunk, the direction from the start

  template <int W>
  struct State {
    Real re[W], im[W];
  };
  // One step from in (re) and in + plane (im).
  template <int W>
  KOKKOS_FUNCTION static void advance(const Real (&a)[4][W], const Real* in, Index plane, State<W>& s) {
    for (int l = 0; l < W; ++l) {
      const Real x = s.re[l], y = s.im[l];
      s.re[l] = a[0][l] * x - a[1][l] * y + (a[2][l] * x - a[3][l] * y + in[l]);
      s.im[l] = a[0][l] * y + a[1][l] * x + (a[2][l] * y + a[3][l] * x + in[plane + l]);
    }
  }
  KOKKOS_FUNCTION const Real* row(Index b, Index t) const { return from + (b * T + t) * from_row; }
  template <int W>
  KOKKOS_FUNCTION void load(Index n0, Real (&a)[4][W]) const {
    for (int k = 0; k < 4; ++k)
      for (int l = 0; l < W; ++l) a[k][l] = (adjoint && k % 2 ? Real(-1) : Real(1)) * lambda[k * p + n0 + l];
  }
  // Position i of chunk c, in the order of the sweep.
  KOKKOS_FUNCTION Index time(Index c, Index i) const {
    const Index first = c * chunk, last = first + chunk < T ? first + chunk : T;
    return reversed ? last - 1 - i : first + i;
  }
  KOKKOS_FUNCTION Index steps(Index c) const { return T - c * chunk < chunk ? T - c * chunk : chunk; }
};

// The last state of every chunk run from 0.
struct Ends {
  Sweep s;
  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index n0) const {
    const Index b = row / s.chunks, c = row - b * s.chunks, count = s.steps(c);
    Real a[4][W];
    s.load<W>(n0, a);
    Sweep::State<W> state;
    for (int l = 0; l < W; ++l) state.re[l] = state.im[l] = 0;
    if constexpr (kOnHost) {
      for (Index i = 0; i < count; ++i) Sweep::advance<W>(a, s.row(b, s.time(c, i)) + n0, s.p, state);
    } else {
      for (Index i = 0; i < count; i += kAhead) {
        Real in[kAhead][2];
        for (Index q = 0; q < kAhead; ++q) {
          const Real* at = s.row(b, s.time(c, i + q < count ? i + q : count - 1)) + n0;
          in[q][0] = at[0], in[q][1] = at[s.p];
        }
        for (Index q = 0; q < kAhead; ++q)
          if (i + q < count) Sweep::advance<W>(a, in[q], 1, state);
      }
    }
    Real* out = s.carry + row * 2 * s.p + n0;
    for (int l = 0; l < W; ++l) out[l] = state.re[l], out[s.p + l] = state.im[l];
  }
};

// From the ends to the states before each chunk.
struct Carry {
  Sweep s;
  KOKKOS_FUNCTION void operator()(const Index i) const {
    const Index b = i / s.p, k = i - b * s.p;
    const Complex<Wide> a{static_cast<Wide>(s.lambda[k]) + static_cast<Wide>(s.lambda[2 * s.p + k]),
                          static_cast<Wide>(s.lambda[s.p + k]) + static_cast<Wide>(s.lambda[3 * s.p + k])};
    Complex<Wide> power = s.adjoint ? conj(a) : a;
    for (Index q = 1; q < kChunk; q *= 2) power = power * power;
    Complex<Wide> before{0, 0};
    for (Index first = 0; first < s.chunks; first += kEndsAhead) {
      Real re[kEndsAhead], im[kEndsAhead];
      const auto place = [&](Index q) { return s.carry + (b * s.chunks + (s.reversed ? s.chunks - 1 - q : q)) * 2 * s.p + k; };
      for (Index q = 0; q < kEndsAhead; ++q) {
        const Real* end = place(first + q < s.chunks ? first + q : s.chunks - 1);
        re[q] = end[0], im[q] = end[s.p];
      }
      for (Index q = 0; q < kEndsAhead; ++q) {
        if (first + q >= s.chunks) break;
        Real* to = place(first + q);
        to[0] = static_cast<Real>(before.re);
        to[s.p] = static_cast<Real>(before.im);
        before = power * before + Complex<Wide>{static_cast<Wide>(re[q]), static_cast<Wide>(im[q])};
      }
    }
  }
};

struct Fill {
  Sweep s;
  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index n0) const {
    const Index b = row / s.chunks, c = row - b * s.chunks, count = s.steps(c);
    Real a[4][W], sum_re[W], sum_im[W];
    s.load<W>(n0, a);
    Sweep::State<W> state;
    const Real* before = s.carry + row * 2 * s.p + n0;
    for (int l = 0; l < W; ++l) {
      state.re[l] = s.chunks > 1 ? before[l] : Real(0);
      state.im[l] = s.chunks > 1 ? before[s.p + l] : Real(0);
      sum_re[l] = sum_im[l] = 0;
    }
    // One step from `in`, with the forward state x that lambda multiplied in it, null: none; both as rows with im a plane behind re.
    const auto step = [&](Index i, const Real* in, const Real* x, Index plane) {
      const Index t = s.time(c, i);
      if (s.starts && i > 0 && starts_at(s.starts, s.T, b, s.adjoint ? t + 1 : t))
        for (int l = 0; l < W; ++l) state.re[l] = state.im[l] = 0;
      Sweep::advance<W>(a, in, plane, state);
      Real* out = s.to + (b * s.T + t) * s.to_row + n0;
      for (int l = 0; l < W; ++l) out[l] = state.re[l], out[s.p + l] = state.im[l];
      if (!x) return;
      for (int l = 0; l < W; ++l) {
        sum_re[l] += state.re[l] * x[l] + state.im[l] * x[plane + l];
        sum_im[l] += state.im[l] * x[l] - state.re[l] * x[plane + l];
      }
    };
    const auto prior = [&](Index i) -> const Real* {
      const Index t = s.time(c, i), other = s.reversed ? t - 1 : t + 1;
      if (!s.adjoint || other < 0 || other >= s.T || starts_at(s.starts, s.T, b, t)) return nullptr;
      return s.seen + (b * s.T + other) * s.to_row + n0;
    };
    if constexpr (kOnHost) {
      for (Index i = 0; i < count; ++i) step(i, s.row(b, s.time(c, i)) + n0, prior(i), s.p);
    } else {
      for (Index i = 0; i < count; i += kAhead) {
        Real in[kAhead][2], x[kAhead][2];
        for (Index q = 0; q < kAhead; ++q) {
          const Index at = i + q < count ? i + q : count - 1;
          const Real *from = s.row(b, s.time(c, at)) + n0, *state_then = prior(at);
          in[q][0] = from[0], in[q][1] = from[s.p];
          x[q][0] = state_then ? state_then[0] : Real(0), x[q][1] = state_then ? state_then[s.p] : Real(0);
        }
        for (Index q = 0; q < kAhead; ++q)
          if (i + q < count) step(i + q, in[q], x[q], 1);
      }
    }
    if (!s.adjoint) return;
    Real* part = s.parts + row * 2 * s.p + n0;
    for (int l = 0; l < W; ++l) part[l] = sum_re[l], part[s.p + l] = sum_im[l];
  }
};

// du (+)= D dy and the sums of dy u over the rows of every piece, part (splits,H): both numbers are read once. A work item has a piece and, on
// a GPU, one column of it.
struct Skip {
  const Real *D, *dy, *u;
  Grad du;
  Real* part;
  Index rows, H, splits;
  static constexpr int kRows = 8;  // of a GPU: rows whose loads are on their way before the first is written

  Index items() const { return kOnHost ? splits : splits * H; }
  KOKKOS_FUNCTION void operator()(const Index item) const {
    const Index split = kOnHost ? item : quotient(item, H), begin = rows * split / splits, end = rows * (split + 1) / splits;
    Real* sum = part + split * H;
    if constexpr (kOnHost) {
      for (Index h = 0; h < H; ++h) sum[h] = 0;
      for (Index row = begin; row < end; ++row) {
        SSM_INDEPENDENT
        for (Index h = 0; h < H; ++h) {
          const Real up = dy[row * H + h];
          sum[h] += up * u[row * H + h];
          du(row * H + h, D[h] * up);
        }
      }
    } else {
      const Index h = item - split * H;
      const Real skip = D[h];
      Real total = 0;
      for (Index row = begin; row < end; row += kRows) {
        Real up[kRows], in[kRows], old[kRows];
        for (int q = 0; q < kRows; ++q) {
          const Index at = (row + q < end ? row + q : end - 1) * H + h;
          up[q] = dy[at], in[q] = u[at], old[q] = du.add ? du.p[at] : Real(0);
        }
        for (int q = 0; q < kRows; ++q)
          if (row + q < end) du.p[(row + q) * H + h] = old[q] + skip * up[q], total += up[q] * in[q];
      }
      sum[h] = total;
    }
  }
};

}  // namespace ssm::mimo_scan_op
