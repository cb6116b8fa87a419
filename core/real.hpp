// real.hpp - the scalar types of a build and the one function qualifier.
#pragma once
#include <cstdint>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define SSM_FN __host__ __device__ inline
#else
#define SSM_FN inline
#endif

#ifndef SSM_REAL
#define SSM_REAL float
#endif

namespace ssm {

using Real = SSM_REAL;       // arithmetic and parameters: float, or double in the `double` and `check` builds
using Act = Real;            // stored activations; kernels read them through Real(...)
using Wide = double;         // where single precision is known to fail (phases of long kernels, FouT gradients)
using Index = std::int64_t;  // every flat index and every extent

constexpr bool kDouble = sizeof(Real) == 8;

// The GPU's kernels run on lib/emulated_device.
#if defined(SSM_EMULATED_DEVICE)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

}  // namespace ssm
