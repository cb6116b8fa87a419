// conv_stream.cpp - a long convolution one position at a time, from a ring of the inputs before it: O(L) numbers and work per channel.
#include "launch.hpp"
#include "ops.hpp"
#include "ops/filters.hpp"

namespace ssm::conv_stream_op {

constexpr int kSums = kOnHost ? 16 : 1;  // partial sums, so that a dot product is SIMD

SSM_FN Real dot(const Real* a, const Real* b, Index n) {
  Real sum[kSums];
  for (int l = 0; l < kSums; ++l) sum[l] = 0;
  Index i = 0;
  for (; i + kSums <= n; i += kSums)
    for (int l = 0; l < kSums; ++l) sum[l] += a[i + l] * b[i + l];
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  for (int l = 1; l < kSums; ++l) sum[0] += sum[l];
  return sum[0];
}

struct ConvStream final : Op {
  Tensor u, K, y;
  Param D;
  State past;
  Index L, rows;

  ConvStream(Net& net, Tensor u_, Tensor K_, Param skip)
      : Op(net), u(in(u_, save)), K(in(K_, save)), y(out(u_, drop)), D(skip), L(K_.last()), rows(u_.size()) {
    if (n.mode != Mode::stream || u.T() != 1) throw std::logic_error("conv_stream is for streams");
    if (K.size() != u.D() * L) throw std::logic_error("conv_stream: the kernel does not fit u");
    past = state(rows / n.B * L + 1);
  }
  const char* name() const override { return "conv_stream"; }

  void forward(const Run& r) override { step(r); }
  void backward(const Run&) override { throw std::logic_error("conv_stream has no gradient: streams are not trained"); }
  // The newest input stands at `at` and older ones behind it; the ring turns backwards, so that both sums run forwards.
  void step(const Run& r) override {
    const Real *U = v(u), *taps = v(K), *skip = D.id >= 0 ? v(D) : nullptr;
    Real *Y = v(y), *rings = v(past), *place = rings + rows * L;
    const Index length = L, H = u.D();
    launch(
        "ssm::conv_stream", r, rows, KOKKOS_LAMBDA(const Index row) {
          const Index h = row % H, at = static_cast<Index>(place[0]), left = length - at;
          Real* ring = rings + row * length;
          const Real* k = taps + h * length;
          ring[at] = U[row];
          Y[row] = dot(k, ring + at, left) + dot(k + left, ring, at) + (skip ? skip[h] * U[row] : Real(0));
        });
    launch(
        "ssm::conv_stream_turn", r, 1,
        KOKKOS_LAMBDA(const Index) { place[0] = (place[0] < 1 ? static_cast<Real>(length) : place[0]) - 1; });
  }
  Cost cost() const override {
    const double work = static_cast<double>(rows * L);
    return {{2 * work, 0, sizeof(Real) * (work + static_cast<double>(K.size()))}, {}};
  }
};

}  // namespace ssm::conv_stream_op

namespace ssm {

Tensor conv_stream(Net& n, Tensor u, Tensor K, Param skip) { return n.add<conv_stream_op::ConvStream>(u, K, skip); }

Tensor long_conv(Net& n, Tensor u, Tensor K, Param skip, const std::string& view) {
  if (n.mode == Mode::stream) return conv_stream(n, u, K, skip);
  return fft_conv(n, n.as(u, Order::BDT), K, skip, view == "direct" || view == "library" ? view : "fft");
}

}  // namespace ssm
