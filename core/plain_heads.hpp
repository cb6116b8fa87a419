// plain_heads.hpp - plain loops in double that the references of linear attention and its kin share. No code of the kernels.
#pragma once
#include <vector>

#include "variant.hpp"

namespace ssm {

// One head's state S (K,V) of one sequence.
struct PlainHead {
  Index K, V;
  std::vector<double> S;
  PlainHead(Index k, Index v) : K(k), V(v), S(static_cast<std::size_t>(k * v), 0.0) {}

  // S <- diag(decay) S + k v^T. decay: K factors, `stride` apart (0: one for all).
  void take(const double* k, const double* v, const double* decay, Index stride);
  // S <- (I - beta k k^T) decay S + beta k v^T
  void correct(const double* k, const double* v, double decay, double beta);
  // o = scale S^T q
  void read(const double* q, double scale, double* o) const;
};

double plain_silu(double x);
double plain_softplus(double x);
// y_t = silu(b + sum_k W_k x_{t-(w-1-k)}) per channel: x (T,D), W (D,1,w), b (D).
std::vector<double> plain_short_conv(const std::vector<double>& x, Index T, Index D, const std::vector<double>& W,
                                     const std::vector<double>& b);
// x <- x w / sqrt(mean x^2 + eps)
void plain_rms(double* x, Index count, const std::vector<double>& w, double eps);
// Rotates the pairs of one head as ops.hpp's rotary does.
void plain_rotary(double* x, Index K, Index t, bool interleaved);
// (T,out) = (T,in) W^T
std::vector<double> plain_dense(const double* x, Index T, Index in, const std::vector<double>& W);
// Sequence b of c.y = o_proj (o silu(g_proj x)), or o_proj o without a gate: o (T,E).
void plain_output(Case& c, Index b, std::vector<double> o, bool gate);

}  // namespace ssm
