// blas_hip.cpp - on HIP the plain kernels serve.
#include "lib/blas.hpp"

namespace ssm {

void gemm(const Run& r, const Gemm& g) { plain::gemm(r, g); }
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Real* scratch) { plain::gemm_sum(r, g, row_sum, scratch); }
std::string blas_name() { return "plain"; }

}  // namespace ssm
