// rnn_gpu_wide.hpp - the walk through time on a GPU (CUDA, float) for more units than one processor holds: blocks share the weights and
// send each other what they compute.
//
// A block of 256 threads owns 4 kTiles channels with all of their gates: 16 rows of U a tile (row = 4 slot + channel; the GRU's fourth slot has
// zeros), kept in registers as operands of lib/mma.hpp, three passes. The blocks of a group hold U together; groups share the batch in parts of 8
// sequences. One warp computes the gates of an item, which is a tile with a part: 4 channels x 8 sequences are its 32 lanes.
// Every step is an exchange between all blocks of a group through the L2 cache, whose latency binds: on an H200 forward and backward of H 512
// with 8 sequences take 5 us a position, products with the input included. A number travels as a letter, 32 bits whose last one says whether
// it has come (it costs 2^-23 of the value; three passes keep 2^-21): no counter, no fence, no second read. Letters of even and odd messages
// lie in two halves of the memory, zeros at first, and the bit alternates between the messages of a half. Two halves are enough: a block sends
// message i only after it read i - 1 of every block, and these wrote i - 1 only after all of their threads had read i - 2.
// Backward is in rnn_gpu_wide_back.hpp.
#pragma once
#include <algorithm>

#include "lib/mma.hpp"
#include "ops.hpp"
#include "ops/rnn_gpu.hpp"

#if defined(SSM_RNN_HELD) && defined(SSM_TENSOR_CORES)
#define SSM_RNN_WIDE
namespace ssm::rnn_op {

constexpr Index kMostWide = kDouble ? 0 : 1024;
constexpr int kWideThreads = 256, kWideWarps = kWideThreads / 32;
constexpr int kTile = 4, kPart = 8;  // channels of a tile, sequences of a part

// How a batch is cut: launches of `groups` groups of `blocks` blocks, each with `parts` parts. blocks 0: the device has too few processors.
struct WidePlan {
  int tiles = 1, blocks = 0, groups = 0, parts = 0;
  Index sequences() const { return static_cast<Index>(groups) * parts * kPart; }  // of a launch
  // Letters of forward, and of backward; both halves.
  Index forward_letters() const { return 2 * sequences() * blocks * tiles * kTile; }
  Index backward_letters() const { return forward_letters() * blocks; }
};

inline WidePlan wide_plan(Index B, Index H, int processors) {
  const int chunks = static_cast<int>((H + 15) / 16), all = static_cast<int>(std::min<Index>((B + kPart - 1) / kPart, 1 << 20));
  WidePlan best;
  int least = 0;
  for (const int tiles : {1, 2}) {
    WidePlan plan{tiles, chunks * 16 / (kTile * tiles), 0, 0};
    if (plan.blocks > processors || (tiles == 1 && H > kMostWide / 2)) continue;
    plan.groups = std::min(all, processors / plan.blocks);
    plan.parts = std::min((all + plan.groups - 1) / plan.groups, kWideWarps / tiles);
    const int launches = (all + plan.groups * plan.parts - 1) / (plan.groups * plan.parts);
    const int cost = launches * (6 + plan.parts * (1 + tiles));  // a step's latency counts as much as six products or reads
    if (least == 0 || cost < least) best = plan, least = cost;
  }
  return best;
}

using gpu_tile::Bits, gpu_tile::send;

// The last bit of message i.
__device__ inline Bits mark_of(Index i) { return ~static_cast<Bits>(i >> 1) & 1u; }
__device__ inline Bits letter(float x, Bits mark) { return (__float_as_uint(x) & ~1u) | mark; }
__device__ inline float opened(Bits letter) { return __uint_as_float(letter & ~1u); }
// The first `count` of kGroups groups of four letters, each `apart` from the one before; the others are left alone. Those that have not come
// are asked for again, all at once. The whole warp takes part, with one `count`.
template <int kGroups>
__device__ void receive(const Bits* from, int apart, int count, Bits mark, float (&x)[kGroups][4]) {
  Bits raw[kGroups][4] = {};
  bool missing[kGroups], any;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) missing[i] = i < count;
  do {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) gpu_tile::look(raw[i], from + i * apart, missing[i]);
    any = false;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const Bits wrong = (raw[i][0] ^ mark) | (raw[i][1] ^ mark) | (raw[i][2] ^ mark) | (raw[i][3] ^ mark);
      missing[i] = i < count && (wrong & 1u);
      any = any || missing[i];
    }
  } while (__any_sync(0xffffffffu, any));
#pragma unroll
  for (int i = 0; i < kGroups; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (i < count) x[i][e] = opened(raw[i][e]);
}

// sums += a b of one slice of eight, the three passes apart: consecutive products on the same sums would wait for each other, and tensor cores cut
// the low bits of a sum.
struct Sums {
  float pass[3][4] = {};
  __device__ void add(const float (&a)[4], const Bits (&high)[2], const Bits (&low)[2]) {
    Bits a_high[4], a_low[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) gpu_tile::Mma<3>::split(a[e], a_high[e], a_low[e]);
    gpu_tile::mma(pass[0][0], pass[0][1], pass[0][2], pass[0][3], a_low, high);
    gpu_tile::mma(pass[1][0], pass[1][1], pass[1][2], pass[1][3], a_high, low);
    gpu_tile::mma(pass[2][0], pass[2][1], pass[2][2], pass[2][3], a_high, high);
  }
  __device__ float at(int e) const { return pass[2][e] + (pass[0][e] + pass[1][e]); }
};

// Weights of a thread. Splitting them once for all steps takes twice the registers: the largest are split anew every step, which the compiler
// would rather not do.
template <int I, int J>
struct WideWeights {
  float at[I][J][4];
  static constexpr bool kSplitOnce = I * J <= 16;
  __device__ void keep() {
#pragma unroll
    for (int i = 0; i < I; ++i)
#pragma unroll
      for (int j = 0; j < J; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) gpu_tile::forget_source(at[i][j][e]);
  }
  __device__ void keep_whole() {
    if (!kSplitOnce) keep();
  }
};

// Where a block and its threads stand.
struct WidePlace {
  int group, block, warp, lane, g, t;
  __device__ WidePlace(Index index, int blocks, int thread)
      : group(static_cast<int>(index) / blocks),
        block(static_cast<int>(index) % blocks),
        warp(thread / 32),
        lane(thread % 32),
        g(lane / 4),
        t(lane % 4) {}
};

// kChunks chunks of 16 channels are a warp's share of the sums over H: chunk w + 8 j. Of every four channels that come as one read, the first
// two are slots t and t + 4 of one slice, the others of the next.
template <class Cell, int kWide, int kTiles>
struct WideForward {
  static constexpr int G = Cell::kGates, kThreads = kWideThreads, kBlocks = 1, kChunks = kWide / 16 / kWideWarps;
  static constexpr int kItem = kWideWarps * 16 * kPart;  // partial sums of an item: (warp, row, sequence)
  Sequences s;
  Bits* letters;      // (2, groups, parts, H/16, 8 sequences, 16 channels)
  Index first, last;  // sequences [first, last)
  int blocks, groups, parts;

  std::size_t bytes() const { return sizeof(Real) * 2 * static_cast<std::size_t>(parts * kTiles * kItem); }

  __device__ void operator()(Index index, int thread, Real* memory) const {
    const WidePlace at(index, blocks, thread);
    const Index T = s.T, H = s.H;
    const int chunks = blocks * kTiles / 4, own_chunks = (chunks - at.warp + kWideWarps - 1) / kWideWarps, items = parts * kTiles;
    const int part_size = chunks * 16 * kPart, half = groups * parts * part_size;
    Bits* const mail = letters + at.group * parts * part_size;
    const int from_warp = at.warp * 16 * kPart + at.g * 16 + 4 * at.t;

    WideWeights<kTiles, 2 * kChunks> a;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < kChunks; ++j)
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          const int row = at.g + e % 2 * 8, slot = row / kTile;
          const Index channel = (at.block * kTiles + tile) * kTile + row % kTile;
          const Index k = 16 * (at.warp + kWideWarps * j) + 4 * at.t + e / 4 * 2 + e % 4 / 2;
          a.at[tile][2 * j + e / 4][e % 4] = slot < G && channel < H && k < H ? s.U[(slot * H + channel) * H + k] : Real(0);
        }
    a.keep();

    // The lane of an item: channel c of sequence b.
    const bool mine = at.warp < items;
    const int part = at.warp / kTiles, c = (at.block * kTiles + at.warp % kTiles) * kTile + at.lane / kPart, sequence = at.lane % kPart;
    const Index row = first + (at.group * parts + part) * kPart + sequence;
    const bool live = mine && c < H && row < last;
    const Index b = live ? row : first, own = live ? c : 0;
    Bits* const to = mail + part * part_size + c / 16 * 16 * kPart + sequence * 16 + c % 16;
    Real bias[G], x[kSlots] = {}, ahead[kSlots] = {};
    const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
    Real carry = start ? start[own] : Real(0);
    Real *slots = s.slots + b * T * kSlots * H + own, *y = s.y + b * T * H + own, *kept = s.carry + b * T * H + own;
#pragma unroll
    for (int g = 0; g < G; ++g) bias[g] = s.bias[g * H + own], x[g] = slots[g * H];

    for (Index t = 0; t < T; ++t, slots += kSlots * H, y += H, kept += H) {
      if (mine && t + 1 < T) {
#pragma unroll
        for (int g = 0; g < G; ++g) ahead[g] = slots[(kSlots + g) * H];
      }
      Real* const partial = memory + (t & 1) * items * kItem;
      for (int p = 0; p < parts; ++p) {
        a.keep_whole();
        float h[kChunks][4] = {};
        if (t > 0) receive(mail + (t - 1) % 2 * half + p * part_size + from_warp, kWideWarps * 16 * kPart, own_chunks, mark_of(t - 1), h);
        else if (s.h0) {
#pragma unroll
          for (int j = 0; j < kChunks; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const Index k = 16 * (at.warp + kWideWarps * j) + 4 * at.t + e;
              h[j][e] = k < H ? s.h0[k] : Real(0);
            }
        }
        Sums sums[kTiles];
#pragma unroll
        for (int j = 0; j < kChunks; ++j)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            Bits high[2], low[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) gpu_tile::Mma<3>::split(h[j][2 * i + e], high[e], low[e]);
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) sums[tile].add(a.at[tile][2 * j + i], high, low);
          }
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          float2* out = reinterpret_cast<float2*>(partial + (p * kTiles + tile) * kItem + at.warp * 16 * kPart + at.g * kPart + 2 * at.t);
          out[0] = {sums[tile].at(0), sums[tile].at(1)};
          out[4 * kPart] = {sums[tile].at(2), sums[tile].at(3)};
        }
      }
      __syncthreads();
      if (!mine) continue;
      Real u[kSlots];
#pragma unroll
      for (int g = 0; g < G; ++g) {
        u[g] = bias[g];
#pragma unroll
        for (int w = 0; w < kWideWarps; ++w) u[g] += partial[at.warp * kItem + (w * kSlots + g) * 32 + at.lane];
      }
      const Next next = Cell::next(x, u, carry);
      if (t + 1 < T) send(to + t % 2 * half, letter(live ? next.h : Real(0), mark_of(t)));
      carry = next.carry;
#pragma unroll
      for (int g = 0; g < G; ++g) x[g] = ahead[g];
      if (!live) continue;
#pragma unroll
      for (int g = 0; g < kSlots; ++g) slots[g * H] = next.slot[g];
      *y = next.h;
      if (Cell::kOwnCarry) *kept = next.carry;
    }
  }
};

// Launches make(width, tiles), two integral constants, over the batch; it makes the kernel from {letters, first, last, blocks, groups, parts}.
template <class Make>
void launch_wide(const char* label, const Run& r, const WidePlan& plan, Index B, Index H, Real* letters, Index count, const Make& make) {
  const auto start = [&](auto width, auto tiles) {
    for (Index first = 0; first < B; first += plan.sequences()) {
      auto kernel = make(width, tiles);
      kernel.letters = reinterpret_cast<Bits*>(letters);
      kernel.first = first, kernel.last = std::min(B, first + plan.sequences());
      kernel.blocks = plan.blocks, kernel.groups = plan.groups, kernel.parts = plan.parts;
      fill(r, letters, count, 0);
      launch_together(label, r, static_cast<Index>(plan.blocks) * plan.groups, kernel.bytes(), kernel);
    }
  };
  using std::integral_constant;
  if constexpr (kMostWide == 0) return;
  else {
    const auto wide = [&](auto tiles) {
      if (H <= kMostWide / 4) start(integral_constant<int, kMostWide / 4>(), tiles);
      else start(integral_constant<int, kMostWide / 2>(), tiles);
    };
    if (H > kMostWide / 2) start(integral_constant<int, kMostWide>(), integral_constant<int, 2>());
    else if (plan.tiles == 1) wide(integral_constant<int, 1>());
    else wide(integral_constant<int, 2>());
  }
}
template <class Cell>
void wide_forward(const Run& r, const WidePlan& plan, Index B, const Sequences& s, Real* letters) {
  launch_wide("ssm::rnn", r, plan, B, s.H, letters, plan.forward_letters(), [&](auto width, auto tiles) {
    WideForward<Cell, decltype(width)::value, decltype(tiles)::value> kernel{};
    return kernel.s = s, kernel;
  });
}

}  // namespace ssm::rnn_op
#endif
