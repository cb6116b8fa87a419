// chained.hpp - kernels of a stream's step, which follow each other within microseconds: on CUDA the next one is started while the last one still
// runs (programmatic dependent launch, an edge of its own kind in a graph), sets itself up and waits only then.
//
//   launch_chained("ssm::name", r, blocks, bytes, functor);
//   functor: as for launch_shared. Its operator() calls wait_for_last() once in every thread, before it reads or writes anything that a kernel
//   writes. Earlier it may read only what no kernel of a step writes: parameters, and what prepare() made.
#pragma once
#include "lib/launch_shared.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm {

// Returns when everything that was started before has ended and can be seen, and lets the next kernel be started.
__device__ inline void wait_for_last() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class F>
void launch_chained(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
#if defined(KOKKOS_ENABLE_CUDA)
  static_assert(sizeof(F) <= 4000, "a kernel's arguments");
  if (blocks == 0) return;
  if (bytes > 48 * 1024)
    gpu_check(cudaFuncSetAttribute(shared_kernel<F>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), label);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(static_cast<unsigned>(blocks));
  how.blockDim = dim3(F::kThreads);
  how.dynamicSmemBytes = bytes;
  how.stream = gpu_stream(r.exec);
  how.attrs = &early, how.numAttrs = 1;
  gpu_check(cudaLaunchKernelEx(&how, shared_kernel<F>, f), label);
#else
  launch_shared(label, r, blocks, bytes, f);
#endif
}

}  // namespace ssm
#endif
