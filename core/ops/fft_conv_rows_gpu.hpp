// fft_conv_rows_gpu.hpp - how the long convolutions on a GPU read and write rows: a thread of F holds F::P points, point n F::G + g in register n,
// of a row that fills the first T of F::N (CUDA).
#pragma once
#include "lib/fft.hpp"
#include "lib/fft_chip.hpp"

#if defined(SSM_CUDA_CODE)
namespace ssm::fft_conv_op {

using fft_chip::Z;

// The pair p of rows of channel h: re and im of z are rows 2p and 2p + 1, from the thread's first point on; beyond B and T zeros.
struct PairRows {
  Index at, other;
  int one, two;  // how far the rows reach
  __device__ PairRows(const ConvShape& s, Index h, Index p, int g)
      : at((2 * p * s.H + h) * s.T + g),
        other(at + s.H * s.T),
        one(2 * p < s.B ? static_cast<int>(s.T) - g : 0),
        two(2 * p + 1 < s.B ? static_cast<int>(s.T) - g : 0) {}

  // Both rows fill the transform: nothing to compare.
  template <class F>
  __device__ bool whole() const {
    return one > F::N - F::G && two > F::N - F::G;
  }
  template <class F>
  __device__ __forceinline__ void load(const Real* x, int half, Z* z) const {
    const Real *re = x + at, *im = x + other;
    if (whole<F>()) {
#pragma unroll
      for (int n = 0; n < F::P; ++n) z[n] = {re[n * F::G], im[n * F::G]};
    } else {
#pragma unroll
      for (int n = 0; n < F::P; ++n) z[n] = {n * F::G < one ? re[n * F::G] : Real(0), n * F::G < two ? im[n * F::G] : Real(0)};
    }
    if (half) fft_chip::turn<F::P, false>(z);
  }
  // Reads all before it writes any: no load waits for a store.
  template <class F>
  __device__ __forceinline__ void store(Z* z, Real* x, bool add) const {
    Real *re = x + at, *im = x + other;
    if (whole<F>()) {
      if (add) {
#pragma unroll
        for (int n = 0; n < F::P; ++n) z[n] = {z[n].re + re[n * F::G], z[n].im + im[n * F::G]};
      }
#pragma unroll
      for (int n = 0; n < F::P; ++n) re[n * F::G] = z[n].re, im[n * F::G] = z[n].im;
      return;
    }
    if (add) {
#pragma unroll
      for (int n = 0; n < F::P; ++n) {
        z[n].re += n * F::G < one ? re[n * F::G] : Real(0);
        z[n].im += n * F::G < two ? im[n * F::G] : Real(0);
      }
    }
#pragma unroll
    for (int n = 0; n < F::P; ++n) {
      if (n * F::G < one) re[n * F::G] = z[n].re;
      if (n * F::G < two) im[n * F::G] = z[n].im;
    }
  }
};

// The taps of channel h on the circle of 2 F::N, times 1 / 2 F::N: K0 and D from 0 on, K1 back from the end, which half 1 sees with the other sign.
template <class F>
struct Taps {
  static constexpr Real kScale = Real(0.5) / F::N;
  const ConvShape& s;
  Index h;
  int g;
  bool mine;  // else zeros, and nothing is written
  __device__ __forceinline__ void load(const Real* K, const Real* D, int half, Z* z) const {
    const int T = static_cast<int>(s.T), taps = static_cast<int>(s.taps), end = F::N - 1 - g;
    const int ahead = mine ? taps - g : 0,
              behind = mine && s.two_sided ? end - (taps < T ? taps : T - 1) : F::N;  // taps at n G < ahead, > behind
    const Real *forth = K + h * s.taps + g, *back = K + (s.H + h) * s.taps + end, sign = half ? -1 : 1;
#pragma unroll
    for (int n = 0; n < F::P; ++n) {
      Real value = n * F::G < ahead ? forth[n * F::G] : Real(0);
      if (n == 0 && mine && D && g == 0) value += D[h];
      if (n * F::G > behind) value += sign * back[-n * F::G];
      z[n] = {kScale * value, 0};
    }
    if (half) fft_chip::turn<F::P, false>(z);
  }
  // The gradient from half 0 and half 1.
  __device__ __forceinline__ void store(const Real* even, const Z* odd, Grad dK, Real* dD) const {
    if (!mine) return;
    if (dD && g == 0) dD[h] += kScale * (even[0] + odd[0].re);
#pragma unroll
    for (int n = 0; n < F::P; ++n) {
      const int t = n * F::G + g, past = F::N - 1 - t;
      if (t < s.taps) dK(h * s.taps + t, kScale * (even[n] + odd[n].re));
      if (s.two_sided && past < s.taps) dK((s.H + h) * s.taps + past, past < s.T - 1 ? kScale * (even[n] - odd[n].re) : Real(0));
    }
  }
};

}  // namespace ssm::fft_conv_op
#endif
