// math.hpp - scalar functions for kernels: branch-free in float on the host, so that loops over channels become SIMD.
//
// Relative errors in float: fast_exp 2e-7 (argument clamped to [-87.3, 88.7]), fast_log 2e-7, sigmoid 3e-7, softplus 5e-7.
// In double every function is the library's.
#pragma once
#include <bit>
#include <cmath>

#include "real.hpp"

#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#define SSM_DEVICE_CODE 1
#else
#define SSM_DEVICE_CODE 0
#endif

namespace ssm {

SSM_FN double fast_exp(double x) { return ::exp(x); }
SSM_FN double fast_log(double x) { return ::log(x); }

SSM_FN float fast_exp(float x) {
#if SSM_DEVICE_CODE
  return ::expf(x);
#else
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.7f ? 88.7f : x;
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // nearest integer to x log2(e)
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
#endif
}

// Natural logarithm of a positive normal number.
SSM_FN float fast_log(float x) {
#if SSM_DEVICE_CODE
  return ::logf(x);
#else
  std::int32_t bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t e = (bits - 0x3f3504f3) >> 23;  // exponent that brings the mantissa into [sqrt(1/2), sqrt(2))
  bits -= e << 23;
  const float m = std::bit_cast<float>(bits) - 1.0f, k = static_cast<float>(e);
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float m2 = m * m;
  return (m + (p * m * m2 - 0.5f * m2 - k * 2.12194440e-4f)) + k * 0.693359375f;
#endif
}

template <class R>
SSM_FN R sigmoid(R x) {
  return R(1) / (R(1) + fast_exp(-x));
}
SSM_FN double log1p_of_exp(double x) { return ::log1p(::exp(x)); }
SSM_FN float log1p_of_exp(float x) {
  const float e = fast_exp(x), u = 1.0f + e;
  return u == 1.0f ? e : fast_log(u) * (e / (u - 1.0f));
}
// log(1 + e^x), and x itself above torch's threshold of 20.
template <class R>
SSM_FN R softplus(R x) {
  return x > R(20) ? x : log1p_of_exp(x > R(20) ? R(20) : x);
}
// d softplus / dx
template <class R>
SSM_FN R softplus_slope(R x) {
  return x > R(20) ? R(1) : sigmoid(x);
}
template <class R>
SSM_FN R silu(R x) {
  return x * sigmoid(x);
}
template <class R>
SSM_FN R silu_slope(R x) {
  const R s = sigmoid(x);
  return s * (R(1) + x * (R(1) - s));
}
SSM_FN double fast_tanh(double x) { return ::tanh(x); }
SSM_FN float fast_tanh(float x) {
  const float small = x * x;  // odd series near 0, where 1 - 2/(e^{2x}+1) cancels
  const float series = x * (1.0f - small * (0.333333333f - small * (0.133333333f - small * 0.0539682540f)));
  const float big = 1.0f - 2.0f / (fast_exp(2.0f * x) + 1.0f);
  return small < 0.01f ? series : big;
}

// A complex number of kernels: 2 reals, no library calls.
template <class R>
struct Complex {
  R re, im;
};
template <class R>
SSM_FN Complex<R> operator*(Complex<R> a, Complex<R> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class R>
SSM_FN Complex<R> operator*(R a, Complex<R> b) {
  return {a * b.re, a * b.im};
}
template <class R>
SSM_FN Complex<R> operator+(Complex<R> a, Complex<R> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class R>
SSM_FN Complex<R> operator-(Complex<R> a, Complex<R> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class R>
SSM_FN Complex<R> conj(Complex<R> a) {
  return {a.re, -a.im};
}
template <class R>
SSM_FN R norm2(Complex<R> a) {
  return a.re * a.re + a.im * a.im;
}
template <class R>
SSM_FN Complex<R> operator/(Complex<R> a, Complex<R> b) {
  const R s = R(1) / norm2(b);
  return s * (a * conj(b));
}
// e^z
template <class R>
SSM_FN Complex<R> cexp(Complex<R> z) {
  const R m = ::exp(z.re);
  return {m * ::cos(z.im), m * ::sin(z.im)};
}

}  // namespace ssm
