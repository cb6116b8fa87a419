// complex_selective_scan.cpp - the recurrence of S6 with N complex modes per channel, never a (B,T,E,N) tensor.
//
//   delta = softplus(raw + bias)   A = -exp(A_log) + i A_imag
//   h_t = exp(delta A) h_{t-1} + delta u B_t      y_t = 2 Re(h_t . C_t) + D u_t
//
// As in selective_scan.cpp forward() saves h once per kChunk steps, and backward() runs each chunk again; `*` is the conjugate:
//   lambda_t = 2 C_t* dy_t + exp(delta_{t+1} A)* lambda_{t+1}      r_t = h_t - delta u B_t = exp(delta A) h_{t-1}
//   du = D dy + delta Re(lambda*.B)     ddelta = Re(lambda*.(B u + A r))     dA = delta lambda r*     dB_t = delta u lambda     dC_t = 2 dy h_t*
#include "ops/complex_selective_scan.hpp"

#include <algorithm>

#include "launch.hpp"
#include "ops/complex_selective_scan_kernels.hpp"

namespace ssm {
namespace complex_selective_scan_op {

using selective_scan_op::channel_blocks;
using selective_scan_op::sum_blocks;
using selective_scan_op::sum_of_pieces;

struct ComplexSelectiveScan final : Op {
  Tensor u, starts, raw, B, C, boundary, y;
  Param A_log, A_imag, D, bias, B_const, C_const;
  State h;
  Scratch work, dBC, partial;
  Index rows, E, N, wide,
      blocks;  // rows: sequences of u, the batch's or several of each; wide = 2N; blocks of channels with sums of their own

  ComplexSelectiveScan(Net& net, const SelectiveScanInputs& i, const ComplexScanOptions& o, Tensor starts_)
      : Op(net), u(in(i.u, save)), starts(starts_), rows(i.u.B()), E(i.u.last()), N(o.d_state), wide(2 * N) {
    if (starts.id >= 0) in(starts, save);
    blocks = channel_blocks(rows, E);
    if (i.raw.id >= 0) raw = in(i.raw, save);
    if (i.B.id >= 0) B = in(i.B, save);
    else B_const = param("B", {E, N, 2}, o.B_init);
    if (i.C.id >= 0) C = in(i.C, save);
    else C_const = param("C", {E, N, 2}, o.C_init);
    A_log = param("A_log", {E, N}, o.A_log_init, no_decay());
    A_imag = param("A_imag", {E, N}, o.A_imag_init, no_decay());
    D = param("D", {E}, init::constant(1), no_decay());
    bias = param(o.bias_name, {E}, o.bias_init, no_decay());
    h = state(rows / n.B * E * wide);
    const bool training = n.mode == Mode::train;
    work = scratch(std::max(rows * E * forward_work(N), training ? rows * blocks * work_of_item(kLanes, N) : 0));
    if (training) {
      boundary = keep(shaped({rows, chunks(), E, wide}));
      dBC = scratch(2 * blocks * rows * n.T * wide);
      partial = scratch(rows * E * sums_of_channel(wide));
    }
    y = out(shaped({rows, n.T, E}), drop);
  }

  Index chunks() const { return (n.T + kChunk - 1) / kChunk; }
  const char* name() const override { return "complex_selective_scan"; }
  std::string slow_because() const override { return kOnHost ? "" : "complex modes have plain kernels only: a thread walks a sequence"; }
  void forward(const Run& r) override { scan(r, nullptr); }
  void step(const Run& r) override { scan(r, v(h)); }

  Inputs inputs() const {
    Inputs p{};
    p.u = v(u);
    p.raw = raw.id < 0 ? nullptr : v(raw);
    p.B = B.id < 0 ? v(B_const) : v(B);
    p.C = C.id < 0 ? v(C_const) : v(C);
    p.A_log = v(A_log), p.A_imag = v(A_imag), p.D = v(D), p.bias = v(bias);
    p.boundary = boundary.id < 0 ? nullptr : v(boundary);
    p.work = v(work);
    p.T = n.T, p.E = E, p.N = N, p.chunks = chunks();
    p.selects_B = B.id >= 0, p.selects_C = C.id >= 0;
    p.starts = starts.id < 0 ? nullptr : v(starts);
    return p;
  }
  void scan(const Run& r, Real* carried) { launch_lanes("ssm::complex_selective_scan", r, rows, E, Forward{inputs(), v(y), carried}); }

  void backward(const Run& r) override {
    const Index count = rows * n.T * wide;
    Outputs o{};
    o.dy = d(y);
    o.du = g(u);
    if (raw.id >= 0) o.draw = g(raw);
    o.dB = v(dBC);
    o.dC = v(dBC) + blocks * count;
    o.partial = v(partial);
    o.batch = rows;
    o.blocks = blocks;
    launch("ssm::complex_selective_scan_back", r, rows * blocks, Backward{inputs(), o});
    if (B.id >= 0) sum_blocks(r, o.dB, blocks, count, g(B));
    if (C.id >= 0) sum_blocks(r, o.dC, blocks, count, g(C));
    sum_batch(r, {d(A_log), d(A_imag), d(D), d(bias), B.id < 0 ? d(B_const) : nullptr, C.id < 0 ? d(C_const) : nullptr});
  }

  struct ParamGrads {
    Real *A_log, *A_imag, *D, *bias, *B, *C;
  };
  void sum_batch(const Run& r, const ParamGrads& to) {
    const Index batch = rows, channels = E, width = wide, count = sums_of_channel(wide);
    const Real* from = v(partial);
    launch(
        "ssm::complex_selective_scan_params", r, channels * count, KOKKOS_LAMBDA(const Index i) {
          const Index e = i / count, k = i - e * count, of_B = k - width - 2, of_C = of_B - width;
          const Real sum = sum_of_pieces(from, batch, channels, count, e, k);
          if (k < width) {
            Real* part = k % 2 ? to.A_imag : to.A_log;
            part[(e * width + k) / 2] += sum;
          } else if (k == width) to.D[e] += sum;
          else if (k == width + 1) to.bias[e] += sum;
          else if (of_C < 0) {
            if (to.B) to.B[e * width + of_B] += sum;
          } else if (to.C) {
            to.C[e * width + of_C] += sum;
          }
        });
  }

  Cost cost() const override {
    const double places = static_cast<double>(rows) * n.T, channels = places * E, modes = channels * N, numbers = places * wide;
    const double sequences = (raw.id >= 0) + 2.0, selective = (B.id >= 0) + (C.id >= 0), bytes = sizeof(Real);
    const double saved = n.mode == Mode::train ? 2 * modes / kChunk : 0;
    Cost c;
    c.forward = {18 * modes + 8 * channels, 3 * modes + 2 * channels, bytes * (sequences * channels + selective * numbers + saved)};
    c.backward = {56 * modes + 18 * channels, 3 * modes + 3 * channels,
                  bytes * (2 * sequences * channels + 2 * selective * numbers + saved)};
    return c;
  }
};

}  // namespace complex_selective_scan_op

Tensor complex_selective_scan(Net& n, const SelectiveScanInputs& inputs, const ComplexScanOptions& options, Tensor starts) {
  const Tensor y = n.add<complex_selective_scan_op::ComplexSelectiveScan>(inputs, options, starts);
  return inputs.z.id < 0 ? y : silu_gate(n, y, inputs.z);
}

}  // namespace ssm
