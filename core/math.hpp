// math.hpp - scalar functions for kernels: branch-free in float on the host, so that loops over channels become SIMD.
//
// Relative errors in float: fast_exp 2e-7 (argument clamped to [-87.3, 88.7]), fast_log 2e-7, sigmoid 3e-7, softplus 5e-7.
// Absolute errors in float: fast_erf 2e-7, Gauss::cdf 1e-7. In double every function is the library's.
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

// e^x without a clamp, for x in [-87.3, 88.7].
SSM_FN double exp_in_range(double x) { return ::exp(x); }
SSM_FN float exp_in_range(float x) {
#if SSM_DEVICE_CODE
  return ::expf(x);
#else
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
SSM_FN float fast_exp(float x) {
#if SSM_DEVICE_CODE
  return ::expf(x);
#else
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.7f ? 88.7f : x;
  return exp_in_range(x);
#endif
}
// e^x of a weight, x <= 0 up to rounding: exactly 0 below -87, so that hidden entries vanish.
template <class R>
SSM_FN R exp_or_zero(R x) {
  const R y = exp_in_range(x < R(-87) ? R(-87) : x);
  return x < R(-87) ? R(0) : y;
}

// 2^x for x <= 0: the decay of a state. Exactly 1 + x ln 2 to first order, so that slow modes keep their memory; relative error 2e-7.
SSM_FN double exp2_decay(double x) { return ::exp2(x); }
SSM_FN float exp2_decay(float x) {
#if SSM_DEVICE_CODE
  return ::exp2f(x);
#else
  x = x < -125.0f ? -125.0f : x;
  const float shifted = x + 12582912.0f;  // the nearest integer, in the low bits
  const float r = x - (shifted - 12582912.0f);
  float p = 1.3300267746e-3f;
  p = p * r + 9.6697090194e-3f;
  p = p * r + 5.5505599827e-2f;
  p = p * r + 2.4022281170e-1f;
  p = p * r + 6.9314718056e-1f;
  p = p * r + 1.0f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + (std::bit_cast<std::uint32_t>(shifted) << 23));
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

// 1/x of a normal number below 2^126, relative error 1.2e-7 on a GPU, where a division costs some ten times as much.
SSM_FN double reciprocal(double x) { return 1 / x; }
SSM_FN float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#elif defined(__HIP_DEVICE_COMPILE__)
  return __builtin_amdgcn_rcpf(x);
#else
  return 1.0f / x;
#endif
}

template <class R>
SSM_FN R sigmoid(R x) {
  return reciprocal(R(1) + fast_exp(-x));
}
// log(1 + e^x), and x itself above torch's threshold of 20 (where float cannot tell the two apart).
SSM_FN double softplus(double x) { return x > 20 ? x : ::log1p(::exp(x)); }
SSM_FN float softplus(float x) {
  const float e = fast_exp(x < 0.0f ? x : -x), s = e * reciprocal(2.0f + e), q = s * s;  // log(1 + e) = 2 artanh(s), s <= 1/3
  float p = 0.2817465663f;
  p = p * q + 0.2796141803f;
  p = p * q + 0.4002485275f;
  p = p * q + 0.6666631699f;
  p = p * q + 2.0f;
  return (x > 0.0f ? x : 0.0f) + s * p;
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
  const float big = 1.0f - 2.0f * reciprocal(fast_exp(2.0f * x) + 1.0f);
  return small < 0.01f ? series : big;
}

// The standard normal distribution at x: what GELU = x cdf(x) and its slope cdf + x pdf are made of.
template <class R>
struct Gauss {
  R cdf, pdf;
};
SSM_FN Gauss<double> gauss(double x) { return {0.5 * ::erfc(-0.70710678118654752440 * x), 0.39894228040143267794 * ::exp(-0.5 * x * x)}; }
// |x| < 1: 1/2 + x p(x^2), p of degree 4 fitted to 1.5e-8. Else cdf(-|x|) = e^{-x^2/2} t p(t), t = 1/(1 + 0.3 |x|), p of degree 7 fitted
// to relative error 1.5e-7 on [0, 14].
SSM_FN Gauss<float> gauss(float x) {
  const float x2 = x * x, e = fast_exp(-0.5f * x2), t = reciprocal(1.0f + 0.3f * (x < 0 ? -x : x));
  float s = 9.438450797e-5f;
  s = s * x2 - 1.169653609e-3f;
  s = s * x2 + 9.967385791e-3f;
  s = s * x2 - 6.6489622e-2f;
  s = s * x2 + 0.3989422619f;
  float p = 0.03567487746f;
  p = p * t - 0.1572034955f;
  p = p * t + 0.2063541859f;
  p = p * t - 0.05368424207f;
  p = p * t + 0.1285619289f;
  p = p * t + 0.09991341084f;
  p = p * t + 0.1207539663f;
  p = p * t + 0.1196293011f;
  const float tail = e * (p * t), far = x < 0 ? tail : 1.0f - tail;
  return {x2 < 1.0f ? 0.5f + x * s : far, 0.39894228f * e};
}
// x (1 + tanh(s)) / 2 = x sigmoid(2 s),  s = sqrt(2/pi) (x + 0.044715 x^3)
template <class R>
SSM_FN R gelu_tanh(R x) {
  return x * sigmoid(R(2 * 0.79788456080286535588) * x * (1 + R(0.044715) * x * x));
}

SSM_FN double fast_erf(double x) { return ::erf(x); }
SSM_FN float fast_erf(float x) { return 2.0f * gauss(1.41421356f * x).cdf - 1.0f; }

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
