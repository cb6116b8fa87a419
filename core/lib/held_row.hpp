// held_row.hpp - rows that threads of a GPU hold in registers: thread p of `lanes` has the entries p, p + lanes, .. of a row of D.
#pragma once
#include "lib/warp.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm {

// Entries beyond D are 0. One address and offsets from it that the compiler knows: an address for every entry costs more than the load.
template <int lanes = kWarp, int K>
__device__ void load_row(const Real* row, int D, int p, Real (&to)[K]) {
  const Real* from = row + p;
  const int left = D - p;
  SSM_UNROLL
  for (int q = 0; q < K; ++q) to[q] = lanes * q < left ? from[lanes * q] : Real(0);
}

// to[c] = sum, in order, over the groups of `lanes` threads of a block of `threads` of what they hold of column c.
// memory: threads K numbers that nobody uses after the call's first barrier.
template <int threads, int lanes = kWarp, int K>
__device__ void sum_of_block(const Real (&part)[K], Real* memory, Real* to, int D, int thread) {
  const int p = thread % lanes, group = thread / lanes;
  __syncthreads();
  SSM_UNROLL
  for (int q = 0; q < K; ++q) memory[(group * K + q) * lanes + p] = part[q];
  __syncthreads();
  for (int c = thread; c < D; c += threads) {
    Real sum = 0;
    SSM_UNROLL
    for (int k = 0; k < threads / lanes; ++k) sum += memory[k * K * lanes + c];
    to[c] = sum;
  }
}

}  // namespace ssm
#endif
