// into.hpp - loops whose iterations give numbers and leave the writing to the loop: a GPU then loads for four entries before it writes any.
//
//   each_into("ssm::silu_backward", r, n, g(x), KOKKOS_LAMBDA(Index i) { return dY[i] * silu_slope(X[i]); });
//
// A kernel of one entry per thread has 4 bytes of each array on their way: ReLU of 67 MB took 83 us on an H200, and takes 33 with four.
// The target is a Grad (sets or adds, as planned) or a plain pointer (sets). Where f returns Two, there are two targets. f may read, at its
// own entry only, what it writes.
#pragma once
#include "each.hpp"
#include "warp.hpp"

namespace ssm {

struct Two {
  Real one, two;
};

// Targets. The choice between adding and setting is made outside of a CPU's loop, which else may not become SIMD.
template <bool add>
struct ToOne {
  Real* p;
  using Value = Real;
  SSM_FN Value old(Index i) const { return add ? p[i] : Real(0); }
  SSM_FN void put(Index i, Value value, Value old) const { p[i] = add ? old + value : value; }
};
template <bool add, bool add_too>
struct ToTwo {
  Real *p, *q;
  using Value = Two;
  SSM_FN Value old(Index i) const { return {add ? p[i] : Real(0), add_too ? q[i] : Real(0)}; }
  SSM_FN void put(Index i, Value value, Value old) const {
    p[i] = add ? old.one + value.one : value.one;
    q[i] = add_too ? old.two + value.two : value.two;
  }
};

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)

constexpr int kAtOnce = 4;  // entries of one work item

template <class To, class F>
struct Into {
  Index n, items;  // entries, work items: item k makes the entries k, k + items, ..
  To to;
  F f;
  KOKKOS_FUNCTION void operator()(const Index k) const {
    typename To::Value value[kAtOnce], old[kAtOnce];
    SSM_UNROLL
    for (int q = 0; q < kAtOnce; ++q) {
      const Index i = k + q * items < n ? k + q * items : n - 1;
      value[q] = f(i);
      old[q] = to.old(i);
    }
    SSM_UNROLL
    for (int q = 0; q < kAtOnce; ++q)
      if (k + q * items < n) to.put(k + q * items, value[q], old[q]);
  }
};

// The same for row * columns + column, at row * ld + column of the targets; an item's rows are `items` apart.
template <class To, class F>
struct IntoRows {
  Index rows, columns, items, ld;
  To to;
  F f;
  KOKKOS_FUNCTION void operator()(const Index k) const {
    const Index first = quotient(k, columns), c = k - first * columns;
    typename To::Value value[kAtOnce], old[kAtOnce];
    SSM_UNROLL
    for (int q = 0; q < kAtOnce; ++q) {
      const Index row = first + q * items < rows ? first + q * items : rows - 1;
      value[q] = f(row, c);
      old[q] = to.old(row * ld + c);
    }
    SSM_UNROLL
    for (int q = 0; q < kAtOnce; ++q)
      if (first + q * items < rows) to.put((first + q * items) * ld + c, value[q], old[q]);
  }
};

template <class To, class F>
void into(const char* label, const Run& r, Index n, const To& to, const F& f) {
  const Index items = (n + kAtOnce - 1) / kAtOnce;
  launch(label, r, items, Into<To, F>{n, items, to, f});
}
template <class To, class F>
void into_rows(const char* label, const Run& r, Index rows, Index columns, Index ld, const To& to, const F& f) {
  const Index items = (rows + kAtOnce - 1) / kAtOnce;
  launch(label, r, items * columns, IntoRows<To, F>{rows, columns, items, ld, to, f});
}

#else

template <class To, class F>
void into(const char* label, const Run& r, Index n, const To& to, const F& f) {
  each(
      label, r, n, KOKKOS_LAMBDA(const Index i) { to.put(i, f(i), to.old(i)); });
}
template <class To, class F>
void into_rows(const char* label, const Run& r, Index rows, Index columns, Index ld, const To& to, const F& f) {
  each_row(
      label, r, rows, columns, KOKKOS_LAMBDA(const Index row, const Index c) { to.put(row * ld + c, f(row, c), to.old(row * ld + c)); });
}

#endif

// g(target) with the target that the flags of the gradients choose.
template <class G>
void with_target(Real* to, const G& g) {
  g(ToOne<false>{to});
}
template <class G>
void with_target(Grad to, const G& g) {
  if (to.add) g(ToOne<true>{to.p});
  else g(ToOne<false>{to.p});
}
template <class G>
void with_targets(Grad one, Grad two, const G& g) {
  if (one.add && two.add) g(ToTwo<true, true>{one.p, two.p});
  else if (one.add) g(ToTwo<true, false>{one.p, two.p});
  else if (two.add) g(ToTwo<false, true>{one.p, two.p});
  else g(ToTwo<false, false>{one.p, two.p});
}

// to[i] (+)= f(i) for i in [0, n).
template <class To, class F>
void each_into(const char* label, const Run& r, Index n, To to, const F& f) {
  with_target(to, [&](const auto& target) { into(label, r, n, target, f); });
}
template <class F>
void each_into(const char* label, const Run& r, Index n, Grad one, Grad two, const F& f) {
  with_targets(one, two, [&](const auto& target) { into(label, r, n, target, f); });
}

// to[row * ld + column] (+)= f(row, column) for a (rows, columns) array.
template <class To, class F>
void each_row_into(const char* label, const Run& r, Index rows, Index columns, Index ld, To to, const F& f) {
  with_target(to, [&](const auto& target) { into_rows(label, r, rows, columns, ld, target, f); });
}
template <class F>
void each_row_into(const char* label, const Run& r, Index rows, Index columns, Index ld, Grad one, Grad two, const F& f) {
  with_targets(one, two, [&](const auto& target) { into_rows(label, r, rows, columns, ld, target, f); });
}

}  // namespace ssm
