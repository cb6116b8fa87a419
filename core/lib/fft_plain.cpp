// fft_plain.cpp - Fourier transforms in plain Kokkos: radix 2, one kernel a stage, all rows at once. What the other doors are compared with,
// and the door itself where there is no library. Real rows of any length are summed directly.
#include <algorithm>
#include <cmath>

#include "launch.hpp"
#include "lib/fft.hpp"
#include "math.hpp"

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
double log2_of(Index n) { return std::log2(static_cast<double>(n)); }

using Z = Complex<Real>;

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

// Transforms x in place, with `other` as large beside it. Returns where the result lies.
Z* transform(const Run& r, Index rows, Index n, Real sign, Z* x, Z* other) {
  for (Index l = 1; l < n; l *= 2) {
    stage(r, rows, n, l, sign, x, other);
    std::swap(x, other);
  }
  return x;
}

struct PlainConv final : LongConv {
  ConvShape s;
  Index n, pairs, group;  // channels handled at once

  explicit PlainConv(const ConvShape& shape) : s(shape), n(power_of_two(std::max<Index>(2 * s.T - 1, 1))), pairs((s.B + 1) / 2) {
    group = std::clamp<Index>((Index(1) << 22) / (n * (3 * pairs + 2)), 1, s.H);
  }
  Index row_numbers() const { return 2 * group * n; }  // numbers of one complex row of every channel of a group
  Index scratch() const override { return row_numbers() * (3 * pairs + 2); }
  double transforms() const override { return 2.5 * static_cast<double>(n) * log2_of(n); }

  // out (channels, n): the taps of channels [h0, h0 + count) on a circle of n, times 1/n.
  void taps(const Run& r, const Real* K, Index h0, Index count, Z* z) const {
    const ConvShape sh = s;
    const Index length = n;
    launch(
        "ssm::plain::taps", r, count * n, KOKKOS_LAMBDA(const Index i) {
          const Index c = i / length, t = i - c * length, h = h0 + c, back = length - 1 - t;
          Real value = t < sh.taps ? K[h * sh.taps + t] : Real(0);
          if (sh.two_sided && back < sh.taps && back < sh.T - 1) value += K[(sh.H + h) * sh.taps + back];
          z[i] = {value / static_cast<Real>(length), 0};
        });
  }
  // z (channels, pairs, n): rows 2p and 2p+1 of u as one complex row.
  void pack(const Run& r, const Real* u, Index h0, Index count, Z* z) const {
    const ConvShape sh = s;
    const Index length = n, P = pairs;
    launch(
        "ssm::plain::pack", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
          const Index cp = i / length, t = i - cp * length, c = cp / P, row = 2 * (cp - c * P);
          const Real* x = u + (row * sh.H + h0 + c) * sh.T + t;
          const bool inside = t < sh.T;
          z[i] = {inside ? x[0] : Real(0), inside && row + 1 < sh.B ? x[sh.H * sh.T] : Real(0)};
        });
  }

  void forward(const Run& r, const ConvData& d) override {
    const ConvShape sh = s;
    const Index length = n, P = pairs;
    const Real* u = d.u;
    const Real* D = d.D;
    Real* y = d.y;
    for (Index h0 = 0; h0 < s.H; h0 += group) {
      const Index count = std::min(group, s.H - h0);
      Z* base = reinterpret_cast<Z*>(d.scratch);
      Z *k0 = base, *k1 = k0 + group * n, *x0 = k1 + group * n, *x1 = x0 + group * P * n;
      taps(r, d.K, h0, count, k0);
      const Z* k = transform(r, count, n, -1, k0, k1);
      pack(r, u, h0, count, x0);
      Z* x = transform(r, count * P, n, -1, x0, x1);
      launch(
          "ssm::plain::product", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
            const Index cp = i / length;
            x[i] = k[cp / P * length + (i - cp * length)] * x[i];
          });
      const Z* out = transform(r, count * P, n, 1, x, x == x0 ? x1 : x0);
      launch(
          "ssm::plain::unpack", r, count * P * s.T, KOKKOS_LAMBDA(const Index i) {
            const Index cp = i / sh.T, t = i - cp * sh.T, c = cp / P, row = 2 * (cp - c * P), h = h0 + c;
            const Index at = (row * sh.H + h) * sh.T + t, second = at + sh.H * sh.T;
            const Real skip = D ? D[h] : Real(0);
            const Z value = out[cp * length + t];
            y[at] = value.re + skip * u[at];
            if (row + 1 < sh.B) y[second] = value.im + skip * u[second];
          });
    }
  }

  void backward(const Run& r, const ConvData& d) override {
    const ConvShape sh = s;
    const Index length = n, P = pairs;
    const Real *u = d.u, *D = d.D, *dy = d.dy;
    const Grad du = d.du, dK = d.dK;
    Real* dD = d.dD;
    for (Index h0 = 0; h0 < s.H; h0 += group) {
      const Index count = std::min(group, s.H - h0);
      Z* base = reinterpret_cast<Z*>(d.scratch);
      Z *k0 = base, *k1 = k0 + group * n, *x0 = k1 + group * n, *x1 = x0 + group * P * n;
      pack(r, u, h0, count, x0);
      Z* U = transform(r, count * P, n, -1, x0, x1);
      Z *y0 = U == x0 ? x1 : x0, *y1 = x1 + group * P * n;  // a third buffer beside
      pack(r, dy, h0, count, y0);
      Z* Y = transform(r, count * P, n, -1, y0, y1);
      launch(
          "ssm::plain::correlate", r, count * n, KOKKOS_LAMBDA(const Index i) {
            const Index c = i / length, j = i - c * length;
            Z sum{0, 0};
            for (Index p = 0; p < P; ++p) sum = sum + conj(U[(c * P + p) * length + j]) * Y[(c * P + p) * length + j];
            k0[i] = sum;
          });
      const Z* g = transform(r, count, n, 1, k0, k1);
      launch(
          "ssm::plain::dK", r, count * s.taps, KOKKOS_LAMBDA(const Index i) {
            const Index c = i / sh.taps, t = i - c * sh.taps, h = h0 + c;
            const Real scale = Real(1) / static_cast<Real>(length);
            dK(h * sh.taps + t, g[c * length + t].re * scale);
            if (sh.two_sided) dK((sh.H + h) * sh.taps + t, t < sh.T - 1 ? g[c * length + length - 1 - t].re * scale : Real(0));
          });
      taps(r, d.K, h0, count, k0);
      const Z* k = transform(r, count, n, -1, k0, k1);
      launch(
          "ssm::plain::adjoint", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
            const Index cp = i / length;
            Y[i] = conj(k[cp / P * length + (i - cp * length)]) * Y[i];
          });
      const Z* out = transform(r, count * P, n, 1, Y, Y == y0 ? y1 : y0);
      launch(
          "ssm::plain::du", r, count * P * s.T, KOKKOS_LAMBDA(const Index i) {
            const Index cp = i / sh.T, t = i - cp * sh.T, c = cp / P, row = 2 * (cp - c * P), h = h0 + c;
            const Index at = (row * sh.H + h) * sh.T + t, second = at + sh.H * sh.T;
            const Real skip = D ? D[h] : Real(0);
            const Z value = out[cp * length + t];
            du(at, value.re + skip * dy[at]);
            if (row + 1 < sh.B) du(second, value.im + skip * dy[second]);
          });
      if (dD)
        launch(
            "ssm::plain::dD", r, count, KOKKOS_LAMBDA(const Index c) {
              Real sum = 0;
              for (Index b = 0; b < sh.B; ++b)
                for (Index t = 0; t < sh.T; ++t) {
                  const Index at = (b * sh.H + h0 + c) * sh.T + t;
                  sum += u[at] * dy[at];
                }
              dD[h0 + c] += sum;
            });
    }
  }
};

// Summed directly, in double: every output of every row is one work item.
template <class R>
struct PlainRows final : RealRows<R> {
  Index n;
  explicit PlainRows(Index length) : n(length) {}

  void forward(const Run& r, Index rows, const R* x, R* X) override {
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
  void inverse(const Run& r, Index rows, R* X, R* x) override {
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
std::unique_ptr<RealRows<Real>> real_rows(Index n) { return std::make_unique<fft_plain::PlainRows<Real>>(n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index n) { return std::make_unique<fft_plain::PlainRows<Wide>>(n); }
}  // namespace plain

}  // namespace ssm
