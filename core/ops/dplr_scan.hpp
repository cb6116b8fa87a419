// dplr_scan.hpp - the gated recurrence of selective_dplr: heads with a diagonal-plus-low-rank transition, a step and a gate that follow the
// input.
//
//   x~_t = g_t h_{t-1}     h_t = Abar_t x~_t + Bbar_t u_t     y_t = 2 Re sum_m C_m h_t,m + D u_t
//
// per channel, M complex modes; Abar_t, Bbar_t the bilinear discretisation of A = diag(lambda) - sum_k P_k P_k^H with the step Delta_t of the head.
#pragma once
#include <complex>
#include <string>
#include <vector>

#include "net.hpp"

namespace ssm {

struct DplrScanInputs {
  Tensor u;     // (B,T,D), head h owns channels h D/R .. (h+1) D/R - 1
  Tensor raw;   // what the input gives to the step, or absent: (B,R) for whole sequences; (B,T,R): its mean over positions 0..t
  Tensor gate;  // in (0,1), or absent: (B,T,R), or (B,T,R M) for a gate per mode
};
struct DplrScanOptions {
  Index heads = 1;
  Index rank = 1;                                  // columns of P: 0 (a diagonal A), 1 or 2
  std::vector<std::complex<double>> lambda, B, P;  // (M), P (columns,M): initial values, real parts of lambda < 0
  Init A_imag;                                     // instead of Im lambda
  double dt_min = 1e-3, dt_max = 0.1;
  bool train_step = true, train_imag = true;  // dt_bias, A_imag
  bool per_head = false;                      // B, C (R,M,2), shared by the channels of a head
};
// Delta = softplus(raw + dt_bias). Parameters A_real, A_imag (R,M): lambda = -exp(A_real) + i A_imag; P (R,M,2), of rank 2 (2,R,M,2), whose
// columns without initial values start small and random; B, C (D,M,2) or per head; D (D); dt_bias (R). Step carries 2 M D numbers, and R + 1
// more for a mean.
Tensor dplr_scan(Net& n, const DplrScanInputs& inputs, const DplrScanOptions& options);

}  // namespace ssm
