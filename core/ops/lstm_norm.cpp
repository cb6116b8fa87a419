// lstm_norm.cpp - the LSTM with layer norms (Ba, Kiros, Hinton 2016), formulas in ops/rnn.hpp. One work item walks a sequence.
//
// With v = U h_{t-1}, w = (v - mean) s its normalised form, and the same for c with e = (c - mean) s:
//   dn = dh o (1 - tanh^2)    dc = norm'(dn weight_c) + dc_{t+1} f_{t+1}   da as in an LSTM    dv = norm'(da weight_h)    dh_{t-1} = U^T dv
//   norm'(g) = s (g - mean g - w mean(g w))     dU = sum dv h_{t-1}^T     d weight_h = sum da w     d bias_h = sum da, and of c likewise
#include <algorithm>

#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/reduce.hpp"
#include "lib/rows.hpp"
#include "math.hpp"
#include "ops/rnn.hpp"

namespace ssm {
namespace lstm_norm_op {

constexpr Real kEps = Real(1e-5);

// to (columns) = x (rows) M, M (rows, columns).
KOKKOS_FUNCTION inline void product(const Row& row, Index rows, Index columns, const Real* x, const Real* M, Real* to) {
  if (kOnHost) {
    row.each(columns, [&](const Index c) { to[c] = 0; });
    for (Index k = 0; k < rows; ++k) {
      const Real *from = M + k * columns, by = x[k];
      row.each(columns, [&](const Index c) { to[c] += by * from[c]; });
    }
  } else {
    row.each(columns, [&](const Index c) {
      Real sum = 0;
      for (Index k = 0; k < rows; ++k) sum += x[k] * M[k * columns + c];
      to[c] = sum;
    });
  }
}

struct Walk {
  const Real *x, *turned, *weight_h, *bias_h, *weight_c, *bias_c;
  const Real *first_h, *first_c;     // (B,H), or null: zero
  Real *gates, *w, *scales, *c, *y;  // (B,T,4H) twice, (B,T,3): s of v, mean and s of c; (B,T,H) twice
  Index T, H;

  KOKKOS_FUNCTION void operator()(const Row& row, const Index b) const {
    for (Index t = 0; t < T; ++t) step(row, b, t);
  }
  KOKKOS_FUNCTION void step(const Row& row, Index b, Index t) const {
    const Index at = b * T + t, G = 4 * H;
    const Real* h = t > 0 ? y + (at - 1) * H : first_h ? first_h + b * H : nullptr;
    const Real* before = t > 0 ? c + (at - 1) * H : first_c ? first_c + b * H : nullptr;
    Real *v = w + at * G, *a = gates + at * G, *cell = c + at * H, *out = y + at * H, *kept = scales + at * 3;
    const Real* from = x + at * G;
    if (h) product(row, H, G, h, turned, v);
    else row.each(G, [&](const Index j) { v[j] = 0; });
    const Real mean = row.sum(G, [&](const Index j) { return v[j]; }) / static_cast<Real>(G);
    const Real square = row.sum(G, [&](const Index j) { return (v[j] - mean) * (v[j] - mean); });
    const Real s = 1 / Kokkos::sqrt(square / static_cast<Real>(G) + kEps);
    row.each(G, [&](const Index j) {
      v[j] = (v[j] - mean) * s;
      const Real sum = from[j] + v[j] * weight_h[j] + bias_h[j];
      a[j] = j >= 2 * H && j < 3 * H ? fast_tanh(sum) : sigmoid(sum);
    });
    row.each(H, [&](const Index j) { cell[j] = a[H + j] * (before ? before[j] : Real(0)) + a[j] * a[2 * H + j]; });
    const Real mean_c = row.sum(H, [&](const Index j) { return cell[j]; }) / static_cast<Real>(H);
    const Real square_c = row.sum(H, [&](const Index j) { return (cell[j] - mean_c) * (cell[j] - mean_c); });
    const Real s_c = 1 / Kokkos::sqrt(square_c / static_cast<Real>(H) + kEps);
    row.once([&] { kept[0] = s, kept[1] = mean_c, kept[2] = s_c; });
    row.each(H, [&](const Index j) { out[j] = a[3 * H + j] * fast_tanh((cell[j] - mean_c) * s_c * weight_c[j] + bias_c[j]); });
  }
};

struct WalkBack {
  const Real *U, *weight_h, *weight_c, *bias_c, *gates, *w, *scales, *c, *dy;
  Real *da, *dv, *dn, *dh, *dc;  // (B,T,4H) twice, (B,T,H), (B,H) twice
  Index T, H;

  KOKKOS_FUNCTION void operator()(const Row& row, const Index b) const {
    for (Index t = T - 1; t >= 0; --t) step(row, b, t);
  }
  KOKKOS_FUNCTION void step(const Row& row, Index b, Index t) const {
    const Index at = b * T + t, G = 4 * H;
    const Real *a = gates + at * G, *hat = w + at * G, *cell = c + at * H, *kept = scales + at * 3, *from = dy + at * H;
    Real *to = da + at * G, *back = dv + at * G, *inner = dn + at * H, *state = dh + b * H, *carried = dc + b * H;
    const Real mean = kept[1], s = kept[2], per = 1 / static_cast<Real>(H), per_gate = 1 / static_cast<Real>(G);
    const bool last = t == T - 1;
    if (!last) product(row, G, H, back + G, U, state);
    row.each(H, [&](const Index j) {
      const Real o = a[3 * H + j], n = fast_tanh((cell[j] - mean) * s * weight_c[j] + bias_c[j]);
      const Real d = from[j] + (last ? Real(0) : state[j]);
      inner[j] = d * o * (1 - n * n);
      to[3 * H + j] = d * n * o * (1 - o);
    });
    const Real g1 = per * row.sum(H, [&](const Index j) { return inner[j] * weight_c[j]; });
    const Real g2 = per * row.sum(H, [&](const Index j) { return inner[j] * weight_c[j] * (cell[j] - mean) * s; });
    row.each(H, [&](const Index j) {
      const Real i = a[j], f = a[H + j], g = a[2 * H + j];
      const Real d = s * (inner[j] * weight_c[j] - g1 - (cell[j] - mean) * s * g2) + (last ? Real(0) : carried[j]);
      to[j] = d * g * i * (1 - i);
      to[H + j] = t > 0 ? d * cell[j - H] * f * (1 - f) : Real(0);
      to[2 * H + j] = d * i * (1 - g * g);
      carried[j] = d * f;
    });
    const Real e1 = per_gate * row.sum(G, [&](const Index j) { return to[j] * weight_h[j]; });
    const Real e2 = per_gate * row.sum(G, [&](const Index j) { return to[j] * weight_h[j] * hat[j]; });
    row.each(G, [&](const Index j) { back[j] = kept[0] * (to[j] * weight_h[j] - e1 - hat[j] * e2); });
  }
};

struct LstmNorm final : Op {
  Tensor x, y, gates, w, scales, c;
  Index B, T, H;
  Param U, weight_h, bias_h, weight_c, bias_c;
  Scratch turned, da, dv, dn, dh, dc, parts;
  State h, cell;

  LstmNorm(Net& net, Tensor x_, const std::string& layer, double forget_bias)
      : Op(net), x(in(x_, drop)), B(x_.B()), T(x_.T()), H(x_.D() / 4) {
    y = out(shaped({B, T, H}), save);
    gates = keep(shaped({B, T, 4 * H})), w = keep(shaped({B, T, 4 * H}));
    scales = keep(shaped({B, T, 3})), c = keep(shaped({B, T, H}));
    const Index width = H;
    U = param("weight_hh_" + layer, {4 * H, H}, init::torch_linear(H));
    weight_h = param("norm_hh_" + layer + ".weight", {4 * H}, init::constant(1), no_decay());
    bias_h = param(
        "norm_hh_" + layer + ".bias", {4 * H}, [=](const Draw&, Index i) { return i / width == 1 ? forget_bias : 0; }, no_decay());
    weight_c = param("norm_c_" + layer + ".weight", {H}, init::constant(1), no_decay());
    bias_c = param("norm_c_" + layer + ".bias", {H}, init::constant(0), no_decay());
    h = state(H), cell = state(H);
    turned = scratch(4 * H * H);
    if (n.mode != Mode::train) return;
    da = scratch(B * T * 4 * H), dv = scratch(B * T * 4 * H), dn = scratch(B * T * H);
    dh = scratch(B * H), dc = scratch(B * H);
    parts = scratch(std::max(gemm_sum_scratch(4 * H, H, T, B), sum_columns_scratch(B * T, 4 * H)));
  }
  const char* name() const override { return "lstm_norm"; }
  std::string slow_because() const override { return kOnHost ? "" : "its norms need all gates of a step: one warp walks each sequence"; }

  void walk(const Run& r, const Real* first_h, const Real* first_c) {
    const Index rows = 4 * H, width = H;
    const Real* from = v(U);
    Real* to = v(turned);
    launch(
        "ssm::lstm_norm_turn", r, rows * H, KOKKOS_LAMBDA(const Index i) { to[i] = from[i % rows * width + i / rows]; });
    launch_rows("ssm::lstm_norm", r, B,
                Walk{v(x), v(turned), v(weight_h), v(bias_h), v(weight_c), v(bias_c), first_h, first_c, v(gates), v(w), v(scales), v(c),
                     v(y), T, H});
  }
  void forward(const Run& r) override { walk(r, nullptr, nullptr); }
  void step(const Run& r) override {
    walk(r, v(h), v(cell));
    const Real *new_h = v(y), *new_c = v(c);
    Real *to_h = v(h), *to_c = v(cell);
    launch(
        "ssm::lstm_norm_step", r, B * H, KOKKOS_LAMBDA(const Index i) {
          to_h[i] = new_h[i];
          to_c[i] = new_c[i];
        });
  }

  void backward(const Run& r) override {
    launch_rows("ssm::lstm_norm_back", r, B,
                WalkBack{v(U), v(weight_h), v(weight_c), v(bias_c), v(gates), v(w), v(scales), v(c), d(y), v(da), v(dv), v(dn), v(dh),
                         v(dc), T, H});
    const Real *gate = v(da), *inner = v(dn), *hat = v(w), *kept = v(scales), *state_c = v(c);
    const Grad dX = g(x);
    const Index G = 4 * H, width = H;
    each(
        "ssm::lstm_norm_input", r, x.size(), KOKKOS_LAMBDA(const Index i) { dX(i, gate[i]); });
    sum_columns(
        "ssm::lstm_norm_weight", r, B * T, G, v(parts),
        KOKKOS_LAMBDA(const Index row, const Index j) { return gate[row * G + j] * hat[row * G + j]; }, Grad{d(weight_h), true});
    sum_columns(
        "ssm::lstm_norm_bias", r, B * T, G, v(parts), KOKKOS_LAMBDA(const Index row, const Index j) { return gate[row * G + j]; },
        Grad{d(bias_h), true});
    sum_columns(
        "ssm::lstm_norm_weight_c", r, B * T, H, v(parts),
        KOKKOS_LAMBDA(const Index row, const Index j) {
          return inner[row * width + j] * (state_c[row * width + j] - kept[row * 3 + 1]) * kept[row * 3 + 2];
        },
        Grad{d(weight_c), true});
    sum_columns(
        "ssm::lstm_norm_bias_c", r, B * T, H, v(parts), KOKKOS_LAMBDA(const Index row, const Index j) { return inner[row * width + j]; },
        Grad{d(bias_c), true});
    if (T == 1) return;
    gemm_sum(r,
             Gemm{.ta = true,
                  .M = G,
                  .N = H,
                  .K = T - 1,
                  .A = v(dv) + G,
                  .lda = G,
                  .stride_a = T * G,
                  .B = v(y),
                  .ldb = H,
                  .stride_b = T * H,
                  .beta = 1,
                  .C = d(U),
                  .ldc = H,
                  .batch = B},
             nullptr, room(parts));
  }
  Cost cost() const override {
    const double places = static_cast<double>(B * T), all = places * static_cast<double>(H), real = sizeof(Real);
    const double products = places * static_cast<double>(U.size), kept = n.mode == Mode::train ? 9 * all : 0;
    return {{2 * products + 45 * all, 5 * all, real * (5 * all + static_cast<double>(U.size) + kept)},
            {4 * products + 90 * all, all, real * (15 * all + 2 * static_cast<double>(U.size) + kept)}};
  }
};

}  // namespace lstm_norm_op

Tensor lstm_norm(Net& n, Tensor x, const std::string& layer, double forget_bias) {
  return n.add<lstm_norm_op::LstmNorm>(x, layer, forget_bias);
}

}  // namespace ssm
