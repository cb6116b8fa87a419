// dilated_conv.cpp - dense convolution over time with k taps a distance `dilation` apart: k shifted matrix products, no im2col.
//
//   y_t = b + sum_j W_j x_{t + j dilation - left}     x (B,T,in)   y (B,T,out)   weight (out,in,k)   b (out)     x = 0 outside [0,T)
//   left = (k-1) dilation when causal, (k-1)/2 dilation (rounded down) when centred: one tap always reads x_t itself
//   dx_t = sum_j W_j^T dy_{t - j dilation + left}     dW_j = sum dy_t x_{t + j dilation - left}^T     db = sum dy_t
//
// Weight norm (Salimans and Kingma 2016): W_o = g_o v_o / |v_o|, the norm over (in,k). weight_v (out,in,k), weight_g (out,1,1): first |v|.
//   dg_o = dW_o . v_o / |v_o|     dv_o = g_o / |v_o| (dW_o - v_o (dW_o . v_o) / |v_o|^2)
//
// With affine = false a batch norm follows, which takes shift and length out of every output again: there is no b, and weight_g stays
// |v| of the start, a buffer. The gradient of the one would be rounding alone, that of the other next to nothing (the norm's eps), and an
// optimiser that divides by their size would follow it.
#include <cmath>

#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/rows.hpp"
#include "ops.hpp"

namespace ssm {
namespace dilated_conv_op {

constexpr Index kWide = kOnHost ? 1 << 30 : 1;  // channels of one work item: all of them on a CPU

struct DilatedConv final : Op {
  Tensor x, y;
  Index inputs, outputs, taps, dilation, home;  // home: the tap that reads x_t
  bool affine;
  Param W, weight_g, b;
  Tensor packed, length;  // the weights as (out,k,in); |v| of every output
  Scratch dW, parts, window;
  State past, place;  // ring of (k-1) dilation inputs, and where the oldest lies

  DilatedConv(Net& net, Tensor x_, Index out_, const std::string& name, const DilatedConvOptions& o)
      : Op(net),
        x(x_),
        inputs(x_.D()),
        outputs(out_),
        taps(o.taps),
        dilation(o.dilation),
        home(o.causal ? taps - 1 : (taps - 1) / 2),
        affine(o.affine) {
    if (taps < 1 || dilation < 1)
      throw BadInput("a convolution has kernel >= 1 and dilation >= 1, not " + std::to_string(taps) + " and " + std::to_string(dilation));
    if (!o.causal && n.mode == Mode::stream) throw BadInput("a centred convolution reads later positions and cannot stream");
    in(x, save);
    y = out(shaped({x.B(), x.T(), outputs}), drop);
    packed = keep(shaped({outputs, taps, inputs}));
    const Init draw = init::torch_linear(inputs * taps);
    W = param(name + (o.weight_norm ? ".weight_v" : ".weight"), {outputs, inputs, taps}, draw);
    if (o.weight_norm) {
      const std::string g = name + ".weight_g";
      weight_g = affine ? param(g, {outputs, 1, 1}, init::constant(1)) : buffer(g, {outputs, 1, 1}, init::constant(1));
      length = keep(shaped({outputs}));
      start_at_norm(n.full(name));
    }
    if (affine) b = param(name + ".bias", {outputs}, draw);
    if (n.mode == Mode::train) {
      dW = scratch(W.size);
      parts = scratch(gemm_sum_scratch(outputs, inputs, x.T(), x.B()));
    }
    if (n.mode == Mode::stream) window = scratch(x.B() * taps * inputs);
    past = state((taps - 1) * dilation * inputs);
    place = state(1);
  }
  const char* name() const override { return "dilated_conv"; }
  bool normed() const { return weight_g.id >= 0; }

  void start_at_norm(const std::string& full) {
    n.params.after_init(full + ".weight_g", [full](HostParams& host) {
      const std::vector<double>& v = host.at(full + ".weight_v");
      std::vector<double>& g = host.at(full + ".weight_g");
      const std::size_t each = v.size() / g.size();
      for (std::size_t o = 0; o < g.size(); ++o) {
        double sum = 0;
        for (std::size_t q = 0; q < each; ++q) sum += v[o * each + q] * v[o * each + q];
        g[o] = std::sqrt(sum);
      }
    });
  }

  void pack(const Run& r) {
    const Real *from = v(W), *g = normed() ? v(weight_g) : nullptr;
    Real *to = v(packed), *norm = normed() ? v(length) : nullptr;
    const Index in = inputs, k = taps, each = in * k;
    launch_rows(
        "ssm::dilated_conv_pack", r, outputs, KOKKOS_LAMBDA(const Row& row, const Index o) {
          const Real* w = from + o * each;
          Real scale = 1;
          if (g) {
            const Real size = Kokkos::sqrt(row.sum(each, [&](Index q) { return w[q] * w[q]; }));
            row.once([&] { norm[o] = size; });
            scale = g[o] / size;
          }
          row.each(each, [&](Index q) { to[o * each + q] = scale * w[q % in * k + q / in]; });
        });
  }

  // Tap j meets rows [first, first + count) of y with rows [first + shift, ..) of x.
  struct Meeting {
    Index first, count, shift;
  };
  Meeting meeting(Index j) const {
    const Index shift = (j - home) * dilation, away = shift < 0 ? -shift : shift;
    return {shift < 0 ? away : 0, x.T() - away, shift};
  }
  // The home tap first: it writes every row, the others add.
  template <class F>
  void each_tap(const F& f) const {
    f(home, meeting(home));
    for (Index j = 0; j < taps; ++j)
      if (j != home && meeting(j).count > 0) f(j, meeting(j));
  }

  void forward(const Run& r) override {
    pack(r);
    const Real *X = v(x), *P = v(packed), *bias = affine ? v(b) : nullptr;
    Real* Y = v(y);
    const Index T = x.T();
    each_tap([&](Index j, Meeting m) {
      const bool start = j == home;
      gemm(r, {.tb = true,
               .M = m.count,
               .N = outputs,
               .K = inputs,
               .A = X + (m.first + m.shift) * inputs,
               .lda = inputs,
               .stride_a = T * inputs,
               .B = P + j * inputs,
               .ldb = taps * inputs,
               .beta = start ? Real(0) : Real(1),
               .C = Y + m.first * outputs,
               .ldc = outputs,
               .stride_c = T * outputs,
               .batch = x.B(),
               .bias = start ? bias : nullptr});
    });
  }

  void backward(const Run& r) override {
    const Real *X = v(x), *P = v(packed), *dY = d(y);
    const Grad dx = g(x);
    const Index T = x.T();
    each_tap([&](Index j, Meeting m) {
      const Real *dy = dY + m.first * outputs, *from = X + (m.first + m.shift) * inputs;
      gemm(r, {.M = m.count,
               .N = inputs,
               .K = outputs,
               .A = dy,
               .lda = outputs,
               .stride_a = T * outputs,
               .B = P + j * inputs,
               .ldb = taps * inputs,
               .beta = j == home && !dx.add ? Real(0) : Real(1),
               .C = dx.p + (m.first + m.shift) * inputs,
               .ldc = inputs,
               .stride_c = T * inputs,
               .batch = x.B()});
      gemm_sum(r,
               {.ta = true,
                .M = outputs,
                .N = inputs,
                .K = m.count,
                .A = dy,
                .lda = outputs,
                .stride_a = T * outputs,
                .B = from,
                .ldb = inputs,
                .stride_b = T * inputs,
                .C = v(dW) + j * outputs * inputs,
                .ldc = inputs,
                .batch = x.B()},
               j == home && affine ? d(b) : nullptr, room(parts));
    });
    unpack(r);
  }

  // From the gradient of the weights (k,out,in) to those of the parameters.
  void unpack(const Run& r) {
    const Real *w = v(W), *g = normed() ? v(weight_g) : nullptr, *norm = normed() ? v(length) : nullptr, *from = v(dW);
    Real *dv = d(W), *dg = normed() && affine ? d(weight_g) : nullptr;
    const Index in = inputs, k = taps, each = in * k, outs = outputs, step = dilation, center = home, T = x.T();
    launch_rows(
        "ssm::dilated_conv_unpack", r, outputs, KOKKOS_LAMBDA(const Row& row, const Index o) {
          const auto gradient = [&](Index q) {  // of weight q = (i,j); a tap that reaches beyond the sequence was never written
            const Index i = q / k, j = q - i * k, shift = (j - center) * step;
            return shift < T && -shift < T ? from[(j * outs + o) * in + i] : Real(0);
          };
          Real scale = 1, along = 0;
          if (g) {
            const Real dot = row.sum(each, [&](Index q) { return gradient(q) * w[o * each + q]; }), size = norm[o];
            if (dg) row.once([&] { dg[o] += dot / size; });
            scale = g[o] / size;
            along = dot / (size * size);
          }
          row.each(each, [&](Index q) { dv[o * each + q] += scale * (g ? gradient(q) - along * w[o * each + q] : gradient(q)); });
        });
  }

  // The window of k inputs is gathered from the ring, and one product with the packed weights follows.
  void step(const Run& r) override {
    pack(r);
    const Index in = inputs, k = taps, gap = dilation, size = (k - 1) * gap, wide = in < kWide ? in : kWide, items = in / wide;
    const Real* now = v(x);
    Real *ring = v(past), *at = v(place), *to = v(window);
    launch(
        "ssm::dilated_conv_window", r, x.B() * items, KOKKOS_LAMBDA(const Index i) {
          const Index row = i / items, first = (i - row * items) * wide, oldest = static_cast<Index>(at[row]);
          for (Index c = first; c < first + wide; ++c) {
            for (Index j = 0; j < k - 1; ++j) to[(row * k + j) * in + c] = ring[(row * size + (oldest + j * gap) % size) * in + c];
            to[(row * k + k - 1) * in + c] = now[row * in + c];
            if (size > 0) ring[(row * size + oldest) * in + c] = now[row * in + c];
          }
        });
    if (size > 0)
      launch(
          "ssm::dilated_conv_place", r, x.B(),
          KOKKOS_LAMBDA(const Index row) { at[row] = static_cast<Real>((static_cast<Index>(at[row]) + 1) % size); });
    gemm(r, {.tb = true,
             .M = x.B(),
             .N = outputs,
             .K = k * in,
             .A = to,
             .lda = k * in,
             .B = v(packed),
             .ldb = k * in,
             .C = v(y),
             .ldc = outputs,
             .bias = affine ? v(b) : nullptr});
  }

  Cost cost() const override {
    const double rows = static_cast<double>(x.rows()), weights = static_cast<double>(W.size),
                 io = rows * static_cast<double>(inputs + outputs);
    const double work = 2 * rows * weights, bias = affine ? static_cast<double>(y.size()) : 0, norm = normed() ? 3 * weights : 0;
    return {{work + bias + norm, 0, sizeof(Real) * (io + 2 * weights)},
            {2 * work + bias + 2 * norm, 0, sizeof(Real) * (2 * io + 4 * weights)}};
  }
};

}  // namespace dilated_conv_op

Tensor dilated_conv(Net& n, Tensor x, Index out, const std::string& name, const DilatedConvOptions& options) {
  return n.add<dilated_conv_op::DilatedConv>(n.as(x, Order::BTD), out, name, options);
}

}  // namespace ssm
