// CUDA 13 gave three runtime calls new signatures; here are the old ones, which Kokkos 4.5 still makes. Force-included by nvcc.
#pragma once
#include <cuda_runtime_api.h>
#if CUDART_VERSION >= 13000
inline cudaMemLocation ssm_memory_location(int device) {
  return {device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice, device};
}
inline cudaError_t cudaMemAdvise(const void* p, size_t n, cudaMemoryAdvise advice, int device) {
  return cudaMemAdvise(p, n, advice, ssm_memory_location(device));
}
inline cudaError_t cudaMemPrefetchAsync(const void* p, size_t n, int device, cudaStream_t stream) {
  return cudaMemPrefetchAsync(p, n, ssm_memory_location(device), 0, stream);
}
inline cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t* from, const cudaGraphNode_t* to, size_t n) {
  return cudaGraphAddDependencies(graph, from, to, nullptr, n);
}
#endif
