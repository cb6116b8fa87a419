// fft_hip.cpp - on HIP the plain transforms serve.
#include "lib/fft.hpp"

namespace ssm {

std::unique_ptr<LongConv> long_conv(const ConvShape& shape) { return plain::long_conv(shape); }
std::unique_ptr<RealRows<Real>> real_rows(Index n) { return plain::real_rows(n); }
std::unique_ptr<RealRows<Wide>> wide_rows(Index n) { return plain::wide_rows(n); }
std::string fft_name() { return "plain"; }

}  // namespace ssm
