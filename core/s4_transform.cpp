#include "s4_transform.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <cmath>
#include <complex>
#include <stdexcept>

namespace ssm {

namespace {

using Cx = std::complex<double>;
using Matrix = std::vector<double>;  // square, row-major
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Matrix product(const Matrix& a, const Matrix& b, int size) {
  Matrix c(a.size());
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, size, size, size, 1, a.data(), size, b.data(), size, 0, c.data(), size);
  return c;
}

Matrix power(Matrix base, Index exponent, int size) {
  Matrix result;
  for (;;) {
    if (exponent % 2) result = result.empty() ? base : product(result, base, size);
    if ((exponent /= 2) == 0) return result;
    base = product(base, base, size);
  }
}

// The transition of channel h by the bilinear rule, A = (2/Delta - A)^-1 (2/Delta + A) with A = diag(lambda) - P Q^T, applied to rows:
// c -> c A in O(M rank), where c stands for a conjugate-symmetric row by its first half.
struct Channel {
  Index M, rank;
  std::vector<Cx> D, E, P, Q;   // 1/(2/Delta - lambda), 2/Delta + lambda, (rank, M), (rank, M)
  std::vector<double> inverse;  // (I + 2 Re sum Q D P^T)^-1, (rank, rank)

  Channel(const S4Host& s, Index h) : M(s.M), rank(s.rank), D(at(M)), E(at(M)), P(at(rank * M)), Q(P), inverse(at(rank * rank)) {
    const double raw = s.inv_dt[at(h)], dt = s.softplus ? std::log1p(std::exp(raw)) : std::exp(raw);
    const Index set = h % s.S;
    for (Index n = 0; n < M; ++n) {
      const Cx lambda{-std::exp(s.A_real[at(set * M + n)]), -s.A_imag[at(set * M + n)]};
      D[at(n)] = 1.0 / (2 / dt - lambda);
      E[at(n)] = 2 / dt + lambda;
      for (Index r = 0; r < rank; ++r) {
        const std::size_t i = at(((r * s.S + set) * M + n) * 2);
        P[at(r * M + n)] = {s.P[i], s.P[i + 1]};
        Q[at(r * M + n)] = s.Q.empty() ? std::conj(P[at(r * M + n)]) : Cx(s.Q[i], s.Q[i + 1]);
      }
    }
    std::vector<double> w(at(rank * rank));
    for (Index r = 0; r < rank; ++r)
      for (Index q = 0; q < rank; ++q) {
        double sum = r == q ? 1 : 0;
        for (Index n = 0; n < M; ++n) sum += 2 * (Q[at(r * M + n)] * D[at(n)] * P[at(q * M + n)]).real();
        w[at(r * rank + q)] = sum;
      }
    if (rank == 1) {
      inverse[0] = 1 / w[0];
    } else {
      const double det = w[0] * w[3] - w[1] * w[2];
      inverse = {w[3] / det, -w[1] / det, -w[2] / det, w[0] / det};
    }
  }
  void times(std::vector<Cx>& c) const {
    std::vector<double> a(at(rank)), b(at(rank));
    for (Index n = 0; n < M; ++n) c[at(n)] *= D[at(n)];
    const auto against_P = [&](std::vector<double>& out) {
      for (Index r = 0; r < rank; ++r) {
        out[at(r)] = 0;
        for (Index n = 0; n < M; ++n) out[at(r)] += 2 * (c[at(n)] * P[at(r * M + n)]).real();
      }
    };
    against_P(a);
    for (Index q = 0; q < rank; ++q) {
      b[at(q)] = 0;
      for (Index r = 0; r < rank; ++r) b[at(q)] += a[at(r)] * inverse[at(r * rank + q)];
    }
    for (Index n = 0; n < M; ++n)
      for (Index q = 0; q < rank; ++q) c[at(n)] -= b[at(q)] * Q[at(q * M + n)] * D[at(n)];
    against_P(a);
    for (Index n = 0; n < M; ++n) {
      c[at(n)] *= E[at(n)];
      for (Index q = 0; q < rank; ++q) c[at(n)] -= a[at(q)] * Q[at(q * M + n)];
    }
  }
  // Row i: what times() makes of the i-th unit row (M real parts, then M imaginary parts).
  Matrix dense() const {
    Matrix out(at(4 * M * M));
    std::vector<Cx> c(at(M));
    for (Index i = 0; i < 2 * M; ++i) {
      c.assign(at(M), 0);
      c[at(i % M)] = i < M ? Cx(1) : Cx(0, 1);
      times(c);
      for (Index n = 0; n < M; ++n) {
        out[at(i * 2 * M + n)] = c[at(n)].real();
        out[at(i * 2 * M + M + n)] = c[at(n)].imag();
      }
    }
    return out;
  }
};

}  // namespace

S4Names s4_names(const Net& n) {
  return {n.full("kernel.inv_dt"), n.full("kernel.A_real"), n.full("kernel.A_imag"),
          n.full("kernel.P"),      n.full("kernel.C"),      n.full("kernel.Q")};
}

S4Host s4_host(const SsmParams& p, const S4Names& names, const HostParams& params) {
  return {p.H,
          p.M,
          p.S,
          p.kernels,
          p.rank,
          p.softplus,
          params.at(names.inv_dt),
          params.at(names.A_real),
          params.at(names.A_imag),
          params.at(names.P),
          params.at(names.C),
          p.Q.id >= 0 ? params.at(names.Q) : std::vector<double>{}};
}

S4Host s4_host(const SsmParams& p, const S4Names& names, const Params& params) {
  HostParams copies;
  for (const std::string* name : {&names.inv_dt, &names.A_real, &names.A_imag, &names.P, &names.C}) copies[*name] = params.get(*name);
  if (p.Q.id >= 0) copies[names.Q] = params.get(names.Q);
  return s4_host(p, names, copies);
}

void s4_transform(S4Host& s, Index L, S4Map map) {
  const Index M = s.M;
  const int size = static_cast<int>(2 * M);
  for (Index h = 0; h < s.H; ++h) {
    Matrix G = power(Channel(s, h).dense(), L, size);
    for (Index k = 0; k < s.kernels; ++k) {
      double* C = s.C.data() + (k * s.H + h) * M * 2;
      std::vector<double> row(at(size)), moved(at(size));
      for (Index n = 0; n < M; ++n) row[at(n)] = C[2 * n], row[at(M + n)] = C[2 * n + 1];
      if (map == S4Map::to_plain) {  // row (I - G) = C~
        Matrix system(G.size());
        for (int i = 0; i < size; ++i)
          for (int j = 0; j < size; ++j) system[at(i * size + j)] = (i == j ? 1 : 0) - G[at(j * size + i)];
        std::vector<int> pivots(at(size));
        if (LAPACKE_dgesv(LAPACK_ROW_MAJOR, size, 1, system.data(), size, pivots.data(), row.data(), 1) != 0)
          throw std::runtime_error("s4: I - A^L is singular, C cannot be recovered");
      } else {
        cblas_dgemv(CblasRowMajor, CblasTrans, size, size, 1, G.data(), size, row.data(), 1, 0, moved.data(), 1);
        for (int i = 0; i < size; ++i) row[at(i)] += map == S4Map::doubled ? moved[at(i)] : -moved[at(i)];
      }
      for (Index n = 0; n < M; ++n) C[2 * n] = row[at(n)], C[2 * n + 1] = row[at(M + n)];
    }
  }
}

}  // namespace ssm
