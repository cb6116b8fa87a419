// rows.hpp - one work item per row with reductions over the row: SIMD lanes on a CPU, one warp on a GPU. Fixed order, no atomics.
//
//   launch_rows("ssm::rms", r, rows, KOKKOS_LAMBDA(const Row& row, const Index i) {
//     const Real square = row.sum(D, [&](Index c) { return x[i * D + c] * x[i * D + c]; });
//     row.each(D, [&](Index c) { y[i * D + c] = x[i * D + c] / square; });
//   });
#pragma once
#include "each.hpp"

namespace ssm {

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)

using RowPolicy = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>>;

// The lanes that share one row; every lane gets the result of a reduction.
struct Row {
  const RowPolicy::member_type& team;

  template <class F>
  KOKKOS_FUNCTION Real sum(Index n, const F& f) const {
    Real total = 0;
    Kokkos::parallel_reduce(Kokkos::ThreadVectorRange(team, n), [&](const Index i, Real& part) { part += f(i); }, total);
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

template <class F>
void launch_rows(const char* label, const Run& r, Index rows, const F& f) {
  fits<F>();
  constexpr int kRows = 4;  // rows of one team
  if (rows == 0) return;
  const RowPolicy policy(r.exec.space, static_cast<int>((rows + kRows - 1) / kRows), kRows, 32);
  Kokkos::parallel_for(label, policy, KOKKOS_LAMBDA(const RowPolicy::member_type& team) {
    const Index i = static_cast<Index>(team.league_rank()) * kRows + team.team_rank();
    if (i < rows) f(Row{team}, i);
  });
}

#else

struct Row {
  static constexpr int W = kLanes;

  template <class F>
  Real sum(Index n, const F& f) const {
    Real part[W];
    for (int l = 0; l < W; ++l) part[l] = 0;
    Index i = 0;
    for (; i + W <= n; i += W)
      for (int l = 0; l < W; ++l) part[l] += f(i + l);
    for (int l = 0; i + l < n; ++l) part[l] += f(i + l);
    for (int half = W / 2; half > 0; half /= 2)
      for (int l = 0; l < half; ++l) part[l] += part[l + half];
    return part[0];
  }
  // n >= 1
  template <class F>
  Real max(Index n, const F& f) const {
    Real part[W];
    const Real first = f(0);
    for (int l = 0; l < W; ++l) part[l] = first;
    Index i = 0;
    for (; i + W <= n; i += W)
      for (int l = 0; l < W; ++l) {
        const Real value = f(i + l);
        part[l] = part[l] < value ? value : part[l];
      }
    for (int l = 0; i + l < n; ++l) part[l] = part[l] < f(i + l) ? f(i + l) : part[l];
    for (int l = 1; l < W; ++l) part[0] = part[0] < part[l] ? part[l] : part[0];
    return part[0];
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
  launch(label, r, rows, KOKKOS_LAMBDA(const Index i) { f(Row{}, i); });
}

#endif

}  // namespace ssm
