// launch.hpp - the only way to start a kernel: labelled, on the run's own instance, small enough to be captured in a graph.
//
// Only files with kernels include this header; the build sends exactly those through nvcc or hipcc.
#pragma once
#include <Kokkos_Core.hpp>
#include <string>

#include "run.hpp"

namespace ssm {

using ExecSpace = Kokkos::DefaultExecutionSpace;
struct Exec {
  ExecSpace space;
};

// Kernels are made for a CPU: SIMD over neighbouring channels instead of one entry a thread.
constexpr bool kOnHost = !kEmulated && Kokkos::SpaceAccessibility<Kokkos::HostSpace, ExecSpace::memory_space>::accessible;

// Channels one work item handles: a SIMD register's worth on a CPU, one thread's worth on a GPU.
constexpr int kLanes = kOnHost ? (kDouble ? 8 : 16) : 1;

// A functor above 512 bytes would travel through constant memory with an event wait, which graph capture refuses.
template <class F>
constexpr void fits() {
  static_assert(sizeof(F) <= 448, "kernel captures too much: pass raw pointers or a struct of them");
}

// An end of a range that Kokkos cannot convert back: it would otherwise build the text of a warning, on the heap, for every kernel.
struct Bound {
  Index at;
  operator Index() const { return at; }
};

// The std::string of a literal, made once: a launch must not allocate.
const std::string& kernel_name(const char* literal);

// f(i) for i in [0, n).
template <class F>
void launch(const char* label, const Run& r, Index n, const F& f) {
  fits<F>();
  using Range = Kokkos::RangePolicy<ExecSpace, Kokkos::IndexType<Index>>;
  if (n > 0) Kokkos::parallel_for(kernel_name(label), Range(r.exec.space, Bound{0}, Bound{n}), f);
}

// f.template run<W>(row, first) for every row and every group of W channels [first, first + W): W is kLanes for whole groups and 1 for the
// channels that remain, so that an inner `for (int l = 0; l < W; ++l)` compiles to SIMD on a CPU and to nothing on a GPU.
template <class F>
void launch_lanes(const char* label, const Run& r, Index rows, Index channels, const F& f) {
  const Index groups = channels / kLanes, rest = channels - groups * kLanes, items = groups + rest;
  launch(
      label, r, rows * items, KOKKOS_LAMBDA(const Index i) {
        const Index row = i / items, k = i - row * items;
        if (k < groups) f.template run<kLanes>(row, k * kLanes);
        else f.template run<1>(row, groups * kLanes + (k - groups));
      });
}

}  // namespace ssm
