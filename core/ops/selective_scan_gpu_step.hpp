// selective_scan_gpu_step.hpp - one position of a stream on CUDA and HIP: four lanes share a channel's states. One thread a channel, its states
// in memory of its own, took 15 us for a thousand channels.
#pragma once
#include "lib/chained.hpp"
#include "lib/each.hpp"
#include "lib/warp.hpp"
#include "math.hpp"
#include "ops/selective_scan_kernels.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::selective_scan_op {

struct StepArguments {
  // raw (B,E), or low (B,R) and to_raw (E,R): raw = low to_raw^T; or null
  const Real *u, *raw, *low, *to_raw, *z, *B, *C, *A_log, *D, *bias;
  Real *h, *y;  // h (B,E,N), carried
  Index rows, E, N, R;
  Index of_row_B, of_channel_B, of_row_C, of_channel_C;  // B_t of row b and channel e lies at b of_row + e of_channel
};

// V numbers of a state by one load.
template <int V>
struct StepOnGpu {
  static constexpr int kThreads = 128, kBlocks = 6, kSharing = 4, kChannels = kThreads / kSharing, kHeldRank = 2;
  struct alignas(V * sizeof(Real)) Some {
    Real v[V];
  };
  StepArguments a;

  Index blocks() const { return a.rows * ((a.E + kChannels - 1) / kChannels); }
  __device__ static Some load(const Real* p) { return *reinterpret_cast<const Some*>(p); }

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index groups = (a.E + kChannels - 1) / kChannels, row = quotient(block, groups);
    const int lane = thread % kSharing;
    const Index channel = (block - row * groups) * kChannels + thread / kSharing, e = channel < a.E ? channel : a.E - 1;
    const Real bias = a.bias[e], skip = a.D[e];
    const Index first = V * lane < a.N ? V * lane : 0;
    Some A = load(a.A_log + e * a.N + first);
    const bool short_low = a.low && a.R % 4 == 0 && a.R <= 4 * kSharing * kHeldRank;  // a lane's numbers of to_raw are on their way early
    Four by[kHeldRank], low[kHeldRank];
    const auto held = [&](const Real* from, Four(&to)[kHeldRank]) {
      SSM_UNROLL
      for (int i = 0; i < kHeldRank; ++i) {
        const Index k = 4 * lane + 4 * kSharing * i;
        to[i] = k < a.R ? *reinterpret_cast<const Four*>(from + k) : Four{};
      }
    };
    if (short_low) held(a.to_raw + e * a.R, by);
    wait_for_last();
    const Index at = row * a.E + e;
    const Real u = a.u[at], gate = a.z ? silu(a.z[at]) : Real(1);
    Real* h = a.h + at * a.N;
    const Real *B = a.B + row * a.of_row_B + e * a.of_channel_B, *C = a.C + row * a.of_row_C + e * a.of_channel_C;
    Some state = load(h + first), b = load(B + first), c = load(C + first);
    Real raw = 0;
    if (a.low) {
      const Real* from = a.low + row * a.R;
      Real sum = 0;
      if (short_low) {
        held(from, low);
        SSM_UNROLL
        for (int i = 0; i < kHeldRank; ++i)
          sum += (low[i].v[0] * by[i].v[0] + low[i].v[1] * by[i].v[1]) + (low[i].v[2] * by[i].v[2] + low[i].v[3] * by[i].v[3]);
      } else {
        for (Index k = lane; k < a.R; k += kSharing) sum += from[k] * a.to_raw[e * a.R + k];
      }
      sum += shuffle_xor(sum, 1);
      raw = sum + shuffle_xor(sum, 2);
    } else if (a.raw) {
      raw = a.raw[at];
    }
    const Real delta = softplus(raw + bias), du = delta * u;
    Real sum = 0;
    for (Index k = V * lane; k < a.N; k += V * kSharing) {
      if (k > first) A = load(a.A_log + e * a.N + k), state = load(h + k), b = load(B + k), c = load(C + k);
      SSM_UNROLL
      for (int i = 0; i < V; ++i) {
        state.v[i] = exp2_decay(-kLog2e * delta * fast_exp(A.v[i])) * state.v[i] + du * b.v[i];
        sum += state.v[i] * c.v[i];
      }
      if (channel < a.E) *reinterpret_cast<Some*>(h + k) = state;
    }
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    if (lane == 0 && channel < a.E) a.y[at] = (sum + skip * u) * gate;
  }
};

inline void step_on_gpu(const Run& r, const StepArguments& a) {
  if (a.N % 4 == 0) launch_chained("ssm::selective_scan_step", r, StepOnGpu<4>{a}.blocks(), 0, StepOnGpu<4>{a});
  else launch_chained("ssm::selective_scan_step", r, StepOnGpu<1>{a}.blocks(), 0, StepOnGpu<1>{a});
}

}  // namespace ssm::selective_scan_op
#endif
