// blas_nolib.cpp - on HIP without hipBLAS the plain kernels serve.
#include "error.hpp"
#include "lib/blas.hpp"

namespace ssm {

void gemm(const Run& r, const Gemm& g) { plain::gemm(r, g); }
void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room scratch) { plain::gemm_sum(r, g, row_sum, scratch); }
void set_gemm_precision(const std::string& precision) {
  if (precision != "fp32") throw Unsupported("run.gemm = " + precision + ": the plain products have float precision only");
}
bool tf32_products() { return false; }
std::string blas_name() { return "plain"; }
std::string better_blas_core(const std::string&) { return ""; }
void choose_blas_core(char**) {}

}  // namespace ssm
