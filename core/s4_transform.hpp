// s4_transform.hpp - the output weights of S4 between their two forms, on the host in double.
//
// S4 learns C~ = (I - A^L)^T C, where A is the discrete transition and L the length of its kernel (variants.md 4.4). All maps are linear in
// the rows C^T and done with dense powers of A per channel, 2M x 2M over the reals: about 2 log2(L) products.
#pragma once
#include <string>
#include <vector>

#include "ops/ssm.hpp"

namespace ssm {

struct S4Names {
  std::string inv_dt, A_real, A_imag, P, C, Q;  // full names of the parameters
};
S4Names s4_names(const Net& n);

// Copies of what the transition depends on, and C, in the layouts of SsmParams.
struct S4Host {
  Index H, M, S, kernels, rank;
  bool softplus;
  std::vector<double> inv_dt, A_real, A_imag, P, C;
  std::vector<double> Q = {};  // empty: P*
};
S4Host s4_host(const SsmParams& p, const S4Names& names, const Params& params);
S4Host s4_host(const SsmParams& p, const S4Names& names, const HostParams& params);

enum class S4Map {
  to_tilde,  // C  -> (I - A^L)^T C
  to_plain,  // C~ -> (I - A^L)^-T C~
  doubled,   // C~ for L -> C~ for 2L = (I + A^L)^T C~
};
// Rewrites host.C. std::runtime_error when I - A^L is singular.
void s4_transform(S4Host& host, Index L, S4Map map);

}  // namespace ssm
