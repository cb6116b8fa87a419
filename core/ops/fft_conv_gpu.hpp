// fft_conv_gpu.hpp - the long convolution on a GPU with every transform on chip (CUDA), for up to kLongest positions.
//
// Two rows of a channel travel as one complex row: the kernel is real, so its product keeps them apart. Through device memory pass u, y and the
// kernel's spectrum; D is tap 0 of the kernel and dD that of its gradient. Per pair of rows: 4 transforms of N >= T (N a power of two) forward,
// 8 backward, about 45 instructions a point each; from T 1024 on that is above the 16 bytes a point and pair of device memory.
//
//   ssm::chip_spectrum    K -> its spectrum, both halves (lib/fft_chip.hpp), times 1/2N
//   ssm::chip_convolve    y from u, or du from dy with the conjugate spectrum: a group of threads a pair of rows
//   ssm::chip_correlate   sum over pairs of conj(U) dY, in registers; a fixed number of pieces of the batch
//   ssm::chip_gradient    the pieces in order, back to dK and dD
#pragma once
#include <algorithm>
#include <memory>

#include "ops/fft_conv_rows_gpu.hpp"

#if defined(SSM_CUDA_CODE)
namespace ssm::fft_conv_op {

using fft_chip::Two;

constexpr Index kLongest = 16384;
constexpr Index kBlocksWanted = 528;  // four for every multiprocessor

template <class F>
struct Spectrum {
  static constexpr int kThreads = F::kThreads, kBlocks = kThreads >= 512 ? 1 : 512 / kThreads;
  ConvShape s;
  const Real *K, *D;
  Two* to;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const F f(thread, memory);
    const Index h = block * F::kGroups + f.group;
    const bool mine = h < s.H;
    const Taps<F> kernel{s, h, f.g, mine};
    SSM_ROLLED
    for (int half = 0; half < 2; ++half) {
      Z z[F::P];
      kernel.load(K, D, half, z);
      f.barrier();
      f.forward(z, half);
      Two* out = to + (2 * h + half) * (F::N / 2) + f.g;
#pragma unroll
      for (int j = 0; j < F::P / 2; ++j)
        if (mine) out[j * F::G] = {z[2 * j], z[2 * j + 1]};
    }
  }
};

// The first half's result waits in registers where there are enough of them, else in its place in device memory.
template <class F>
struct Convolve {
  static constexpr int kThreads = F::kThreads, kBlocks = F::P <= 16 ? 512 / kThreads : 1;
  static constexpr bool kHold = kThreads <= 256;
  ConvShape s;
  const Real* x;
  Grad to;
  const Two* spectrum;
  Real sign;  // -1: with the conjugate spectrum
  Index chunks, share;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const F f(thread, memory);
    const Index h = block / chunks, first = (block - h * chunks) * share + f.group;
    SSM_ROLLED
    for (Index p = first; p < first + share; p += F::kGroups) {
      const PairRows rows(s, h, p, f.g);
      Z held[kHold ? F::P : 1];
      SSM_ROLLED
      for (int half = 0; half < 2; ++half) {
        Z z[F::P];
        rows.template load<F>(x, half, z);
        f.forward(z, half);
        const Two* k = spectrum + (2 * h + half) * (F::N / 2) + f.g;
#pragma unroll
        for (int j = 0; j < F::P / 2; ++j) {
          const Two w = k[j * F::G];
          z[2 * j] = Z{w.at[0].re, sign * w.at[0].im} * z[2 * j];
          z[2 * j + 1] = Z{w.at[1].re, sign * w.at[1].im} * z[2 * j + 1];
        }
        f.inverse(z, half);
        if (half) fft_chip::turn<F::P, true>(z);
        if constexpr (kHold) {
#pragma unroll
          for (int n = 0; n < F::P; ++n) {
            if (half) z[n] = held[n] + z[n];
            else held[n] = z[n];
          }
          if (half) rows.template store<F>(z, to.p, to.add);
        } else {
          rows.template store<F>(z, to.p, half || to.add);
        }
      }
    }
  }
};

template <class F>
struct Correlate {
  static constexpr int kThreads = F::kThreads, kBlocks = F::P <= 16 && kThreads <= 256 ? 512 / kThreads : 1;
  ConvShape s;
  const Real *u, *dy;
  Two* to;  // (pieces, H, 2 halves, N)
  Index pieces, pairs;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const F f(thread, memory);
    const int half = static_cast<int>(block % 2);
    const Index piece = block / 2 % pieces, h = block / (2 * pieces);
    const Index begin = pairs * piece / pieces, end = pairs * (piece + 1) / pieces;
    Z sum[F::P];
#pragma unroll
    for (int j = 0; j < F::P; ++j) sum[j] = {0, 0};
    SSM_ROLLED
    for (Index p = begin; p < end; p += F::kGroups) {
      PairRows rows(s, h, p + f.group, f.g);
      if (p + f.group >= end) rows.one = rows.two = 0;
      Z U[F::P], Y[F::P];
      rows.template load<F>(u, half, U);
      f.barrier();
      f.forward(U, half);
      rows.template load<F>(dy, half, Y);
      f.barrier();
      f.forward(Y, half);
#pragma unroll
      for (int j = 0; j < F::P; ++j) sum[j] = sum[j] + conj(U[j]) * Y[j];
    }
    Two* out = to + ((piece * s.H + h) * 2 + half) * (F::N / 2);
    if constexpr (F::kGroups == 1) {
#pragma unroll
      for (int j = 0; j < F::P / 2; ++j) out[j * F::G + f.g] = {sum[2 * j], sum[2 * j + 1]};
    } else {
      f.barrier();
      Two* mine = reinterpret_cast<Two*>(f.area);
#pragma unroll
      for (int j = 0; j < F::P / 2; ++j) mine[j * F::G + f.g] = {sum[2 * j], sum[2 * j + 1]};
      __syncthreads();
      const Two* all = reinterpret_cast<const Two*>(memory);
      for (int i = thread; i < F::N / 2; i += kThreads) {
        Two total = all[i];
        for (int other = 1; other < F::kGroups; ++other)
          for (int e = 0; e < 2; ++e) total.at[e] = total.at[e] + all[other * (F::kArea / 2) + i].at[e];
        out[i] = total;
      }
    }
  }
};

template <class F>
struct Gradient {
  static constexpr int kThreads = F::kThreads, kBlocks = F::P <= 16 ? 512 / kThreads : 1;
  ConvShape s;
  const Two* from;
  Grad dK;
  Real* dD;
  Index pieces;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const F f(thread, memory);
    const Index h = block * F::kGroups + f.group;
    const bool mine = h < s.H;
    Real even[F::P];  // half 0
    SSM_ROLLED
    for (int half = 0; half < 2; ++half) {
      Z z[F::P];
#pragma unroll
      for (int j = 0; j < F::P; ++j) z[j] = {0, 0};
      SSM_ROLLED
      for (Index piece = 0; mine && piece < pieces; ++piece) {
        const Two* part = from + ((piece * s.H + h) * 2 + half) * (F::N / 2);
#pragma unroll
        for (int j = 0; j < F::P / 2; ++j) {
          const Two add = part[j * F::G + f.g];
          z[2 * j] = z[2 * j] + add.at[0], z[2 * j + 1] = z[2 * j + 1] + add.at[1];
        }
      }
      f.barrier();
      f.inverse(z, half);
      if (half) fft_chip::turn<F::P, true>(z);
      if (half == 0) {
#pragma unroll
        for (int n = 0; n < F::P; ++n) even[n] = z[n].re;
      } else {
        Taps<F>{s, h, f.g, mine}.store(even, z, dK, dD);
      }
    }
  }
};

template <class F>
struct ChipConv final : LongConv {
  ConvShape s;
  Index pairs, pieces, share, chunks;  // pieces of the batch whose dK are summed apart; pairs that a block of Convolve takes
  explicit ChipConv(const ConvShape& shape) : s(shape), pairs((s.B + 1) / 2) {
    const Index rounds = (pairs + F::kGroups - 1) / F::kGroups;
    pieces = std::clamp<Index>(kBlocksWanted / (2 * s.H), 1, rounds);
    const Index wanted = std::clamp<Index>(kBlocksWanted / s.H, 1, rounds);
    share = (rounds + wanted - 1) / wanted * F::kGroups;
    chunks = (pairs + share - 1) / share;
  }
  Index spectrum() const { return s.H * 4 * F::N; }
  Index scratch() const override { return spectrum() * pieces; }
  double transforms() const override {
    double levels = 1;
    for (Index n = F::N; n > 1; n /= 2) ++levels;
    return 5.0 * F::N * levels;
  }
  void convolve(const Run& r, const ConvData& d, const Real* x, Grad to, Real sign) const {
    Two* k = reinterpret_cast<Two*>(d.scratch);
    launch_shared("ssm::chip_spectrum", r, (s.H + F::kGroups - 1) / F::kGroups, F::kBytes, Spectrum<F>{s, d.K, d.D, k});
    launch_shared("ssm::chip_convolve", r, s.H * chunks, F::kBytes, Convolve<F>{s, x, to, k, sign, chunks, share});
  }
  void forward(const Run& r, const ConvData& d) override { convolve(r, d, d.u, {d.y, false}, 1); }
  void backward(const Run& r, const ConvData& d) override {
    convolve(r, d, d.dy, d.du, -1);
    Two* sums = reinterpret_cast<Two*>(d.scratch);
    launch_shared("ssm::chip_correlate", r, s.H * pieces * 2, F::kBytes, Correlate<F>{s, d.u, d.dy, sums, pieces, pairs});
    launch_shared("ssm::chip_gradient", r, (s.H + F::kGroups - 1) / F::kGroups, F::kBytes, Gradient<F>{s, sums, d.dK, d.dD, pieces});
  }
};

// Null where a row does not fit on the chip.
inline std::unique_ptr<LongConv> chip_conv(const ConvShape& s) {
  using fft_chip::Transform;
  if (s.T > kLongest || kDouble) return nullptr;
  if (s.T <= 256) return std::make_unique<ChipConv<Transform<256, 16, 1, 16>>>(s);
  if (s.T <= 512) return std::make_unique<ChipConv<Transform<512, 32, 1, 16>>>(s);
  if (s.T <= 1024) return std::make_unique<ChipConv<Transform<1024, 32, 1, 32>>>(s);
  if (s.T <= 2048) return std::make_unique<ChipConv<Transform<2048, 16, 8, 16>>>(s);
  if (s.T <= 4096) return std::make_unique<ChipConv<Transform<4096, 16, 16, 16>>>(s);
  if (s.T <= 8192) return std::make_unique<ChipConv<Transform<8192, 32, 16, 16>>>(s);
  return std::make_unique<ChipConv<Transform<16384, 32, 32, 16>>>(s);
}

}  // namespace ssm::fft_conv_op
#endif
