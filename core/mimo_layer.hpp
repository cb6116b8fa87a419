// mimo_layer.hpp - what S5 and LRU share around their scans: initial values, the output gate, and plain loops.
#pragma once
#include <complex>
#include <functional>
#include <string>
#include <vector>

#include "ops/mimo.hpp"
#include "variant.hpp"

namespace ssm {

// flax's default for dense layers: a normal cut at two deviations, of deviation 1/sqrt(fan_in) after the cut.
Init lecun_normal(Index fan_in);
double truncated_normal(const Draw& draw, Index i);  // of deviation 1 after the cut
// Initial values that are made all at once: a product of draws with a matrix.
Init whole(std::function<std::vector<double>(const Draw&)> make);

// g = tanh-GELU, sigmoid gates from dense layers out1, out2 (H -> H), y (B,T,H):
//   "gelu" g(y)   "half_glu1" g(y) s(out2 g(y))   "half_glu2" y s(out2 g(y))   "full_glu" out1 g(y) s(out2 g(y))
Tensor gelu_gate(Net& n, Tensor y, const std::string& kind);

// The layer in plain loops: lambda (p), B (p,H), C (H,p) of each direction, parameter D (H), then the gate -> c.y.
struct MimoLoops {
  std::vector<std::complex<double>> lambda, B;
  std::vector<std::vector<std::complex<double>>> C;
  double scale = 1;
  // Uneven times: lambda and the gain of B of mode n at Case::gap; lambda above is not read then.
  std::function<std::pair<std::complex<double>, std::complex<double>>(Index n, double gap)> at_gap;
};
void mimo_reference(Case& c, const MimoLoops& m, const std::string& gate);
// Its last part: gelu_gate of y (B,T,H) -> c.y.
void gelu_gate_reference(Case& c, const std::vector<double>& y, const std::string& gate);

}  // namespace ssm
