// matrix_state_gpu_step.hpp - one position of a stream on CUDA and HIP. One thread a column of a head's state, the plain step, took 29 us for
// 16 heads of 64 x 64.
#pragma once
#include "lib/chained.hpp"
#include "lib/each.hpp"
#include "lib/finish.hpp"
#include "lib/warp.hpp"
#include "ops/matrix_state.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::matrix_state_op {

// A block has kColumns columns of a head's state; a thread four of them in kAtOnce rows at a time.
template <int kColumns, int kAtOnce>
struct StepOnGpu {
  static constexpr int kThreads = 256, kBlocks = 3, kFours = kColumns / 4, kLines = kThreads / kFours;
  Arguments a;
  Finish to;
  Real* S;  // (B,heads,K,V), carried

  Index blocks() const { return a.B * a.heads * ((a.V + kColumns - 1) / kColumns); }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index tiles = (a.V + kColumns - 1) / kColumns, row = quotient(block, tiles), b = quotient(row, a.heads), h = row - b * a.heads;
    const int first = static_cast<int>(block - row * tiles) * kColumns, K = static_cast<int>(a.K), V = static_cast<int>(a.V);
    const int four = thread % kFours, line = thread / kFours, column = first + 4 * four, at = column < V ? column : 0;
    const Index from = (b * a.groups + quotient(h, quotient(a.heads, a.groups))) * a.K, out = h * a.V + first + thread;
    const bool writes = thread < kColumns && first + thread < V;
    Real* const state = S + row * K * V;
    wait_for_last();
    ssm::Four s[kAtOnce], sum{};
    Real decay[kAtOnce], key[kAtOnce], query[kAtOnce];
    // Everything from memory before anything is computed: blocks are short, and each would wait twice.
    const auto load = [&](int k0) {
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int k = k0 + j * kLines < K ? k0 + j * kLines : 0;
        s[j] = *reinterpret_cast<const ssm::Four*>(state + k * V + at);
        key[j] = a.k[from + k], query[j] = a.q[from + k];
        decay[j] = a.kind == Gate::channel ? a.gate[row * K + k] : Real(0);
      }
    };
    load(line);
    ssm::Four value = *reinterpret_cast<const ssm::Four*>(a.v + row * a.V + at);
    const Real delta = a.delta ? a.delta[row] : Real(1), gate = a.kind == Gate::time ? a.gate[row] : Real(0);
    const Real value_of_out = writes && a.skip ? a.skip[h] * a.v[row * a.V + first + thread] : Real(0);
    Held held{};
    if (writes) held = held_for(to, b, out);

    const Real one = a.kind == Gate::time ? exp2_decay(gate * kLog2e) : a.kind == Gate::head ? a.head_decay(h) : Real(1);
    SSM_UNROLL
    for (int l = 0; l < 4; ++l) value.v[l] *= delta;
    for (int k0 = line; k0 < K; k0 += kAtOnce * kLines) {
      if (k0 > line) load(k0);
      SSM_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        if (k0 + j * kLines >= K) continue;
        const Real by = a.kind == Gate::channel ? exp2_decay(decay[j] * kLog2e) : one, q = a.scale * query[j];
        SSM_UNROLL
        for (int l = 0; l < 4; ++l) {
          s[j].v[l] = by * s[j].v[l] + key[j] * value.v[l];
          sum.v[l] += q * s[j].v[l];
        }
        if (column < V) *reinterpret_cast<ssm::Four*>(state + (k0 + j * kLines) * V + column) = s[j];
      }
    }
    SSM_UNROLL
    for (int l = 0; l < 4; ++l) {
      SSM_UNROLL
      for (int lane = kFours; lane < kWarp; lane *= 2) sum.v[l] += shuffle_xor(sum.v[l], lane);
    }
    if (thread % kWarp < kFours) *reinterpret_cast<ssm::Four*>(memory + thread / kWarp * kColumns + 4 * four) = sum;
    __syncthreads();
    if (!writes) return;
    Real total = value_of_out;
    SSM_UNROLL
    for (int w = 0; w < kThreads / kWarp; ++w) total += memory[w * kColumns + thread];
    finish(to, held, b, out, total, Real(0));
  }
};

inline bool takes_step(const Arguments& a) { return !a.normalise && a.V % 4 == 0; }

template <int kColumns, int kAtOnce>
void start_step(const Run& r, const StepOnGpu<kColumns, kAtOnce>& step) {
  launch_chained("ssm::matrix_state_step", r, step.blocks(), sizeof(Real) * step.kThreads / kWarp * kColumns, step);
}
// Few heads are spread over all multiprocessors; of many, a block has as much as its threads carry.
inline void step_on_gpu(const Run& r, const Arguments& a, const Finish& to, Real* S) {
  constexpr Index kManyHeads = 264;
  if (a.B * a.heads < kManyHeads) start_step(r, StepOnGpu<16, 1>{a, to, S});
  else start_step(r, StepOnGpu<64, 4>{a, to, S});
}

}  // namespace ssm::matrix_state_op
#endif
