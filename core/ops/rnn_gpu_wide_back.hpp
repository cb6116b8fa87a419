// rnn_gpu_wide_back.hpp - the walk back through time that belongs to rnn_gpu_wide.hpp: a block multiplies the gradients of its own gates with
// its rows of U and sends every block what its channels get of it; the owner adds what all sent, in the order of the blocks.
//
// A block sends and reads 32 H bytes for 8 sequences; had it gathered the gradients of all gates instead, it would read four times as much.
#pragma once
#include "ops/rnn_gpu_wide.hpp"

#if defined(SSM_RNN_WIDE)
namespace ssm::rnn_op {

// kChunks chunks of 16 channels of dh are what a warp computes: chunk w + 8 j, from the block's 16 kTiles rows.
template <class Cell, int kWide, int kTiles>
struct WideBackward {
  static constexpr int G = Cell::kGates, kThreads = kWideThreads, kBlocks = 1, kChunks = kWide / 16 / kWideWarps;
  static constexpr int kUnits = kTiles * kTile * kPart, kQuads = kUnits / 4, kSlices = kThreads / kQuads;
  static constexpr int kSources = kWide / (kTile * kTiles) / kSlices;  // of a slice: slice, slice + kSlices, ..
  static constexpr int kRows = 16 * kTiles;
  Sequences s;
  const Real* dy;
  Real *da, *dcarry, *dh0;  // (B,T,4H); (B,H) where the start is a parameter, else dh0 is null
  Bits* letters;            // (2, groups, parts, owner, source, channels of a block, 8 sequences)
  Index first, last;
  int blocks, groups, parts;

  std::size_t bytes() const { return sizeof(Real) * static_cast<std::size_t>(parts * (kWideWarps * kUnits + kRows * kPart)); }

  __device__ void operator()(Index index, int thread, Real* memory) const {
    const WidePlace at(index, blocks, thread);
    const Index T = s.T, H = s.H;
    const int chunks = blocks * kTiles / 4, items = parts * kTiles, part_size = blocks * blocks * kUnits;
    const Index half = static_cast<Index>(groups) * parts * part_size;
    Bits* const mail = letters + static_cast<Index>(at.group) * parts * part_size;
    Real *const received = memory, *const gates = memory + parts * kWideWarps * kUnits;  // (part,warp,unit), (part,row,sequence)

    WideWeights<kChunks, 2 * kTiles> a;
#pragma unroll
    for (int j = 0; j < kChunks; ++j)
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const Index to = 16 * (at.warp + kWideWarps * j) + at.g + e % 2 * 8;
          const int slot = i % 2 * 2 + e / 2;
          const Index channel = (at.block * kTiles + i / 2) * kTile + at.t;
          a.at[j][i][e] = slot < G && channel < H && to < H ? s.U[(slot * H + channel) * H + to] : Real(0);
        }
    a.keep();

    const int quad = thread % kQuads, slice = thread / kQuads, sources = (blocks - slice + kSlices - 1) / kSlices;
    const int from_sources = at.block * blocks * kUnits + slice * kUnits + 4 * quad;
    const bool mine = at.warp < items;
    const int part = at.warp / kTiles, tile = at.warp % kTiles, c = (at.block * kTiles + tile) * kTile + at.lane / kPart;
    const Index sequence = first + (at.group * parts + part) * kPart + at.lane % kPart;
    const bool live = mine && c < H && sequence < last;
    const Index b = live ? sequence : first, own = live ? c : 0, end = b * T + T - 1;
    const Real *slots = s.slots + end * kSlots * H + own, *carry = s.carry + end * H + own, *up = dy + end * H + own;
    Real* to = da + end * kSlots * H + own;
    const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
    const Real begin = start ? start[own] : Real(0);
    Real gate[kSlots], later[kSlots] = {}, d = 0, carried = 0, now = *carry;
#pragma unroll
    for (int g = 0; g < kSlots; ++g) gate[g] = slots[g * H];
    d = *up;
    Real before = T > 1 ? carry[-H] : begin;

    for (Index visit = 0;; ++visit, slots -= kSlots * H, carry -= H, up -= H, to -= kSlots * H) {
      const Index t = T - 1 - visit;
      Real d_ahead = 0, before_ahead = begin;
      if (mine && t > 0) {
#pragma unroll
        for (int g = 0; g < kSlots; ++g) later[g] = slots[(g - kSlots) * H];
        d_ahead = up[-H];
        if (t > 1) before_ahead = carry[-2 * H];
      }
      for (int p = 0; visit > 0 && p < parts; ++p) {
        float x[kSources][4] = {};
        receive(mail + (visit - 1) % 2 * half + p * part_size + from_sources, kSlices * kUnits, sources, mark_of(visit - 1), x);
#pragma unroll
        for (int i = 1; i < kSources; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) x[0][e] += x[i][e];
#pragma unroll
        for (int other = kQuads; other < 32; other *= 2)
#pragma unroll
          for (int e = 0; e < 4; ++e) x[0][e] += shuffle_xor(x[0][e], other);
        if (at.lane < kQuads)
          *reinterpret_cast<float4*>(received + (p * kWideWarps + at.warp) * kUnits + 4 * quad) = {x[0][0], x[0][1], x[0][2], x[0][3]};
      }
      __syncthreads();
      Real dh = d;
      Past past{};
      if (mine) {
#pragma unroll
        for (int w = 0; w < kWideWarps; ++w)
          if (visit > 0) dh += received[(part * kWideWarps + w) * kUnits + tile * 32 + at.lane];
        if (t >= 0) {
          past = Cell::back(gate, before, now, dh, carried);
#pragma unroll
          for (int g = 0; g < kSlots; ++g)
            gates[at.warp * 16 * kPart + g * 32 + at.lane] = live && g < G ? past.slot[Cell::slot(g)] : Real(0);
        }
      }
      if (t < 0) {
        if (live) dh0[b * H + c] = dh + (Cell::kOwnCarry ? Real(0) : carried), dcarry[b * H + c] = carried;
        return;
      }
      __syncthreads();
      for (int p = 0; (t > 0 || dh0) && p < parts; ++p) {
        a.keep_whole();
        Bits high[2 * kTiles][2], low[2 * kTiles][2];
#pragma unroll
        for (int i = 0; i < 2 * kTiles; ++i)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            gpu_tile::Mma<3>::split(gates[p * kRows * kPart + (8 * i + at.t + 4 * e) * kPart + at.g], high[i][e], low[i][e]);
        Bits* const out = mail + visit % 2 * half + p * part_size + at.block * kUnits + 2 * at.t;
        const Bits mark = mark_of(visit);
#pragma unroll
        for (int j = 0; j < kChunks; ++j) {
          const int chunk = at.warp + kWideWarps * j;
          if (chunk >= chunks) break;
          Sums sums;
#pragma unroll
          for (int i = 0; i < 2 * kTiles; ++i) sums.add(a.at[j][i], high[i], low[i]);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int channel = 16 * chunk + at.g + 8 * e, owner = channel / (kTile * kTiles);
            send(out + owner * blocks * kUnits + channel % (kTile * kTiles) * kPart, letter(sums.at(2 * e), mark),
                 letter(sums.at(2 * e + 1), mark));
          }
        }
      }
      if (live) {
#pragma unroll
        for (int g = 0; g < kSlots; ++g) to[g * H] = past.slot[g];
      }
      if (t == 0 && !dh0) return;
      carried = past.carry;
      now = before, before = before_ahead, d = t > 0 ? d_ahead : Real(0);
#pragma unroll
      for (int g = 0; g < kSlots; ++g) gate[g] = later[g];
    }
  }
};

template <class Cell>
void wide_backward(const Run& r, const WidePlan& plan, Index B, const Sequences& s, const Real* dy, Real* da, Real* dcarry, Real* dh0,
                   Real* letters) {
  launch_wide("ssm::rnn_back", r, plan, B, s.H, letters, plan.backward_letters(), [&](auto width, auto tiles) {
    WideBackward<Cell, decltype(width)::value, decltype(tiles)::value> kernel{};
    kernel.s = s, kernel.dy = dy, kernel.da = da, kernel.dcarry = dcarry, kernel.dh0 = dh0;
    return kernel;
  });
}

}  // namespace ssm::rnn_op
#endif
