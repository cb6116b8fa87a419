// attention_tiled.hpp - softmax attention on a CPU: tiles of 64 x 64 scores in the caches, products on registers.
//
// Forward: one work item is 256 queries of one head, swept over tiles of keys with the online softmax. Backward: one work item is one key
// head of one sequence, swept over tiles of keys; it owns dQ, dK, dV, so that scores are computed once (5 products, not 7).
#pragma once
#include <cstring>

#include "attention_plain.hpp"
#include "lib/tile.hpp"

namespace ssm::attention_op {

constexpr int kTile = 64, kQueries = 256;
constexpr Index kMaxHead = 256;  // larger heads take the plain kernels

// s[0..kTile) = exp_or_zero(s - from). In float on whole registers: the exponent is added to the bits of the mantissa's polynomial.
inline void exp_row(double* s, double from) {
  for (int c = 0; c < kTile; ++c) s[c] = exp_or_zero(s[c] - from);
}
inline void exp_row(float* s, float from) {
  typedef float Floats __attribute__((vector_size(64), may_alias));
  typedef std::int32_t Ints __attribute__((vector_size(64), may_alias));
  for (int c = 0; c < kTile; c += 16) {
    const Floats x = *reinterpret_cast<const Floats*>(s + c) - from, low = Floats{} - 87.0f, y = x < low ? low : x;
    const Floats shifted = y * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    const Floats r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Floats e = reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + (reinterpret_cast<Ints>(shifted) << 23));
    *reinterpret_cast<Floats*>(s + c) = x < low ? Floats{} : e;
  }
}

// to (rows padded to 8, columns padded to `wide`) = factor * from (rows, columns), zeros in the padding.
inline void pack(const Real* from, Index ld, Index rows, Index columns, Index wide, Real factor, Real* to) {
  for (Index i = 0; i < rows; ++i) {
    for (Index c = 0; c < columns; ++c) to[i * wide + c] = factor * from[i * ld + c];
    for (Index c = columns; c < wide; ++c) to[i * wide + c] = 0;
  }
  std::memset(to + rows * wide, 0, static_cast<std::size_t>((round_up(rows, 8) - rows) * wide) * sizeof(Real));
}

// to (columns, kTile) = from (rows, columns) transposed, zeros beyond `rows`.
inline void pack_transposed(const Real* from, Index ld, Index rows, Index columns, Real* to) {
  for (Index c = 0; c < columns; ++c) {
    for (Index i = 0; i < rows; ++i) to[c * kTile + i] = from[i * ld + c];
    for (Index i = rows; i < kTile; ++i) to[c * kTile + i] = 0;
  }
}

// One tile: queries [i, i + rows) and keys [j, j + keys) of head h of sequence b.
struct TileOf {
  const Heads& a;
  Index b, h, i, rows, j, keys;
  // Subtracts ALiBi's bias and hides what a query does not see.
  void mask(Real* S, Real slope) const {
    const bool all = keys == kTile && j + keys <= a.end_key(b, i) && a.first_key(i + rows - 1) <= j;
    if (all && !a.alibi) return;
    for (Index q = 0; q < rows; ++q) {
      const Index first = a.first_key(i + q) - j, end = a.end_key(b, i + q) - j, apart = i + q - j;
      Real* s = S + q * kTile;
      for (Index c = 0; c < kTile; ++c) {
        const Real biased = s[c] - slope * static_cast<Real>(apart > c ? apart - c : c - apart);
        s[c] = c >= first && c < end ? biased : kHidden;
      }
    }
  }
};

struct ForwardTiles {
  alignas(64) Real Q[kQueries * kMaxHead], O[kQueries * kMaxHead], Kt[kMaxHead * kTile], V[kTile * kMaxHead], S[kTile * kTile];
  Vec sum[kQueries];  // lane by lane; folded at the end
  Real top[kQueries];

  // Softmax of a tile of scores against the running maximum; rescales the rows of O.
  void softmax(Index rows, Index first_row, Index wide) {
    for (Index q = 0; q < rows; ++q) {
      Real* s = S + q * kTile;
      const Vec* lanes = reinterpret_cast<const Vec*>(s);
      const Index row = first_row + q;
      Vec best = lanes[0];
      for (int n = 1; n < kTile / kVec; ++n) best = best < lanes[n] ? lanes[n] : best;
      alignas(64) Real lane[kVec];
      *reinterpret_cast<Vec*>(lane) = best;
      for (int half = kVec / 2; half > 0; half /= 2)  // a tree: a chain of maxima would be the slowest part of the tile
        for (int l = 0; l < half; ++l) lane[l] = lane[l] < lane[l + half] ? lane[l + half] : lane[l];
      const Real before = top[row], m = before < lane[0] ? lane[0] : before, from = m == kHidden ? Real(0) : m;
      exp_row(s, from);
      const Real shrink = m == before ? Real(1) : exp_or_zero(before - from);
      if (shrink != 1) sum[row] *= shrink;
      for (int n = 0; n < kTile / kVec; ++n) sum[row] += lanes[n];
      top[row] = m;
      if (shrink != 1)
        for (Index c = 0; c < wide; ++c) O[row * wide + c] *= shrink;
    }
  }
  void run(const Heads& a, Index b, Index h, Index begin, Real* Y, Real* lse) {
    const Index count = a.T - begin < kQueries ? a.T - begin : kQueries, wide = round_up(a.dh, kVec);
    const Real slope = a.slope(h);
    pack(a.query(b, begin, h), a.ld, count, a.dh, wide, a.scale, Q);
    std::memset(O, 0, static_cast<std::size_t>(round_up(count, 8) * wide) * sizeof(Real));
    for (Index q = 0; q < count; ++q) top[q] = kHidden, sum[q] = Vec{};
    const Index last = a.end_key(b, begin + count - 1);
    for (Index j = a.first_key(begin) / kTile * kTile; j < last; j += kTile) {
      const Index keys = last - j < kTile ? last - j : kTile;
      pack_transposed(a.key(b, j, h), a.ld, keys, a.dh, Kt);
      pack(a.value(b, j, h), a.ldv, keys, a.dh, wide, 1, V);
      for (Index q = 0; q < count; q += kTile) {
        const TileOf tile{a, b, h, begin + q, count - q < kTile ? count - q : kTile, j, keys};
        if (j >= a.end_key(b, tile.i + tile.rows - 1) || j + keys <= a.first_key(tile.i)) continue;
        const Index rows = round_up(tile.rows, 8);
        product(rows, kTile, a.dh, Q + q * wide, wide, 1, Kt, kTile, S, kTile, false);
        tile.mask(S, slope);
        softmax(tile.rows, q, wide);
        product(rows, wide, keys, S, kTile, 1, V, wide, O + q * wide, wide, true);
      }
    }
    for (Index q = 0; q < count; ++q) {
      Real total = 0;
      for (int l = 0; l < kVec; ++l) total += sum[q][l];
      const Real part = total > 0 ? 1 / total : Real(0);
      Real* y = Y + ((b * a.T + begin + q) * a.H + h) * a.dh;
      for (Index c = 0; c < a.dh; ++c) y[c] = O[q * wide + c] * part;
      lse[(b * a.H + h) * a.T + begin + q] = total > 0 ? top[q] + Kokkos::log(total) : Real(0);
    }
  }
};

struct BackwardTiles {
  alignas(64) Real K[kTile * kMaxHead], Kt[kMaxHead * kTile], Vt[kMaxHead * kTile], dK[kTile * kMaxHead], dV[kTile * kMaxHead],
      Q[kTile * kMaxHead], dO[kTile * kMaxHead], dQ[kTile * kMaxHead], P[kTile * kTile], dS[kTile * kTile];

  void run(const Heads& a, Index b, Index g, const Real* dY, const Real* lse, const Real* delta, Real* dQKV) {
    const Index group = a.H / a.KV, wide = round_up(a.dh, kVec), ld = (a.H + 2 * a.KV) * a.dh, dh = a.dh;
    Real* gradient = dQKV + b * a.T * ld;  // of this sequence
    for (Index t = 0; t < a.T; ++t) std::memset(gradient + t * ld + g * group * dh, 0, static_cast<std::size_t>(group * dh) * sizeof(Real));
    for (Index j = 0; j < a.T; j += kTile) {
      const Index keys = a.T - j < kTile ? a.T - j : kTile;
      pack(a.key(b, j, g * group), a.ld, keys, dh, wide, 1, K);
      pack_transposed(a.key(b, j, g * group), a.ld, keys, dh, Kt);
      pack_transposed(a.value(b, j, g * group), a.ldv, keys, dh, Vt);
      std::memset(dK, 0, sizeof(Real) * static_cast<std::size_t>(kTile * wide));
      std::memset(dV, 0, sizeof(Real) * static_cast<std::size_t>(kTile * wide));
      const Index reach = a.end_query(b, j + keys - 1);  // 0 where the last key is padding
      const Index first = a.first_query(j) / kTile * kTile, last = a.end_query(b, j) == 0 ? 0 : reach ? reach : a.T;
      for (Index h = g * group; h < (g + 1) * group; ++h)
        for (Index i = first; i < last; i += kTile) {
          const TileOf tile{a, b, h, i, a.T - i < kTile ? a.T - i : kTile, j, keys};
          one(tile, dY, lse + (b * a.H + h) * a.T + i, delta + (b * a.H + h) * a.T + i, wide);
          for (Index q = 0; q < tile.rows; ++q) {
            Real* dq = gradient + (i + q) * ld + h * dh;
            for (Index c = 0; c < dh; ++c) dq[c] += a.scale * dQ[q * wide + c];
          }
        }
      for (Index q = 0; q < keys; ++q) {
        Real *dk = gradient + (j + q) * ld + (a.H + g) * dh, *dv = dk + a.KV * dh;
        for (Index c = 0; c < dh; ++c) dk[c] = dK[q * wide + c], dv[c] = dV[q * wide + c];
      }
    }
  }
  // Adds to dK and dV, sets dQ (without the scale).
  void one(const TileOf& tile, const Real* dY, const Real* lse, const Real* delta, Index wide) {
    const Heads& a = tile.a;
    const Index rows = round_up(tile.rows, 8);
    pack(a.query(tile.b, tile.i, tile.h), a.ld, tile.rows, a.dh, wide, a.scale, Q);
    pack(dY + ((tile.b * a.T + tile.i) * a.H + tile.h) * a.dh, a.H * a.dh, tile.rows, a.dh, wide, 1, dO);
    product(rows, kTile, a.dh, Q, wide, 1, Kt, kTile, P, kTile, false);
    product(rows, kTile, a.dh, dO, wide, 1, Vt, kTile, dS, kTile, false);
    tile.mask(P, a.slope(tile.h));
    for (Index q = 0; q < tile.rows; ++q) {
      Real *p = P + q * kTile, *ds = dS + q * kTile;
      const Real m = lse[q], mean = delta[q];
      exp_row(p, m);
      for (int c = 0; c < kTile; c += kVec) {
        Vec* to = reinterpret_cast<Vec*>(ds + c);
        *to = *reinterpret_cast<const Vec*>(p + c) * (*to - mean);
      }
    }
    product(kTile, wide, tile.rows, P, 1, kTile, dO, wide, dV, wide, true);
    product(kTile, wide, tile.rows, dS, 1, kTile, Q, wide, dK, wide, true);
    product(rows, wide, tile.keys, dS, kTile, 1, K, wide, dQ, wide, false);
  }
};

constexpr auto tiled_rowsum = rowsum;

inline void tiled_forward(const Run& r, Index B, const Heads& a, Real* Y, Real* lse) {
  const Index pieces = (a.T + kQueries - 1) / kQueries;
  launch(
      "ssm::attention", r, B * a.H * pieces, KOKKOS_LAMBDA(const Index item) {
        ForwardTiles tiles;
        tiles.run(a, item / (pieces * a.H), item / pieces % a.H, item % pieces * kQueries, Y, lse);
      });
}

inline void tiled_backward(const Run& r, Index B, const Heads& a, const Real* dY, const Real* lse, const Real* delta, Real* dQKV) {
  launch(
      "ssm::attention_backward", r, B * a.KV, KOKKOS_LAMBDA(const Index item) {
        BackwardTiles tiles;
        tiles.run(a, item / a.KV, item % a.KV, dY, lse, delta, dQKV);
      });
}

}  // namespace ssm::attention_op
