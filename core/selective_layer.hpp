// selective_layer.hpp - S6 with what selects, as Mamba and H3 use it, and its plain loops.
//
//   [delta_r; B; C] = W_x u     delta = softplus(W_dt delta_r + b)     s_t = exp(delta_t A) s_{t-1} + delta_t u_t B_t     y_t = s_t . C_t + D u_t
//
// u, y (.,T,E)    B_t, C_t (.,T,N) shared by the channels    A = -exp(A_log)
// x_proj.weight (rank + 2 N, E), without the rows of what does not select    dt_proj.weight (E,rank)  .bias (E)    A_log (E,N)    D (E)
// Where delta does not select it is softplus(b), where B or C does not it is a parameter (E,N) of that name.
// Of complex modes A = -exp(A_log) + i A_imag, A_imag (E,N), and y_t = 2 Re(s_t . C_t) + D u_t; B_t, C_t (.,T,2N) or B, C (E,N,2) hold (re, im).
#pragma once
#include <vector>

#include "variant.hpp"

namespace ssm {

struct SelectiveOptions {
  Index d_state = 16, rank = 1;
  bool delta = true, B = true, C = true;  // what depends on u
  double dt_min = 1e-3, dt_max = 0.1;     // softplus(b) at the start: log-uniform, at least 1e-4
  double dt_scale = 1;                    // dt_proj.weight at the start: U(-dt_scale / sqrt(rank), dt_scale / sqrt(rank))
  bool complex = false;                   // d_state counts complex modes
  Init A_log;                             // default: log(n + 1), complex: log(1/2), with A_imag = n
};
// y, or y silu(z) where there is a z. gaps and starts as in Variant and KeepsApart. Absent: id -1.
Tensor selective_layer(Net& n, Tensor u, Tensor z, const SelectiveOptions& options, Tensor gaps = {}, Tensor starts = {});
// u (T,E) of sequence b -> y (T,E), at the gaps of c.
std::vector<double> plain_selective(const Case& c, Index b, const std::vector<double>& u, const SelectiveOptions& options);

}  // namespace ssm
