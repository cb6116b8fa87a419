// gpu.hpp - which GPU a build has: SSM_GPU(Malloc) is cudaMalloc or hipMalloc, the runtime calls that both name alike, and not defined on a CPU.
// SSM_GPU_CODE: kernels of blocks of threads are compiled, for a GPU or for the emulated device; SSM_CUDA_CODE: in CUDA's form.
#pragma once
#include <stdexcept>

#include "launch.hpp"

#if defined(KOKKOS_ENABLE_CUDA)
#define SSM_GPU(name) cuda##name
#elif defined(KOKKOS_ENABLE_HIP)
#define SSM_GPU(name) hip##name
#elif defined(SSM_EMULATED_DEVICE)
#include "emulated_device.hpp"
#endif

#if defined(SSM_GPU) || defined(SSM_EMULATED_DEVICE)
#define SSM_GPU_CODE 1
#endif
#if defined(KOKKOS_ENABLE_CUDA) || (defined(SSM_EMULATED_DEVICE) && SSM_EMULATED_DEVICE == 1)
#define SSM_CUDA_CODE 1
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
