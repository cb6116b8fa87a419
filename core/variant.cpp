#include "variant.hpp"

namespace ssm {

void dense_row(const double* x, Index in, const std::vector<double>& W, const std::vector<double>* b, double* y) {
  const Index out = static_cast<Index>(W.size()) / in;
  for (Index o = 0; o < out; ++o) {
    double sum = b ? (*b)[static_cast<std::size_t>(o)] : 0;
    for (Index i = 0; i < in; ++i) sum += W[static_cast<std::size_t>(o * in + i)] * x[i];
    y[o] = sum;
  }
}

}  // namespace ssm
