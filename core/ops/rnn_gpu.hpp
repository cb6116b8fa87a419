// rnn_gpu.hpp - the walk through time on a GPU (CUDA, float): one block per sequence holds the recurrent weights for all of its steps.
//
// A step is one product of a vector with gates H x H weights, and nothing of step t + 1 can begin before step t ends: the latency of a step
// binds. Its floor is gates H^2 / 128 cycles (H = 128: LSTM 512, GRU 384) beside two exchanges between lanes, the gates and one barrier.
// 2 H threads keep gates H / 2 weights each: as many as the registers take, the rest in on-chip memory, which delivers them while the
// registers' share is multiplied. Sums over H are cut over neighbouring lanes; their order is fixed. Backward is in rnn_gpu_back.hpp,
// more units in rnn_gpu_wide.hpp.
#pragma once
#include "lib/gpu_tile.hpp"
#include "lib/warp.hpp"
#include "ops/rnn_kernels.hpp"

#if defined(SSM_CUDA_CODE)
#define SSM_RNN_HELD
namespace ssm::rnn_op {

constexpr Index kMostHeld = kDouble ? 0 : 128;  // widest H; above, the weights do not fit on one processor

// The weights of one thread in groups of four. Of kGroups, kOnChip lie in on-chip memory, evenly between those in registers.
template <int kThreads, int kGroups>
struct Held {
  static constexpr int kInRegisters = 50, kOnChip = kGroups > kInRegisters ? kGroups - kInRegisters : 0;
  static constexpr int kReals = kOnChip * 4 * kThreads;
  Real own[kGroups - kOnChip][4];
  Four* rest;

  __device__ Held(Real* memory, int thread) : rest(reinterpret_cast<Four*>(memory) + thread) {}

  __device__ static constexpr int on_chip_before(int group) { return group * kOnChip / kGroups; }
  __device__ static constexpr bool on_chip(int group) { return on_chip_before(group + 1) > on_chip_before(group); }

  __device__ void set(int group, const Real (&w)[4]) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (on_chip(group)) rest[on_chip_before(group) * kThreads].v[e] = w[e];
      else own[group - on_chip_before(group)][e] = w[e];
    }
  }
  __device__ void keep() {
#pragma unroll
    for (int i = 0; i < kGroups - kOnChip; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) gpu_tile::forget_source(own[i][e]);
  }
  __device__ void multiply(int group, const Four& x, Real& sum) const {
    if (on_chip(group)) {
      const Four w = rest[on_chip_before(group) * kThreads];
#pragma unroll
      for (int e = 0; e < 4; ++e) sum += w.v[e] * x.v[e];
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) sum += own[group - on_chip_before(group)][e] * x.v[e];
    }
  }
};

// Numbers of the next visits on their way to the chip. The two lanes of a channel ask for half of them each and read all.
template <int kWide, int kValues>
struct Ahead {
  static constexpr int kEarly = 3, kRow = kWide + 8;  // visits between asking and reading; the pad keeps the halves in different banks
  static constexpr int kReals = (kEarly + 1) * kValues * kRow;
  Real* memory;

  __device__ Ahead(Real* memory_, int channel) : memory(memory_ + channel) {}
  __device__ Real* at(Index visit, int value) const {
    return memory + (static_cast<unsigned>(visit) % (kEarly + 1) * kValues + static_cast<unsigned>(value)) * kRow;
  }
  __device__ void ask(Index visit, int value, const Real* from) const {
    gpu_tile::copy_one(gpu_tile::chip_address(at(visit, value)), from);
  }
  // All that both lanes asked for kEarly visits ago has come.
  __device__ static void wait() {
    gpu_tile::copies_wait<kEarly>();
    __syncwarp();
  }
};

// Four lanes share two channels: lane q holds their weights for the channels 16 j + 4 q .. + 3 of h, and then the gates of channel q / 2.
template <class Cell, int kWide>
struct HeldForward {
  static constexpr int G = Cell::kGates, kThreads = 2 * kWide, kBlocks = 1, kRows = 2 * G, kChunks = kWide / 16;
  using Weights = Held<kThreads, kRows * kChunks>;
  using Inputs = Ahead<kWide, kSlots>;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * kWide + Weights::kReals + Inputs::kReals);
  Sequences s;

  __device__ void operator()(Index b, int thread, Real* memory) const {
    const Index T = s.T, H = s.H;
    const int q = thread % 4, first = thread / 4 * 2, c = first + q / 2;
    const bool live = c < H, even = q % 2 == 0;
    const Index own = live ? c : H - 1;  // channels beyond H go along, with weights of zero
    Real* state = memory;                // (2,kWide): h of the step before, h of this one
    Weights w(memory + 2 * kWide, thread);
    const Inputs inputs(memory + 2 * kWide + Weights::kReals, c);
#pragma unroll
    for (int j = 0; j < kChunks; ++j)
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        Real four[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int channel = first + row / G, k = 16 * j + 4 * q + e;
          four[e] = channel < H && k < H ? s.U[(row % G * H + channel) * H + k] : Real(0);
        }
        w.set(j * kRows + row, four);
      }
    w.keep();
    Real bias[G];
#pragma unroll
    for (int g = 0; g < G; ++g) bias[g] = s.bias[g * H + own];
    const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
    Real carry = start ? start[own] : Real(0);
    if (even) state[c] = s.h0 && live ? s.h0[c] : Real(0);

    const int half = even ? 0 : 2;  // each of the two lanes of a channel fetches and writes two slots
    Real *slots = s.slots + (b * T * kSlots + half) * H + own, *to = (even ? s.y : s.carry) + b * T * H + own;
    const auto ask = [&](Index t, const Real* from) {
      if (t < T) inputs.ask(t, half, from), inputs.ask(t, half + 1, from + H);
      gpu_tile::copies_end();
    };
    for (Index t = 0; t < Inputs::kEarly; ++t) ask(t, slots + t * kSlots * H);
    __syncthreads();

    for (Index t = 0; t < T; ++t, slots += kSlots * H, to += H) {
      ask(t + Inputs::kEarly, slots + Inputs::kEarly * kSlots * H);
      const Four* before = reinterpret_cast<const Four*>(state + t % 2 * kWide) + q;
      Real part[kRows] = {};
#pragma unroll
      for (int j = 0; j < kChunks; ++j) {
        const Four h = before[4 * j];
#pragma unroll
        for (int row = 0; row < kRows; ++row) w.multiply(j * kRows + row, h, part[row]);
      }
      Inputs::wait();
      Real x[kSlots], u[kSlots];
#pragma unroll
      for (int g = 0; g < G; ++g) {
        const Real give = q & 2 ? part[g] : part[G + g], kept = q & 2 ? part[G + g] : part[g];
        u[g] = kept + shuffle_xor(give, 2);
        u[g] += shuffle_xor(u[g], 1);
        u[g] += bias[g];
        x[g] = *inputs.at(t, g);
      }
      const Next next = Cell::next(x, u, carry);
      carry = next.carry;
      if (even) state[(t + 1) % 2 * kWide + c] = next.h;
      __syncthreads();
      if (!live) continue;
      slots[0] = even ? next.slot[0] : next.slot[2];
      slots[H] = even ? next.slot[1] : next.slot[3];
      if (even || Cell::kOwnCarry) *to = even ? next.h : next.carry;
    }
  }
};

// make(width) is the kernel for H <= width.
template <class Make>
void launch_held(const char* label, const Run& r, Index B, Index H, const Make& make) {
  const auto start = [&](const auto& kernel) { launch_shared(label, r, B, kernel.kBytes, kernel); };
  if constexpr (kMostHeld == 0) return;
  else if (H <= 32) start(make(std::integral_constant<int, 32>()));
  else if (H <= 64) start(make(std::integral_constant<int, 64>()));
  else start(make(std::integral_constant<int, kMostHeld>()));
}
template <class Cell>
void held_forward(const Run& r, Index B, const Sequences& s) {
  launch_held("ssm::rnn", r, B, s.H, [&](auto width) { return HeldForward<Cell, decltype(width)::value>{s}; });
}

}  // namespace ssm::rnn_op
#endif
