// emulated_device.hpp - blocks of GPU threads on this processor, for tests of the GPU's kernels where there is no GPU (preset `emulated`).
//
// Every thread of a block is a fiber that runs until it has to wait: at a barrier of its block, or where the 32 lanes of its warp exchange
// something. On-chip memory starts as NaN. From block to block and from launch to launch the threads go on first to last or last to first, and
// asynchronous copies land at once or as late as copies_wait() allows: a kernel that lacks a barrier gives other numbers or NaN in some of them.
// Threads that can never go on, lanes that meet in different exchanges, and more on-chip memory than the device has are errors that name the kernel.
// Not shown: races within one access of all threads, the memory model between blocks, and anything about time.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "real.hpp"
#include "run.hpp"

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's names
#define __device__
#define __forceinline__ inline

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace ssm::emulated {

#if SSM_EMULATED_DEVICE == 2
constexpr bool kCuda = false;
constexpr std::size_t kChipMemory = 64 * 1024;
#else
constexpr bool kCuda = true;
constexpr std::size_t kChipMemory = 227 * 1024;
#endif
constexpr int kProcessors = 40, kWarpSize = 32;

// f(block, thread, on-chip memory of `bytes`) for all blocks; together: all at once, so that they may wait for each other.
using Body = std::function<void(Index, int, Real*)>;
void launch(const char* label, const Run& r, Index blocks, int threads, std::size_t bytes, const Body& f, bool together);

void sync_block();
bool any_of_block(bool x);  // waits for all
// Waits for the lanes of this warp, and gives what each of them passed, `bytes` long; lane l's at [l kSlot]. The last one to come calls `work`
// for all of them.
constexpr std::size_t kSlot = 64;
const std::byte* exchange(const char* what, const void* own, std::size_t bytes, void (*work)(std::byte*) = nullptr);
// The product of instructions.hpp.
void multiply(float* (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
int lane();
const std::byte* chip_memory();  // of this block

// A copy to on-chip memory that lands by the time wait_copies(left) returns; from null: zeros.
void copy(unsigned to, const void* from, std::size_t bytes);
void end_copies();
void wait_copies(std::size_t left);

template <class T>
T from_lane(const char* what, T own, int other) {
  static_assert(sizeof(T) <= kSlot);
  const std::byte* all = exchange(what, &own, sizeof(T));
  T x;
  std::memcpy(&x, all + static_cast<std::size_t>(other) * kSlot, sizeof(T));
  return x;
}

}  // namespace ssm::emulated

// The built-in functions that our kernels use.
inline void __syncthreads() { ssm::emulated::sync_block(); }
inline int __syncthreads_or(int x) { return ssm::emulated::any_of_block(x != 0); }
inline void __syncwarp() { ssm::emulated::exchange("__syncwarp", nullptr, 0); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return ssm::emulated::from_lane("__shfl_xor_sync", x, ssm::emulated::lane() ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T x, int lane) {
  return ssm::emulated::from_lane("__shfl_sync", x, lane % ssm::emulated::kWarpSize);
}
template <class T>
T __shfl_up_sync(unsigned, T x, int delta) {
  const int lane = ssm::emulated::lane();
  return ssm::emulated::from_lane("__shfl_up_sync", x, lane < delta ? lane : lane - delta);
}
template <class T>
T __shfl_down_sync(unsigned, T x, int delta) {
  const int lane = ssm::emulated::lane();
  return ssm::emulated::from_lane("__shfl_down_sync", x, lane + delta < ssm::emulated::kWarpSize ? lane + delta : lane);
}
template <class T>
T __shfl_xor(T x, int mask, int = ssm::emulated::kWarpSize) {
  return ssm::emulated::from_lane("__shfl_xor", x, ssm::emulated::lane() ^ mask);
}
inline bool __any_sync(unsigned, bool x) {
  const std::byte* all = ssm::emulated::exchange("__any_sync", &x, 1);
  bool any = false;
  for (int lane = 0; lane < ssm::emulated::kWarpSize; ++lane) any = any || all[lane * ssm::emulated::kSlot] != std::byte{0};
  return any;
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
using std::max, std::min;
inline std::uint32_t __float_as_uint(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float __uint_as_float(std::uint32_t x) { return std::bit_cast<float>(x); }
inline void sincospif(float x, float* s, float* c) {
  *s = static_cast<float>(std::sin(3.14159265358979323846 * x)), *c = static_cast<float>(std::cos(3.14159265358979323846 * x));
}
inline void sincospi(double x, double* s, double* c) {
  const double turn = 3.14159265358979323846 * std::remainder(x, 2.0);
  *s = std::sin(turn), *c = std::cos(turn);
}
// NOLINTEND(bugprone-reserved-identifier)
