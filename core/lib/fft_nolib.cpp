// fft_nolib.cpp - on HIP without hipFFT the plain transforms serve.
#include "lib/fft.hpp"

namespace ssm {

std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return plain::long_conv(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index rows, Index n) { return plain::real_rows(rows, n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index rows, Index n) { return plain::wide_rows(rows, n); }
std::string fft_name() { return "plain"; }

}  // namespace ssm
