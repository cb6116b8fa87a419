// mimo_pieces_gpu.hpp - how the kernels of mimo_scan_gpu.hpp cut time: pieces of kPiece steps, and tiles of pieces on chip.
#pragma once
#include "lib/mma_tile.hpp"
#include "math.hpp"

#if defined(SSM_TENSOR_CORES)
namespace ssm::mimo_scan_op {

using namespace gpu_tile;

constexpr int kPiece = 16;          // steps, a power of two
constexpr Index kProcessors = 132;  // blocks that a device runs at once, or half of them where two share a multiprocessor

SSM_FN Index pieces_of(Index T) { return (T + kPiece - 1) / kPiece; }
struct Pieces {
  const Real *lambda, *from;  // (4,p); (B,T,2p)
  Real* carry;                // (B,pieces,2p)
  Index B, T, p;
  bool adjoint;

  SSM_FN Index count() const { return pieces_of(T); }
};

// Number `index` of the tiles of `rows` rows, per_row of them a sequence: rows [row, row + count) of all, from step `first` of their sequence.
struct Tile {
  Index row, piece;  // piece: the first one's place in carry
  int first, count;
  __device__ Tile(int T, int per_row, int rows, int index) {
    const int b = index / per_row;
    first = (index - b * per_row) * rows;
    row = static_cast<Index>(b) * T + first;
    piece = static_cast<Index>(b) * ((T + kPiece - 1) / kPiece) + first / kPiece;
    count = T - first < rows ? T - first : rows;
  }
};

// Where a lane's loads of a left operand in a turned tile start: four steps of eight columns (mma_tile.hpp).
template <int K>
__device__ void left_starts(const Real* tile, int lane, unsigned (&at)[4]) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    at[q] = chip_address(tile) + 4u * static_cast<unsigned>(lane % 16 * K + ((8 * q + lane / 16 * 4) ^ turned(lane % 16)));
}

}  // namespace ssm::mimo_scan_op
#endif
