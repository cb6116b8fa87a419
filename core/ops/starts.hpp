// starts.hpp - several sequences in one row: where each starts, and the ops that do not look across a start.
#pragma once
#include "ops.hpp"

namespace ssm {

struct SsmParams;
struct MimoSystem;
struct RnnOptions;

// (B,T), without a gradient: the position at which the sequence of a position starts. `token` starts one, and so does position 0.
Tensor sequence_starts(Net& n, Index token);

// What a gate is where none is given: the log of head h's decay 1 - 2^-(decay_first + h decay_step) where decay_first > 0, else `open`.
struct CutGate {
  Index width = 1;     // numbers per position
  Real closed = -1e4;  // of a position that starts a sequence: the log of a decay that leaves nothing; 0 for a gate that multiplies
  Real open = 0;
  double decay_first = 0, decay_step = 0;
};
// gate (B,T,width), or absent (id -1), closed where a sequence starts. The absent gate stays absent without starts.
Tensor cut_gate(Net& n, Tensor gate, Tensor starts, const CutGate& options);

// As in ops.hpp, ops/ssm.hpp, ops/mimo.hpp and ops/rnn.hpp. With starts (absent: id -1) the kernels are those that take one position after
// the other, and there is no step().
inline const std::string kSeveralSequences = "several sequences a row go one position after the other";  // for slow_because()
Tensor causal_conv(Net& n, Tensor x, int width, const std::string& name, const std::string& act, Tensor starts);
// The same as blocks of its channels, up to three.
std::vector<Tensor> causal_conv_split(Net& n, Tensor x, int width, const std::string& name, const std::string& act,
                                      const std::vector<Index>& sizes, Tensor starts);
Tensor selective_scan(Net& n, const SelectiveScanInputs& inputs, const SelectiveScanOptions& options, Tensor starts);
Tensor attention(Net& n, Tensor qkv, const AttentionOptions& options, Tensor starts);
Tensor diag_scan(Net& n, Tensor u, const SsmParams& p, Param D, Tensor starts);
Tensor mimo_scan(Net& n, Tensor u, const MimoSystem& system, Param D, const std::string& view, Tensor starts);
Tensor rnn(Net& n, Tensor x, const RnnOptions& options, Tensor starts);

// Whether position t of sequence b starts a sequence; false at position 0, where every op starts anyway.
SSM_FN bool starts_at(const Real* starts, Index T, Index b, Index t) {
  return starts && t > 0 && starts[b * T + t] == static_cast<Real>(t);
}

}  // namespace ssm
