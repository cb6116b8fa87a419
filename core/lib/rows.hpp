// rows.hpp - one work item per row with reductions over the row: SIMD lanes on a CPU, one warp on a GPU. Fixed order, no atomics.
//
//   launch_rows("ssm::rms", r, rows, KOKKOS_LAMBDA(const Row& row, const Index i) {
//     const Real square = row.sum(D, [&](Index c) { return x[i * D + c] * x[i * D + c]; });
//     row.each(D, [&](Index c) { y[i * D + c] = x[i * D + c] / square; });
//   });
#pragma once
#include <type_traits>

#include "each.hpp"
#include "team_capture.hpp"

namespace ssm {

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)

using RowPolicy = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>>;

// The lanes that share one row; every lane gets the result of a reduction.
struct Row {
  const RowPolicy::member_type& team;

  template <class Acc = Real, class F>
  KOKKOS_FUNCTION Acc sum(Index n, const F& f) const {
    Acc total = 0;
    Kokkos::parallel_reduce(
        Kokkos::ThreadVectorRange(team, n), [&](const Index i, Acc& part) { part += f(i); }, total);
    return total;
  }
  template <class F>
  KOKKOS_FUNCTION Real max(Index n, const F& f) const {
    Real best = f(0);
    Kokkos::parallel_reduce(
        Kokkos::ThreadVectorRange(team, n), [&](const Index i, Real& part) { part = part < f(i) ? f(i) : part; }, Kokkos::Max<Real>(best));
    return best;
  }
  template <class F>
  KOKKOS_FUNCTION void each(Index n, const F& f) const {
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, n), f);
  }
  template <class F>
  KOKKOS_FUNCTION void once(const F& f) const {
    Kokkos::single(Kokkos::PerThread(team), f);
  }
};

constexpr int kTeamRows = 4;  // rows of one team

// A functor and not a lambda: nvcc mixes up equal lambdas of a header that several files were compiled with, and calls through null.
template <class F>
struct OfRows {
  Index rows;
  F f;
  KOKKOS_FUNCTION void operator()(const RowPolicy::member_type& team) const {
    const Index i = static_cast<Index>(team.league_rank()) * kTeamRows + team.team_rank();
    if (i < rows) f(Row{team}, i);
  }
};

template <class F>
void launch_rows(const char* label, const Run& r, Index rows, const F& f) {
  fits_team<OfRows<F>>();
  if (rows == 0) return;
  const RowPolicy policy(r.exec.space, static_cast<int>((rows + kTeamRows - 1) / kTeamRows), kTeamRows, 32);
  Kokkos::parallel_for(kernel_name(label), policy, OfRows<F>{rows, f});
}

#else

// Entries are mapped in blocks that compile to SIMD, and folded on vectors: a compiler may not reorder a sum by itself.
struct Row {
  static constexpr int kMapped = 64, kVec = 32 / sizeof(Real);
  typedef Real Vec __attribute__((vector_size(32), may_alias));  // what compilers store by: a wider load right after would wait

  // fold(accumulator, next) over f(0..n-1); `start` is its neutral element. By reference: a vector by value has no ABI without AVX.
  template <class F, class Fold>
  Real reduce(Index n, Real start, const F& f, const Fold& fold) const {
    alignas(64) Real block[kMapped];
    Vec lanes = start - Vec{};
    for (Index i = 0; i < n; i += kMapped) {
      if (i + kMapped <= n) {
        SSM_INDEPENDENT
        for (int l = 0; l < kMapped; ++l) block[l] = f(i + l);
      } else {
        for (int l = 0; l < kMapped; ++l) block[l] = start;
        SSM_INDEPENDENT
        for (int l = 0; l < static_cast<int>(n - i); ++l) block[l] = f(i + l);
      }
      for (int k = 0; k < kMapped / kVec; ++k) fold(lanes, reinterpret_cast<const Vec*>(block)[k]);
    }
    Vec half = lanes;
    for (int width = kVec / 2; width > 0; width /= 2) {
      for (int l = 0; l < width; ++l) half[l] = lanes[l + width];
      fold(lanes, half);
    }
    return lanes[0];
  }
  template <class Acc = Real, class F>
  Acc sum(Index n, const F& f) const {
    if constexpr (std::is_same_v<Acc, Real>) {
      return reduce(n, 0, f, [](Vec& a, const Vec& b) { a += b; });
    } else {
      Acc total = 0;
      for (Index i = 0; i < n; ++i) total += f(i);
      return total;
    }
  }
  // n >= 1
  template <class F>
  Real max(Index n, const F& f) const {
    return reduce(n, f(0), f, [](Vec& a, const Vec& b) { a = a < b ? b : a; });
  }
  template <class F>
  void each(Index n, const F& f) const {
    SSM_INDEPENDENT
    for (Index i = 0; i < n; ++i) f(i);
  }
  template <class F>
  void once(const F& f) const {
    f();
  }
};

template <class F>
void launch_rows(const char* label, const Run& r, Index rows, const F& f) {
  launch(
      label, r, rows, KOKKOS_LAMBDA(const Index i) { f(Row{}, i); });
}

#endif

}  // namespace ssm
