// selective_scan_kernels.hpp - the two kernels of selective_scan.cpp: W channels at a time, lanes fastest, time in order.
#pragma once
#include <algorithm>

#include "launch.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "ops/starts.hpp"
#include "tensor.hpp"

namespace ssm::selective_scan_op {

constexpr Index kChunk = 16;  // steps between saved states
constexpr Index kAhead = 8;   // steps that rows are fetched ahead
constexpr Real kLog2e = Real(1.4426950408889634), kLn2 = Real(0.6931471805599453);

// Arrays of N numbers per lane that a forward item works in: A log2(e), h, and B, C where they are parameters.
SSM_FN Index forward_work(Index N) { return 4 * N; }
// Per item of backward: A, h, lambda, B, C, dB, dC of a step, bias, D, zeros; every h and every decay of a chunk, and four rows of it; folded dB and dC.
constexpr int kFoldMost = 4;
SSM_FN Index work_of_item(Index W, Index N) { return W * (7 * N + 3 + kChunk * (2 * N + 4)) + 2 * kChunk * N * kFoldMost; }
// Sums over time that one sequence leaves per channel: dA_log, dD, dbias, and dB, dC where they are parameters.
SSM_FN Index sums_of_channel(Index N) { return 3 * N + 2; }

// Channel blocks that own partial sums of dB and dC; fewer where the sequences alone fill a GPU.
inline Index channel_blocks(Index sequences, Index E) {
  const Index groups = E / kLanes + E % kLanes, most = kOnHost ? 8 : std::clamp<Index>(4096 / sequences, 1, 32);
  return std::min(groups, most);
}

// to(i) = sum over blocks, in order.
struct SumBlocks {
  const Real* from;
  Index blocks, count;
  Grad to;
  static constexpr Index W = kOnHost ? 256 : 1;

  KOKKOS_FUNCTION void operator()(const Index k) const {
    const Index first = k * W, width = count - first < W ? count - first : W;
    Real sum[W] = {};
    for (Index j = 0; j < width; ++j) sum[j] = from[first + j];
    for (Index block = 1; block < blocks; ++block)
      for (Index j = 0; j < width; ++j) sum[j] += from[block * count + first + j];
    for (Index j = 0; j < width; ++j) to(first + j, sum[j]);
  }
};
inline void sum_blocks(const Run& r, const Real* from, Index blocks, Index count, Grad to) {
  launch("ssm::selective_scan_sum", r, (count + SumBlocks::W - 1) / SumBlocks::W, SumBlocks{from, blocks, count, to});
}

// Sum k of channel e over the pieces that left `count` sums a channel in lane order: from (pieces,E,count).
SSM_FN Real sum_of_pieces(const Real* from, Index pieces, Index E, Index count, Index e, Index k) {
  const Index group = e / kLanes, groups = E / kLanes;
  const Index W = group < groups ? kLanes : 1, first = group < groups ? group * kLanes : e;
  Real sum = 0;
  for (Index b = 0; b < pieces; ++b) sum += from[(b * E + first) * count + k * W + (e - first)];
  return sum;
}

struct Inputs {
  const Real *u, *raw, *z, *B, *C, *A_log, *D, *bias;  // raw, z: null where absent; B, C: (B,T,N), or (E,N) parameters
  Real *boundary, *work;                               // boundary (B,chunks,E,N) in lane order, null in evaluation
  Index T, E, N, chunks;
  const Real* starts;  // (B,T) of sequence_starts(), null: one sequence a row
};

// Asks for the line of p early: rows of neighbouring steps lie too far apart for the processor to guess, and a store that misses holds up
// all stores behind it.
SSM_FN void fetch_early([[maybe_unused]] const Real* p) {
#if !SSM_DEVICE_CODE
  __builtin_prefetch(p);
#endif
}
SSM_FN void write_early([[maybe_unused]] Real* p) {
#if !SSM_DEVICE_CODE
  __builtin_prefetch(p, 1);
#endif
}

// a[k][l] = entry k of channel first + l of an (E,N) array
template <int W>
SSM_FN void gather(const Real* from, Index first, Index N, Real* to) {
  for (Index k = 0; k < N; ++k)
    for (int l = 0; l < W; ++l) to[k * W + l] = from[(first + l) * N + k];
}

template <int W>
SSM_FN void decay_rates(const Inputs& p, Index first, Real* A) {
  for (Index k = 0; k < p.N; ++k)
    for (int l = 0; l < W; ++l) A[k * W + l] = -kLog2e * fast_exp(p.A_log[(first + l) * p.N + k]);
}

// Sums over lanes go in two steps that both compile to SIMD: W lanes fold to kFold at every step, those to one number once a chunk.
constexpr int kFold = kOnHost ? kFoldMost : 1;
template <int W>
inline constexpr int kFoldOf = W < kFold ? W : kFold;
template <int W>
SSM_FN void fold(const Real* x, Index N, Real* to) {
  constexpr int F = kFoldOf<W>;
  for (Index k = 0; k < N; ++k) {
    Real sum[F];
    for (int l = 0; l < F; ++l) sum[l] = x[k * W + l];
    for (int j = F; j < W; j += F)
      for (int l = 0; l < F; ++l) sum[l] += x[k * W + j + l];
    for (int l = 0; l < F; ++l) to[k * F + l] = sum[l];
  }
}
template <int W>
SSM_FN void unfold(const Real* x, Index count, bool fresh, Real* to) {
  constexpr int F = kFoldOf<W>;
  SSM_INDEPENDENT
  for (Index i = 0; i < count; ++i) {
    Real sum = x[i * F];
    for (int l = 1; l < F; ++l) sum += x[i * F + l];
    to[i] = fresh ? sum : to[i] + sum;
  }
}

// kB, kC: B or C is a parameter (E,N) instead of a sequence.
template <bool kB, bool kC>
struct Kinds {
  static constexpr bool B = kB, C = kC;
};

template <bool kB, bool kC>
struct Forward {
  Inputs p;
  Real *y, *carried;  // carried (B,E,N): the state of a stream, null for whole sequences

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index first) const {
    const Index T = p.T, E = p.E, N = p.N;
    Real* A = p.work + (b * E + first) * forward_work(N);
    Real* h = A + N * W;
    Real* Bp = h + N * W;
    Real* Cp = Bp + N * W;
    Real bias[W], skip[W], zero[W];
    for (int l = 0; l < W; ++l) bias[l] = p.bias[first + l], skip[l] = p.D[first + l], zero[l] = 0;
    decay_rates<W>(p, first, A);
    if (kB) gather<W>(p.B, first, N, Bp);
    if (kC) gather<W>(p.C, first, N, Cp);
    if (carried) gather<W>(carried + b * E * N, first, N, h);
    else
      for (Index k = 0; k < N * W; ++k) h[k] = 0;

    for (Index t = 0; t < T; ++t) {
      if (starts_at(p.starts, T, b, t))
        for (Index k = 0; k < N * W; ++k) h[k] = 0;
      if (p.boundary && t % kChunk == 0) {
        Real* to = p.boundary + ((b * p.chunks + t / kChunk) * E + first) * N;
        for (Index k = 0; k < N * W; ++k) to[k] = h[k];
      }
      const Index at = (b * T + t) * E + first;
      const Real *Bt = p.B + (b * T + t) * N, *Ct = p.C + (b * T + t) * N;
      const Real *raw = p.raw ? p.raw + at : zero, *u = p.u + at;
      if (t + kAhead < T) {
        fetch_early(u + kAhead * E);
        if (p.raw) fetch_early(raw + kAhead * E);
        if (p.z) fetch_early(p.z + at + kAhead * E);
        write_early(y + at + kAhead * E);
      }
      Real delta[W], du[W], sum[W];
      for (int l = 0; l < W; ++l) {
        delta[l] = softplus(raw[l] + bias[l]);
        du[l] = delta[l] * u[l];
        sum[l] = skip[l] * u[l];
      }
      for (Index k = 0; k < N; ++k) {
        SSM_INDEPENDENT
        for (int l = 0; l < W; ++l) {
          const Real a = exp2_decay(delta[l] * A[k * W + l]);
          const Real now = a * h[k * W + l] + du[l] * (kB ? Bp[k * W + l] : Bt[k]);
          h[k * W + l] = now;
          sum[l] += now * (kC ? Cp[k * W + l] : Ct[k]);
        }
      }
      if (p.z) {
        SSM_INDEPENDENT
        for (int l = 0; l < W; ++l) y[at + l] = sum[l] * silu(p.z[at + l]);
      } else {
        for (int l = 0; l < W; ++l) y[at + l] = sum[l];
      }
    }
    if (carried)
      for (Index k = 0; k < N; ++k)
        for (int l = 0; l < W; ++l) carried[(b * E + first + l) * N + k] = h[k * W + l];
  }
};

struct Outputs {
  const Real* dy;
  Grad du, draw, dz;
  Real *dB, *dC, *partial;  // dB, dC (blocks,B,T,N); partial (B,E,sums) in lane order
  Index batch, blocks;
};

// f.template run<W>(b, block, first, fresh) for the groups of lanes of item i = (sequence b, block of channels), fresh: the first of them.
template <class F>
KOKKOS_FUNCTION void run_groups(const F& f, Index i, Index E, Index blocks) {
  const Index b = i / blocks, block = i - b * blocks, whole = E / kLanes, groups = whole + E % kLanes;
  const Index begin = groups * block / blocks, end = groups * (block + 1) / blocks;
  for (Index group = begin; group < end; ++group) {
    if (group < whole) f.template run<kLanes>(b, block, group * kLanes, group == begin);
    else f.template run<1>(b, block, whole * kLanes + (group - whole), group == begin);
  }
}

// One item = one sequence and one block of channels, its groups of lanes one after the other.
template <bool kB, bool kC>
struct Backward {
  Inputs p;
  Outputs o;

  KOKKOS_FUNCTION void operator()(const Index i) const { run_groups(*this, i, p.E, o.blocks); }

  // What the steps of one group of lanes share.
  template <int W>
  struct Group {
    Index b, first;
    Real *A, *lambda, *B, *C, *start, *toB, *toC;  // (N,W)
    Real *bias, *skip, *zero;                      // (W)
    Real *h, *a, *delta, *slope, *u, *dy;          // (kChunk,N,W); rows (kChunk,W)
    Real *foldB, *foldC;                           // (kChunk,N,fold)
    Real* sums;
  };

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index block, Index first, bool fresh) const {
    const Index E = p.E, N = p.N, NW = N * W;
    Group<W> g;
    g.b = b, g.first = first;
    Real* next = p.work + (b * o.blocks + block) * work_of_item(kLanes, N);
    for (Real** part : {&g.A, &g.lambda, &g.B, &g.C, &g.start, &g.toB, &g.toC}) *part = next, next += NW;
    for (Real** part : {&g.h, &g.a}) *part = next, next += kChunk * NW;
    for (Real** part : {&g.delta, &g.slope, &g.u, &g.dy}) *part = next, next += kChunk * W;
    g.bias = next, g.skip = next + W, g.zero = next + 2 * W;
    g.foldB = next + 3 * W, g.foldC = g.foldB + kChunk * N * kFoldOf<W>;
    g.sums = o.partial + (b * E + first) * sums_of_channel(N);
    decay_rates<W>(p, first, g.A);
    if (kB) gather<W>(p.B, first, N, g.B);
    if (kC) gather<W>(p.C, first, N, g.C);
    for (int l = 0; l < W; ++l) g.bias[l] = p.bias[first + l], g.skip[l] = p.D[first + l], g.zero[l] = 0;
    for (Index k = 0; k < NW; ++k) g.lambda[k] = 0;
    for (Index k = 0; k < sums_of_channel(N) * W; ++k) g.sums[k] = 0;

    for (Index chunk = p.chunks - 1; chunk >= 0; --chunk) {
      const Index t0 = chunk * kChunk, length = p.T - t0 < kChunk ? p.T - t0 : kChunk;
      const Real* from = p.boundary + ((b * p.chunks + chunk) * E + first) * N;
      for (Index k = 0; k < NW; ++k) g.start[k] = from[k];
      for (Index q = 0; q < length; ++q) again<W>(g, t0 + q, q);
      for (Index q = length - 1; q >= 0; --q) back<W>(g, t0 + q, q);
      const Index place = ((block * o.batch + b) * p.T + t0) * N;
      if (!kB) unfold<W>(g.foldB, length * N, fresh, o.dB + place);
      if (!kC) unfold<W>(g.foldC, length * N, fresh, o.dC + place);
    }
    for (Index k = 0; k < NW; ++k) g.sums[k] *= kLn2 * g.A[k];  // dA -> dA_log
  }

  // Step t, the q-th of its chunk, forward again: fills h, a and the rows, and writes dz.
  template <int W>
  KOKKOS_FUNCTION void again(const Group<W>& g, Index t, Index q) const {
    const Index N = p.N, at = (g.b * p.T + t) * p.E + g.first;
    const Real *Bt = p.B + (g.b * p.T + t) * N, *Ct = p.C + (g.b * p.T + t) * N;
    const Real *A = g.A, *Bp = g.B, *Cp = g.C, *before = q ? g.h + (q - 1) * N * W : g.start;
    Real *h = g.h + q * N * W, *a = g.a + q * N * W;
    const Real *raw = p.raw ? p.raw + at : g.zero, *u = p.u + at;
    if (q && starts_at(p.starts, p.T, g.b, t)) {
      for (Index k = 0; k < N * W; ++k) g.start[k] = 0;
      before = g.start;  // read for the last time at q = 0
    }
    Real delta[W], du[W], sum[W], dy[W];
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const Real x = raw[l] + g.bias[l];
      delta[l] = softplus(x);
      du[l] = delta[l] * u[l];
      sum[l] = g.skip[l] * u[l];
      g.delta[q * W + l] = delta[l];
      g.slope[q * W + l] = softplus_slope(x);
      g.u[q * W + l] = u[l];
    }
    for (Index k = 0; k < N; ++k) {
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Real decay = exp2_decay(delta[l] * A[k * W + l]);
        const Real now = decay * before[k * W + l] + du[l] * (kB ? Bp[k * W + l] : Bt[k]);
        a[k * W + l] = decay;
        h[k * W + l] = now;
        sum[l] += now * (kC ? Cp[k * W + l] : Ct[k]);
      }
    }
    for (int l = 0; l < W; ++l) dy[l] = o.dy[at + l];
    if (p.z) {
      for (int l = 0; l < W; ++l) {
        const Real z = p.z[at + l], s = sigmoid(z), gated = dy[l];
        dy[l] = gated * z * s;
        sum[l] = gated * sum[l] * s * (Real(1) + z * (Real(1) - s));
      }
      for (int l = 0; l < W; ++l) o.dz(at + l, sum[l]);
    }
    for (int l = 0; l < W; ++l) g.dy[q * W + l] = dy[l];
  }

  // Step t back. lambda holds exp(delta_{t+1} A) lambda_{t+1} on entry, exp(delta_t A) lambda_t on return.
  template <int W>
  KOKKOS_FUNCTION void back(const Group<W>& g, Index t, Index q) const {
    const Index N = p.N, NW = N * W, at = (g.b * p.T + t) * p.E + g.first;
    const Real *Bt = p.B + (g.b * p.T + t) * N, *Ct = p.C + (g.b * p.T + t) * N;
    const Real *A = g.A, *Bp = g.B, *Cp = g.C, *h = g.h + q * NW, *a = g.a + q * NW;
    Real *lambda = g.lambda, *dA = g.sums, *dD = dA + NW, *dbias = dD + W, *dBp = dbias + W, *dCp = dBp + NW;
    constexpr int F = kFoldOf<W>;
    Real *toB = g.toB, *toC = g.toC;
    if (t >= kChunk) {
      const Index early = at - kChunk * p.E;
      fetch_early(p.u + early);
      fetch_early(o.dy + early);
      write_early(o.du.p + early);
      if (p.raw) fetch_early(p.raw + early), write_early(o.draw.p + early);
      if (p.z) fetch_early(p.z + early), write_early(o.dz.p + early);
    }
    Real delta[W], u[W], du[W], dy[W], along_B[W], along_A[W];
    for (int l = 0; l < W; ++l) {
      delta[l] = g.delta[q * W + l], dy[l] = g.dy[q * W + l], u[l] = g.u[q * W + l];
      du[l] = delta[l] * u[l];
      along_B[l] = along_A[l] = 0;
    }
    for (Index k = 0; k < N; ++k) {
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        const Index j = k * W + l;
        const Real Bk = kB ? Bp[j] : Bt[k], now = h[j], full = lambda[j] + (kC ? Cp[j] : Ct[k]) * dy[l];
        const Real old = full * (now - du[l] * Bk);  // lambda r
        along_B[l] += full * Bk;
        along_A[l] += old * A[j];
        dA[j] += delta[l] * old;
        lambda[j] = a[j] * full;
        if (kB) dBp[j] += full * du[l];
        else toB[j] = full * du[l];
        if (kC) dCp[j] += dy[l] * now;
        else toC[j] = dy[l] * now;
      }
    }
    if (starts_at(p.starts, p.T, g.b, t))
      for (Index k = 0; k < NW; ++k) lambda[k] = 0;
    if (!kB) fold<W>(toB, N, g.foldB + q * N * F);
    if (!kC) fold<W>(toC, N, g.foldC + q * N * F);
    SSM_INDEPENDENT
    for (int l = 0; l < W; ++l) {
      const Real draw = (u[l] * along_B[l] + kLn2 * along_A[l]) * g.slope[q * W + l];
      along_B[l] = g.skip[l] * dy[l] + delta[l] * along_B[l];
      along_A[l] = draw;
      dD[l] += dy[l] * u[l];
      dbias[l] += draw;
    }
    for (int l = 0; l < W; ++l) o.du(at + l, along_B[l]);
    if (p.raw)
      for (int l = 0; l < W; ++l) o.draw(at + l, along_A[l]);
  }
};

}  // namespace ssm::selective_scan_op
