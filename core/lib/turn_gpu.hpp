// turn_gpu.hpp - a matrix turned through on-chip memory, on CUDA and HIP: neighbouring threads read neighbours and write neighbours.
#pragma once
#include "lib/launch_shared.hpp"
#include "tensor.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm {

// to(b to_step + j to_ld + i) = from[b from_step + i from_ld + j] for i < rows, j < columns: a block a tile.
struct TurnTile {
  static constexpr int kThreads = 256, kBlocks = 8, kEdge = 32, kAtOnce = kThreads / kEdge;
  static constexpr std::size_t kBytes = kEdge * (kEdge + 1) * sizeof(Real);
  const Real* from;
  Grad to;
  Index rows, columns, from_step, from_ld, to_step, to_ld;

  int across = 0, tiles = 0;  // of one matrix; turn_tiles() counts them

  __device__ void operator()(Index block, int thread, Real* tile) const {
    const int matrix = static_cast<int>(block) / tiles, k = static_cast<int>(block) - matrix * tiles, down = k / across;
    const Index b = matrix, i0 = down * kEdge, j0 = (k - down * across) * kEdge;
    const int lane = thread % kEdge, line = thread / kEdge;
#pragma unroll
    for (int i = line; i < kEdge; i += kAtOnce)
      if (i0 + i < rows && j0 + lane < columns) tile[i * (kEdge + 1) + lane] = from[b * from_step + (i0 + i) * from_ld + j0 + lane];
    __syncthreads();
#pragma unroll
    for (int j = line; j < kEdge; j += kAtOnce)
      if (j0 + j < columns && i0 + lane < rows) to(b * to_step + (j0 + j) * to_ld + i0 + lane, tile[lane * (kEdge + 1) + j]);
  }
};

inline void turn_tiles(const char* label, const Run& r, Index count, TurnTile turn) {
  turn.across = static_cast<int>((turn.columns + TurnTile::kEdge - 1) / TurnTile::kEdge);
  turn.tiles = turn.across * static_cast<int>((turn.rows + TurnTile::kEdge - 1) / TurnTile::kEdge);
  launch_shared(label, r, count * turn.tiles, TurnTile::kBytes, turn);
}

}  // namespace ssm
#endif
