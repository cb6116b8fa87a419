// check.hpp - is this variant, with these knobs, on this device, what its reference says it is? Run before anything is timed or trained.
#pragma once
#include <string>

#include "exec.hpp"
#include "model.hpp"

namespace ssm {

struct CheckReport {
  double reference_error = 0;  // max|y - y_ref| / max|y_ref|, the reference in double
  double streaming_error = 0;  // steps against the parallel form; 0 when the variant does not stream
  double tolerance = 0;
  bool passed = false, streamed = false;
  std::string text;  // what failed, or "ok"
};

// B 2, T 33, D 16 unless said; l_max 64.
CheckReport self_check(const std::string& variant, const VariantKnobs& knobs, Exec& exec, Index B = 2, Index T = 33, Index D = 16);

}  // namespace ssm
