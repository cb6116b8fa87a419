// rnn_gpu_back.hpp - the walk back through time that belongs to rnn_gpu.hpp: dh = U^T da of the later step, with U^T held on the chip.
#pragma once
#include "ops/rnn_gpu.hpp"

#if defined(SSM_RNN_HELD)
namespace ssm::rnn_op {

// Eight lanes share four channels: lane q holds their weights for the gates' channels 32 j + 4 q .. + 3 of da, and then channel q / 2.
template <class Cell, int kWide>
struct HeldBackward {
  static constexpr int G = Cell::kGates, kThreads = 2 * kWide, kBlocks = 1, kRows = 4, kChunks = G * kWide / 32;
  static constexpr int kBefore = kSlots, kDy = kSlots + 1;  // what a visit asks for beside the slots
  using Weights = Held<kThreads, kRows * kChunks>;
  using Inputs = Ahead<kWide, kSlots + 2>;
  static constexpr std::size_t kBytes = sizeof(Real) * (2 * G * kWide + Weights::kReals + Inputs::kReals);
  Sequences s;
  const Real* dy;
  Real *da, *dcarry, *dh0;  // (B,T,4H); (B,H) where the start is a parameter, else dh0 is null

  __device__ void operator()(Index b, int thread, Real* memory) const {
    const Index T = s.T, H = s.H;
    const int q = thread % 8, first = thread / 8 * 4, c = first + q / 2;
    const bool live = c < H, even = q % 2 == 0;
    const Index own = live ? c : H - 1;
    Real* later = memory;  // (2,G,kWide): gradients of the gates, of the later step and of this one
    Weights w(memory + 2 * G * kWide, thread);
    const Inputs inputs(memory + 2 * G * kWide + Weights::kReals, c);
#pragma unroll
    for (int j = 0; j < kChunks; ++j)
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        Real four[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int gate = 32 * j / kWide, k = 32 * j % kWide + 4 * q + e;
          four[e] = k < H && first + row < H ? s.U[(gate * H + k) * H + first + row] : Real(0);
        }
        w.set(j * kRows + row, four);
      }
    w.keep();
    for (int i = thread; i < G * kWide; i += kThreads) later[i] = 0;

    // Each of the two lanes of a channel fetches and writes two slots; one fetches the carry of the step before, the other dy.
    const int half = even ? 0 : 2;
    const Index last = b * T + T - 1, back = kSlots * H;
    const Real *slots = s.slots + (last * kSlots + half) * H + own, *third = (even ? s.carry - H : dy) + last * H + own;
    Real* to = da + (last * kSlots + half) * H + own;
    const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
    const auto ask = [&](Index visit, Index early) {
      const Index t = T - 1 - visit;
      if (t >= 0) inputs.ask(visit, half, slots - early * back), inputs.ask(visit, half + 1, slots - early * back + H);
      if (t > (even ? 0 : -1)) inputs.ask(visit, even ? kBefore : kDy, third - early * H);
      gpu_tile::copies_end();
    };
    for (Index visit = 0; visit < Inputs::kEarly; ++visit) ask(visit, visit);
    Real now = s.carry[last * H + own], carried = 0;
    __syncthreads();

    const Index visits = dh0 ? T + 1 : T;
    for (Index visit = 0; visit < visits; ++visit, slots -= back, third -= H, to -= back) {
      const Index t = T - 1 - visit;
      ask(visit + Inputs::kEarly, Inputs::kEarly);
      const Four* from = reinterpret_cast<const Four*>(later + visit % 2 * G * kWide) + q;
      Real part[kRows] = {};
#pragma unroll
      for (int j = 0; j < kChunks; ++j) {
        const Four a = from[8 * j];
#pragma unroll
        for (int row = 0; row < kRows; ++row) w.multiply(j * kRows + row, a, part[row]);
      }
      Real two[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) two[i] = (q & 4 ? part[i + 2] : part[i]) + shuffle_xor(q & 4 ? part[i] : part[i + 2], 4);
      Real dh = (q & 2 ? two[1] : two[0]) + shuffle_xor(q & 2 ? two[0] : two[1], 2);
      dh += shuffle_xor(dh, 1);
      if (t < 0) {
        if (live && even) dh0[b * H + c] = dh + (Cell::kOwnCarry ? Real(0) : carried), dcarry[b * H + c] = carried;
        break;
      }
      Inputs::wait();
      Real gate[kSlots];
#pragma unroll
      for (int g = 0; g < kSlots; ++g) gate[g] = *inputs.at(visit, g);
      const Real before = t > 0 ? *inputs.at(visit, kBefore) : start ? start[own] : Real(0);
      const Past past = Cell::back(gate, before, now, dh + *inputs.at(visit, kDy), carried);
      now = before;
      carried = past.carry;
      const Real left = even ? past.slot[0] : past.slot[2], right = even ? past.slot[1] : past.slot[3];
      Real* next = later + (visit + 1) % 2 * G * kWide + c;
      if (even || Cell::slot(2) == 2) next[even ? 0 : 2 * kWide] = left;
      next[even ? kWide : (G - 1) * kWide] = right;
      __syncthreads();
      if (!live) continue;
      to[0] = left;
      to[H] = right;
    }
  }
};

template <class Cell>
void held_backward(const Run& r, Index B, const Sequences& s, const Real* dy, Real* da, Real* dcarry, Real* dh0) {
  launch_held("ssm::rnn_back", r, B, s.H, [&](auto width) { return HeldBackward<Cell, decltype(width)::value>{s, dy, da, dcarry, dh0}; });
}

}  // namespace ssm::rnn_op
#endif
