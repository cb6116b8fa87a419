// fft_chip.hpp - complex Fourier transforms that never leave a block of threads: a thread holds P points in registers and exchanges them with
// the others of its group through on-chip memory (CUDA).
//
// Decimation in frequency there, in time back: the spectrum stays in the order in which the last pass leaves it, so that a product with
// another spectrum of the same Transform needs no exchange. Every pass writes to the places that it has read: one barrier an exchange.
//
// A real row of up to N numbers on a circle of 2N is two transforms of N: a polynomial modulo x^N - 1 (half 0) and modulo x^N + 1
// (half 1, where point t is turned by e^{-i pi t / N} before). Both come back as the first N numbers of the circle: (half 0 + half 1) / 2.
#pragma once
#include "lib/launch_shared.hpp"
#include "lib/warp.hpp"

#if defined(SSM_CUDA_CODE)
namespace ssm::fft_chip {

using Z = Complex<Real>;
struct alignas(2 * sizeof(Z)) Two {
  Z at[2];
};

// cos(2 pi m / 64); m is known to the compiler.
__device__ __forceinline__ Real cos64(int m) {
  constexpr double kQuarter[17] = {1.0,
                                   0.99518472667219688624,
                                   0.98078528040323044913,
                                   0.95694033573220886494,
                                   0.92387953251128675613,
                                   0.88192126434835502971,
                                   0.83146961230254523708,
                                   0.77301045336273696081,
                                   0.70710678118654752440,
                                   0.63439328416364549822,
                                   0.55557023301960222474,
                                   0.47139673682599764856,
                                   0.38268343236508977173,
                                   0.29028467725446236764,
                                   0.19509032201612826785,
                                   0.09801714032956060199,
                                   0.0};
  const int turn = m & 63, half = turn > 32 ? 64 - turn : turn;
  return static_cast<Real>(half <= 16 ? kQuarter[half] : -kQuarter[32 - half]);
}

// z e^{-2 pi i m / 64}, and with the other sign.
template <bool kBack>
__device__ __forceinline__ Z turned(Z z, int m) {
  m &= 63;
  if (m == 0) return z;
  if (m == 16) return kBack ? Z{-z.im, z.re} : Z{z.im, -z.re};
  const Real c = cos64(m), s = kBack ? cos64(m + 48) : -cos64(m + 48);
  return {z.re * c - z.im * s, z.re * s + z.im * c};
}

// x_k = sum_n x_n e^{-+2 pi i n k / R} in registers, natural order.
template <int R, bool kBack>
__device__ __forceinline__ void dft(Z* x) {
  if constexpr (R == 2) {
    const Z a = x[0], b = x[1];
    x[0] = a + b, x[1] = a - b;
  } else if constexpr (R == 4) {
    const Z a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = turned<kBack>(x[1] - x[3], 16);
    x[0] = a + c, x[1] = b + d, x[2] = a - c, x[3] = b - d;
  } else {
    constexpr int C = R / 4;
    Z y[R];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      Z four[4] = {x[c], x[C + c], x[2 * C + c], x[3 * C + c]};
      dft<4, kBack>(four);
#pragma unroll
      for (int q = 0; q < 4; ++q) y[q * C + c] = turned<kBack>(four[q], 64 / R * c * q);
    }
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      dft<C, kBack>(y + q * C);
#pragma unroll
      for (int r = 0; r < C; ++r) x[q + 4 * r] = y[q * C + r];
    }
  }
}

// Point n of P turned by -+ pi n / P: with the turn of forward() and inverse() the whole one of half 1.
template <int P, bool kBack>
__device__ __forceinline__ void turn(Z* z) {
#pragma unroll
  for (int n = 1; n < P; ++n) z[n] = turned<kBack>(z[n], 32 / P * n);
}

// z_k = f(z_k, root of k), the roots of k < 4 in low, of 4, 8, 12, .. in high, each `stride` after the one before. kOne: that of 0 is 1 and not read.
template <int P, bool kOne, class F>
__device__ __forceinline__ void by_roots(Z* z, const Z* low, const Z* high, int stride, const F& f) {
  Z of[4];
#pragma unroll
  for (int b = kOne; b < 4; ++b) of[b] = low[b * stride];
#pragma unroll
  for (int b = kOne; b < 4; ++b) z[b] = f(z[b], of[b]);
#pragma unroll
  for (int a = 1; a < P / 4; ++a) {
    const Z by = high[(a - 1) * stride];
#pragma unroll
    for (int b = 0; b < 4; ++b) z[4 * a + b] = f(z[4 * a + b], kOne && b == 0 ? by : of[b] * by);
  }
}

// The sine and cosine of pi x.
__device__ inline void sine_cosine_pi(float x, float& s, float& c) { ::sincospif(x, &s, &c); }
__device__ inline void sine_cosine_pi(double x, double& s, double& c) { ::sincospi(x, &s, &c); }

// Transforms of N = P kMiddle kLast points (kMiddle 1: two passes) by G = N / P threads. Point n G + thread is register n.
// kHalves 1: with roots for half 0 alone.
template <int N_, int P_, int kMiddle, int kLast, int kHalves = 2>
struct Transform {
  static constexpr int N = N_, P = P_, G = N / P;
  static constexpr int kGroups = G >= 128 ? 1 : 256 / G, kThreads = G * kGroups;  // of a block
  static constexpr int kArea = N + N / kLast;  // points that a group exchanges in; every kLast-th stays free
  static constexpr int kLow = kHalves > 1 ? 8 : 3, kHigh = P / 4 - 1, kTable = (kLow + kHigh + (kMiddle > 1 ? 1 : 0)) * G;
  static constexpr std::size_t kBytes = (kGroups * kArea + kTable) * sizeof(Z);
  static_assert(G == kMiddle * kLast && (G <= kWarp || G >= 128) && P % kLast == 0);

  int group, g;
  Z *area, *table;

  // With the roots of unity: e^{-i pi r (2 b + half) / N} in row 4 half + b (one half: from b = 1 on), then e^{-i pi r 8 a / N} from a = 1 on, then
  // those of the middle pass.
  __device__ Transform(int thread, Real* memory)
      : group(thread / G),
        g(thread % G),
        area(reinterpret_cast<Z*>(memory) + group * kArea),
        table(reinterpret_cast<Z*>(memory) + kGroups * kArea) {
    for (int i = thread; i < kTable; i += kThreads) {
      const int row = i / G, r = i % G;
      const int m = row < kLow           ? r * (kHalves > 1 ? 2 * (row % 4) + row / 4 : 2 * (row + 1))
                    : row < kLow + kHigh ? r * 8 * (row - kLow + 1)
                                         : 2 * P * (r % kLast) * (r / kLast);
      Real s, c;
      sine_cosine_pi(static_cast<Real>(m) / N, s, c);
      table[i] = {c, -s};
    }
    __syncthreads();
  }

  // Of a group. A transform that follows another of the same direction needs one before it.
  __device__ static void barrier() {
    if constexpr (G <= kWarp) __syncwarp();
    else __syncthreads();
  }

  // Where a thread's points lie: in the first pass n G + g; in the middle one butterfly i has (k, s) = (g / kLast + kMiddle i, g % kLast) at
  // k G + n kLast + s; in the last one butterfly b = g + G i has b kLast + n.
  static constexpr int kStride = G + G / kLast;
  __device__ int first() const { return g + g / kLast; }
  __device__ int middle() const { return g / kLast * kStride + g % kLast; }
  __device__ int last() const { return g * (kLast + 1); }

  // z of half `half` to its spectrum. The turn of half 1 is put in here but for that of register n, which is turn()'s.
  __device__ __forceinline__ void forward(Z* z, int half) const {
    dft<P, false>(z);
    first_roots(z, half, [](Z x, Z root) { return x * root; });
#pragma unroll
    for (int k = 0; k < P; ++k) area[first() + k * kStride] = z[k];
    barrier();
    if constexpr (kMiddle > 1) {
      each_middle([&](int i, int n, int at) { z[i * kMiddle + n] = area[at]; });
#pragma unroll
      for (int i = 0; i < P; i += kMiddle) dft<kMiddle, false>(z + i);
      middle_roots(z, [](Z x, Z root) { return x * root; });
      each_middle([&](int i, int n, int at) { area[at] = z[i * kMiddle + n]; });
      barrier();
    }
    each_last([&](int i, int n, int at) { z[i * kLast + n] = area[at]; });
#pragma unroll
    for (int i = 0; i < P; i += kLast) dft<kLast, false>(z + i);
  }

  // N times the inverse of forward().
  __device__ __forceinline__ void inverse(Z* z, int half) const {
#pragma unroll
    for (int i = 0; i < P; i += kLast) dft<kLast, true>(z + i);
    each_last([&](int i, int n, int at) { area[at] = z[i * kLast + n]; });
    barrier();
    if constexpr (kMiddle > 1) {
      each_middle([&](int i, int n, int at) { z[i * kMiddle + n] = area[at]; });
      middle_roots(z, [](Z x, Z root) { return conj(root) * x; });
#pragma unroll
      for (int i = 0; i < P; i += kMiddle) dft<kMiddle, true>(z + i);
      each_middle([&](int i, int n, int at) { area[at] = z[i * kMiddle + n]; });
      barrier();
    }
#pragma unroll
    for (int k = 0; k < P; ++k) z[k] = area[first() + k * kStride];
    first_roots(z, half, [](Z x, Z root) { return conj(root) * x; });
    dft<P, true>(z);
  }

 private:
  template <class F>
  __device__ __forceinline__ void first_roots(Z* z, int half, const F& f) const {
    const int low = kHalves > 1 ? half * 4 * G : -G;
    by_roots<P, kHalves == 1>(z, table + low + g, table + kLow * G + g, G, f);
  }
  template <class F>
  __device__ __forceinline__ void middle_roots(Z* z, const F& f) const {
    const Z* roots = table + (kLow + kHigh) * G + g % kLast;
#pragma unroll
    for (int k = 1; k < kMiddle; ++k) {
      const Z root = roots[k * kLast];
#pragma unroll
      for (int i = 0; i < P; i += kMiddle) z[i + k] = f(z[i + k], root);
    }
  }
  template <class F>
  __device__ __forceinline__ void each_middle(const F& f) const {
#pragma unroll
    for (int i = 0; i < P / kMiddle; ++i)
#pragma unroll
      for (int n = 0; n < kMiddle; ++n) f(i, n, middle() + i * kMiddle * kStride + n * (kLast + 1));
  }
  template <class F>
  __device__ __forceinline__ void each_last(const F& f) const {
#pragma unroll
    for (int i = 0; i < P / kLast; ++i)
#pragma unroll
      for (int n = 0; n < kLast; ++n) f(i, n, last() + i * G * (kLast + 1) + n);
  }
};

}  // namespace ssm::fft_chip
#endif
