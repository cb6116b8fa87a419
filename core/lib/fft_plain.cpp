// fft_plain.cpp - Fourier transforms in plain Kokkos: radix 2, one kernel a stage, all rows at once. What the other doors are compared with,
// and the door itself where there is no library. Real rows of any length are summed directly.
#include <algorithm>

#include "launch.hpp"
#include "lib/fft_pairs.hpp"

namespace ssm {

Index smooth_size(Index n) {
  Index best = 1;
  while (best < n) best *= 2;
  for (Index five = 1; five < best; five *= 5)
    for (Index three = five; three < best; three *= 3) {
      Index size = three;
      while (size < n) size *= 2;
      best = std::min(best, size);
    }
  return best;
}

namespace fft_plain {

Index power_of_two(Index n) {
  Index size = 1;
  while (size < n) size *= 2;
  return size;
}

using Z = PairConv::Z;

// One stage of Stockham's radix-2 transform of `rows` rows of n, from x to y: half = n/2, l butterflies share a twiddle.
void stage(const Run& r, Index rows, Index n, Index l, Real sign, const Z* x, Z* y) {
  const Index half = n / 2;
  launch(
      "ssm::plain::fft_stage", r, rows * half, KOKKOS_LAMBDA(const Index i) {
        const Index row = i / half, k = i - row * half, j = k / l, m = k - j * l;
        const double angle = static_cast<double>(sign) * 3.14159265358979323846 * static_cast<double>(j * l) / static_cast<double>(half);
        const Z w{static_cast<Real>(::cos(angle)), static_cast<Real>(::sin(angle))};
        const Z a = x[row * n + k], b = x[row * n + k + half];
        Z* out = y + row * n + 2 * j * l + m;
        out[0] = a + b;
        out[l] = w * (a - b);
      });
}

struct PlainConv final : PairConv {
  explicit PlainConv(const ConvShape& shape) : PairConv(shape, power_of_two(std::max<Index>(2 * shape.T - 1, 1)), Index(1) << 22) {}
  Z* transform(const Run& r, Index rows, int sign, Z* x, Z* other) override {
    for (Index l = 1; l < n; l *= 2) {
      stage(r, rows, n, l, static_cast<Real>(sign), x, other);
      std::swap(x, other);
    }
    return x;
  }
};

// Summed directly, in double: every output of every row is one work item.
template <class R>
struct PlainRows final : RealRows<R> {
  Index rows, n;
  PlainRows(Index count, Index length) : rows(count), n(length) {}

  void forward(const Run& r, const R* x, R* X, R*) override {
    const Index length = n, bins = n / 2 + 1;
    launch(
        "ssm::plain::real_rows", r, rows * bins, KOKKOS_LAMBDA(const Index i) {
          const Index row = i / bins, k = i - row * bins;
          double re = 0, im = 0;
          for (Index t = 0; t < length; ++t) {
            const double angle = 6.28318530717958647693 * static_cast<double>(k * t % length) / static_cast<double>(length);
            re += static_cast<double>(x[row * length + t]) * ::cos(angle);
            im -= static_cast<double>(x[row * length + t]) * ::sin(angle);
          }
          X[2 * i] = static_cast<R>(re);
          X[2 * i + 1] = static_cast<R>(im);
        });
  }
  void inverse(const Run& r, R* X, R* x, R*) override {
    const Index length = n, bins = n / 2 + 1;
    launch(
        "ssm::plain::real_rows_inverse", r, rows * n, KOKKOS_LAMBDA(const Index i) {
          const Index row = i / length, t = i - row * length;
          const R* in = X + row * 2 * bins;
          double sum = static_cast<double>(in[0]);
          for (Index k = 1; k < bins; ++k) {
            const double angle = 6.28318530717958647693 * static_cast<double>(k * t % length) / static_cast<double>(length);
            const double weight = 2 * k == length ? 1 : 2;
            sum += weight * (static_cast<double>(in[2 * k]) * ::cos(angle) - static_cast<double>(in[2 * k + 1]) * ::sin(angle));
          }
          x[i] = static_cast<R>(sum);
        });
  }
};

}  // namespace fft_plain

namespace plain {
std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return std::make_unique<fft_plain::PlainConv>(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n) { return std::make_unique<fft_plain::PlainRows<Real>>(rows, n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n) { return std::make_unique<fft_plain::PlainRows<Wide>>(rows, n); }
}  // namespace plain

}  // namespace ssm
