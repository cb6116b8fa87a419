// dense_scan.hpp - a linear recurrence whose transition is a whole matrix.
#pragma once
#include "net.hpp"

namespace ssm {

// x_t = A x_{t-1} + w_t, or from the end with `back`: x_t = A x_{t+1} + w_t.   w, x (B,T,p)   A (p,p). Step carries p numbers.
Tensor dense_scan(Net& n, Tensor w, Param A, bool back);

}  // namespace ssm
