// launch_shared.hpp - blocks of threads with more on-chip memory than a Kokkos team may ask for (48 KiB), on CUDA and HIP.
//
//   launch_shared("ssm::name", r, blocks, bytes, functor);
//   functor: kThreads, kBlocks (wanted at once on a multiprocessor); operator()(Index block, int thread, Real* memory) const on the device
//   launch_together (CUDA): all blocks are on the device at once, so that they may wait for each other; more than fit are refused
#pragma once
#include "lib/gpu.hpp"

#if defined(SSM_EMULATED_DEVICE)
namespace ssm {

template <class F>
void launch_shared(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
  emulated::launch(label, r, blocks, F::kThreads, bytes, f, false);
}
template <class F>
void launch_together(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
  emulated::launch(label, r, blocks, F::kThreads, bytes, f, true);
}
inline int gpu_processors() { return emulated::kProcessors; }
using emulated::kChipMemory;

}  // namespace ssm
#elif defined(SSM_GPU)
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
auto kernel_with(const char* label, std::size_t bytes) {
  fits<F>();
  const auto kernel = &shared_kernel<F>;
  gpu_check(SSM_GPU(FuncSetAttribute)(reinterpret_cast<const void*>(kernel), SSM_GPU(FuncAttributeMaxDynamicSharedMemorySize),
                                      static_cast<int>(bytes)),
            label);
  return kernel;
}

template <class F>
void launch_shared(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
  if (blocks == 0) return;
  const auto kernel = kernel_with<F>(label, bytes);
  // clang-format off
  kernel<<<static_cast<unsigned>(blocks), F::kThreads, bytes, gpu_stream(r.exec)>>>(f);
  // clang-format on
  gpu_check(SSM_GPU(GetLastError)(), label);
}

#if defined(KOKKOS_ENABLE_CUDA)
template <class F>
void launch_together(const char* label, const Run& r, Index blocks, std::size_t bytes, const F& f) {
  const auto kernel = kernel_with<F>(label, bytes);
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(static_cast<unsigned>(blocks)), how.blockDim = dim3(F::kThreads);
  how.dynamicSmemBytes = bytes, how.stream = gpu_stream(r.exec);
  how.attrs = &together, how.numAttrs = 1;
  gpu_check(cudaLaunchKernelEx(&how, kernel, f), label);
}

// Multiprocessors of the device in use.
inline int gpu_processors() {
  int device = 0, count = 0;
  gpu_check(cudaGetDevice(&device), "cudaGetDevice");
  gpu_check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
}
#endif

}  // namespace ssm
#endif
