// fft_conv_wide_gpu.hpp - the long convolution of rows that do not fit on a chip, up to kWidest positions (CUDA): R lines of M points, R in registers
// of a thread, M on chip. As in fft_conv_gpu.hpp two rows travel as one complex row and a circle of 2N is two transforms of N = R M >= T.
//
//   ssm::wide_columns    rows -> 2 halves of R lines (lib/fft_columns.hpp); of u, of dy, of the taps
//   ssm::wide_convolve   a line: its transform of M, times the kernel's, back, in place; a block keeps the kernel's for its pairs of rows
//   ssm::wide_adjoint    the same with the conjugate for dy, and the sum of conj(U) dY over the block's pairs for dK
//   ssm::wide_rows       lines -> rows: y, du; the pieces of the batch in order -> dK and dD
//
// Device memory a point of N and pair of rows, in bytes: 8 + 16, 16 + 16, 16 + 8 forward, 24 + 24, 32 + 16, 24 backward, and 36 and 72 a channel.
// At 4.2 TB/s with B 8, T 65,536, 256 channels that is no less than 1.4 ms and 2.2 ms. Channels take turns in kWideNumbers of scratch.
#pragma once
#include <algorithm>
#include <memory>

#include "lib/fft_columns.hpp"
#include "ops/fft_conv_gpu.hpp"

#if defined(SSM_CUDA_CODE)
namespace ssm::fft_conv_op {

constexpr Index kWidest = Index(1) << 20;
constexpr Index kWideNumbers = Index(1) << 26;  // at least one channel's lines, else channels up to that many numbers
constexpr int kLine = 4096;
using Line = fft_chip::Transform<kLine, 16, 16, 16, 1>;

__device__ __forceinline__ void load_line(const Z* line, int g, Z* z) {
#pragma unroll
  for (int n = 0; n < Line::P; ++n) z[n] = line[n * Line::G + g];
}
__device__ __forceinline__ void store_line(const Z* z, int g, Z* line) {
#pragma unroll
  for (int n = 0; n < Line::P; ++n) line[n * Line::G + g] = z[n];
}

// Item i of the channels from h0 on: a pair of rows of x, or (Taps) the kernel of a channel.
struct FromRows {
  ConvShape s;
  const Real* x;
  Index h0, pairs;
  template <class F>
  __device__ __forceinline__ void load(Index item, int g, int half, Z* z) const {
    const Index c = item / pairs;
    PairRows(s, h0 + c, item - c * pairs, g).template load<F>(x, half, z);
  }
};
struct FromTaps {
  ConvShape s;
  const Real *K, *D;
  Index h0;
  template <class F>
  __device__ __forceinline__ void load(Index item, int g, int half, Z* z) const {
    Taps<F>{s, h0 + item, g, true}.load(K, D, half, z);
  }
};
struct ToRows {
  ConvShape s;
  Grad to;
  Index h0, pairs;
  template <class F>
  __device__ __forceinline__ void store(Index item, int g, const Z* even, Z* odd) const {
    const Index c = item / pairs;
#pragma unroll
    for (int n = 0; n < F::P; ++n) odd[n] = even[n] + odd[n];
    PairRows(s, h0 + c, item - c * pairs, g).template store<F>(odd, to.p, to.add);
  }
};
struct ToTaps {
  ConvShape s;
  Grad dK;
  Real* dD;
  Index h0;
  template <class F>
  __device__ __forceinline__ void store(Index item, int g, const Z* even, Z* odd) const {
    Real first[F::P];
#pragma unroll
    for (int n = 0; n < F::P; ++n) first[n] = even[n].re;
    Taps<F>{s, h0 + item, g, true}.store(first, odd, dK, dD);
  }
};

// lines (items, 2 halves, R, M); a block takes a slab of columns of `share` items.
template <class F, class From>
struct WideColumns {
  static constexpr int kThreads = F::kThreads, kBlocks = 2;
  From from;
  Z* lines;
  Index items, share;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index turn = block / F::kSlabs, end = min(items, (turn + 1) * share);
    const F f(thread, static_cast<int>(block - turn * F::kSlabs), memory);
    SSM_ROLLED
    for (Index item = turn * share; item < end; ++item) {
      SSM_ROLLED
      for (int half = 0; half < 2; ++half) {
        Z z[F::P];
        from.template load<F>(item, f.g, half, z);
        f.forward(z, half);
        Z* to = lines + (2 * item + half) * F::N + f.g;
#pragma unroll
        for (int n = 0; n < F::P; ++n) to[n * F::G] = z[n];
      }
    }
  }
};

// lines (pieces, items, 2 halves, R, M), the pieces summed in order.
template <class F, class To>
struct WideRows {
  static constexpr int kThreads = F::kThreads, kBlocks = 2;
  To to;
  const Z* lines;
  Index items, share, pieces;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index turn = block / F::kSlabs, end = min(items, (turn + 1) * share);
    const F f(thread, static_cast<int>(block - turn * F::kSlabs), memory);
    SSM_ROLLED
    for (Index item = turn * share; item < end; ++item) {
      Z even[F::P];
      SSM_ROLLED
      for (int half = 0; half < 2; ++half) {
        Z z[F::P];
        const Z* from = lines + (2 * item + half) * F::N + f.g;
#pragma unroll
        for (int n = 0; n < F::P; ++n) z[n] = from[n * F::G];
        SSM_ROLLED
        for (Index piece = 1; piece < pieces; ++piece) {
          from += 2 * items * F::N;
#pragma unroll
          for (int n = 0; n < F::P; ++n) z[n] = z[n] + from[n * F::G];
        }
        f.inverse(z, half);
        if (half) {
          fft_chip::turn<F::P, true>(z);
          to.template store<F>(item, f.g, even, z);
        } else {
#pragma unroll
          for (int n = 0; n < F::P; ++n) even[n] = z[n];
        }
      }
    }
  }
};

// Line l of 2R of `channels` channels, pairs [chunk share, ..) of `pairs`: a block's work.
struct WideTask {
  int l, chunk, first, last, c0, c1;
  __device__ WideTask(Index block, int lines, int chunks, int pairs, int count, int channels) {
    const int turn = static_cast<int>(block) / lines, group = turn / chunks;
    l = static_cast<int>(block) - turn * lines;
    chunk = turn - group * chunks;
    first = static_cast<int>(Index(pairs) * chunk / chunks), last = static_cast<int>(Index(pairs) * (chunk + 1) / chunks);
    c0 = group * channels, c1 = min(count, c0 + channels);
  }
};

struct WideConvolve {
  static constexpr int kThreads = Line::kThreads, kBlocks = 2;
  const Z* kernels;
  Z* rows;
  int lines, chunks, pairs, count, channels;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Line f(thread, memory);
    const WideTask task(block, lines, chunks, pairs, count, channels);
    SSM_ROLLED
    for (int c = task.c0; c < task.c1; ++c) {
      Z k[Line::P];
      load_line(kernels + (Index(c) * lines + task.l) * kLine, f.g, k);
      f.forward(k, 0);
      f.barrier();
      SSM_ROLLED
      for (int p = task.first; p < task.last; ++p) {
        Z* line = rows + ((Index(c) * pairs + p) * lines + task.l) * kLine;
        Z z[Line::P];
        load_line(line, f.g, z);
        f.forward(z, 0);
#pragma unroll
        for (int n = 0; n < Line::P; ++n) z[n] = k[n] * z[n];
        f.inverse(z, 0);
        store_line(z, f.g, line);
      }
    }
  }
};

// The kernel's spectrum and U wait on chip: the sums and dY take the registers.
struct WideAdjoint {
  static constexpr int kThreads = Line::kThreads, kBlocks = 2;
  static constexpr std::size_t kBytes = Line::kBytes + 2 * Line::N * sizeof(Z);
  const Z *kernels, *u;
  Z *dy, *sums;  // sums (chunks, count, lines, M)
  int lines, chunks, pairs, count, channels;
  // A line's spectrum to a place of the thread's own.
  __device__ static void keep(const Line& f, const Z* line, Two* to) {
    Z z[Line::P];
    load_line(line, f.g, z);
    f.barrier();
    f.forward(z, 0);
#pragma unroll
    for (int n = 0; n < Line::P / 2; ++n) to[n * Line::G] = {z[2 * n], z[2 * n + 1]};
  }
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Line f(thread, memory);
    const WideTask task(block, lines, chunks, pairs, count, channels);
    Two *K = reinterpret_cast<Two*>(f.area) + Line::kBytes / sizeof(Two) + f.g, *U = K + Line::N / 2;
    SSM_ROLLED
    for (int c = task.c0; c < task.c1; ++c) {
      keep(f, kernels + (Index(c) * lines + task.l) * kLine, K);
      Z sum[Line::P];
#pragma unroll
      for (int n = 0; n < Line::P; ++n) sum[n] = {0, 0};
      SSM_ROLLED
      for (int p = task.first; p < task.last; ++p) {
        const Index at = ((Index(c) * pairs + p) * lines + task.l) * kLine;
        keep(f, u + at, U);
        Z Y[Line::P];
        load_line(dy + at, f.g, Y);
        f.barrier();
        f.forward(Y, 0);
#pragma unroll
        for (int n = 0; n < Line::P / 2; ++n) {
          const Two x = U[n * Line::G], k = K[n * Line::G];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            sum[2 * n + e] = sum[2 * n + e] + conj(x.at[e]) * Y[2 * n + e];
            Y[2 * n + e] = conj(k.at[e]) * Y[2 * n + e];
          }
        }
        f.inverse(Y, 0);
        store_line(Y, f.g, dy + at);
      }
      f.barrier();
      f.inverse(sum, 0);
      store_line(sum, f.g, sums + ((Index(task.chunk) * count + c) * lines + task.l) * kLine);
    }
  }
};

template <class F>
struct WideConv final : LongConv {
  static constexpr int kLines = 2 * F::R;
  static constexpr Index kItem = 4 * F::N;  // numbers of an item's lines
  static int small(Index n) { return static_cast<int>(n); }
  // Channels at once, the pieces of the batch that blocks of their own take, and the numbers that this needs; `rows`: pairs of rows a pair of the batch.
  struct Plan {
    Index group, pieces, numbers;
    Plan(const ConvShape& s, Index pairs, Index rows, bool sums) {
      const Index most = std::clamp<Index>(kWideNumbers / ((rows * pairs + 1 + sums) * kItem), 1, s.H), turns = (s.H + most - 1) / most;
      group = (s.H + turns - 1) / turns;
      pieces = std::clamp<Index>(kBlocksWanted / (kLines * group), 1, pairs);
      numbers = group * (rows * pairs + 1 + (sums ? pieces : 0)) * kItem;
    }
  };
  ConvShape s;
  Index pairs;
  Plan to, back;
  explicit WideConv(const ConvShape& shape) : s(shape), pairs((s.B + 1) / 2), to(s, pairs, 1, false), back(s, pairs, 2, true) {}
  Index scratch() const override { return std::max(to.numbers, back.numbers); }
  double transforms() const override {
    double levels = 1;
    for (Index n = F::N; n > 1; n /= 2) ++levels;
    return 5.0 * F::N * levels;
  }

  // As many of `all` in a row for a block as leave kBlocksWanted of them, but no more than pay for its tables.
  static Index share(Index all, Index blocks) { return std::clamp<Index>(all * blocks / kBlocksWanted, 1, 4); }
  template <class From>
  void columns(const Run& r, Index items, const From& from, Z* lines) const {
    const Index each = share(items, F::kSlabs), turns = (items + each - 1) / each;
    launch_shared("ssm::wide_columns", r, turns * F::kSlabs, F::kBytes, WideColumns<F, From>{from, lines, items, each});
  }
  template <class To>
  void rows(const Run& r, Index items, Index pieces, const Z* lines, const To& into) const {
    const Index each = share(items, F::kSlabs), turns = (items + each - 1) / each;
    launch_shared("ssm::wide_rows", r, turns * F::kSlabs, F::kBytes, WideRows<F, To>{into, lines, items, each, pieces});
  }
  void forward(const Run& r, const ConvData& d) override {
    for (Index h0 = 0; h0 < s.H; h0 += to.group) {
      const Index count = std::min(to.group, s.H - h0), each = share(count, kLines * to.pieces), turns = (count + each - 1) / each;
      Z *kernels = reinterpret_cast<Z*>(d.scratch), *x = kernels + count * kItem / 2;
      columns(r, count, FromTaps{s, d.K, d.D, h0}, kernels);
      columns(r, count * pairs, FromRows{s, d.u, h0, pairs}, x);
      launch_shared("ssm::wide_convolve", r, turns * to.pieces * kLines, Line::kBytes,
                    WideConvolve{kernels, x, kLines, small(to.pieces), small(pairs), small(count), small(each)});
      rows(r, count * pairs, 1, x, ToRows{s, {d.y, false}, h0, pairs});
    }
  }
  void backward(const Run& r, const ConvData& d) override {
    for (Index h0 = 0; h0 < s.H; h0 += back.group) {
      const Index count = std::min(back.group, s.H - h0), each = share(count, kLines * back.pieces), turns = (count + each - 1) / each;
      Z *kernels = reinterpret_cast<Z*>(d.scratch), *u = kernels + count * kItem / 2, *dy = u + count * pairs * kItem / 2,
        *sums = dy + count * pairs * kItem / 2;
      columns(r, count, FromTaps{s, d.K, d.D, h0}, kernels);
      columns(r, count * pairs, FromRows{s, d.u, h0, pairs}, u);
      columns(r, count * pairs, FromRows{s, d.dy, h0, pairs}, dy);
      launch_shared("ssm::wide_adjoint", r, turns * back.pieces * kLines, WideAdjoint::kBytes,
                    WideAdjoint{kernels, u, dy, sums, kLines, small(back.pieces), small(pairs), small(count), small(each)});
      rows(r, count * pairs, 1, dy, ToRows{s, d.du, h0, pairs});
      rows(r, count, back.pieces, sums, ToTaps{s, d.dK, d.dD, h0});
    }
  }
};

// Null where a row is too long.
inline std::unique_ptr<LongConv> gpu_conv(const ConvShape& s) {
  using fft_chip::Columns;
  if (auto chip = chip_conv(s)) return chip;
  if (kDouble || s.T > kWidest) return nullptr;
  if (s.T <= 8 * kLine) return std::make_unique<WideConv<Columns<1, 8>>>(s);
  if (s.T <= 16 * kLine) return std::make_unique<WideConv<Columns<1, 16>>>(s);
  if (s.T <= 32 * kLine) return std::make_unique<WideConv<Columns<2, 16>>>(s);
  if (s.T <= 64 * kLine) return std::make_unique<WideConv<Columns<4, 16>>>(s);
  if (s.T <= 128 * kLine) return std::make_unique<WideConv<Columns<8, 16>>>(s);
  return std::make_unique<WideConv<Columns<16, 16>>>(s);
}

}  // namespace ssm::fft_conv_op
#else
namespace ssm::fft_conv_op {
inline std::unique_ptr<LongConv> gpu_conv(const ConvShape&) { return nullptr; }
}  // namespace ssm::fft_conv_op
#endif
