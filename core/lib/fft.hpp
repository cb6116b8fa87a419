// fft.hpp - the only door to Fourier transforms: long convolutions of whole tensors, and real transforms of rows.
//
// fft_host.cpp (FFTW), fft_gpu.cpp or fft_hip.cpp define the functions of namespace ssm; fft_plain.cpp defines those of ssm::plain on every
// backend. Plans are made when a net is built; running allocates nothing. The order of every sum depends on the shape alone.
#pragma once
#include <memory>
#include <string>

#include "run.hpp"
#include "tensor.hpp"

namespace ssm {

// Smallest 2^a 3^b 5^c that is at least n.
Index smooth_size(Index n);

// u, y (B,H,T); K (H,taps), or two-sided (2,H,taps); taps <= T.
struct ConvShape {
  Index B = 1, H = 1, T = 1, taps = 1;
  bool two_sided = false;
};

// y_t = sum_q K0_q u_{t-q} (+ sum_q K1_q u_{t+1+q}) + D u_t, and the adjoint. D and dD may be null.
struct ConvData {
  const Real *u = nullptr, *K = nullptr, *D = nullptr;
  Real* y = nullptr;
  const Real* dy = nullptr;
  Grad du, dK;
  Real* dD = nullptr;  // added to
  Real* scratch = nullptr;
};

class LongConv {
 public:
  virtual ~LongConv() = default;
  virtual Index scratch() const = 0;      // numbers of ConvData::scratch
  virtual double transforms() const = 0;  // floating-point operations of one real transform of the length used
  virtual void forward(const Run& r, const ConvData& data) = 0;
  virtual void backward(const Run& r, const ConvData& data) = 0;
};
std::unique_ptr<LongConv> long_conv(const ConvShape& shape);

// Rows of a real transform of length n, in float or double:  X_k = sum_t x_t e^{-2 pi i k t / n},  k = 0 .. n/2.
// x (rows, n), X (rows, n/2 + 1, 2). Neither direction scales: inverse(forward(x)) = n x. inverse() may destroy X.
// work: scratch() numbers.
template <class R>
class RealRows {
 public:
  virtual ~RealRows() = default;
  virtual Index scratch() const { return 0; }
  virtual void forward(const Run& r, const R* x, R* X, R* work) = 0;
  virtual void inverse(const Run& r, R* X, R* x, R* work) = 0;
};
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n);
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n);  // where single precision is not enough

// "FFTW 3.3.10", "plain".
std::string fft_name();

namespace plain {
std::unique_ptr<LongConv> long_conv(const ConvShape& shape);
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n);
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n);
}  // namespace plain

}  // namespace ssm
