// starts.hpp - mixers that keep the sequences of one row apart (model.reset_token).
#pragma once
#include "ops/starts.hpp"
#include "variant.hpp"

namespace ssm {

// Neither state, nor convolution windows, nor attention look across the start of a sequence: each comes out as if it were alone.
struct KeepsApart {
  Tensor starts;  // of sequence_starts(), set by the model before build(); absent (id -1): one sequence a row

  virtual ~KeepsApart() = default;
  virtual Answer keeps_apart() const { return {}; }
  bool apart() const { return starts.id >= 0; }
};

}  // namespace ssm
