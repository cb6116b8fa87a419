// selective_scan.cpp - the recurrence of S6 (Mamba), one state of N numbers per channel, never a (B,T,E,N) tensor.
//
//   delta = softplus(raw + bias)   A = -exp(A_log)
//   h_t = exp(delta A) h_{t-1} + delta u B_t      y_t = h_t . C_t + D u_t      out = y silu(z)
//
// forward() saves h once per kChunk steps; backward() walks the chunks from the end, runs each again from its saved state, then back:
//   lambda_t = C_t dy_t + exp(delta_{t+1} A) lambda_{t+1}      r_t = h_t - delta u B_t = exp(delta A) h_{t-1}
//   du = D dy + delta lambda.B     ddelta = lambda.(B u + A r)     dA = lambda delta r     dB_t = lambda delta u     dC_t = dy h_t
// dB and dC sum over channels: a fixed number of channel blocks, each with its own partial sums, then one ordered pass over the blocks.
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "ops.hpp"
#include "ops/selective_scan_gpu_step.hpp"
#include "ops/selective_scan_kernels.hpp"
#if defined(SSM_GPU_CODE)
#include "ops/selective_scan_gpu_back.hpp"
#endif

namespace ssm {
namespace selective_scan_op {

struct SelectiveScan final : Op {
  Tensor u, starts, raw, low, B, C, z, boundary, y;
  Param A_log, D, bias, B_const, C_const, to_raw;
  State h;
  Scratch work, dBC, partial, raw_of_low;
  Index rows, E, N;      // rows: sequences of u, the batch's or several of each
  Index blocks, pieces;  // blocks of channels with sums of their own; sequences, or their segments, with sums of their own
  bool cut = false;      // the GPU's kernels of selective_scan_gpu.hpp

  SelectiveScan(Net& net, const SelectiveScanInputs& i, const SelectiveScanOptions& o, Tensor starts_ = {})
      : Op(net), u(in(i.u, save)), starts(starts_), rows(i.u.B()), E(i.u.last()), N(o.d_state) {
    if (starts.id >= 0) in(starts, save);
    blocks = channel_blocks(rows, E);
    if (i.raw.id >= 0) raw = in(i.raw, save);
    if (i.low.id >= 0) {
      if (n.mode != Mode::stream || i.raw.id >= 0) throw std::logic_error("selective_scan makes raw itself in a stream alone");
      low = in(i.low, save), to_raw = i.to_raw, raw_of_low = scratch(rows * E);
    }
    if (i.B.id >= 0) B = in(i.B, save);
    else B_const = param("B", {E, N}, o.B_init);
    if (i.C.id >= 0) C = in(i.C, save);
    else C_const = param("C", {E, N}, o.C_init);
    if (i.z.id >= 0) z = in(i.z, save);
    A_log = param("A_log", {E, N}, o.A_log_init, no_decay());
    D = param("D", {E}, init::constant(1), no_decay());
    bias = param(o.bias_name, {E}, o.bias_init, no_decay());
    h = state(rows / n.B * E * N);
    const bool training = n.mode == Mode::train;
    if (training) boundary = keep(shaped({rows, chunks(), E, N}));
    pieces = rows;
    Index room = std::max(rows * E * forward_work(N), training ? rows * blocks * work_of_item(kLanes, N) : 0);
#if defined(SSM_SCAN_ON_REGISTERS)
    cut = n.mode != Mode::stream && N <= kMostStates && starts.id < 0;
    if (cut) {
      const Cut there(rows, n.T, E, N, false), back(rows, n.T, E, N, true);
      blocks = back.groups, pieces = rows * back.segments, room = std::max(cut_scratch(there, rows, E, N), cut_scratch(back, rows, E, N));
    }
#endif
    work = scratch(room);
    if (training) {
      dBC = scratch(2 * blocks * rows * n.T * N);
      partial = scratch(pieces * E * sums_of_channel(N));
    }
    y = out(shaped({rows, n.T, E}), drop);
  }

  Index chunks() const { return (n.T + kChunk - 1) / kChunk; }
  const char* name() const override { return "selective_scan"; }
  std::string slow_because() const override {
#if defined(SSM_SCAN_ON_REGISTERS)
    if (starts.id >= 0) return kSeveralSequences;
    if (N > kMostStates)
      return "a state of " + std::to_string(N) + " is larger than the " + std::to_string(kMostStates) + " that registers hold";
#endif
    return {};
  }
  void forward(const Run& r) override { scan(r, nullptr); }
  void step(const Run& r) override {
#if defined(SSM_GPU_CODE)
    const Index of_B = B.id < 0 ? 0 : N, of_C = C.id < 0 ? 0 : N;
    const Real *given = raw.id < 0 ? nullptr : v(raw), *made_of = low.id < 0 ? nullptr : v(low), *by = low.id < 0 ? nullptr : v(to_raw);
    const Inputs p = inputs();
    if (starts.id < 0)
      return step_on_gpu(
          r, {p.u,  given,    made_of, by,      p.z, p.B, p.C, p.A_log, p.D, p.bias, v(h), v(y), rows, E, N, low.id < 0 ? 0 : low.last(),
              of_B, N - of_B, of_C,    N - of_C});
#endif
    if (low.id >= 0) gemm(r, false, true, rows, E, low.last(), 1, v(low), low.last(), v(to_raw), low.last(), 0, v(raw_of_low), E);
    scan(r, v(h));
  }

  Inputs inputs() const {
    Inputs p{};
    p.u = v(u);
    p.raw = raw.id >= 0 ? v(raw) : low.id >= 0 ? v(raw_of_low) : nullptr;
    p.z = z.id < 0 ? nullptr : v(z);
    p.B = B.id < 0 ? v(B_const) : v(B);
    p.C = C.id < 0 ? v(C_const) : v(C);
    p.A_log = v(A_log);
    p.D = v(D);
    p.bias = v(bias);
    p.boundary = boundary.id < 0 ? nullptr : v(boundary);
    p.work = v(work);
    p.T = n.T;
    p.E = E;
    p.N = N;
    p.chunks = chunks();
    p.starts = starts.id < 0 ? nullptr : v(starts);
    return p;
  }

  // f<kB, kC>(): whether B and C are parameters.
  template <class F>
  void with_kinds(const F& f) const {
    if (B.id >= 0 && C.id >= 0) f(Kinds<false, false>{});
    else if (B.id >= 0) f(Kinds<false, true>{});
    else if (C.id >= 0) f(Kinds<true, false>{});
    else f(Kinds<true, true>{});
  }

  void scan(const Run& r, Real* carried) {
    const Inputs p = inputs();
#if defined(SSM_SCAN_ON_REGISTERS)
    if (cut) return cut_forward(B.id < 0, C.id < 0, r, p, rows, v(y));
#endif
    with_kinds([&](auto kinds) { launch_lanes("ssm::selective_scan", r, rows, E, Forward<kinds.B, kinds.C>{p, v(y), carried}); });
  }

  void backward(const Run& r) override {
    Outputs o{};
    o.dy = d(y);
    o.du = g(u);
    if (raw.id >= 0) o.draw = g(raw);
    if (z.id >= 0) o.dz = g(z);
    const Index count = rows * n.T * N;
    o.dB = v(dBC);
    o.dC = v(dBC) + blocks * count;
    o.partial = v(partial);
    o.batch = rows;
    o.blocks = blocks;
    const Inputs p = inputs();
#if defined(SSM_SCAN_ON_REGISTERS)
    if (cut) cut_backward(B.id < 0, C.id < 0, r, p, o, rows);
#endif
    if (!cut) with_kinds([&](auto kinds) { launch("ssm::selective_scan_back", r, rows * blocks, Backward<kinds.B, kinds.C>{p, o}); });
    if (B.id >= 0) sum_blocks(r, o.dB, blocks, count, g(B));
    if (C.id >= 0) sum_blocks(r, o.dC, blocks, count, g(C));
    sum_batch(r, {d(A_log), d(D), d(bias), B.id < 0 ? d(B_const) : nullptr, C.id < 0 ? d(C_const) : nullptr});
  }

  struct ParamGrads {
    Real *A_log, *D, *bias, *B, *C;
  };
  void sum_batch(const Run& r, const ParamGrads& to) {
    const Index batch = pieces, channels = E, states = N, count = sums_of_channel(N);
    const Real* from = v(partial);
    launch(
        "ssm::selective_scan_params", r, channels * count, KOKKOS_LAMBDA(const Index i) {
          const Index e = i / count, k = i - e * count;
          const Real sum = sum_of_pieces(from, batch, channels, count, e, k);
          if (k < states) to.A_log[e * states + k] += sum;
          else if (k == states) to.D[e] += sum;
          else if (k == states + 1) to.bias[e] += sum;
          else if (k < 2 * states + 2) {
            if (to.B) to.B[e * states + k - states - 2] += sum;
          } else if (to.C) {
            to.C[e * states + k - 2 * states - 2] += sum;
          }
        });
  }

  Cost cost() const override {
    const double places = static_cast<double>(rows) * n.T, channels = places * E, all = channels * N, bytes = sizeof(Real);
    const double reads = (raw.id >= 0 || low.id >= 0) + (z.id >= 0) + 2.0, selective = (B.id >= 0) + (C.id >= 0);
    const double saved = n.mode == Mode::train ? all / kChunk : 0;
    Cost c;
    c.forward = {6 * all + 12 * channels, all + 3 * channels, bytes * (reads * channels + selective * places * N + saved)};
    c.backward = {23 * all + 25 * channels, all + 4 * channels, bytes * (2 * reads * channels + 2 * selective * places * N + saved)};
    return c;
  }
};

}  // namespace selective_scan_op

Tensor selective_scan(Net& n, const SelectiveScanInputs& inputs, const SelectiveScanOptions& options) {
  return n.add<selective_scan_op::SelectiveScan>(inputs, options);
}
Tensor selective_scan(Net& n, const SelectiveScanInputs& inputs, const SelectiveScanOptions& options, Tensor starts) {
  return n.add<selective_scan_op::SelectiveScan>(inputs, options, starts);
}

}  // namespace ssm
