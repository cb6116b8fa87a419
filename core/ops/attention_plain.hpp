// attention_plain.hpp - softmax attention, one work item per row: the portable kernels, and the reference of the tiled ones.
#pragma once
#include "launch.hpp"
#include "math.hpp"
#include "tensor.hpp"

namespace ssm::attention_op {

constexpr Real kHidden = Real(-1e30);  // score of a key that a query does not see

// Slope of ALiBi: 2^{-8(h+1)/H} for H a power of two, else the slopes of the power of two c below H, then every second one of 2c.
SSM_FN Real alibi_slope(Index h, Index H) {
  Index c = 1;
  while (2 * c <= H) c *= 2;
  const double exponent = h < c ? 8.0 * static_cast<double>(h + 1) / static_cast<double>(c)
                                : 8.0 * static_cast<double>(2 * (h - c) + 1) / static_cast<double>(2 * c);
  return static_cast<Real>(::exp2(-exponent));
}

// What is attended to. q, k, v point to head 0 of position 0; a position is `ld` (q and k) or `ldv` numbers long.
struct Heads {
  Index T, H, KV, dh;
  const Real *q, *k, *v;
  Index ld, ldv;
  const std::int32_t* lengths;  // null where the mask is causal
  bool causal, alibi;
  Index window;  // 0: unlimited
  Real scale;
  const Real* starts = nullptr;  // (B,T) of sequence_starts(); causal and plain only

  SSM_FN const Real* query(Index b, Index t, Index h) const { return q + (b * T + t) * ld + h * dh; }
  SSM_FN const Real* key(Index b, Index t, Index h) const { return k + (b * T + t) * ld + h / (H / KV) * dh; }
  SSM_FN const Real* value(Index b, Index t, Index h) const { return v + (b * T + t) * ldv + h / (H / KV) * dh; }
  SSM_FN Real slope(Index h) const { return alibi ? alibi_slope(h, H) : Real(0); }
  // Query i sees the keys [first_key(i), end_key(b, i)).
  SSM_FN Index first_key(Index i) const { return window && i - window + 1 > 0 ? i - window + 1 : 0; }
  SSM_FN Index end_key(Index b, Index i) const {
    const Index end = causal ? i + 1 : lengths ? lengths[b] : T;
    return window && i + window < end ? i + window : end;
  }
  // With several sequences a row, only those of its own.
  SSM_FN Index first_own_key(Index b, Index i) const {
    const Index first = first_key(i), own = starts ? static_cast<Index>(starts[b * T + i]) : 0;
    return own > first ? own : first;
  }
  SSM_FN bool apart(Index b, Index i, Index j) const { return starts && starts[b * T + i] > static_cast<Real>(j); }
  // Key j is seen by queries of [first_query(j), end_query(b, j)).
  SSM_FN Index first_query(Index j) const { return causal ? j : first_key(j); }
  SSM_FN Index end_query(Index b, Index j) const {
    if (!causal && lengths && j >= lengths[b]) return 0;
    return window && j + window < T ? j + window : T;
  }
};

SSM_FN Real dot(const Real* a, const Real* b, Index n) {
  Real sum = 0;
  for (Index k = 0; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

SSM_FN Real distance(Index i, Index j) { return static_cast<Real>(i > j ? i - j : j - i); }

// Y (B,T,H dh), lse (B,H,T): online softmax, the row of Y is the accumulator.
inline void plain_forward(const Run& r, Index B, const Heads& a, Real* Y, Real* lse) {
  launch(
      "ssm::attention", r, B * a.H * a.T, KOKKOS_LAMBDA(const Index item) {
        const Index i = item % a.T, h = item / a.T % a.H, b = item / (a.T * a.H), dh = a.dh;
        const Real* q = a.query(b, i, h);
        Real *y = Y + (b * a.T + i) * a.H * dh + h * dh, m = kHidden, l = 0;
        const Real slope = a.slope(h);
        for (Index c = 0; c < dh; ++c) y[c] = 0;
        for (Index j = a.first_own_key(b, i); j < a.end_key(b, i); ++j) {
          const Real s = a.scale * dot(q, a.key(b, j, h), dh) - slope * distance(i, j);
          const Real* value = a.value(b, j, h);
          if (s > m) {
            const Real shrink = m == kHidden ? Real(0) : fast_exp(m - s);
            for (Index c = 0; c < dh; ++c) y[c] *= shrink;
            l *= shrink;
            m = s;
          }
          const Real p = fast_exp(s - m);
          for (Index c = 0; c < dh; ++c) y[c] += p * value[c];
          l += p;
        }
        const Real part = l > 0 ? 1 / l : Real(0);
        for (Index c = 0; c < dh; ++c) y[c] *= part;
        lse[item] = l > 0 ? m + Kokkos::log(l) : Real(0);
      });
}

// delta (B,H,T) = rowsum(dY * Y)
inline void rowsum(const Run& r, Index B, const Heads& a, const Real* Y, const Real* dY, Real* delta) {
  launch(
      "ssm::attention_delta", r, B * a.T * a.H, KOKKOS_LAMBDA(const Index item) {
        const Index h = item % a.H, t = item / a.H % a.T, b = item / (a.T * a.H);
        delta[(b * a.H + h) * a.T + t] = dot(Y + item * a.dh, dY + item * a.dh, a.dh);
      });
}

// Gradients of the (rotated) rows [q | k | v] into dQKV (B,T,(H + 2 KV) dh): a pass that owns the queries, then one that owns the keys.
inline void plain_backward(const Run& r, Index B, const Heads& a, const Real* dY, const Real* lse, const Real* delta, Real* dQKV) {
  const Index wide = (a.H + 2 * a.KV) * a.dh;
  launch(
      "ssm::attention_backward_q", r, B * a.H * a.T, KOKKOS_LAMBDA(const Index item) {
        const Index i = item % a.T, h = item / a.T % a.H, b = item / (a.T * a.H), dh = a.dh;
        const Real *q = a.query(b, i, h), *dy = dY + ((b * a.T + i) * a.H + h) * dh;
        Real* dq = dQKV + (b * a.T + i) * wide + h * dh;
        const Real slope = a.slope(h);
        for (Index c = 0; c < dh; ++c) dq[c] = 0;
        for (Index j = a.first_own_key(b, i); j < a.end_key(b, i); ++j) {
          const Real* key = a.key(b, j, h);
          const Real p = fast_exp(a.scale * dot(q, key, dh) - slope * distance(i, j) - lse[item]);
          const Real ds = a.scale * p * (dot(dy, a.value(b, j, h), dh) - delta[item]);
          for (Index c = 0; c < dh; ++c) dq[c] += ds * key[c];
        }
      });
  launch(
      "ssm::attention_backward_kv", r, B * a.KV * a.T, KOKKOS_LAMBDA(const Index item) {
        const Index j = item % a.T, g = item / a.T % a.KV, b = item / (a.T * a.KV), dh = a.dh, group = a.H / a.KV;
        const Real *key = a.key(b, j, g * group), *value = a.value(b, j, g * group);
        Real *dk = dQKV + (b * a.T + j) * wide + (a.H + g) * dh, *dv = dk + a.KV * dh;
        for (Index c = 0; c < dh; ++c) dk[c] = dv[c] = 0;
        for (Index h = g * group; h < (g + 1) * group; ++h) {
          const Real slope = a.slope(h);
          for (Index i = a.first_query(j); i < a.end_query(b, j) && !a.apart(b, i, j); ++i) {
            const Real *q = a.query(b, i, h), *dy = dY + ((b * a.T + i) * a.H + h) * dh;
            const Index row = (b * a.H + h) * a.T + i;
            const Real p = fast_exp(a.scale * dot(q, key, dh) - slope * distance(i, j) - lse[row]);
            const Real ds = a.scale * p * (dot(dy, value, dh) - delta[row]);
            for (Index c = 0; c < dh; ++c) {
              dk[c] += ds * q[c];
              dv[c] += p * dy[c];
            }
          }
        }
      });
}

}  // namespace ssm::attention_op
