// diag_scan_gpu_step.hpp - one position of a stream on CUDA and HIP: sixteen threads share the modes of a channel. One thread a channel, the
// plain step, took 25 us for 512 channels of 32 modes.
#pragma once
#include "lib/chained.hpp"
#include "lib/each.hpp"
#include "lib/finish.hpp"
#include "lib/warp.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::diag_scan_op {

// kRows sequences read the table of the modes once.
template <int kRows>
struct StepOnGpu {
  static constexpr int kThreads = 256, kBlocks = 4, kChannels = 16, kShares = kThreads / kChannels, kAtOnce = 2, kFields = 6;
  const Real *u, *table, *D;  // table (M,6,H): A, what rounding left of it, 2 W
  Real* state;                // (B,M,2,H)
  Index rows, H, M;
  Finish to;

  Index blocks() const { return (rows + kRows - 1) / kRows * ((H + kChannels - 1) / kChannels); }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index groups = (H + kChannels - 1) / kChannels, row0 = quotient(block, groups) * kRows;
    const Index channel = (block - row0 / kRows * groups) * kChannels + thread % kChannels, h = channel < H ? channel : H - 1;
    const int share = thread / kChannels;
    const Real skip = D[h];
    wait_for_last();
    Held held{};
    const bool writes = thread < kChannels * kRows && channel < H && row0 + share < rows;
    if (writes) held = held_for(to, row0 + share, h);
    Real in[kRows], sum[kRows] = {}, own = 0;
    SSM_UNROLL
    for (int q = 0; q < kRows; ++q) {
      in[q] = u[(row0 + q < rows ? row0 + q : row0) * H + h];
      if (q == share) own = skip * in[q];
    }
    for (Index first = share; first < M; first += kAtOnce * kShares) {
      Real a[kAtOnce][kFields], x[kAtOnce][kRows][2];
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Index n = first + j * kShares < M ? first + j * kShares : first;
        SSM_UNROLL
        for (int f = 0; f < kFields; ++f) a[j][f] = table[(n * kFields + f) * H + h];
        SSM_UNROLL
        for (int q = 0; q < kRows; ++q) {
          const Real* z = state + ((row0 + q < rows ? row0 + q : row0) * M + n) * 2 * H + h;
          x[j][q][0] = z[0], x[j][q][1] = z[H];
        }
      }
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Index n = first + j * kShares;
        if (n >= M) break;
        const Real(&m)[kFields] = a[j];
        SSM_UNROLL
        for (int q = 0; q < kRows; ++q) {
          const Real p = x[j][q][0], c = x[j][q][1];
          const Real re = m[0] * p - m[1] * c + (m[2] * p - m[3] * c + in[q]), im = m[0] * c + m[1] * p + (m[2] * c + m[3] * p);
          sum[q] += m[4] * re - m[5] * im;
          if (channel >= H || row0 + q >= rows) continue;
          Real* z = state + ((row0 + q) * M + n) * 2 * H + h;
          z[0] = re, z[H] = im;
        }
      }
    }
    SSM_UNROLL
    for (int q = 0; q < kRows; ++q) memory[(q * kShares + share) * kChannels + thread % kChannels] = sum[q];
    __syncthreads();
    if (!writes) return;
    Real total = own;
    SSM_UNROLL
    for (int s = 0; s < kShares; ++s) total += memory[(share * kShares + s) * kChannels + thread % kChannels];
    finish(to, held, row0 + share, h, total, Real(0));
  }
  void run(const Run& r) const { launch_chained("ssm::diag_scan_step", r, blocks(), sizeof(Real) * kThreads * kRows, *this); }
};

}  // namespace ssm::diag_scan_op
#endif
