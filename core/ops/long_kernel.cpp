// long_kernel.cpp - kernels that are parameters, tap by tap: smoothed, squashed (LongConv), or the product of a shift register (H3).
#include "launch.hpp"
#include "lib/each.hpp"
#include "ops/filters.hpp"

namespace ssm::long_kernel_op {

Index taps_of(const Net& n, Index length) { return n.mode == Mode::stream || n.T > length ? length : n.T; }

struct LongKernel final : Op {
  LongKernelOptions o;
  Param k;
  Tensor y;
  Scratch slopes;
  Index rows, L, taps;

  LongKernel(Net& net, Index H, const std::string& name_, const LongKernelOptions& options)
      : Op(net), o(options), rows(o.channels * o.directions * H), L(o.length), taps(taps_of(net, L)) {
    k = n.param(name_, {o.channels * o.directions, H, L}, o.init, o.group);
    const Tensor shape = o.directions == 2 ? shaped({2, o.channels * H, taps}) : shaped({o.channels * H, taps});
    y = n.mode == Mode::stream ? table(shape) : out(shape, drop);
    if (n.mode == Mode::train && o.smooth > 0) slopes = scratch(rows * taps);
  }
  const char* name() const override { return "long_kernel"; }

  // Mean of the taps around t of one row.
  SSM_FN static Real mean(const Real* row, Index t, Index L, int smooth) {
    Real sum = 0;
    for (Index i = t - smooth; i <= t + smooth; ++i) sum += i >= 0 && i < L ? row[i] : Real(0);
    return sum / static_cast<Real>(2 * smooth + 1);
  }

  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) forward(r);
  }
  void step(const Run&) override {}
  void forward(const Run& r) override {
    const Real *from = v(k), squash = static_cast<Real>(o.squash);
    Real* to = v(y);
    const Index length = L, width = taps;
    const int smooth = o.smooth;
    each_row(
        "ssm::long_kernel", r, rows, taps, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Real s = smooth ? mean(from + row * length, t, length, smooth) : from[row * length + t];
          const Real over = (s < 0 ? -s : s) - squash;
          to[row * width + t] = over > 0 ? (s < 0 ? -over : over) : Real(0);
        });
  }
  void backward(const Run& r) override {
    const Real *from = v(k), squash = static_cast<Real>(o.squash), *dy = d(y);
    Real* dk = d(k);
    const Index length = L, width = taps;
    const int smooth = o.smooth;
    if (smooth == 0) {
      each_row(
          "ssm::long_kernel_backward", r, rows, taps, KOKKOS_LAMBDA(const Index row, const Index t) {
            const Real s = from[row * length + t], g = dy[row * width + t];
            dk[row * length + t] += (s < 0 ? -s : s) > squash ? g : Real(0);
          });
      return;
    }
    Real* g = v(slopes);
    each_row(
        "ssm::long_kernel_slopes", r, rows, taps, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Real s = mean(from + row * length, t, length, smooth);
          g[row * width + t] = (s < 0 ? -s : s) > squash ? dy[row * width + t] : Real(0);
        });
    each_row(
        "ssm::long_kernel_backward", r, rows, taps + smooth < L ? taps + smooth : L,
        KOKKOS_LAMBDA(const Index row, const Index t) { dk[row * length + t] += mean(g + row * width, t, width, smooth); });
  }
  Cost cost() const override {
    const double numbers = static_cast<double>(y.size()), work = 3 + 2.0 * o.smooth, real = sizeof(Real);
    return {{work * numbers, 0, 2 * real * numbers}, {2 * work * numbers, 0, 4 * real * numbers}};
  }
};

// K_i = sum_j C_{j+i} B_j      dC_m = sum_{i<=m} dK_i B_{m-i}      dB_j = sum_{i<N-j} dK_i C_{i+j}
struct ShiftKernel final : Op {
  Param B, C;
  Tensor y;
  Index H, N, taps;

  ShiftKernel(Net& net, Index channels, Index states, const std::string& name_)
      : Op(net), H(channels), N(states), taps(taps_of(net, states)) {
    const auto first = [states](const Draw&, Index i) { return i % states == 0 ? 1.0 : 0.0; };
    B = param(name_ + ".B", {H, N}, first, ssm_group());
    C = param(name_ + ".C", {1, H, N}, init::torch_linear(N));
    y = n.mode == Mode::stream ? table(shaped({H, taps})) : out(shaped({H, taps}), drop);
  }
  const char* name() const override { return "shift_kernel"; }

  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) forward(r);
  }
  void step(const Run&) override {}
  void forward(const Run& r) override {
    const Real *b = v(B), *c = v(C);
    Real* to = v(y);
    const Index states = N, width = taps;
    launch(
        "ssm::shift_kernel", r, H * taps, KOKKOS_LAMBDA(const Index k) {
          const Index row = k / width, i = k - row * width;
          Real sum = 0;
          for (Index j = 0; j + i < states; ++j) sum += c[row * states + j + i] * b[row * states + j];
          to[k] = sum;
        });
  }
  void backward(const Run& r) override {
    const Real *b = v(B), *c = v(C), *dy = d(y);
    Real *db = d(B), *dc = d(C);
    const Index states = N, width = taps;
    launch(
        "ssm::shift_kernel_backward", r, H * N, KOKKOS_LAMBDA(const Index k) {
          const Index row = k / states, m = k - row * states;
          const Real* g = dy + row * width;
          Real to_c = 0, to_b = 0;
          for (Index i = 0; i <= m && i < width; ++i) to_c += g[i] * b[row * states + m - i];
          for (Index i = 0; i + m < states && i < width; ++i) to_b += g[i] * c[row * states + i + m];
          dc[k] += to_c;
          db[k] += to_b;
        });
  }
  Cost cost() const override {
    const double work = static_cast<double>(y.size() * N), bytes = sizeof(Real) * static_cast<double>(2 * H * N + y.size());
    return {{2 * work, 0, bytes}, {4 * work, 0, 2 * bytes}};
  }
};

}  // namespace ssm::long_kernel_op

namespace ssm {

Tensor long_kernel(Net& n, Index H, const std::string& name, const LongKernelOptions& options) {
  return n.add<long_kernel_op::LongKernel>(H, name, options);
}
Tensor shift_kernel(Net& n, Index d, Index N, const std::string& name) { return n.add<long_kernel_op::ShiftKernel>(d, N, name); }

}  // namespace ssm
