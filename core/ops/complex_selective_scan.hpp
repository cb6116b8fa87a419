// complex_selective_scan.hpp - the recurrence of S6 with complex modes; its source is the reference kernel of Mamba.
#pragma once
#include "ops.hpp"

namespace ssm {

// h_t = exp(delta A) h_{t-1} + delta u B_t, y_t = 2 Re(h_t . C_t) + D u_t, A = -exp(A_log) + i A_imag, delta = softplus(raw + bias), with
// d_state complex modes a channel. Inputs as SelectiveScanInputs, but B, C (B,T,2N): (re, im) of one mode after the other.
struct ComplexScanOptions : SelectiveScanOptions {
  Init A_imag_init;
};
// Parameters A_log, A_imag (E,N), D (E), the bias, and where absent from the inputs B, C (E,N,2); A_log, A_imag, D and the bias do not
// decay. Step carries 2 E N numbers. With starts (absent: id -1) no state crosses the start of a sequence.
Tensor complex_selective_scan(Net& n, const SelectiveScanInputs& inputs, const ComplexScanOptions& options, Tensor starts = {});

}  // namespace ssm
