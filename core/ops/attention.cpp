// attention.cpp - softmax attention over rows [q heads | k heads | v heads], never with a (T,T) tensor (variants.md 12).
//
//   s_ij = q_i k_j / sqrt(dh) - slope |i - j| (alibi),  p = softmax_j s,  y_i = sum_j p_ij v_j,  lse_i = log sum_j e^{s_ij}
//   delta_i = dy_i y_i,  ds = p (dy_i v_j - delta_i),  dv_j = sum_i p dy_i,  dq_i = sum_j ds k_j / sqrt(dh),  dk_j = sum_i ds q_i / sqrt(dh)
//
// Rope turns the pairs (k, k + dh/2) of q and k; the last channel of an odd head stays. Padding hides keys where the mask is not causal;
// queries of padding are computed like any other. Saved: the input, rotated q and k (rope), y and lse (B,H,T). Streaming keeps the keys and
// values of the last `capacity` positions in a ring.
#include "error.hpp"
#include "launch.hpp"
#include "lib/into.hpp"
#include "ops/starts.hpp"
#if defined(SSM_GPU_CODE)
#include "attention_gpu_back.hpp"
#include "attention_gpu_step.hpp"
#else
#include "attention_tiled.hpp"
#endif

namespace ssm::attention_op {

// Rotates the pair (x_k, x_{k+half}) by +angle, or -angle where `back`.
SSM_FN void rotate(Real& a, Real& b, Real cosine, Real sine, bool back) {
  const Real s = back ? -sine : sine, x = a * cosine - b * s, y = b * cosine + a * s;
  a = x, b = y;
}
// Angle of pair k at position p: p 10000^{-2k/dh}. In double: p reaches 1.6e4 and more.
SSM_FN double rope_angle(double p, Index k, Index dh) {
  return p * ::exp(-9.2103403719761827361 * 2.0 * static_cast<double>(k) / static_cast<double>(dh));
}

struct Attention final : Op {
  AttentionOptions o;
  Tensor x, y, starts, rotated, lse, table;  // rotated (B,T,(H+KV) dh); table (T, dh): cos and sin of every pair
  Index H, KV, dh, capacity;
  bool rope, tiled;
  Scratch delta, gradient, query, runs;
  State cache;  // keys and values (2, capacity, KV dh), then the number of positions seen

  Attention(Net& net, Tensor qkv, const AttentionOptions& options, Tensor starts_ = {})
      : Op(net), o(options), x(in(qkv, save)), starts(starts_), H(o.heads), KV(o.kv_heads) {
    if (starts.id >= 0) in(starts, save);
    dh = x.last() / (H + 2 * KV);
    rope = o.positions == "rope";
    y = out(shaped({x.B(), x.T(), H * dh}), save);
    lse = keep(shaped({x.B(), H, x.T()}));
    if (rope) rotated = keep(shaped({x.B(), x.T(), (H + KV) * dh})), table = keep(shaped({x.T(), dh}));
    delta = scratch(x.B() * H * x.T());
    gradient = scratch(x.size());
    query = scratch(x.B() * H * dh);
    capacity = o.window && o.window < n.l_max ? o.window : n.l_max;
    if (n.mode == Mode::stream) cache = state(2 * capacity * KV * dh + 1);
#if defined(SSM_GPU_CODE)
    if (n.mode == Mode::stream) runs = scratch(Ring::scratch_of(x.B(), H, dh, capacity));
#endif
    tiled = o.view == "tiled" && dh <= kMaxHead && starts.id < 0;
  }
  const char* name() const override { return "attention"; }
  std::string slow_because() const override {
    if (tiled || o.view != "tiled") return {};
    return starts.id >= 0 ? kSeveralSequences : "heads of " + std::to_string(dh) + " are wider than " + std::to_string(kMaxHead);
  }

  Heads heads() const {
    const Real *X = v(x), *R = rope ? v(rotated) : X;
    const Index wide = (H + 2 * KV) * dh;
    return {x.T(),
            H,
            KV,
            dh,
            R,
            R + H * dh,
            X + (H + KV) * dh,
            rope ? (H + KV) * dh : wide,
            wide,
            o.causal ? nullptr : n.batch.lengths,
            o.causal,
            o.positions == "alibi",
            o.window,
            static_cast<Real>(1 / std::sqrt(static_cast<double>(dh))),
            starts.id < 0 ? nullptr : v(starts)};
  }

  void forward(const Run& r) override {
    if (rope) turn(r);
    if (tiled) tiled_forward(r, x.B(), heads(), v(y), v(lse));
    else plain_forward(r, x.B(), heads(), v(y), v(lse));
  }

  // rotated = q and k rows of x, turned by their positions.
  void turn(const Run& r) {
    const Index half = dh / 2, width = dh, T = x.T(), turned = H + KV, wide = (H + 2 * KV) * dh, rows = x.B() * T * turned;
    const Real* X = v(x);
    Real *R = v(rotated), *angles = v(table);
    each_row(
        "ssm::rope_table", r, T, half, KOKKOS_LAMBDA(const Index t, const Index k) {
          const double angle = rope_angle(static_cast<double>(t), k, width);
          angles[t * width + k] = static_cast<Real>(::cos(angle));
          angles[t * width + half + k] = static_cast<Real>(::sin(angle));
        });
    each_row_into(
        "ssm::rope", r, rows, half, width, {R, false}, {R + half, false}, KOKKOS_LAMBDA(const Index i, const Index k) {
          const Index row = quotient(i, turned), head = i - row * turned, t = row - quotient(row, T) * T;
          const Real *from = X + row * wide + head * width, *c = angles + t * width;
          Real a = from[k], b = from[half + k];
          rotate(a, b, c[k], c[half + k], false);
          return Two{a, b};
        });
    if (width % 2)
      each(
          "ssm::rope_odd", r, rows, KOKKOS_LAMBDA(const Index i) {
            const Index row = quotient(i, turned);
            R[(i + 1) * width - 1] = X[row * wide + (i - row * turned + 1) * width - 1];
          });
  }

  void backward(const Run& r) override {
    const Heads a = heads();
    const Grad dX = g(x);
    const bool direct = !rope && !dX.add;  // the kernels may write to the place itself
    Real *sums = v(delta), *to = direct ? dX.p : v(gradient);
    (tiled ? tiled_rowsum : rowsum)(r, x.B(), a, v(y), d(y), sums);
    if (tiled) tiled_backward(r, x.B(), a, d(y), v(lse), sums, to);
    else plain_backward(r, x.B(), a, d(y), v(lse), sums, to);
    if (!direct) turn_back(r, to, dX);
  }

  // Adds or sets the gradient of x from that of the rotated rows.
  void turn_back(const Run& r, const Real* from, Grad dX) {
    const Index half = dh / 2, width = dh, T = x.T(), all = H + 2 * KV, turned = rope ? H + KV : 0, rows = x.B() * T * all;
    const Real* angles = rope ? v(table) : nullptr;
    each_row_into(
        "ssm::rope_backward", r, rows, half, width, dX, {dX.p + half, dX.add}, KOKKOS_LAMBDA(const Index i, const Index k) {
          const Index row = quotient(i, all);
          Real p = from[i * width + k], q = from[i * width + half + k];
          if (i - row * all < turned) {
            const Real* c = angles + (row - quotient(row, T) * T) * width;
            rotate(p, q, c[k], c[half + k], true);
          }
          return Two{p, q};
        });
    if (width % 2)
      each(
          "ssm::rope_backward_odd", r, rows, KOKKOS_LAMBDA(const Index i) {
            const Index last = (i + 1) * width - 1;
            dX(last, from[last]);
          });
  }

  // One position: its key and value enter the ring, its queries look back over it.
  void step(const Run& r) override {
    const Index width = dh, half = dh / 2, keys = KV, queries = H, all = H + 2 * KV, slots = capacity, size = cache.size;
    const Real* X = v(x);
    Real *S = v(cache), *Q = v(query), *Y = v(y);
    const bool turned = rope, alibi = o.positions == "alibi";
    const Real scale = static_cast<Real>(1 / std::sqrt(static_cast<double>(dh)));
    const Index pairs = half + width % 2;  // an odd head's last channel stands alone
    each_row(
        "ssm::attention_cache", r, x.B() * all, pairs, KOKKOS_LAMBDA(const Index i, const Index k) {
          const Index b = i / all, head = i - b * all;
          const Real* from = X + i * width;
          Real* own = S + b * size;
          const Index seen = static_cast<Index>(own[size - 1]), slot = seen % slots;
          Real* to = head < queries          ? Q + (b * queries + head) * width
                     : head < queries + keys ? own + (slot * keys + head - queries) * width
                                             : own + ((slots + slot) * keys + head - queries - keys) * width;
          if (k == half) {
            to[width - 1] = from[width - 1];
            return;
          }
          Real p = from[k], q = from[half + k];
          if (turned && head < queries + keys) {
            const double angle = rope_angle(static_cast<double>(seen), k, width);
            rotate(p, q, static_cast<Real>(::cos(angle)), static_cast<Real>(::sin(angle)), false);
          }
          to[k] = p, to[half + k] = q;
        });
#if defined(SSM_GPU_CODE)
    if (dh <= kWidestStep)
      return step_on_gpu(r, {S, Q, x.B(), H, KV, dh, capacity, size, Ring::runs_of(x.B(), H, capacity), alibi, scale}, v(runs), S, Y);
#endif
    launch(
        "ssm::attention_step", r, x.B() * queries, KOKKOS_LAMBDA(const Index i) {
          const Index b = i / queries, head = i - b * queries, group = head / (queries / keys);
          const Real *own = S + b * size, *q = Q + i * width;
          const Index seen = static_cast<Index>(own[size - 1]), count = seen + 1 < slots ? seen + 1 : slots;
          const Real slope = alibi ? alibi_slope(head, queries) : Real(0);
          Real *out_row = Y + i * width, m = kHidden, l = 0;
          for (Index c = 0; c < width; ++c) out_row[c] = 0;
          for (Index age = 0; age < count; ++age) {
            const Index place = (seen - age) % slots * keys + group;
            const Real s = scale * dot(q, own + place * width, width) - slope * static_cast<Real>(age);
            const Real* value = own + (slots * keys + place) * width;
            const Real top = s > m ? s : m, shrink = m == kHidden ? Real(0) : fast_exp(m - top), p = fast_exp(s - top);
            for (Index c = 0; c < width; ++c) out_row[c] = out_row[c] * shrink + p * value[c];
            l = l * shrink + p;
            m = top;
          }
          for (Index c = 0; c < width; ++c) out_row[c] /= l;
        });
    launch(
        "ssm::attention_count", r, x.B(), KOKKOS_LAMBDA(const Index b) { S[(b + 1) * size - 1] += 1; });
  }

  Cost cost() const override {
    const double L = static_cast<double>(x.T()), b = static_cast<double>(x.B() * H), W = static_cast<double>(o.window), real = sizeof(Real);
    double pairs = o.causal ? L * (L + 1) / 2 : L * L;
    if (o.window && W < L) pairs = o.causal ? W * L - W * (W - 1) / 2 : (2 * W - 1) * L - W * (W - 1);
    const double rows = static_cast<double>(x.size() + y.size()), width = static_cast<double>(dh);
    return {{4 * b * pairs * width, b * pairs, real * (rows + b * L)}, {10 * b * pairs * width, b * pairs, real * (2 * rows + 2 * b * L)}};
  }
};

}  // namespace ssm::attention_op

namespace ssm {

Tensor attention(Net& n, Tensor qkv, const AttentionOptions& o) { return attention(n, qkv, o, {}); }
Tensor attention(Net& n, Tensor qkv, const AttentionOptions& o, Tensor starts) {
  const std::vector<std::string> positions = {"none", "rope", "alibi"}, views = {"tiled", "plain"};
  const auto has = [](const std::vector<std::string>& words, const std::string& w) {
    return std::find(words.begin(), words.end(), w) != words.end();
  };
  if (!has(positions, o.positions)) unknown("attention positions", o.positions, positions);
  if (!has(views, o.view)) unknown("attention view", o.view, views);
  if (o.heads < 1 || o.kv_heads < 1 || o.heads % o.kv_heads)
    throw BadInput("attention: kv_heads = " + std::to_string(o.kv_heads) + " must divide heads = " + std::to_string(o.heads));
  if (qkv.rank != 3 || qkv.order != Order::BTD || qkv.last() % (o.heads + 2 * o.kv_heads))
    throw std::logic_error("attention needs (B,T,(heads + 2 kv_heads) dh)");
  if (o.window < 0) throw BadInput("attention: window = " + std::to_string(o.window) + "; it must be 0 (unlimited) or more");
  if (o.dropout != 0) throw Unsupported("attention has no dropout of its weights yet; attention.dropout must be 0");
  if (n.mode == Mode::stream && !o.causal) throw Unsupported("attention without a causal mask sees later positions and cannot stream");
  if (starts.id >= 0 && !o.causal) throw Unsupported("attention without a causal mask does not keep the sequences of a row apart");
  return n.add<attention_op::Attention>(qkv, o, starts);
}

}  // namespace ssm
