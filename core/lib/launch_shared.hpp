// launch_shared.hpp - blocks of threads with more on-chip memory than a Kokkos team may ask for (48 KiB), on CUDA and HIP.
//
//   launch_shared("ssm::name", r, blocks, bytes, functor);
//   functor: kThreads, kBlocks (wanted at once on a multiprocessor); operator()(Index block, int thread, Real* memory) const on the device
#pragma once
#include "lib/gpu.hpp"

#if defined(SSM_GPU)
namespace ssm {

#if defined(KOKKOS_ENABLE_CUDA)
constexpr std::size_t kChipMemory = 227 * 1024;  // of one block, compute capability 9; others refuse the launch with a message
#else
constexpr std::size_t kChipMemory = 64 * 1024;
#endif

template <class F>
__global__ void __launch_bounds__(F::kThreads, F::kBlocks) shared_kernel(const F f) {
  extern __shared__ float4 chip_memory[];
  f(static_cast<Index>(blockIdx.x), static_cast<int>(threadIdx.x), reinterpret_cast<Real*>(chip_memory));
}

template <class F>
void launch_shared(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
  fits<F>();
  if (blocks == 0) return;
  const auto kernel = &shared_kernel<F>;
  gpu_check(SSM_GPU(FuncSetAttribute)(reinterpret_cast<const void*>(kernel), SSM_GPU(FuncAttributeMaxDynamicSharedMemorySize),
                                      static_cast<int>(bytes)),
            label);
  kernel<<<static_cast<unsigned>(blocks), F::kThreads, bytes, gpu_stream(r.exec)>>>(f);
  gpu_check(SSM_GPU(GetLastError)(), label);
}

}  // namespace ssm
#endif
