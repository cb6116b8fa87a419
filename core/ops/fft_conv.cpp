// fft_conv.cpp - long convolution of every channel with its own kernel, and the skip D u:
//
//   y_t = sum_{q<=t} K0_q u_{t-q}  [ + sum_q K1_q u_{t+1+q} ]  + D u_t        u, y (B,H,T)   K (H,taps) or (2,H,taps)
//
// views: "fft" on CUDA by kernels of its own, on the chip where a row fits (fft_conv_gpu.hpp), else in two parts of which one does
// (fft_conv_wide_gpu.hpp), and as "library" where these end: through the door of lib/fft.hpp; "plain" through its plain kernels; "direct" as
// written, O(T taps).
#include "error.hpp"
#include "lib/each.hpp"
#include "lib/fft.hpp"
#include "ops.hpp"
#include "ops/fft_conv_wide_gpu.hpp"

namespace ssm::fft_conv_op {

// The sums as written, one owner per output; the loops over t compile to SIMD.
struct DirectConv final : LongConv {
  ConvShape s;
  explicit DirectConv(const ConvShape& shape) : s(shape) {}
  Index scratch() const override { return 0; }
  double transforms() const override { return 0; }

  // y_t += k_q x_{t + shift} for all t where the argument exists.
  SSM_FN static void axpy(Real k, const Real* x, Index shift, Index T, Real* y) {
    const Index first = shift < 0 ? -shift : 0, last = shift > 0 ? T - shift : T;
    SSM_INDEPENDENT
    for (Index t = first; t < last; ++t) y[t] += k * x[t + shift];
  }
  SSM_FN static Real dot(const Real* x, const Real* y, Index shift, Index T) {
    const Index first = shift < 0 ? -shift : 0, last = shift > 0 ? T - shift : T;
    Real sum = 0;
    for (Index t = first; t < last; ++t) sum += y[t] * x[t + shift];
    return sum;
  }

  void forward(const Run& r, const ConvData& data) override {
    const ConvShape sh = s;
    const ConvData d = data;
    launch(
        "ssm::direct_conv", r, s.B * s.H, KOKKOS_LAMBDA(const Index row) {
          const Index h = row % sh.H;
          const Real* u = d.u + row * sh.T;
          Real* y = d.y + row * sh.T;
          const Real skip = d.D ? d.D[h] : Real(0);
          for (Index t = 0; t < sh.T; ++t) y[t] = skip * u[t];
          for (Index q = 0; q < sh.taps; ++q) axpy(d.K[h * sh.taps + q], u, -q, sh.T, y);
          if (sh.two_sided)
            for (Index q = 0; q < sh.taps && q + 1 < sh.T; ++q) axpy(d.K[(sh.H + h) * sh.taps + q], u, q + 1, sh.T, y);
        });
  }

  void backward(const Run& r, const ConvData& data) override {
    const ConvShape sh = s;
    const ConvData d = data;
    launch(
        "ssm::direct_conv_du", r, s.B * s.H, KOKKOS_LAMBDA(const Index row) {
          const Index h = row % sh.H;
          const Real* dy = d.dy + row * sh.T;
          Real* du = d.du.p + row * sh.T;
          const Real skip = d.D ? d.D[h] : Real(0);
          for (Index t = 0; t < sh.T; ++t) d.du(row * sh.T + t, skip * dy[t]);
          for (Index q = 0; q < sh.taps; ++q) axpy(d.K[h * sh.taps + q], dy, q, sh.T, du);
          if (sh.two_sided)
            for (Index q = 0; q < sh.taps && q + 1 < sh.T; ++q) axpy(d.K[(sh.H + h) * sh.taps + q], dy, -q - 1, sh.T, du);
        });
    launch(
        "ssm::direct_conv_dK", r, s.H * s.taps, KOKKOS_LAMBDA(const Index i) {
          const Index h = i / sh.taps, q = i - h * sh.taps;
          Real forth = 0, back = 0, skip = 0;
          for (Index b = 0; b < sh.B; ++b) {
            const Index row = (b * sh.H + h) * sh.T;
            forth += dot(d.u + row, d.dy + row, -q, sh.T);
            if (sh.two_sided && q + 1 < sh.T) back += dot(d.u + row, d.dy + row, q + 1, sh.T);
            if (d.dD && q == 0) skip += dot(d.u + row, d.dy + row, 0, sh.T);
          }
          d.dK(i, forth);
          if (sh.two_sided) d.dK(sh.H * sh.taps + i, back);
          if (d.dD && q == 0) d.dD[h] += skip;
        });
  }
};

struct FftConv final : Op {
  Tensor u, K, y;
  Param D;
  std::unique_ptr<LongConv> conv;
  Scratch work;
  bool two_sided;
  Index taps;

  FftConv(Net& net, Tensor u_, Tensor K_, Param skip, const std::string& view)
      : Op(net), u(in(u_, save)), K(in(K_, save)), y(out(u_, drop)), D(skip), two_sided(K_.rank == 3), taps(K_.last()) {
    if (u.order != Order::BDT || u.rank != 3) throw std::logic_error("fft_conv takes (B,H,T)");
    if (K.size() != (two_sided ? 2 : 1) * u.D() * taps || taps > u.T()) throw std::logic_error("fft_conv: the kernel does not fit u");
    const ConvShape shape{u.B(), u.D(), u.T(), taps, two_sided};
    if (view == "direct") conv = std::make_unique<DirectConv>(shape);
    else if (view == "plain") conv = plain::long_conv(shape);
    else if (view != "library") conv = gpu_conv(shape);
    if (!conv) conv = long_conv(shape);
    work = scratch(conv->scratch());
  }
  const char* name() const override { return "fft_conv"; }

  ConvData data() const {
    ConvData d;
    d.u = v(u);
    d.K = v(K);
    d.D = D.id >= 0 ? v(D) : nullptr;
    d.scratch = v(work);
    return d;
  }
  void forward(const Run& r) override {
    ConvData d = data();
    d.y = v(y);
    conv->forward(r, d);
  }
  void backward(const Run& r) override {
    ConvData d_ = data();
    d_.dy = d(y);
    d_.du = g(u);
    d_.dK = g(K);
    d_.dD = D.id >= 0 ? d(D) : nullptr;
    conv->backward(r, d_);
  }
  Cost cost() const override {
    const double rows = static_cast<double>(u.B() * u.D()), H = static_cast<double>(u.D()), T = static_cast<double>(u.T());
    const double all = static_cast<double>(u.size()), taps_ = static_cast<double>(K.size()), real = sizeof(Real), one = conv->transforms();
    const double direct = 2 * rows * static_cast<double>(taps) * T * (two_sided ? 2 : 1);
    const bool summed = one == 0;
    const Work forward{summed ? direct + 2 * all : rows * (2 * one + 8 * T) + H * one, 0, real * (2 * all + taps_)};
    const Work backward{summed ? 2 * direct + 4 * all : rows * (3 * one + 18 * T) + 2 * H * one, 0, real * (3 * all + 2 * taps_)};
    return {forward, backward};
  }
};

}  // namespace ssm::fft_conv_op

namespace ssm {

Tensor fft_conv(Net& n, Tensor u, Tensor K, Param skip, const std::string& view) { return n.add<fft_conv_op::FftConv>(u, K, skip, view); }

}  // namespace ssm
