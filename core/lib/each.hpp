// each.hpp - loops over flat memory: one entry per work item on a GPU, a block of entries that compiles to SIMD on a CPU.
#pragma once
#include "launch.hpp"
#include "math.hpp"
#include "tensor.hpp"

// Says that the iterations of the next loop do not depend on each other through memory.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define SSM_INDEPENDENT _Pragma("GCC ivdep")
#else
#define SSM_INDEPENDENT
#endif

namespace ssm {

constexpr Index kBlock = kOnHost ? 1024 : 1;

// f(i) for i in [0, n). Iterations must be independent: no entry is written by one and read by another.
template <class F>
void each(const char* label, const Run& r, Index n, const F& f) {
  const Index blocks = (n + kBlock - 1) / kBlock;
  launch(
      label, r, blocks, KOKKOS_LAMBDA(const Index k) {
        const Index first = k * kBlock, last = first + kBlock < n ? first + kBlock : n;
        SSM_INDEPENDENT
        for (Index i = first; i < last; ++i) f(i);
      });
}

// a / b of what a launch counts: 64-bit divisions cost a GPU more than the loads they place.
SSM_FN Index quotient(Index a, Index b) {
#if SSM_DEVICE_CODE
  if (((a | b) >> 31) == 0) return static_cast<Index>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b));
#endif
  return a / b;
}

// f(row, column) for a (rows, columns) array, columns fastest; iterations independent as for each().
template <class F>
void each_row(const char* label, const Run& r, Index rows, Index columns, const F& f) {
  const Index blocks = (columns + kBlock - 1) / kBlock;
  launch(
      label, r, rows * blocks, KOKKOS_LAMBDA(const Index k) {
        const Index row = quotient(k, blocks), first = (k - row * blocks) * kBlock,
                    last = first + kBlock < columns ? first + kBlock : columns;
        SSM_INDEPENDENT
        for (Index c = first; c < last; ++c) f(row, c);
      });
}

}  // namespace ssm
