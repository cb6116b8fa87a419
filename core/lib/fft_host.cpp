// fft_host.cpp - Fourier transforms of the host through FFTW: serial plans, made by estimate and run from our own work items, so that the
// bits depend neither on the number of threads nor on timings.
#include <fftw3.h>

#include <algorithm>
#include <cmath>

#include "launch.hpp"
#include "lib/each.hpp"
#include "lib/fft.hpp"

namespace ssm {

namespace fft_host {

template <class R>
struct Fftw;
template <>
struct Fftw<double> {
  using Plan = fftw_plan;
  using Number = fftw_complex;
  static Plan complex(Index n, Number* a, Number* b, int sign) { return fftw_plan_dft_1d(static_cast<int>(n), a, b, sign, FFTW_ESTIMATE); }
  static Plan r2c(Index n, double* a, Number* b) { return fftw_plan_dft_r2c_1d(static_cast<int>(n), a, b, FFTW_ESTIMATE | FFTW_UNALIGNED); }
  static Plan c2r(Index n, Number* a, double* b) { return fftw_plan_dft_c2r_1d(static_cast<int>(n), a, b, FFTW_ESTIMATE | FFTW_UNALIGNED); }
  static void run(Plan p, Number* a, Number* b) { fftw_execute_dft(p, a, b); }
  static void run(Plan p, double* a, Number* b) { fftw_execute_dft_r2c(p, a, b); }
  static void run(Plan p, Number* a, double* b) { fftw_execute_dft_c2r(p, a, b); }
  static void destroy(Plan p) { fftw_destroy_plan(p); }
  static void* allocate(std::size_t bytes) { return fftw_malloc(bytes); }
  static void release(void* p) { fftw_free(p); }
};
template <>
struct Fftw<float> {
  using Plan = fftwf_plan;
  using Number = fftwf_complex;
  static Plan complex(Index n, Number* a, Number* b, int sign) { return fftwf_plan_dft_1d(static_cast<int>(n), a, b, sign, FFTW_ESTIMATE); }
  static Plan r2c(Index n, float* a, Number* b) { return fftwf_plan_dft_r2c_1d(static_cast<int>(n), a, b, FFTW_ESTIMATE | FFTW_UNALIGNED); }
  static Plan c2r(Index n, Number* a, float* b) { return fftwf_plan_dft_c2r_1d(static_cast<int>(n), a, b, FFTW_ESTIMATE | FFTW_UNALIGNED); }
  static void run(Plan p, Number* a, Number* b) { fftwf_execute_dft(p, a, b); }
  static void run(Plan p, float* a, Number* b) { fftwf_execute_dft_r2c(p, a, b); }
  static void run(Plan p, Number* a, float* b) { fftwf_execute_dft_c2r(p, a, b); }
  static void destroy(Plan p) { fftwf_destroy_plan(p); }
  static void* allocate(std::size_t bytes) { return fftwf_malloc(bytes); }
  static void release(void* p) { fftwf_free(p); }
};

// Memory to plan with: FFTW may look at its alignment, never at its values.
template <class R>
struct Room {
  R* p;
  explicit Room(Index numbers) : p(static_cast<R*>(Fftw<R>::allocate(static_cast<std::size_t>(numbers) * sizeof(R)))) {}
  ~Room() { Fftw<R>::release(p); }
  Room(const Room&) = delete;
};

using Api = Fftw<Real>;
using Number = Api::Number;
using Plan = Api::Plan;

constexpr Index kWorkers = 64;  // work items: enough for 64 cores, few enough that their buffers stay small
constexpr Index kBuffers = 5;

// Two rows of a batch travel as one complex row, u = u_b + i u_{b+1}: the kernel is real, so its product keeps them apart; and the real part
// of the inverse of conj(U) Y is the sum of the correlations of both rows.
struct HostConv final : LongConv {
  ConvShape s;
  Index n, workers, buffer;
  Plan to, from;

  explicit HostConv(const ConvShape& shape) : s(shape), n(smooth_size(std::max<Index>(2 * s.T - 1, 1))), workers(std::min(s.H, kWorkers)) {
    buffer = (2 * n + 63) / 64 * 64;
    Room<Real> a(2 * n), b(2 * n);
    to = Api::complex(n, reinterpret_cast<Number*>(a.p), reinterpret_cast<Number*>(b.p), FFTW_FORWARD);
    from = Api::complex(n, reinterpret_cast<Number*>(a.p), reinterpret_cast<Number*>(b.p), FFTW_BACKWARD);
  }
  ~HostConv() override {
    Api::destroy(to);
    Api::destroy(from);
  }
  Index scratch() const override { return workers * kBuffers * buffer; }
  double transforms() const override { return 2.5 * static_cast<double>(n) * std::log2(static_cast<double>(n)); }

  static void transform(Plan p, Real* a, Real* b) { Api::run(p, reinterpret_cast<Number*>(a), reinterpret_cast<Number*>(b)); }

  // a = the taps of channel h times `scale` on a circle of n, b = its transform.
  static void spectrum(const ConvShape& s, Index n, Plan to, const Real* K, Index h, Real* a, Real* b) {
    const Real scale = Real(1) / static_cast<Real>(n);
    const Real* k0 = K + h * s.taps;
    for (Index t = 0; t < 2 * n; ++t) a[t] = 0;
    for (Index t = 0; t < s.taps; ++t) a[2 * t] = k0[t] * scale;
    if (s.two_sided) {
      const Real* k1 = K + (s.H + h) * s.taps;
      for (Index t = 0; t < std::min(s.taps, s.T - 1); ++t) a[2 * (n - 1 - t)] += k1[t] * scale;
    }
    transform(to, a, b);
  }
  // a = rows 0 and 1 (or zero) as one complex row, padded with zeros to n.
  static void pack(const Real* row0, const Real* row1, Index T, Index n, Real* a) {
    if (row1) {
      SSM_INDEPENDENT
      for (Index t = 0; t < T; ++t) {
        a[2 * t] = row0[t];
        a[2 * t + 1] = row1[t];
      }
    } else {
      SSM_INDEPENDENT
      for (Index t = 0; t < T; ++t) {
        a[2 * t] = row0[t];
        a[2 * t + 1] = 0;
      }
    }
    for (Index t = 2 * T; t < 2 * n; ++t) a[t] = 0;
  }

  void forward(const Run& r, const ConvData& data) override {
    const ConvShape shape = s;
    const Index length = n, stride = buffer, W = workers;
    const Plan there = to, back = from;
    const ConvData d = data;
    launch("ssm::fft_conv", r, W, [=](const Index w) {
      Real *k = d.scratch + w * kBuffers * stride, *a = k + stride, *b = a + stride;
      const Index T = shape.T;
      for (Index h = w; h < shape.H; h += W) {
        spectrum(shape, length, there, d.K, h, a, k);
        const Real skip = d.D ? d.D[h] : Real(0);
        for (Index row = 0; row < shape.B; row += 2) {
          const Real* u0 = d.u + (row * shape.H + h) * T;
          const bool pair = row + 1 < shape.B;
          const Real* u1 = pair ? u0 + shape.H * T : nullptr;
          pack(u0, u1, T, length, a);
          transform(there, a, b);
          SSM_INDEPENDENT
          for (Index i = 0; i < length; ++i) {
            const Real re = b[2 * i] * k[2 * i] - b[2 * i + 1] * k[2 * i + 1], im = b[2 * i] * k[2 * i + 1] + b[2 * i + 1] * k[2 * i];
            b[2 * i] = re;
            b[2 * i + 1] = im;
          }
          transform(back, b, a);
          Real* y0 = d.y + (row * shape.H + h) * T;
          SSM_INDEPENDENT
          for (Index t = 0; t < T; ++t) y0[t] = a[2 * t] + skip * u0[t];
          if (!pair) continue;
          Real* y1 = y0 + shape.H * T;
          SSM_INDEPENDENT
          for (Index t = 0; t < T; ++t) y1[t] = a[2 * t + 1] + skip * u1[t];
        }
      }
    });
  }

  // du += or = row `part` of the complex row a, plus skip dy.  Returns sum_t u_t dy_t.
  static Real unpack(const Real* a, int part, const Real* u, const Real* dy, Real skip, Real* du, bool add, Index T) {
    if (add) {
      SSM_INDEPENDENT
      for (Index t = 0; t < T; ++t) du[t] += a[2 * t + part] + skip * dy[t];
    } else {
      SSM_INDEPENDENT
      for (Index t = 0; t < T; ++t) du[t] = a[2 * t + part] + skip * dy[t];
    }
    Real sum[16] = {};
    Index t = 0;
    for (; t + 16 <= T; t += 16)
      for (int l = 0; l < 16; ++l) sum[l] += u[t + l] * dy[t + l];
    for (; t < T; ++t) sum[0] += u[t] * dy[t];
    Real total = 0;
    for (int l = 0; l < 16; ++l) total += sum[l];
    return total;
  }

  void backward(const Run& r, const ConvData& data) override {
    const ConvShape shape = s;
    const Index length = n, stride = buffer, W = workers;
    const Plan there = to, back = from;
    const ConvData d = data;
    launch("ssm::fft_conv_backward", r, W, [=](const Index w) {
      Real *k = d.scratch + w * kBuffers * stride, *sum = k + stride, *a = sum + stride, *b = a + stride, *c = b + stride;
      const Index T = shape.T;
      for (Index h = w; h < shape.H; h += W) {
        spectrum(shape, length, there, d.K, h, a, k);
        for (Index i = 0; i < 2 * length; ++i) sum[i] = 0;
        const Real skip = d.D ? d.D[h] : Real(0);
        Real dskip = 0;
        for (Index row = 0; row < shape.B; row += 2) {
          const Index first = (row * shape.H + h) * T, second = first + shape.H * T;
          const bool pair = row + 1 < shape.B;
          pack(d.u + first, pair ? d.u + second : nullptr, T, length, a);
          transform(there, a, b);
          pack(d.dy + first, pair ? d.dy + second : nullptr, T, length, a);
          transform(there, a, c);
          SSM_INDEPENDENT
          for (Index i = 0; i < length; ++i) {
            const Real re = c[2 * i], im = c[2 * i + 1], ur = b[2 * i], ui = b[2 * i + 1], kr = k[2 * i], ki = k[2 * i + 1];
            sum[2 * i] += ur * re + ui * im;
            sum[2 * i + 1] += ur * im - ui * re;
            c[2 * i] = kr * re + ki * im;
            c[2 * i + 1] = kr * im - ki * re;
          }
          transform(back, c, a);
          dskip += unpack(a, 0, d.u + first, d.dy + first, skip, d.du.p + first, d.du.add, T);
          if (pair) dskip += unpack(a, 1, d.u + second, d.dy + second, skip, d.du.p + second, d.du.add, T);
        }
        transform(back, sum, a);
        const Real scale = Real(1) / static_cast<Real>(length);
        for (Index t = 0; t < shape.taps; ++t) d.dK(h * shape.taps + t, a[2 * t] * scale);
        if (shape.two_sided) {
          const Index k1 = (shape.H + h) * shape.taps;
          for (Index t = 0; t < shape.taps; ++t) d.dK(k1 + t, t < shape.T - 1 ? a[2 * (length - 1 - t)] * scale : Real(0));
        }
        if (d.dD) d.dD[h] += dskip;
      }
    });
  }
};

template <class R>
struct HostRows final : RealRows<R> {
  using A = Fftw<R>;
  using Z = typename A::Number;
  Index rows, n;
  typename A::Plan to, from;

  HostRows(Index count, Index length) : rows(count), n(length) {
    Room<R> x(n), X(2 * (n / 2 + 1));
    to = A::r2c(n, x.p, reinterpret_cast<Z*>(X.p));
    from = A::c2r(n, reinterpret_cast<Z*>(X.p), x.p);
  }
  ~HostRows() override {
    A::destroy(to);
    A::destroy(from);
  }
  void forward(const Run& r, const R* x, R* X, R*) override {
    const Index length = n, bins = n / 2 + 1;
    const auto plan = to;
    launch("ssm::real_rows", r, rows,
           [=](const Index row) { A::run(plan, const_cast<R*>(x) + row * length, reinterpret_cast<Z*>(X + row * 2 * bins)); });
  }
  void inverse(const Run& r, R* X, R* x, R*) override {
    const Index length = n, bins = n / 2 + 1;
    const auto plan = from;
    launch("ssm::real_rows_inverse", r, rows,
           [=](const Index row) { A::run(plan, reinterpret_cast<Z*>(X + row * 2 * bins), x + row * length); });
  }
};

}  // namespace fft_host

std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return std::make_unique<fft_host::HostConv>(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n) { return std::make_unique<fft_host::HostRows<Real>>(rows, n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n) { return std::make_unique<fft_host::HostRows<Wide>>(rows, n); }
std::string fft_name() { return fftw_version; }

}  // namespace ssm
