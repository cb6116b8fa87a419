// kernel_forms.cpp - long kernels by their Fourier coefficients, or as the impulse response of a rational transfer function.
//
//   fourier:   K = c E, E (2 modes, taps) of cosines and negative sines           dc = dK E^T
//   transfer:  K_t = b_t - sum_k a_k K_{t-k}, k = 1..size      g_t = dK_t - sum_k a_k g_{t+k}     db_t = g_t     da_k = -sum_t g_t K_{t-k}
#include <cmath>
#include <numbers>

#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "ops/filters.hpp"

namespace ssm {
namespace kernel_forms_op {

Index taps_of(const Net& n) { return n.mode == Mode::stream || n.T > n.l_max ? n.l_max : n.T; }

// What both share: made once for a stream, else in every pass.
struct Form : Op {
  Index H, taps;
  Tensor y;
  Form(Net& net, Index rows, Save keep_y) : Op(net), H(rows), taps(taps_of(net)) {
    y = n.mode == Mode::stream ? table(shaped({H, taps})) : out(shaped({H, taps}), keep_y);
  }
  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) forward(r);
  }
  void step(const Run&) override {}
};

struct Fourier final : Form {
  Param c;
  Scratch waves, sums;
  Index modes;
  Fourier(Net& net, Index rows, const std::string& local, Index count, const Group& group) : Form(net, rows, drop), modes(count) {
    c = param(local, {H, modes, 2}, init::normal(1 / std::sqrt(static_cast<double>(H * n.l_max * modes))), group);
    waves = scratch(2 * modes * taps);
    if (n.mode == Mode::train) sums = scratch(gemm_sum_scratch(H, 2 * modes, taps, 1));
  }
  const char* name() const override { return "fourier_kernel"; }

  // The turns of m t / L that are whole are taken off in integers: late phases keep their digits.
  void make_waves(const Run& r) {
    Real* E = v(waves);
    const Index width = taps, L = n.l_max;
    const double turn = 2 * std::numbers::pi / static_cast<double>(L);
    each_row(
        "ssm::fourier_waves", r, modes, taps, KOKKOS_LAMBDA(const Index m, const Index t) {
          const double angle = turn * static_cast<double>(m * t % L);
          E[2 * m * width + t] = static_cast<Real>(::cos(angle));
          E[(2 * m + 1) * width + t] = -static_cast<Real>(::sin(angle));
        });
  }
  void forward(const Run& r) override {
    make_waves(r);
    gemm(r, false, false, H, taps, 2 * modes, 1, v(c), 2 * modes, v(waves), taps, 0, v(y), taps);
  }
  void backward(const Run& r) override {
    make_waves(r);
    const Gemm to{.tb = true,
                  .M = H,
                  .N = 2 * modes,
                  .K = taps,
                  .A = d(y),
                  .lda = taps,
                  .B = v(waves),
                  .ldb = taps,
                  .beta = 1,
                  .C = d(c),
                  .ldc = 2 * modes};
    gemm_sum(r, to, nullptr, room(sums));
  }
  Cost cost() const override {
    const double all = static_cast<double>(H * taps), m = static_cast<double>(modes), real = sizeof(Real);
    const double waves_ = 2 * m * static_cast<double>(taps), bytes = real * (all + 2 * m * static_cast<double>(H));
    return {{4 * m * all, waves_, bytes}, {4 * m * all, waves_, bytes}};
  }
};

struct Transfer final : Form {
  Param b, a;
  Scratch back;
  Index size;
  Transfer(Net& net, Index rows, const std::string& local, Index count, const Group& group) : Form(net, rows, save), size(count) {
    const double all = static_cast<double>(size);
    b = param(local + ".numerator", {H, size}, init::normal(1 / std::sqrt(all)), group);
    a = param(local + ".denominator", {H, size}, init::normal(0.5 / all), group);  // sum |a_k| < 1 at first: stable
    if (n.mode == Mode::train) back = scratch(H * taps);
  }
  const char* name() const override { return "transfer_kernel"; }
  std::string slow_because() const override { return kOnHost ? "" : "a recursion over taps: one thread walks each channel's kernel"; }

  void forward(const Run& r) override {
    const Real *up = v(b), *down = v(a);
    Real* K = v(y);
    const Index width = taps, count = size;
    launch(
        "ssm::transfer_kernel", r, H, KOKKOS_LAMBDA(const Index row) {
          const Real *num = up + row * count, *den = down + row * count;
          Real* h = K + row * width;
          for (Index t = 0; t < width; ++t) {
            Real sum = t < count ? num[t] : Real(0);
            const Index last = t < count ? t : count;
            for (Index k = 1; k <= last; ++k) sum -= den[k - 1] * h[t - k];
            h[t] = sum;
          }
        });
  }
  void backward(const Run& r) override {
    const Real *K = v(y), *dK = d(y), *down = v(a);
    Real *g = v(back), *db = d(b), *da = d(a);
    const Index width = taps, count = size;
    launch(
        "ssm::transfer_kernel_back", r, H, KOKKOS_LAMBDA(const Index row) {
          const Real *dh = dK + row * width, *den = down + row * count;
          Real* at = g + row * width;
          for (Index t = width - 1; t >= 0; --t) {
            Real sum = dh[t];
            const Index last = width - 1 - t < count ? width - 1 - t : count;
            for (Index k = 1; k <= last; ++k) sum -= den[k - 1] * at[t + k];
            at[t] = sum;
          }
        });
    launch(
        "ssm::transfer_coefficients", r, H * size, KOKKOS_LAMBDA(const Index i) {
          const Index row = i / count, k = i - row * count;
          const Real *h = K + row * width, *at = g + row * width;
          Real sum = 0;
          for (Index t = k + 1; t < width; ++t) sum += at[t] * h[t - k - 1];
          da[i] -= sum;
          if (k < width) db[i] += at[k];
        });
  }
  Cost cost() const override {
    const double all = static_cast<double>(H * taps), work = static_cast<double>(size) * all, real = sizeof(Real);
    const double bytes = real * (all + 2 * static_cast<double>(H * size));
    return {{2 * work, 0, bytes}, {4 * work, 0, 3 * bytes}};
  }
};

}  // namespace kernel_forms_op

Tensor fourier_kernel(Net& n, Index H, const std::string& name, Index modes, const Group& group) {
  return n.add<kernel_forms_op::Fourier>(H, name, modes, group);
}
Tensor transfer_kernel(Net& n, Index H, const std::string& name, Index size, const Group& group) {
  return n.add<kernel_forms_op::Transfer>(H, name, size, group);
}

}  // namespace ssm
