// blas_plain.cpp - matrix products in plain Kokkos: what the BLAS doors are compared with, and the door itself where there is no BLAS.
#include <stdexcept>
#include <string>

#include "launch.hpp"
#include "lib/add_few.hpp"
#include "lib/blas.hpp"

namespace ssm {

SumCut sum_cut(Index M, Index N, Index K, Index batch) {
  constexpr Index kRows = 512;  // terms that make a part worth its memory traffic
  constexpr Index kMaxParts = 32;
  constexpr Index kMaxNumbers = 1 << 21;  // scratch
  Index parts = batch * K / kRows;
  if (parts > kMaxParts) parts = kMaxParts;
  if (parts * M * (N + 1) > kMaxNumbers) parts = kMaxNumbers / (M * (N + 1));
  if (parts < 1) parts = 1;
  const Index cuts = (parts + batch - 1) / batch;
  return {cuts, parts < batch * cuts ? parts : batch * cuts};
}

namespace plain {

// One row of a tile: C(m, n..n+W).
struct PlainGemm {
  Gemm g;

  template <int W>
  KOKKOS_FUNCTION void run(Index row, Index n) const {
    const Index b = row / g.M, m = row - b * g.M;
    const Real* A = g.A + b * g.stride_a + m * (g.ta ? 1 : g.lda);
    const Real* B = g.B + b * g.stride_b + n * (g.tb ? g.ldb : 1);
    Real* C = g.C + b * g.stride_c + m * g.ldc + n;
    const Index step_a = g.ta ? g.lda : 1, step_b = g.tb ? 1 : g.ldb, lane_b = g.tb ? g.ldb : 1;
    Real sum[W];
    for (int l = 0; l < W; ++l) sum[l] = 0;
    for (Index k = 0; k < g.K; ++k) {
      const Real a = A[k * step_a];
      for (int l = 0; l < W; ++l) sum[l] += a * B[k * step_b + l * lane_b];
    }
    for (int l = 0; l < W; ++l) {
      Real value = g.alpha * sum[l];
      if (g.bias) value += g.bias[g.bias_per_row ? m : n + l];
      if (g.onto) value += g.onto[b * g.stride_c + m * g.ldc + n + l];
      if (g.beta != 0) value += g.beta * C[l];
      C[l] = value;
    }
  }
};

void gemm(const Run& r, const Gemm& g) { launch_lanes("ssm::plain::gemm", r, g.batch * g.M, g.N, PlainGemm{g}); }

#if defined(SSM_GPU_CODE)
struct AddFew : FewSums {
  static constexpr std::size_t kBytes = sizeof(Real) * kThreads;
  const Real* part;
  Index parts, stride, count;
  Real beta, *y;

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index i = block * kWarp + thread % kWarp;
    const Real total = sum(part + (i < count ? i : 0), parts, stride, thread, memory);
    if (thread < kWarp && i < count) y[i] = beta != 0 ? beta * y[i] + total : total;
  }
};
#endif

void add_parts(const Run& r, const Real* part, Index parts, Index stride, Index count, Real beta, Real* y) {
#if defined(SSM_GPU_CODE)
  if (parts >= 8 && count <= (1 << 16))
    return launch_shared("ssm::add_parts", r, (count + kWarp - 1) / kWarp, AddFew::kBytes, AddFew{{}, part, parts, stride, count, beta, y});
  constexpr int kAtOnce = 8;  // loads of a thread on their way
  launch(
      "ssm::add_parts", r, count, KOKKOS_LAMBDA(const Index i) {
        Real sum = 0;
        for (Index p = 0; p < parts; p += kAtOnce) {
          Real some[kAtOnce];
          SSM_UNROLL
          for (int q = 0; q < kAtOnce; ++q) some[q] = p + q < parts ? part[(p + q) * stride + i] : Real(0);
          SSM_UNROLL
          for (int q = 0; q < kAtOnce; ++q) sum += some[q];
        }
        y[i] = beta != 0 ? beta * y[i] + sum : sum;
      });
#else
  constexpr Index W = 256;
  launch(
      "ssm::add_parts", r, (count + W - 1) / W, KOKKOS_LAMBDA(const Index k) {
        const Index first = k * W;
        const int width = static_cast<int>(count - first < W ? count - first : W);
        Real sum[W] = {};
        for (int l = 0; l < width; ++l) sum[l] = part[first + l];
        for (Index p = 1; p < parts; ++p)
          for (int l = 0; l < width; ++l) sum[l] += part[p * stride + first + l];
        for (int l = 0; l < width; ++l) y[first + l] = beta != 0 ? beta * y[first + l] + sum[l] : sum[l];
      });
#endif
}

Real* parts_of_sum(const Gemm& g, Room scratch) {
  const Index needed = gemm_sum_scratch(g.M, g.N, g.K, g.batch);
  if (scratch.size >= needed) return scratch.p;
  throw std::logic_error("gemm_sum of (" + std::to_string(g.M) + ", " + std::to_string(g.N) + ") over " + std::to_string(g.batch) +
                         " times " + std::to_string(g.K) + " needs " + std::to_string(needed) + " numbers of scratch, got " +
                         std::to_string(scratch.size));
}

void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room room) {
  Real* scratch = parts_of_sum(g, room);
  const SumCut cut = sum_cut(g.M, g.N, g.K, g.batch);
  const Index width = g.N + 1, pieces = g.batch * cut.cuts, piece = (g.K + cut.cuts - 1) / cut.cuts;
  const Gemm c = g;
  const Index columns = c.C ? width : 1;  // the last one is the row sum
  launch(
      "ssm::plain::gemm_sum", r, cut.parts * c.M * columns, KOKKOS_LAMBDA(const Index i) {
        const Index p = i / (c.M * columns), m = (i - p * c.M * columns) / columns, n = i % columns;
        const bool ones = n == columns - 1;
        Real sum = 0;
        for (Index q = pieces * p / cut.parts; q < pieces * (p + 1) / cut.parts; ++q) {
          const Index b = q / cut.cuts, first = (q - b * cut.cuts) * piece, last = first + piece < c.K ? first + piece : c.K;
          const Real* A = c.A + b * c.stride_a + m * (c.ta ? 1 : c.lda);
          const Real* B = c.B + b * c.stride_b + n * (c.tb ? c.ldb : 1);
          for (Index k = first; k < last; ++k) sum += A[k * (c.ta ? c.lda : 1)] * (ones ? Real(1) : B[k * (c.tb ? 1 : c.ldb)]);
        }
        scratch[p * c.M * width + (ones ? c.M * c.N + m : m * c.N + n)] = c.alpha * sum;
      });
  if (c.C) add_parts(r, scratch, cut.parts, c.M * width, c.M * c.N, c.beta, c.C);
  if (row_sum) add_parts(r, scratch + c.M * c.N, cut.parts, c.M * width, c.M, 1, row_sum);
}

}  // namespace plain
}  // namespace ssm
