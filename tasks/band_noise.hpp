// band_noise.hpp - band-limited white noise as the S4 repository draws it for delay and reconstruct.
//
// n = ceil(L/2) frequencies; complex Gaussian coefficients of the first K = cutoff n ones (no constant), none above; scaled so that the
// inverse real transform of length 2 n has mean square rms^2 = 1/4, cut to L samples; then the first sample is subtracted, after which
// the mean square is E y_t^2 = 2 rms^2 (1 - rho_t) with the correlation rho_t = 1/K sum_k cos(2 pi k t / 2n).
#pragma once
#include <cmath>
#include <complex>
#include <vector>

#include "rng.hpp"

namespace ssm {

class BandNoise {
 public:
  static constexpr double rms = .5;

  BandNoise() = default;
  BandNoise(int length, double cutoff) : n_(2 * ((length + 1) / 2)), kept_(kept(length, cutoff)), length_(length) {
    for (int i = 0; i < n_; ++i) roots_.push_back(std::polar(1.0, 2 * pi * i / n_));
  }

  void draw(Rng& rng, std::vector<double>& out) const {
    static thread_local std::vector<std::complex<double>> in, transformed;
    in.assign(static_cast<std::size_t>(n_), 0), transformed.resize(in.size());
    const double scale = rms / std::sqrt(static_cast<double>(kept_));  // of 2 Re c e^{i w t}: mean square 2 (Re^2 + Im^2)
    for (int k = 1; k <= kept_; ++k) {
      const double radius = std::sqrt(-2 * std::log(1 - rng.uniform())), angle = 2 * pi * rng.uniform();
      in[static_cast<std::size_t>(k)] = std::polar(scale * radius, angle);
    }
    transform(in.data(), transformed.data(), n_, 1);
    out.resize(static_cast<std::size_t>(length_));
    for (std::size_t t = 0; t < out.size(); ++t) out[t] = transformed[t].real() - transformed[0].real();
  }

  // E y_t^2 by the Dirichlet kernel.
  static double mean_square(int length, double cutoff, int t) {
    if (t == 0) return 0;
    const double K = kept(length, cutoff), x = 2 * pi * t / (2 * half(length));
    return 2 * rms * rms * (1 - (std::sin((K + .5) * x) / std::sin(x / 2) - 1) / (2 * K));
  }

 private:
  static constexpr double pi = 3.141592653589793238463;
  int n_ = 0, kept_ = 0, length_ = 0;
  std::vector<std::complex<double>> roots_;

  static int half(int length) { return (length + 1) / 2; }
  static int kept(int length, double cutoff) { return std::max(1, static_cast<int>(cutoff * half(length))); }

  // out_t = sum_k in_{k stride} e^{2 pi i k t / n}, by the smallest prime factor of n.
  void transform(const std::complex<double>* in, std::complex<double>* out, int n, int stride) const {
    if (n == 1) {
      *out = *in;
      return;
    }
    int p = 2;
    while (n % p) ++p;
    const int m = n / p;
    for (int r = 0; r < p; ++r)
      transform(in + static_cast<std::ptrdiff_t>(r) * stride, out + static_cast<std::ptrdiff_t>(r) * m, m, stride * p);
    std::vector<std::complex<double>> part(static_cast<std::size_t>(p));
    for (int t = 0; t < m; ++t) {
      for (int r = 0; r < p; ++r)
        part[static_cast<std::size_t>(r)] =
            out[r * m + t] * roots_[static_cast<std::size_t>(r) * static_cast<std::size_t>(t) * static_cast<std::size_t>(stride)];
      for (int q = 0; q < p; ++q) {
        std::complex<double> sum = part[0];
        for (int r = 1; r < p; ++r)
          sum += part[static_cast<std::size_t>(r)] * roots_[static_cast<std::size_t>(r * q % p) * static_cast<std::size_t>(n_ / p)];
        out[q * m + t] = sum;
      }
    }
  }
};

}  // namespace ssm
