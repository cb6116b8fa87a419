// add_few.hpp - sums of many parts, too few of them to fill a GPU with a thread each: a block has 32 neighbours, each of its warps adds every
// eighth part, eight loads on their way, and the warps' sums are added in order. Whole lines of memory are read.
#pragma once
#include "lib/launch_shared.hpp"
#include "lib/warp.hpp"
#include "tensor.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm {

struct FewSums {
  static constexpr int kThreads = 256, kBlocks = 4, kWarps = kThreads / kWarp, kAtOnce = 8;

  // Of from[p stride] over p < parts, to the threads of the first warp; memory: kThreads numbers of Acc.
  template <class Acc, class In>
  __device__ static Acc sum(const In* from, Index parts, Index stride, int thread, Acc* memory) {
    Acc sum = 0;
    for (Index p = thread / kWarp; p < parts; p += kWarps * kAtOnce) {
      In some[kAtOnce];
      SSM_UNROLL
      for (int q = 0; q < kAtOnce; ++q) some[q] = p + q * kWarps < parts ? from[(p + q * kWarps) * stride] : In(0);
      SSM_UNROLL
      for (int q = 0; q < kAtOnce; ++q) sum += static_cast<Acc>(some[q]);
    }
    memory[thread] = sum;
    __syncthreads();
    if (thread < kWarp)
      for (int warp = 1; warp < kWarps; ++warp) sum += memory[warp * kWarp + thread];
    return sum;
  }
};

}  // namespace ssm
#endif
