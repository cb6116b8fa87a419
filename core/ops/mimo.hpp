// mimo.hpp - diagonal state spaces that all channels share (S5, LRU), in discrete time:
//
//   x_t = lambda x_{t-1} + B u_t      y_t = Re(C x_t) + D u_t                       u, y (B,T,H)   x (B,T,p), complex
//
// With a second direction, on the same lambda and B but from the end: y_t = Re(C1 forth_t + C2 back_t) + D u_t; both see u_t.
#pragma once
#include <string>
#include <vector>

#include "net.hpp"

namespace ssm {

// A complex array (rows, columns): entry (i, j) is number i * row + first + j of two parameters, or a trailing pair of one (im.id = -1).
struct ComplexParam {
  Param re, im;
  Index row = 0, first = 0;
};

// lambda and B = gain * B~ of every mode, from up to three real parameters a, b, c:
//   "step"        Lambda = a + ib, Delta = exp(c), discretised by `disc` (zoh, bilinear, ..); c may be one number for all modes
//   "stable_exp"  lambda = exp(-e^a + i e^b)
//   "exp"         lambda = exp(-a + ib)
//   "re_im"       lambda = a + ib              in these three gain = e^c, or 1 without c
//   "pole"        Lambda = a + ib itself and Delta = exp(c), for mimo_gap_scan, which discretises; gain = 1
struct MimoParams {
  Index p = 0, H = 0;
  std::string kind = "step", disc = "zoh";
  bool clip = false;  // "step": Re Lambda <= -1e-4, without gradient where that holds it
  Param a, b, c;
  ComplexParam B;               // (p,H)
  std::vector<ComplexParam> C;  // (H,p) for each direction
  double scale = 1;             // of C: 2 where p modes stand for p conjugate pairs
};

struct MimoSystem {
  Tensor lambda;  // (4,p): real and imaginary parts, then what rounding to Real took from each; "pole": Lambda, then Delta and its rest
  Tensor B;       // (2p,H): real rows, then imaginary rows
  Tensor C;       // (H,2p) or (H,4p): scale Re C and -scale Im C of each direction
};
MimoSystem mimo_system(Net& n, const MimoParams& p);

// y (B,T,H) from u (B,T,H). D (H). Step carries 2p numbers.
// views: "chunked", pieces of time side by side with the states at their ends corrected; "sequential".
Tensor mimo_scan(Net& n, Tensor u, const MimoSystem& system, Param D, const std::string& view);
// The same at uneven times: position t steps by gaps_t Delta, discretised by `disc`; one direction, kind "pole". gaps (B,T), without a
// gradient. It has one view, from the first position to the last.
Tensor mimo_gap_scan(Net& n, Tensor u, Tensor gaps, const MimoSystem& system, Param D, const std::string& disc);

}  // namespace ssm
