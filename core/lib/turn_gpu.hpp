// turn_gpu.hpp - a matrix turned through on-chip memory, on CUDA and HIP: neighbouring threads read neighbours and write neighbours.
#pragma once
#include "lib/launch_shared.hpp"
#include "tensor.hpp"

#if defined(SSM_GPU)
namespace ssm {

// to(b to_step + j to_ld + i) = from[b from_step + i from_ld + j] for i < rows, j < columns: a block a tile.
struct TurnTile {
  static constexpr int kThreads = 256, kBlocks = 8, kEdge = 32, kAtOnce = kThreads / kEdge;
  static constexpr std::size_t kBytes = kEdge * (kEdge + 1) * sizeof(Real);
  const Real* from;
  Grad to;
  Index rows, columns, from_step, from_ld, to_step, to_ld;

  SSM_FN Index across() const { return (columns + kEdge - 1) / kEdge; }
  SSM_FN Index tiles() const { return across() * ((rows + kEdge - 1) / kEdge); }
  __device__ void operator()(Index block, int thread, Real* tile) const {
    const Index b = block / tiles(), k = block - b * tiles(), i0 = k / across() * kEdge, j0 = k % across() * kEdge;
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

inline void turn_tiles(const char* label, const Run& r, Index count, const TurnTile& turn) {
  launch_shared(label, r, count * turn.tiles(), TurnTile::kBytes, turn);
}

}  // namespace ssm
#endif
