// reduce.hpp - sums whose order is fixed by the shape alone: the same bits for any number of threads, no atomics.
//
//   sum_columns("ssm::bias", r, rows, columns, v(scratch), KOKKOS_LAMBDA(Index row, Index c) { return dy[row * D + c]; }, Grad{d(bias), true});
//   sum_all("ssm::loss", r, n, v(scratch), KOKKOS_LAMBDA(Index i) { return double(loss[i]); }, &state->loss_sum);
#pragma once
#include "add_few.hpp"
#include "rows.hpp"
#include "tensor.hpp"

namespace ssm {

// Pieces that `rows` rows are cut into: on a GPU more where few columns would leave most of it idle.
SSM_FN Index row_splits(Index rows, Index columns = 256) {
  const Index wanted = (rows + 31) / 32, most = kOnHost || columns > 64 ? 256 : 1024;
  return wanted < 1 ? 1 : wanted > most ? most : wanted;
}

// Numbers (Real) of scratch for sum_columns with an accumulator of type Acc.
template <class Acc = Real>
Index sum_columns_scratch(Index rows, Index columns) {
  return row_splits(rows, columns) * columns * static_cast<Index>(sizeof(Acc) / sizeof(Real));
}

#if defined(SSM_GPU_CODE)

template <class Acc, class In, class To>
struct SumOfPieces : FewSums {
  Index splits, columns;
  const In* part;
  To to;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index c = block * kWarp + thread % kWarp;
    const Acc total = sum<Acc>(part + (c < columns ? c : 0), splits, columns, thread, reinterpret_cast<Acc*>(memory));
    if (thread < kWarp && c < columns) to(c, total);
  }
};

// to(c, sum over the pieces of part (splits, columns)) for every column, in an order of its own on a CPU and on a GPU.
template <class Acc, class In, class To>
void sum_pieces(const char* label, const Run& r, Index splits, Index columns, const In* part, const To& to) {
  launch_shared(label, r, (columns + kWarp - 1) / kWarp, sizeof(Acc) * FewSums::kThreads,
                SumOfPieces<Acc, In, To>{{}, splits, columns, part, to});
}

#else

template <class Acc, class In, class To>
void sum_pieces(const char* label, const Run& r, Index splits, Index columns, const In* part, const To& to) {
  launch(
      label, r, columns, KOKKOS_LAMBDA(const Index c) {
        Acc sum = 0;
        for (Index split = 0; split < splits; ++split) sum += static_cast<Acc>(part[split * columns + c]);
        to(c, sum);
      });
}

#endif

// to(c, sum over rows of f(row, c)) for every column. `to` is a Grad, or any functor of (column, Acc).
template <class Acc = Real, class F, class To>
void sum_columns(const char* label, const Run& r, Index rows, Index columns, Real* scratch, const F& f, const To& to) {
  constexpr int W = kOnHost ? 64 : 1;
  const Index splits = row_splits(rows, columns), groups = (columns + W - 1) / W;
  Acc* part = reinterpret_cast<Acc*>(scratch);
  launch(
      label, r, splits * groups, KOKKOS_LAMBDA(const Index k) {
        const Index split = quotient(k, groups), first = (k - split * groups) * W;
        const Index begin = rows * split / splits, end = rows * (split + 1) / splits;
        const int width = static_cast<int>(columns - first < W ? columns - first : W);
        Acc sum[W];
        for (int l = 0; l < W; ++l) sum[l] = 0;
        if (!kOnHost) {  // eight loads in flight
          Acc eight[8] = {0, 0, 0, 0, 0, 0, 0, 0};
          Index row = begin;
          for (; row + 7 < end; row += 8)
            for (int q = 0; q < 8; ++q) eight[q] += static_cast<Acc>(f(row + q, first));
          for (; row < end; ++row) eight[0] += static_cast<Acc>(f(row, first));
          sum[0] = ((eight[0] + eight[1]) + (eight[2] + eight[3])) + ((eight[4] + eight[5]) + (eight[6] + eight[7]));
        } else if (width == W) {
          for (Index row = begin; row < end; ++row)
            for (int l = 0; l < W; ++l) sum[l] += static_cast<Acc>(f(row, first + l));
        } else {
          for (Index row = begin; row < end; ++row)
            for (int l = 0; l < width; ++l) sum[l] += static_cast<Acc>(f(row, first + l));
        }
        for (int l = 0; l < width; ++l) part[split * columns + first + l] = sum[l];
      });
  sum_pieces<Acc>(label, r, splits, columns, part, to);
}

// Two sums at once.
template <class Acc>
struct Both {
  Acc one, two;
};

#if defined(SSM_GPU_CODE)

template <class Acc, class To>
struct SumOfBothPieces : FewSums {
  Index splits, columns;
  const Acc* part;
  To to;
  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index c = block * kWarp + thread % kWarp;
    const Acc* from = part + (c < columns ? c : 0);
    Acc* room = reinterpret_cast<Acc*>(memory);
    const Acc one = sum<Acc>(from, splits, 2 * columns, thread, room);
    const Acc two = sum<Acc>(from + columns, splits, 2 * columns, thread, room + kThreads);
    if (thread < kWarp && c < columns) to(c, Both<Acc>{one, two});
  }
};
template <class Acc, class To>
void sum_both_pieces(const char* label, const Run& r, Index splits, Index columns, const Acc* part, const To& to) {
  launch_shared(label, r, (columns + kWarp - 1) / kWarp, 2 * sizeof(Acc) * FewSums::kThreads,
                SumOfBothPieces<Acc, To>{{}, splits, columns, part, to});
}

#else

template <class Acc, class To>
void sum_both_pieces(const char* label, const Run& r, Index splits, Index columns, const Acc* part, const To& to) {
  launch(
      label, r, columns, KOKKOS_LAMBDA(const Index c) {
        Both<Acc> sum{0, 0};
        for (Index split = 0; split < splits; ++split)
          sum.one += part[2 * split * columns + c], sum.two += part[(2 * split + 1) * columns + c];
        to(c, sum);
      });
}

#endif

// to(c, sums over rows of f(row, c)) for every column, in one pass; f gives Both<Acc>, and needs twice the scratch of sum_columns.
template <class Acc, class F, class To>
void sum_both_columns(const char* label, const Run& r, Index rows, Index columns, Real* scratch, const F& f, const To& to) {
  constexpr int W = kOnHost ? 64 : 1;
  const Index splits = row_splits(rows, columns), groups = (columns + W - 1) / W;
  Acc* part = reinterpret_cast<Acc*>(scratch);
  launch(
      label, r, splits * groups, KOKKOS_LAMBDA(const Index k) {
        const Index split = quotient(k, groups), first = (k - split * groups) * W;
        const Index begin = rows * split / splits, end = rows * (split + 1) / splits;
        const int width = static_cast<int>(columns - first < W ? columns - first : W);
        Acc one[W], two[W];
        for (int l = 0; l < W; ++l) one[l] = two[l] = 0;
        const auto add = [&](int l, const Both<Acc>& b) { one[l] += b.one, two[l] += b.two; };
        if (!kOnHost) {  // the loads of eight rows in flight
          Both<Acc> eight[8];
          for (int q = 0; q < 8; ++q) eight[q] = {0, 0};
          Index row = begin;
          for (; row + 7 < end; row += 8)
            for (int q = 0; q < 8; ++q) {
              const Both<Acc> b = f(row + q, first);
              eight[q].one += b.one, eight[q].two += b.two;
            }
          for (; row < end; ++row) add(0, f(row, first));
          for (int q = 0; q < 8; ++q) add(0, eight[q]);
        } else if (width == W) {
          for (Index row = begin; row < end; ++row)
            for (int l = 0; l < W; ++l) add(l, f(row, first + l));
        } else {
          for (Index row = begin; row < end; ++row)
            for (int l = 0; l < width; ++l) add(l, f(row, first + l));
        }
        for (int l = 0; l < width; ++l) {
          part[2 * split * columns + first + l] = one[l];
          part[(2 * split + 1) * columns + first + l] = two[l];
        }
      });
  sum_both_pieces(label, r, splits, columns, part, to);
}

constexpr Index kParts = kOnHost ? 64 : 4096;       // partial sums of sum_all
constexpr Index kSumAllScratch = kParts * 2 + 128;  // numbers (Real) of scratch for sum_all

// *to += sum of f(i) over [0, n), in double.
template <class F>
void sum_all(const char* label, const Run& r, Index n, Real* scratch, const F& f, double* to) {
  double* part = reinterpret_cast<double*>(scratch);
  launch(
      label, r, kParts, KOKKOS_LAMBDA(const Index p) {
        const Index step = kOnHost ? 1 : kParts, end = kOnHost ? n * (p + 1) / kParts : n;
        Index i = kOnHost ? n * p / kParts : p;
        double sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (; i + 7 * step < end; i += 8 * step)
          for (int l = 0; l < 8; ++l) sum[l] += f(i + l * step);
        for (; i < end; i += step) sum[0] += f(i);
        part[p] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
      });
  constexpr Index quarter = kParts / 64;
  double* few = part + (kOnHost ? 0 : kParts);
  if (!kOnHost)
    launch(
        label, r, 64, KOKKOS_LAMBDA(const Index p) {
          double sum = 0;
          for (Index k = 0; k < quarter; ++k) sum += part[p * quarter + k];
          few[p] = sum;
        });
  launch(
      label, r, 1, KOKKOS_LAMBDA(const Index) {
        double sum = 0;
        for (Index p = 0; p < 64; ++p) sum += few[p];
        *to += sum;
      });
}

}  // namespace ssm
