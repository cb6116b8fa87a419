// fft_pairs.cpp - packing, products and sums around the transforms.
#include "lib/fft_pairs.hpp"

#include <algorithm>
#include <cmath>

#include "lib/reduce.hpp"

namespace ssm {

PairConv::PairConv(const ConvShape& shape, Index length, Index numbers) : s(shape), n(length), pairs((s.B + 1) / 2) {
  group = std::clamp<Index>(numbers / (n * (3 * pairs + 2)), 1, s.H);
}
Index PairConv::scratch() const { return 2 * group * n * (3 * pairs + 2); }
double PairConv::transforms() const { return 2.5 * static_cast<double>(n) * std::log2(static_cast<double>(n)); }

// out (channels, n): the taps of channels [h0, h0 + count) on a circle of n, times 1/n.
void PairConv::taps(const Run& r, const Real* K, Index h0, Index count, Z* z) const {
  const ConvShape sh = s;
  const Index length = n;
  launch(
      "ssm::pairs_taps", r, count * n, KOKKOS_LAMBDA(const Index i) {
        const Index c = quotient(i, length), t = i - c * length, h = h0 + c, back = length - 1 - t;
        Real value = t < sh.taps ? K[h * sh.taps + t] : Real(0);
        if (sh.two_sided && back < sh.taps && back < sh.T - 1) value += K[(sh.H + h) * sh.taps + back];
        z[i] = {value / static_cast<Real>(length), 0};
      });
}
// z (channels, pairs, n): rows 2p and 2p+1 of u as one complex row.
void PairConv::pack(const Run& r, const Real* u, Index h0, Index count, Z* z) const {
  const ConvShape sh = s;
  const Index length = n, P = pairs;
  launch(
      "ssm::pairs_pack", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
        const Index cp = quotient(i, length), t = i - cp * length, c = quotient(cp, P), row = 2 * (cp - c * P);
        const Real* x = u + (row * sh.H + h0 + c) * sh.T + t;
        const bool inside = t < sh.T;
        z[i] = {inside ? x[0] : Real(0), inside && row + 1 < sh.B ? x[sh.H * sh.T] : Real(0)};
      });
}

void PairConv::forward(const Run& r, const ConvData& d) {
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
    const Z* k = transform(r, count, -1, k0, k1);
    pack(r, u, h0, count, x0);
    Z* x = transform(r, count * P, -1, x0, x1);
    launch(
        "ssm::pairs_product", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
          const Index cp = quotient(i, length);
          x[i] = k[quotient(cp, P) * length + (i - cp * length)] * x[i];
        });
    const Z* out = transform(r, count * P, 1, x, x == x0 ? x1 : x0);
    launch(
        "ssm::pairs_unpack", r, count * P * s.T, KOKKOS_LAMBDA(const Index i) {
          const Index cp = quotient(i, sh.T), t = i - cp * sh.T, c = quotient(cp, P), row = 2 * (cp - c * P), h = h0 + c;
          const Index at = (row * sh.H + h) * sh.T + t, second = at + sh.H * sh.T;
          const Real skip = D ? D[h] : Real(0);
          const Z value = out[cp * length + t];
          y[at] = value.re + skip * u[at];
          if (row + 1 < sh.B) y[second] = value.im + skip * u[second];
        });
  }
}

// dD_h += sum_bt u dy: strided pieces of time, neighbouring work items at neighbouring t, then the pieces.
void PairConv::sum_skip(const Run& r, const ConvData& d, Index h0, Index count) const {
  const ConvShape sh = s;
  const Index pieces = std::min<Index>(sh.T, kOnHost ? 256 : 4096);  // a group of long rows has few channels: threads enough for a GPU
  const Real *u = d.u, *dy = d.dy;
  Real *part = d.scratch, *dD = d.dD;
  launch(
      "ssm::pairs_dD", r, count * pieces, KOKKOS_LAMBDA(const Index i) {
        const Index c = quotient(i, pieces), piece = i - c * pieces;
        Real sum = 0;
        for (Index b = 0; b < sh.B; ++b) {
          const Index row = (b * sh.H + h0 + c) * sh.T;
          for (Index t = piece; t < sh.T; t += pieces) sum += u[row + t] * dy[row + t];
        }
        part[piece * count + c] = sum;
      });
  sum_pieces<Real>(
      "ssm::pairs_dD", r, pieces, count, part, KOKKOS_LAMBDA(const Index c, const Real sum) { dD[h0 + c] += sum; });
}

void PairConv::backward(const Run& r, const ConvData& d) {
  const ConvShape sh = s;
  const Index length = n, P = pairs;
  const Real *u = d.u, *D = d.D, *dy = d.dy;
  const Grad du = d.du, dK = d.dK;
  for (Index h0 = 0; h0 < s.H; h0 += group) {
    const Index count = std::min(group, s.H - h0);
    Z* base = reinterpret_cast<Z*>(d.scratch);
    Z *k0 = base, *k1 = k0 + group * n, *x0 = k1 + group * n, *x1 = x0 + group * P * n;
    pack(r, u, h0, count, x0);
    Z* U = transform(r, count * P, -1, x0, x1);
    Z *y0 = U == x0 ? x1 : x0, *y1 = x1 + group * P * n;  // a third buffer beside
    pack(r, dy, h0, count, y0);
    Z* Y = transform(r, count * P, -1, y0, y1);
    launch(
        "ssm::pairs_correlate", r, count * n, KOKKOS_LAMBDA(const Index i) {
          const Index c = quotient(i, length), j = i - c * length;
          Z sum{0, 0};
          for (Index p = 0; p < P; ++p) sum = sum + conj(U[(c * P + p) * length + j]) * Y[(c * P + p) * length + j];
          k0[i] = sum;
        });
    const Z* g = transform(r, count, 1, k0, k1);
    launch(
        "ssm::pairs_dK", r, count * s.taps, KOKKOS_LAMBDA(const Index i) {
          const Index c = quotient(i, sh.taps), t = i - c * sh.taps, h = h0 + c;
          const Real scale = Real(1) / static_cast<Real>(length);
          dK(h * sh.taps + t, g[c * length + t].re * scale);
          if (sh.two_sided) dK((sh.H + h) * sh.taps + t, t < sh.T - 1 ? g[c * length + length - 1 - t].re * scale : Real(0));
        });
    taps(r, d.K, h0, count, k0);
    const Z* k = transform(r, count, -1, k0, k1);
    launch(
        "ssm::pairs_adjoint", r, count * P * n, KOKKOS_LAMBDA(const Index i) {
          const Index cp = quotient(i, length);
          Y[i] = conj(k[quotient(cp, P) * length + (i - cp * length)]) * Y[i];
        });
    const Z* out = transform(r, count * P, 1, Y, Y == y0 ? y1 : y0);
    launch(
        "ssm::pairs_du", r, count * P * s.T, KOKKOS_LAMBDA(const Index i) {
          const Index cp = quotient(i, sh.T), t = i - cp * sh.T, c = quotient(cp, P), row = 2 * (cp - c * P), h = h0 + c;
          const Index at = (row * sh.H + h) * sh.T + t, second = at + sh.H * sh.T;
          const Real skip = D ? D[h] : Real(0);
          const Z value = out[cp * length + t];
          du(at, value.re + skip * dy[at]);
          if (row + 1 < sh.B) du(second, value.im + skip * dy[second]);
        });
    if (d.dD) sum_skip(r, d, h0, count);
  }
}

}  // namespace ssm
