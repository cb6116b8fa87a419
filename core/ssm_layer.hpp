// ssm_layer.hpp - what mixers with the kernels of S4D and S4 share around them: parameters, one diagonal system, the output block, plain loops.
#pragma once
#include <complex>
#include <string>
#include <vector>

#include "ops/ssm.hpp"
#include "variant.hpp"

namespace ssm {

struct SsmOptions {
  Index n_ssm = 1;  // sets of (A, B) shared by channels; 0: one per channel
  bool bidirectional = false, real = false, train_B = true;
  bool dt_tie = true;  // one step size per channel, else one per mode
  double dt_min = 1e-3, dt_max = 0.1;
  std::string dt_transform = "exp", disc = "zoh", decay = "exp";  // decay: as in SsmParams, or "fixed": "exp" that is not trained
  std::vector<std::complex<double>> lambda, B, P;                 // (M), (M) or empty for ones, (rank,M)
  std::string low_rank = "tied";  // A = diag(lambda) - P Q^T: Q = P*; "free": Q is learned of its own; "fixed": Q = P*, not learned
  Init A_imag;                    // instead of -Im lambda
};
// Declares kernel.{inv_dt, A_real, A_imag, B, C, P, Q} for H channels. Real parts of lambda are clamped to <= -1e-4 and imaginary parts to
// <= -1e-4, as the published code does. Throws BadInput when n_ssm does not divide H; `variant` names the culprit.
SsmParams declare_ssm(Net& n, Index H, const SsmOptions& options, const std::string& variant);
Param declare_skip(Net& n, Index H);  // D (1,H), N(0,1)
// y = K * u + D u of diagonal systems, a causal one per channel of u, in any order: a scan in a stream and as view "scan" (y in order BTD),
// else a convolution with the systems' kernels (BDT).
Tensor diagonal_system(Net& n, Tensor u, const SsmParams& p, Param D, const std::string& view);

// y (.., width) -> GELU -> Linear (width -> 2H) -> GLU, or Linear (width -> H) without glu: parameters output_linear.*. Gives (B,T,H);
// H is the width of y unless said.
Tensor ssm_output(Net& n, Tensor y, bool glu, Index H = 0);
// The same in plain loops: y (B,T,width) of the layer before it -> c.y.
void ssm_output_reference(Case& c, const std::vector<double>& y, bool glu);

// How plain loops read parameters: Delta_h, and a, b, c of a mode; S sets, M modes.
struct SsmReader {
  const Case& c;
  Index H, M, S;
  bool softplus, real;
  std::string decay = "exp";
  double delta(Index h, Index n = 0) const;
  std::complex<double> a(Index h, Index n) const, b(Index h, Index n) const;
  std::complex<double> p(Index rank, Index h, Index n, const char* name = "kernel.P") const;
  std::complex<double> out(Index kernel, Index h, Index n) const;
};

}  // namespace ssm
