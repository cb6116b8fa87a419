#include "hippo.hpp"

#include <complex>
#define lapack_complex_float  std::complex<float>  // LAPACKE's way to say that the caller is C++
#define lapack_complex_double std::complex<double>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

namespace ssm {

namespace {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
double root(Index n) { return std::sqrt(2.0 * static_cast<double>(n) + 1); }

}  // namespace

Hippo hippo(const std::string& kind, Index N) {
  Hippo h;
  h.N = N;
  h.rank = kind == "legt" ? 2 : 1;
  h.A.assign(at(N * N), 0);
  h.B.assign(at(N), 0);
  h.P.assign(at(h.rank * N), 0);
  if (kind == "legs") {
    for (Index n = 0; n < N; ++n) {
      for (Index k = 0; k < n; ++k) h.A[at(n * N + k)] = -root(n) * root(k);
      h.A[at(n * N + n)] = -static_cast<double>(n + 1);
      h.B[at(n)] = root(n);
      h.P[at(n)] = root(n) / std::numbers::sqrt2;
    }
  } else if (kind == "legt") {
    for (Index n = 0; n < N; ++n) {
      for (Index k = 0; k < N; ++k) h.A[at(n * N + k)] = -0.5 * root(n) * root(k) * (n < k && (k - n) % 2 ? -1 : 1);
      h.B[at(n)] = 0.5 * root(n);
      h.P[at((n % 2 ? 0 : 1) * N + n)] = root(n) / std::numbers::sqrt2;
    }
  } else if (kind == "fout") {
    if (N % 2) throw std::logic_error("fout needs an even N");
    for (Index m = 0; m < N / 2; ++m) {
      const double w = std::numbers::pi * static_cast<double>(m);
      h.A[at(2 * m * N + 2 * m + 1)] = -w;
      h.A[at((2 * m + 1) * N + 2 * m)] = w;
      h.B[at(2 * m)] = m ? std::numbers::sqrt2 : 1;
    }
    h.P = h.B;
    for (Index n = 0; n < N; ++n)
      for (Index k = 0; k < N; ++k) h.A[at(n * N + k)] -= h.B[at(n)] * h.B[at(k)];
  } else {
    throw std::logic_error("no HiPPO matrix is called " + kind);
  }
  return h;
}

Eigenbasis eigenbasis(const Hippo& h) {
  const Index N = h.N;
  std::vector<double> S = h.A;
  for (Index r = 0; r < h.rank; ++r)
    for (Index n = 0; n < N; ++n)
      for (Index k = 0; k < N; ++k) S[at(n * N + k)] += h.P[at(r * N + n)] * h.P[at(r * N + k)];
  double mean = 0;
  for (Index n = 0; n < N; ++n) mean += S[at(n * N + n)] / static_cast<double>(N);

  Eigenbasis e;
  e.V.resize(at(N * N));
  for (Index n = 0; n < N; ++n)
    for (Index k = 0; k < N; ++k) e.V[at(n * N + k)] = n == k ? Cx(0) : Cx(0, -S[at(n * N + k)]);
  std::vector<double> omega(at(N));
  const int n = static_cast<int>(N);
  const int info = LAPACKE_zheev(LAPACK_ROW_MAJOR, 'V', 'L', n, e.V.data(), n, omega.data());
  if (info != 0) throw std::runtime_error("LAPACK zheev failed with info " + std::to_string(info));
  for (Index k = 0; k < N; ++k) {
    e.lambda.emplace_back(mean, omega[at(k)]);
    const Cx first = e.V[at(k)];
    if (std::abs(first) < 1e-12) continue;
    const Cx phase = std::conj(first) / std::abs(first);
    for (Index i = 0; i < N; ++i) e.V[at(i * N + k)] *= phase;
  }
  e.inverse.resize(at(N * N));
  for (Index i = 0; i < N; ++i)
    for (Index k = 0; k < N; ++k) e.inverse[at(k * N + i)] = std::conj(e.V[at(i * N + k)]);
  return e;
}

Eigenbasis eigenbasis(Index N, std::vector<double> A) {
  const int n = static_cast<int>(N);
  std::vector<double> re(at(N)), im(at(N)), packed(at(N * N));  // packed: columns k, k + 1 are real and imaginary part of a pair
  int info = LAPACKE_dgeev(LAPACK_ROW_MAJOR, 'N', 'V', n, A.data(), n, re.data(), im.data(), nullptr, n, packed.data(), n);
  if (info != 0) throw std::runtime_error("LAPACK dgeev failed with info " + std::to_string(info));
  std::vector<Index> order(at(N));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return std::pair(im[at(a)], re[at(a)]) < std::pair(im[at(b)], re[at(b)]); });
  Eigenbasis e;
  e.V.resize(at(N * N));
  for (Index k = 0; k < N; ++k) {
    const Index from = order[at(k)], first = im[at(from)] < 0 ? from - 1 : from;  // a pair's first column belongs to its positive frequency
    const double side = im[at(from)] < 0 ? -1 : im[at(from)] > 0 ? 1 : 0;
    e.lambda.emplace_back(re[at(from)], im[at(from)]);
    for (Index i = 0; i < N; ++i) e.V[at(i * N + k)] = {packed[at(i * N + first)], side == 0 ? 0 : side * packed[at(i * N + first + 1)]};
  }
  e.inverse.assign(at(N * N), 0);
  for (Index i = 0; i < N; ++i) e.inverse[at(i * N + i)] = 1;
  std::vector<Cx> V = e.V;
  std::vector<int> pivots(at(N));
  info = LAPACKE_zgesv(LAPACK_ROW_MAJOR, n, n, V.data(), n, pivots.data(), e.inverse.data(), n);
  if (info != 0) throw std::runtime_error("LAPACK zgesv failed with info " + std::to_string(info));
  return e;
}

namespace {

// The zero frequency of the Fourier basis is degenerate, so its half is written down: frequencies -pi (M-1) .. 0.
Dplr fourier(Index M) {
  Dplr d;
  d.rank = 1;
  for (Index m = M - 1; m >= 0; --m) {
    d.lambda.emplace_back(0, -std::numbers::pi * static_cast<double>(m));
    d.B.emplace_back(m ? 1 : 1 / std::numbers::sqrt2);
  }
  d.P = d.B;
  return d;
}

}  // namespace

Dplr dplr(const std::string& kind, Index N, bool clip) {
  const Index M = N / 2;
  if (kind == "fout") return fourier(M);
  const Hippo h = hippo(kind, N);
  const Eigenbasis e = eigenbasis(h);
  const auto project = [&](const double* x, Index mode) {  // (V^H x)_mode
    Cx sum = 0;
    for (Index i = 0; i < N; ++i) sum += std::conj(e.V[at(i * N + mode)]) * x[i];
    return sum;
  };
  Dplr d;
  d.rank = h.rank;
  for (Index m = 0; m < M; ++m) {
    d.lambda.push_back(e.lambda[at(m)]);
    Cx b = project(h.B.data(), m);
    if (clip) b.imag(std::clamp(b.imag(), -2.0, 2.0));
    d.B.push_back(b);
  }
  for (Index r = 0; r < h.rank; ++r)
    for (Index m = 0; m < M; ++m) d.P.push_back(project(h.P.data() + r * N, m));
  return d;
}

std::vector<Cx> diagonal_init(const std::string& kind, Index N) {
  std::vector<Cx> lambda;
  const double size = static_cast<double>(N), pi = std::numbers::pi;
  if (kind == "real") {
    for (Index n = 0; n < N; ++n) lambda.emplace_back(-static_cast<double>(n + 1), 0);
    return lambda;
  }
  for (Index i = 0; i < N / 2; ++i) {
    const double n = static_cast<double>(i);
    double w = 0;
    if (kind == "lin") w = pi * n;
    else if (kind == "inv") w = size / pi * (size / (2 * n + 1) - 1);
    else if (kind == "inv2") w = size / pi * (size / (n + 1) - 1);
    else if (kind == "quad") w = (2 * n + 1) * (2 * n + 1) / pi;
    else throw std::logic_error("no diagonal initialisation is called " + kind);
    lambda.emplace_back(-0.5, w);
  }
  return lambda;
}

}  // namespace ssm
