// few_rows.hpp - products x W^T of few rows on a GPU (CUDA), which end with what the next op does to their entries: the step of a stream.
//
// The sum over K is cut among the warps of a block, whose parts are added in order: the same bits each time. fp32 products are split TF32 or, of
// a single row, fused multiply-adds in float.
#pragma once
#include "lib/blas.hpp"
#include "lib/finish.hpp"

namespace ssm {

constexpr Index kFewRows = 64;
constexpr int kMostParts = 6;

// y_p = finish_p(x W_p^T) for all parts p, blocks of rows of W.
struct FewRows {
  Index rows = 0, K = 0;
  const Real *x = nullptr, *W = nullptr;
  Index ldx = 0, ldw = 0;
  Real alpha = 1;
  int parts = 0;
  Finish part[kMostParts];
  // Where not null: row i of x is first scaled to s_i x_k weight_k, s_i = 1/sqrt(mean x^2 + eps). rms_norm's.
  const Real* weight = nullptr;
  Real eps = 0;
  // W and weight are written by no kernel of the step: they may be read before the last one has ended (lib/chained.hpp).
  bool fixed = false;
};
// Whether this build has it for so many rows, or, for tests, every build by plain loops. Then few_rows() computes all of `count` products, which do not read what the others write.
bool takes_few_rows(Index rows);
void few_rows_everywhere(bool on);
void few_rows(const Run& r, const FewRows* products, int count = 1);
// g by few_rows(), if it is one that is faster so. False, and nothing done: it is not.
bool gemm_of_few_rows(const Run& r, const Gemm& g);

}  // namespace ssm
