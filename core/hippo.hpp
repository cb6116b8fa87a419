// hippo.hpp - HiPPO matrices and what state-space layers start from: normal-plus-low-rank forms in the eigenbasis, and diagonal inits.
//
// Host only, in double. Systems x' = A x + B u of real size N. A + sum_r P_r P_r^T is normal (shifted skew): V diag(lambda) V^H.
// Formulas and sources: HiPPO (Gu 2020), S4 (Gu 2022), S4D (Gu 2022).
#pragma once
#include <complex>
#include <string>
#include <vector>

#include "real.hpp"

namespace ssm {

struct Hippo {
  Index N = 0, rank = 0;
  std::vector<double> A;  // (N,N)
  std::vector<double> B;  // (N)
  std::vector<double> P;  // (rank,N)
};
// "legs" (scaled Legendre), "legt" (translated Legendre, window 2, rank 2), "fout" (truncated Fourier, window 2; N even).
Hippo hippo(const std::string& kind, Index N);

// The eigenbasis of a normal part: lambda ascending in its imaginary part, V (N,N) with eigenvectors in columns, the first entry of each
// real and positive. LAPACK's zheev on the Hermitian -i (A + P P^T - shift); the real part is the mean of the diagonal.
struct Eigenbasis {
  std::vector<std::complex<double>> lambda;   // (N)
  std::vector<std::complex<double>> V;        // (N,N), row-major
  std::vector<std::complex<double>> inverse;  // (N,N), V^-1
};
Eigenbasis eigenbasis(const Hippo& h);
// That of any diagonalisable A (N,N) by LAPACK's dgeev: columns of V have length 1, equal imaginary parts stand in the order of real ones.
Eigenbasis eigenbasis(Index N, std::vector<double> A);

// One half of the conjugate pairs, that of negative imaginary parts: M = N/2 modes.
struct Dplr {
  std::vector<std::complex<double>> lambda, B;  // (M)
  std::vector<std::complex<double>> P;          // (rank,M)
  Index rank = 0;
};
// clip: imaginary parts of B into [-2, 2], as the published S4 does.
Dplr dplr(const std::string& kind, Index N, bool clip);

// "lin", "inv", "inv2", "quad": lambda_n, n < N/2; "real": -(n+1).
std::vector<std::complex<double>> diagonal_init(const std::string& kind, Index N);

}  // namespace ssm
