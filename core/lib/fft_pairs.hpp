// fft_pairs.hpp - long convolution on top of any batched complex transform: rows 2p and 2p+1 of a batch travel as one complex row. The kernel
// is real, so its product keeps them apart, and the real part of the inverse of sum_p conj(U) Y is the correlation summed over both.
#pragma once
#include "lib/fft.hpp"
#include "math.hpp"

namespace ssm {

struct PairConv : LongConv {
  using Z = Complex<Real>;
  ConvShape s;
  Index n, pairs, group;  // length of the circle; complex rows a channel; channels handled at once

  // `numbers`: complex numbers of scratch to aim at.
  PairConv(const ConvShape& shape, Index length, Index numbers);
  Index scratch() const override;
  double transforms() const override;
  void forward(const Run& r, const ConvData& d) override;
  void backward(const Run& r, const ConvData& d) override;

  // Transforms `rows` rows of n at x, unscaled, e^{sign 2 pi i k t / n}; `other` is as large and may be overwritten. Returns where the
  // result lies: x or other.
  virtual Z* transform(const Run& r, Index rows, int sign, Z* x, Z* other) = 0;

  void taps(const Run& r, const Real* K, Index h0, Index count, Z* z) const;
  void pack(const Run& r, const Real* u, Index h0, Index count, Z* z) const;
  void sum_skip(const Run& r, const ConvData& d, Index h0, Index count) const;
};

}  // namespace ssm
