// gpu.hpp - the runtime calls that CUDA and HIP name alike: SSM_GPU(Malloc) is cudaMalloc or hipMalloc, and not defined on a CPU.
#pragma once
#include <stdexcept>

#include "launch.hpp"

#if defined(KOKKOS_ENABLE_CUDA)
#define SSM_GPU(name) cuda##name
#elif defined(KOKKOS_ENABLE_HIP)
#define SSM_GPU(name) hip##name
#endif

#if defined(SSM_GPU)
namespace ssm {

inline SSM_GPU(Stream_t) gpu_stream(const Exec& exec) {
#if defined(KOKKOS_ENABLE_CUDA)
  return exec.space.cuda_stream();
#else
  return exec.space.hip_stream();
#endif
}

inline void gpu_check(SSM_GPU(Error_t) status, const char* what) {
  if (status != SSM_GPU(Success)) throw std::runtime_error(std::string(what) + ": " + SSM_GPU(GetErrorString)(status));
}

}  // namespace ssm
#endif
