// warp.hpp - the few things that 32 neighbouring threads of a GPU do together; HIP's wide waves work as two halves.
#pragma once
#include "gpu.hpp"
#include "math.hpp"

#if defined(SSM_GPU_CODE)

// A variable that the threads of a team share on the chip; at most 48 KiB a kernel. Not through Kokkos' scratch: only a variable tells the
// compiler where the address lies, and only then are its loads short and free to move.
#if SSM_DEVICE_CODE
#define SSM_ON_CHIP __shared__
#else
#define SSM_ON_CHIP
#endif

// Before a loop of device code whose arrays live in registers, and before one that must stay a loop.
#if SSM_DEVICE_CODE
#define SSM_UNROLL _Pragma("unroll")
#define SSM_ROLLED _Pragma("unroll 1")
#else
#define SSM_UNROLL
#define SSM_ROLLED
#endif

namespace ssm {

constexpr int kWarp = 32;

// Value of x in the lane whose number differs from this one's by the bits of mask; mask < 32.
KOKKOS_FUNCTION inline Real shuffle_xor([[maybe_unused]] Real x, [[maybe_unused]] int mask) {
#if defined(__CUDA_ARCH__)
  return __shfl_xor_sync(0xffffffffu, x, mask);
#elif defined(__HIP_DEVICE_COMPILE__)
  return __shfl_xor(x, mask, kWarp);
#elif defined(SSM_EMULATED_DEVICE)
  return emulated::from_lane("shuffle_xor", x, emulated::lane() ^ mask);
#else
  return x;
#endif
}

// Sum over the 32 lanes, in every lane.
KOKKOS_FUNCTION inline Real sum_of_warp(Real x) {
  x += shuffle_xor(x, 16), x += shuffle_xor(x, 8), x += shuffle_xor(x, 4), x += shuffle_xor(x, 2);
  return x + shuffle_xor(x, 1);
}

// One exchange of sum_over_lanes: 2 s values become s. A function of its own, so that every index is a constant and v stays in registers.
template <int s, int V>
KOKKOS_FORCEINLINE_FUNCTION void halve_over_lanes(Real (&v)[V], int lane) {
  const bool upper = lane & s;
  SSM_UNROLL
  for (int i = 0; i < s; ++i) {
    const Real give = upper ? v[i] : v[i + s], keep = upper ? v[i + s] : v[i];
    v[i] = keep + shuffle_xor(give, s);
  }
  if constexpr (s > 1) halve_over_lanes<s / 2>(v, lane);
}

// v[0] of lane l = sum over the 32 lanes of their v[l % V]; V is 16 or 32. The order of the sums is fixed. Every exchange halves what a
// lane still carries, so that V values cost V - 1 exchanges, not 5 V.
template <int V>
KOKKOS_FORCEINLINE_FUNCTION void sum_over_lanes(Real (&v)[V], int lane) {
  static_assert(V == kWarp || V == kWarp / 2);
  if constexpr (V < kWarp) {
    SSM_UNROLL
    for (int i = 0; i < V; ++i) v[i] += shuffle_xor(v[i], V);
  }
  halve_over_lanes<V / 2>(v, lane);
}

// 2^x for x <= 0 in one instruction where the device has it; relative error 2e-7, 0 below -126.
KOKKOS_FUNCTION inline double exp2_device(double x) { return ::exp2(x); }
KOKKOS_FUNCTION inline float exp2_device(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return ::exp2f(x);
#endif
}

// Four neighbours that travel in one load.
struct alignas(4 * sizeof(Real)) Four {
  Real v[4];
};

}  // namespace ssm

#endif
