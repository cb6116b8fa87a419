// tile.hpp - small dense blocks inside one kernel: one work item is a few loops over tiles, on registers of a CPU core or by a team of GPU
// threads. Kernels are written once: loops go through Team, and sync() stands wherever one loop reads what another wrote.
//
//   launch_teams("ssm::name", r, items, functor);     functor: KOKKOS_FUNCTION void operator()(const Team& team, Index item) const
#pragma once
#include "each.hpp"
#include "team_capture.hpp"

namespace ssm {

SSM_FN Index round_up(Index n, Index to) { return (n + to - 1) / to * to; }

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)

constexpr int kVec = 1;  // entries that lanes() hands out at once; widths of tiles are multiples of it

using TeamPolicy = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>>;

struct Team {
  const TeamPolicy::member_type& member;

  template <class F>
  KOKKOS_FUNCTION void grid(Index rows, Index columns, const F& f) const {
    Kokkos::parallel_for(Kokkos::TeamThreadRange(member, rows * columns), [&](const Index i) { f(i / columns, i % columns); });
  }
  template <class F>
  KOKKOS_FUNCTION void lanes(Index n, const F& f) const {
    Kokkos::parallel_for(Kokkos::TeamThreadRange(member, n), [&](const Index i) { f(i); });
  }
  template <class F>
  KOKKOS_FUNCTION void once(const F& f) const {
    Kokkos::single(Kokkos::PerTeam(member), f);
  }
  KOKKOS_FUNCTION void sync() const { member.team_barrier(); }
};

template <class F>
void launch_teams(const char* label, const Run& r, Index items, const F& f) {
  fits_team<F>();
  constexpr int kThreads = 256;
  if (items == 0) return;
  const TeamPolicy policy(r.exec.space, static_cast<int>(items), kThreads);
  Kokkos::parallel_for(
      kernel_name(label), policy, KOKKOS_LAMBDA(const TeamPolicy::member_type& member) { f(Team{member}, member.league_rank()); });
}

// C (M,N) = A (M,K) B (K,N), added to C where `add`; A(i,k) = A[i ai + k ak].
KOKKOS_FUNCTION inline void product(const Team& team, Index M, Index N, Index K, const Real* A, Index ai, Index ak, const Real* B,
                                    Index ldb, Real* C, Index ldc, bool add) {
  team.grid(M, N, [&](const Index i, const Index j) {
    Real sum = add ? C[i * ldc + j] : Real(0);
    for (Index k = 0; k < K; ++k) sum += A[i * ai + k * ak] * B[k * ldb + j];
    C[i * ldc + j] = sum;
  });
  team.sync();
}

KOKKOS_FUNCTION inline Real dot(Index n, const Real* a, const Real* b) {
  Real sum = 0;
  for (Index i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

#else

constexpr int kVec = 64 / sizeof(Real);
typedef Real Vec __attribute__((vector_size(64), may_alias));

struct Team {
  // f(row, column), columns fastest; entries independent of each other.
  template <class F>
  void grid(Index rows, Index columns, const F& f) const {
    for (Index i = 0; i < rows; ++i) {
      SSM_INDEPENDENT
      for (Index j = 0; j < columns; ++j) f(i, j);
    }
  }
  // f(first) for groups of kVec neighbours; n is a multiple of kVec.
  template <class F>
  void lanes(Index n, const F& f) const {
    for (Index first = 0; first < n; first += kVec) f(first);
  }
  template <class F>
  void once(const F& f) const {
    f();
  }
  void sync() const {}
};

template <class F>
void launch_teams(const char* label, const Run& r, Index items, const F& f) {
  launch(
      label, r, items, KOKKOS_LAMBDA(const Index i) { f(Team{}, i); });
}

// C (M, NV kVec) = A (M,K) B (K, NV kVec), added to C where `add`; A(i,k) = A[i ai + k ak]. M is a multiple of R; B and C are aligned.
template <int R, int NV>
inline void product_columns(Index M, Index K, const Real* A, Index ai, Index ak, const Real* B, Index ldb, Real* C, Index ldc, bool add) {
  for (Index i0 = 0; i0 < M; i0 += R) {
    const Real* a = A + i0 * ai;
    Vec c[R][NV];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) c[i][n] = add ? *reinterpret_cast<const Vec*>(C + (i0 + i) * ldc + n * kVec) : Vec{};
    for (Index k = 0; k < K; ++k) {
      Vec b[NV];
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) b[n] = *reinterpret_cast<const Vec*>(B + k * ldb + n * kVec);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
        for (int n = 0; n < NV; ++n) c[i][n] += a[i * ai + k * ak] * b[n];
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int n = 0; n < NV; ++n) *reinterpret_cast<Vec*>(C + (i0 + i) * ldc + n * kVec) = c[i][n];
  }
}

// The same for any multiple N of kVec; M a multiple of 8.
inline void product(Index M, Index N, Index K, const Real* A, Index ai, Index ak, const Real* B, Index ldb, Real* C, Index ldc, bool add) {
  Index n = 0;
  for (; n + 4 * kVec <= N; n += 4 * kVec) product_columns<4, 4>(M, K, A, ai, ak, B + n, ldb, C + n, ldc, add);
  for (; n + 2 * kVec <= N; n += 2 * kVec) product_columns<8, 2>(M, K, A, ai, ak, B + n, ldb, C + n, ldc, add);
  for (; n + kVec <= N; n += kVec) product_columns<8, 1>(M, K, A, ai, ak, B + n, ldb, C + n, ldc, add);
}
inline void product(const Team&, Index M, Index N, Index K, const Real* A, Index ai, Index ak, const Real* B, Index ldb, Real* C, Index ldc,
                    bool add) {
  product(M, N, K, A, ai, ak, B, ldb, C, ldc, add);
}

// sum a_i b_i; n a multiple of kVec, both aligned
inline Real dot(Index n, const Real* a, const Real* b) {
  Vec sum{};
  for (Index i = 0; i < n; i += kVec) sum += *reinterpret_cast<const Vec*>(a + i) * *reinterpret_cast<const Vec*>(b + i);
  alignas(64) Real lane[kVec];
  *reinterpret_cast<Vec*>(lane) = sum;
  for (int half = kVec / 2; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

#endif

// to (rows, wide) = factor * from (count, columns) of leading extent ld, zeros where `from` ends.
KOKKOS_FUNCTION inline void load_tile(const Team& team, const Real* from, Index ld, Index count, Index columns, Real factor, Index rows,
                                      Index wide, Real* to) {
  team.grid(rows, wide,
            [&](const Index i, const Index c) { to[i * wide + c] = i < count && c < columns ? factor * from[i * ld + c] : Real(0); });
}

// to (columns, rows) = from (rows, columns) transposed; both dense.
KOKKOS_FUNCTION inline void transpose_tile(const Team& team, const Real* from, Index rows, Index columns, Real* to) {
  team.grid(columns, rows, [&](const Index c, const Index i) { to[c * rows + i] = from[i * columns + c]; });
}

// Tiles cut from one block of memory, every one aligned for whole registers. Without a block it only counts.
struct TileMemory {
  Real* base;
  Index used = 0;
  KOKKOS_FUNCTION Real* take(Index count) {
    Real* p = base ? base + used : nullptr;
    used += round_up(count, 64 / sizeof(Real));
    return p;
  }
};

}  // namespace ssm
