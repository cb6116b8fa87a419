// cuda_driver.cpp - the three driver calls that Kokkos makes, looked up at the first call instead of at load time: so the program
// starts (list, describe, --help) on a machine that has the CUDA runtime but no driver.
#include <cuda.h>
#include <cuda_runtime_api.h>

namespace {

template <class F, class... A>
CUresult call(const char* name, A... arguments) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result) != cudaSuccess || found == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED;
  return reinterpret_cast<F>(found)(arguments...);
}

}  // namespace

extern "C" {
CUresult cuCtxGetDevice(CUdevice* device) { return call<CUresult (*)(CUdevice*)>("cuCtxGetDevice", device); }
CUresult cuCtxPushCurrent(CUcontext context) { return call<CUresult (*)(CUcontext)>("cuCtxPushCurrent", context); }
CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  return call<CUresult (*)(CUstream, CUcontext*)>("cuStreamGetCtx", stream, context);
}
}
