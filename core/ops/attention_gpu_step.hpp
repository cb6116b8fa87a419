// attention_gpu_step.hpp - one position of a stream on CUDA and HIP: the ring of keys and values is cut into runs, a warp each, whose softmaxes
// are joined afterwards. One thread a head walked the ring alone before, at a hundredth of the memory's rate.
#pragma once
#include <algorithm>

#include "lib/launch_shared.hpp"
#include "lib/warp.hpp"
#include "ops/attention_plain.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::attention_op {

constexpr Index kRunsWanted = 4096;  // warps that keep an H200's memory busy
constexpr Index kShortestRun = 32;   // positions
constexpr int kWidestStep = 128;     // of a head: four numbers a lane

// What a step looks back over: `own` of sequence b is cache + b size, its keys (capacity, KV, dh), its values the same, then positions seen.
struct Ring {
  const Real *cache, *query;  // query (B,H,dh)
  Index B, H, KV, dh, capacity, size, runs;
  bool alibi;
  Real scale;

  static Index runs_of(Index B, Index H, Index capacity) {
    return std::clamp<Index>(kRunsWanted / (B * H), 1, std::max<Index>(1, capacity / kShortestRun));
  }
  static Index scratch_of(Index B, Index H, Index dh, Index capacity) { return B * H * runs_of(B, H, capacity) * (dh + 2); }
};

// to (B,H,runs,dh + 2): sum of p v, sum of p and the largest score of every run of ages.
struct StepRuns {
  static constexpr int kThreads = 128, kBlocks = 8, kWarps = kThreads / kWarp, kAtOnce = 4, kOwn = kWidestStep / kWarp;
  Ring ring;
  Real* to;

  __device__ void operator()(Index block, int thread, Real*) const {
    const Index item = block * kWarps + thread / kWarp;
    const int lane = thread % kWarp, dh = static_cast<int>(ring.dh);
    if (item >= ring.B * ring.H * ring.runs) return;
    const Index row = quotient(item, ring.runs), run = item - row * ring.runs, b = quotient(row, ring.H), head = row - b * ring.H;
    const Real *own = ring.cache + b * ring.size, *values = own + ring.capacity * ring.KV * ring.dh;
    const Index seen = static_cast<Index>(own[ring.size - 1]), count = seen + 1 < ring.capacity ? seen + 1 : ring.capacity;
    const Index length = (count + ring.runs - 1) / ring.runs, begin = run * length, end = begin + length < count ? begin + length : count;
    const Index group = head / (ring.H / ring.KV), newest = seen % ring.capacity;  // ages are below the capacity
    const Real slope = ring.alibi ? alibi_slope(head, ring.H) : Real(0);
    Real q[kOwn], sum[kOwn], m = kHidden, l = 0;
    SSM_UNROLL
    for (int k = 0; k < kOwn; ++k) {
      const int c = lane + kWarp * k;
      q[k] = c < dh ? ring.query[row * dh + c] * ring.scale : Real(0);
      sum[k] = 0;
    }
    for (Index age = begin; age < end; age += kAtOnce) {
      Real key[kAtOnce][kOwn], value[kAtOnce][kOwn], s[kAtOnce];
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Index at = age + j < end ? age + j : end - 1, slot = newest - at + (at > newest ? ring.capacity : 0),
                    place = (slot * ring.KV + group) * dh;
        SSM_UNROLL
        for (int k = 0; k < kOwn; ++k) {
          const int c = lane + kWarp * k;
          key[j][k] = c < dh ? own[place + c] : Real(0), value[j][k] = c < dh ? values[place + c] : Real(0);
        }
      }
      Real top = m;
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        s[j] = 0;
        SSM_UNROLL
        for (int k = 0; k < kOwn; ++k) s[j] += q[k] * key[j][k];
        s[j] = age + j < end ? sum_of_warp(s[j]) - slope * static_cast<Real>(age + j) : kHidden;
        top = s[j] > top ? s[j] : top;
      }
      const Real shrink = m == kHidden ? Real(0) : fast_exp(m - top);
      l *= shrink;
      SSM_UNROLL
      for (int k = 0; k < kOwn; ++k) sum[k] *= shrink;
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Real p = age + j < end ? fast_exp(s[j] - top) : Real(0);
        l += p;
        SSM_UNROLL
        for (int k = 0; k < kOwn; ++k) sum[k] += p * value[j][k];
      }
      m = top;
    }
    Real* out = to + item * (dh + 2);
    SSM_UNROLL
    for (int k = 0; k < kOwn; ++k)
      if (lane + kWarp * k < dh) out[lane + kWarp * k] = sum[k];
    if (lane == 0) out[dh] = l, out[dh + 1] = m;
  }
};

// y (B,H dh) from what the runs left, in their order; one more position is seen.
inline void join_runs(const Run& r, const Ring& ring, const Real* from, Real* cache, Real* y) {
  const Index dh = ring.dh, runs = ring.runs, H = ring.H, size = ring.size;
  launch(
      "ssm::attention_join", r, ring.B * H * dh, KOKKOS_LAMBDA(const Index i) {
        const Index row = i / dh, c = i - row * dh;
        const Real* own = from + row * runs * (dh + 2);
        Real m = kHidden, l = 0, sum = 0;
        for (Index k = 0; k < runs; ++k) m = own[k * (dh + 2) + dh + 1] > m ? own[k * (dh + 2) + dh + 1] : m;
        for (Index k = 0; k < runs; ++k) {
          const Real* run = own + k * (dh + 2);
          const Real weight = run[dh] > 0 ? fast_exp(run[dh + 1] - m) : Real(0);
          l += weight * run[dh];
          sum += weight * run[c];
        }
        y[i] = sum / l;
        if (c == 0 && row % H == 0) cache[(row / H + 1) * size - 1] += 1;
      });
}

inline void step_on_gpu(const Run& r, const Ring& ring, Real* runs, Real* cache, Real* y) {
  const Index warps = ring.B * ring.H * ring.runs;
  launch_shared("ssm::attention_step", r, (warps + StepRuns::kWarps - 1) / StepRuns::kWarps, 0, StepRuns{ring, runs});
  join_runs(r, ring, runs, cache, y);
}

}  // namespace ssm::attention_op
#endif
