// rnn.cpp - recurrent networks as torch defines them (LSTM: Hochreiter, Schmidhuber 1997; GRU: Cho et al. 2014).
//
//   LSTM  [i f g o] = [sigmoid sigmoid tanh sigmoid](W x_t + b_ih + U h_{t-1} + b_hh)     c_t = f c_{t-1} + i g     h_t = o tanh(c_t)
//   GRU   [r z] = sigmoid(W x_t + b_ih + U h_{t-1} + b_hh)     n = tanh(W_n x_t + b_in + r (U_n h_{t-1} + b_hn))     h_t = (1-z) n + z h_{t-1}
//
// x (B,T,I)   y = h (B,T,H)   weight_ih_<name> (gates H, I)   weight_hh_<name> (gates H, H)   bias_ih_<name>, bias_hh_<name> (gates H)
// One product gives W x for all t. The walk through time keeps the gates and c; backward walks back over them, leaves the gradients of all
// gates, and the weights take theirs in one product over all positions:
//   dW = sum da x^T     dU = sum da h_{t-1}^T     db = sum da     dx = W^T da
#include <algorithm>

#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/chained.hpp"
#include "lib/few_rows.hpp"
#include "ops.hpp"
#include "ops/rnn.hpp"
#include "ops/rnn_gpu_back.hpp"
#include "ops/rnn_gpu_wide_back.hpp"
#include "ops/rnn_kernels.hpp"

namespace ssm {
namespace rnn_op {

#if defined(SSM_GPU_CODE)
// The units of one position, from what both products left: from_x (B,4H), from_h (B,gates H), carry and h (B,H) of the state.
template <class Cell>
struct StepOnGpu {
  static constexpr int kThreads = 64, kBlocks = 8;
  const Real *from_x, *from_h;
  Real *carry, *h, *y;
  Index B, H;

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index i = block * kThreads + thread, b = quotient(i, H), k = i - b * H;
    wait_for_last();
    if (b >= B) return;
    Real x[kSlots], u[kSlots];
    for (int g = 0; g < Cell::kGates; ++g) x[g] = from_x[(b * kSlots + g) * H + k], u[g] = from_h[(b * Cell::kGates + g) * H + k];
    const Next next = Cell::next(x, u, carry[i]);
    carry[i] = next.carry;
    h[i] = next.h;
    y[i] = next.h;
  }
};
#endif

template <class Cell>
struct Rnn final : Op {
  static constexpr Index G = Cell::kGates;
  Tensor x, y, starts, slots, c;
  Index B, T, I, H;
  Param W, U, bias_x, bias_h, h0, c0;
  Scratch turned, letters, da, dcarry, dh0, sums, parts, from_state, zeros;
  State h, cell, started;

  Rnn(Net& net, Tensor x_, const RnnOptions& o, Index hidden, const std::string& layer, Tensor starts_)
      : Op(net), x(in(x_, save)), starts(starts_), B(x_.B()), T(x_.T()), I(x_.D()), H(hidden) {
    if (cut()) in(starts, save), zeros = scratch(H);
    y = out(shaped({B, T, H}), save);
    slots = keep(shaped({B, T, kSlots * H}));
    if (Cell::kOwnCarry) c = keep(shaped({B, T, H}));
    const Init draw = init::torch_linear(H);
    const double remember = Cell::kOwnCarry ? o.forget_bias : 0;
    W = param("weight_ih_" + layer, {G * H, I}, draw);
    U = param("weight_hh_" + layer, {G * H, H}, draw);
    bias_x = param("bias_ih_" + layer, {G * H}, [=](const Draw& d, Index i) { return draw(d, i) + (i / hidden == 1 ? remember : 0); });
    bias_h = param("bias_hh_" + layer, {G * H}, draw);
    h = state(H);
    if (Cell::kOwnCarry) cell = state(H);
    if (o.learn_start) {
      h0 = param("h0_" + layer, {H}, init::constant(0), no_decay());
      if (Cell::kOwnCarry) c0 = param("c0_" + layer, {H}, init::constant(0), no_decay());
      started = state(1);
    }
    if (n.mode == Mode::stream) from_state = scratch(B * G * H);
    else if (!held() && !wide()) turned = scratch(G * H * H);
#if defined(SSM_RNN_WIDE)
    else if (wide()) letters = scratch(n.mode == Mode::train ? plan().backward_letters() : plan().forward_letters());
#endif
    if (n.mode != Mode::train) return;
    da = scratch(B * T * kSlots * H);
    dcarry = scratch(B * H);
    if (o.learn_start) dh0 = scratch(B * H);
    sums = scratch(kSlots * H);
    parts = scratch(std::max({gemm_sum_scratch(G * H, I, B * T, 1), gemm_sum_scratch(G * H, H, T, B), gemm_sum_scratch(2 * H, H, T, B),
                              gemm_sum_scratch(H, H, T, B), gemm_sum_scratch(kSlots * H, 1, B * T, 1)}));
  }
  const char* name() const override { return Cell::kOwnCarry ? "lstm" : "gru"; }

  bool cut() const { return starts.id >= 0; }  // several sequences a row
  // Whether rnn_gpu.hpp takes the walks: one processor of the GPU holds U.
  bool held() const {
#if defined(SSM_RNN_HELD)
    return H <= kMostHeld && !cut();
#else
    return false;
#endif
  }

  // Whether rnn_gpu_wide.hpp takes the walks: the processors of the GPU hold U together.
  bool wide() const {
#if defined(SSM_RNN_WIDE)
    return H > kMostHeld && H <= kMostWide && !cut() && plan().blocks > 0;
#else
    return false;
#endif
  }
#if defined(SSM_RNN_WIDE)
  WidePlan plan() const { return wide_plan(B, H, gpu_processors()); }
#endif

  std::string slow_because() const override {
#if defined(SSM_RNN_HELD)
    if (cut()) return kSeveralSequences;
    if (!held() && !wide()) return std::to_string(H) + " units are more than those whose weights the processors of the GPU hold";
#endif
    return {};
  }

  Sequences sequences() const {
    Sequences s{};
    s.slots = v(slots), s.y = v(y), s.carry = Cell::kOwnCarry ? v(c) : v(y);
    s.h0 = h0.id < 0 ? nullptr : v(h0), s.c0 = c0.id < 0 ? nullptr : v(c0);
    s.U = v(U), s.turned = held() || wide() ? nullptr : v(turned), s.bias = v(bias_h);
    s.T = T, s.H = H;
    if (cut()) s.starts = v(starts), s.zeros = v(zeros);
    return s;
  }

  // slots, first G of kSlots columns of H: W x + b_ih
  void from_input(const Run& r) {
    gemm(r, Gemm{.tb = true,
                 .M = B * T,
                 .N = G * H,
                 .K = I,
                 .A = v(x),
                 .lda = I,
                 .B = v(W),
                 .ldb = I,
                 .C = v(slots),
                 .ldc = kSlots * H,
                 .bias = v(bias_x)});
  }

  void forward(const Run& r) override {
    from_input(r);
#if defined(SSM_RNN_HELD)
    if (held()) return held_forward<Cell>(r, B, sequences());
#endif
#if defined(SSM_RNN_WIDE)
    if (wide()) return wide_forward<Cell>(r, plan(), B, sequences(), v(letters));
#endif
    const Index rows = G * H, channels = H;
    const Real* from = v(U);
    Real* to = v(turned);
    launch(
        "ssm::rnn_turn", r, rows * H, KOKKOS_LAMBDA(const Index i) { to[i] = from[i % rows * channels + i / rows]; });
    if (cut()) fill(r, v(zeros), H, 0);
    walk("ssm::rnn", r, B, T, H, Forward<Cell>{sequences()});
  }

  void step(const Run& r) override {
    const Index channels = H;
    const Real *start_h = h0.id < 0 ? nullptr : v(h0), *start_c = c0.id < 0 ? nullptr : v(c0);
    Real *state_h = v(h), *carry = Cell::kOwnCarry ? v(cell) : v(h), *begun = start_h ? v(started) : nullptr;
    if (start_h)
      launch(
          "ssm::rnn_start", r, B, KOKKOS_LAMBDA(const Index b) {
            if (begun[b] != 0) return;
            for (Index k = 0; k < channels; ++k) state_h[b * channels + k] = start_h[k];
            for (Index k = 0; start_c && k < channels; ++k) carry[b * channels + k] = start_c[k];
            begun[b] = 1;
          });
#if defined(SSM_GPU_CODE)
    if (takes_few_rows(B)) {
      FewRows both[2];
      for (FewRows& p : both) p.rows = B, p.K = p.ldx = p.ldw = H, p.parts = 1, p.fixed = true;
      both[0].K = both[0].ldx = both[0].ldw = I, both[0].x = v(x), both[0].W = v(W);
      both[1].x = state_h, both[1].W = v(U);
      Finish &in = both[0].part[0], &back = both[1].part[0];
      in.count = back.count = G * H;
      in.y = v(slots), in.ld = kSlots * H, in.bias = v(bias_x);
      back.y = v(from_state), back.ld = G * H, back.bias = v(bias_h);
      few_rows(r, both, 2);
      const StepOnGpu<Cell> units{v(slots), v(from_state), carry, state_h, v(y), B, H};
      return launch_chained("ssm::rnn_step", r, (B * H + StepOnGpu<Cell>::kThreads - 1) / StepOnGpu<Cell>::kThreads, 0, units);
    }
#endif
    from_input(r);
    Gemm recurrent{.tb = true, .M = B, .N = G * H, .K = H, .A = state_h, .lda = H, .B = v(U), .ldb = H, .C = v(from_state), .ldc = G * H};
    recurrent.bias = v(bias_h);
    gemm(r, recurrent);
    const Real *gates = v(slots), *u = v(from_state);
    Real* to = v(y);
    each_row(
        "ssm::rnn_step", r, B, H, KOKKOS_LAMBDA(const Index b, const Index k) {
          Real from_x[kSlots], from_h[kSlots];
          for (Index g = 0; g < G; ++g) {
            from_x[g] = gates[(b * kSlots + g) * channels + k];
            from_h[g] = u[(b * G + g) * channels + k];
          }
          const Next next = Cell::next(from_x, from_h, carry[b * channels + k]);
          carry[b * channels + k] = next.carry;
          state_h[b * channels + k] = next.h;
          to[b * channels + k] = next.h;
        });
  }

  void backward(const Run& r) override {
    const bool learned = h0.id >= 0;
    if (cut()) fill(r, v(zeros), H, 0);
    Real* at_start = learned ? v(dh0) : nullptr;
#if defined(SSM_RNN_HELD)
    if (held()) held_backward<Cell>(r, B, sequences(), d(y), v(da), v(dcarry), at_start);
    else
#endif
#if defined(SSM_RNN_WIDE)
        if (wide())
      wide_backward<Cell>(r, plan(), B, sequences(), d(y), v(da), v(dcarry), at_start, v(letters));
    else
#endif
      walk("ssm::rnn_back", r, B, learned ? T + 1 : T, H, Backward<Cell>{sequences(), d(y), v(da), v(dcarry), at_start});
    const Grad dx = g(x);
    gemm(r, false, false, B * T, I, G * H, 1, v(da), kSlots * H, v(W), I, dx.add ? Real(1) : Real(0), dx.p, I);
    weights(r, G * H, I, B * T, 1, v(da), v(x), I, d(W));
    biases(r);
    if (cut()) forget_starts(r);
    if (T > 1) {  // gates whose recurrent gradient lies elsewhere than their input gradient take a product of their own
      const Index together = Cell::slot(G - 1) == G - 1 ? G : G - 1;
      weights(r, together * H, H, T - 1, B, v(da) + kSlots * H, v(y), H, d(U));
      if (together < G) weights(r, H, H, T - 1, B, v(da) + (kSlots + Cell::slot(G - 1)) * H, v(y), H, d(U) + together * H * H);
    }
    if (learned) start(r);
  }

  // The recurrent weights saw nothing where a sequence starts: zeroes the gradients of the gates there.
  void forget_starts(const Run& r) {
    const Real* S = v(starts);
    Real* gates = v(da);
    const Index length = T, width = kSlots * H;
    each_row(
        "ssm::rnn_forget", r, B * T, width, KOKKOS_LAMBDA(const Index row, const Index k) {
          if (starts_at(S, length, row / length, row % length)) gates[row * width + k] = 0;
        });
  }

  // to (rows, columns) += sum over batch and K of a^T b
  void weights(const Run& r, Index rows, Index columns, Index K, Index batch, const Real* a, const Real* b, Index ldb, Real* to) {
    gemm_sum(r,
             Gemm{.ta = true,
                  .M = rows,
                  .N = columns,
                  .K = K,
                  .A = a,
                  .lda = kSlots * H,
                  .stride_a = T * kSlots * H,
                  .B = b,
                  .ldb = ldb,
                  .stride_b = T * ldb,
                  .beta = 1,
                  .C = to,
                  .ldc = columns,
                  .batch = batch},
             nullptr, room(parts));
  }

  void biases(const Run& r) {
    const Index channels = H;
    Real *all = v(sums), *to_x = d(bias_x), *to_h = d(bias_h);
    fill(r, all, kSlots * H, 0);
    gemm_sum(r, Gemm{.ta = true, .M = kSlots * H, .N = 1, .K = B * T, .A = v(da), .lda = kSlots * H, .ldc = 1}, all, room(parts));
    each(
        "ssm::rnn_biases", r, G * H, KOKKOS_LAMBDA(const Index i) {
          const Index gate = i / channels, k = i - gate * channels;
          to_x[i] += all[i];
          to_h[i] += all[Cell::slot(static_cast<int>(gate)) * channels + k];
        });
  }

  // What the first position gives to the learned start and, because of it, to U.
  void start(const Run& r) {
    const Index channels = H, batch = B, length = T;
    const Real *gates = v(da), *at_h = v(dh0), *at_c = v(dcarry), *start_h = v(h0);
    Real *to_U = d(U), *to_h = d(h0), *to_c = c0.id < 0 ? nullptr : d(c0);
    launch(
        "ssm::rnn_start_weights", r, G * H, KOKKOS_LAMBDA(const Index i) {
          const Index gate = i / channels, k = i - gate * channels;
          Real sum = 0;
          for (Index b = 0; b < batch; ++b) sum += gates[(b * length * kSlots + Cell::slot(static_cast<int>(gate))) * channels + k];
          for (Index j = 0; j < channels; ++j) to_U[i * channels + j] += sum * start_h[j];
        });
    launch(
        "ssm::rnn_start_state", r, H, KOKKOS_LAMBDA(const Index k) {
          for (Index b = 0; b < batch; ++b) to_h[k] += at_h[b * channels + k];
          for (Index b = 0; to_c && b < batch; ++b) to_c[k] += at_c[b * channels + k];
        });
  }

  Cost cost() const override {
    const double places = static_cast<double>(B * T), all = places * static_cast<double>(H);
    const double products = places * static_cast<double>(W.size + U.size), gates = static_cast<double>(kSlots + Cell::kOwnCarry) * all;
    const double rows = places * static_cast<double>(I) + all, weights = static_cast<double>(W.size + U.size);
    const double kept = n.mode == Mode::train ? gates : 0;
    return {{2 * products + 20 * all, (G + Cell::kOwnCarry) * all, sizeof(Real) * (rows + weights + kept)},
            {4 * products + 40 * all, Cell::kOwnCarry * all, sizeof(Real) * (2 * rows + 3 * weights + kept)}};
  }
};

}  // namespace rnn_op

Tensor rnn(Net& n, Tensor x, const RnnOptions& o) { return rnn(n, x, o, {}); }
Tensor rnn(Net& n, Tensor x, const RnnOptions& o, Tensor starts) {
  if (o.layer_norm && (starts.id >= 0 || o.learn_start || o.cell != "lstm"))
    throw Unsupported("rnn() with layer_norm is an LSTM of one sequence a row that starts at 0");
  if (starts.id >= 0 && o.learn_start) throw Unsupported("a learned start of rnn() is that of a row, not of its sequences");
  const Index D = x.D(), H = o.hidden > 0 ? o.hidden : D;
  Tensor h = n.as(x, Order::BTD);
  for (int i = 0; i < o.layers; ++i) {
    const std::string layer = "l" + std::to_string(i);
    if (o.layer_norm) {
      LinearOptions sums;
      sums.bias = false;
      sums.weight = init::torch_linear(H);
      h = lstm_norm(n, layer_norm(n, linear(n, h, 4 * H, "ih_" + layer, sums), "norm_ih_" + layer), layer, o.forget_bias);
    } else if (o.cell == "lstm") h = n.add<rnn_op::Rnn<rnn_op::LstmCell>>(h, o, H, layer, starts);
    else if (o.cell == "gru") h = n.add<rnn_op::Rnn<rnn_op::GruCell>>(h, o, H, layer, starts);
    else unknown("recurrent cell", o.cell, {"lstm", "gru"});
  }
  return H == D ? h : linear(n, h, D, "out_proj");
}

}  // namespace ssm
