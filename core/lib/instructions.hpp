// instructions.hpp - what the threads of a GPU can do and C++ cannot say: one function each, on CUDA, on HIP and on the emulated device.
// The only assembler of kernels of blocks; what HIP has no counterpart of is there on CUDA alone (SSM_CUDA_CODE).
#pragma once
#include <cstdint>

#include "gpu.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::gpu_tile {

using Bits = std::uint32_t;

// Orders what the threads of one warp wrote to on-chip memory before what they read next. HIP: of the whole block.
__device__ inline void warp_sync() {
#if defined(SSM_CUDA_CODE)
  __syncwarp();
#else
  __syncthreads();
#endif
}
__device__ inline Real from_lane(Real x, int other) {
#if defined(SSM_CUDA_CODE)
  return __shfl_xor_sync(0xffffffffu, x, other);
#else
  return __shfl_xor(x, other);
#endif
}

// 2^x, relative error 2^-22; 0 far below.
__device__ inline double exp2_weight(double x) { return ::exp2(x); }
__device__ inline float exp2_weight(float x) {
#if defined(KOKKOS_ENABLE_CUDA)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return ::exp2f(x);
#endif
}

// Asynchronous copies: copies_end() closes a group, copies_wait<n>() waits for all of this thread's but the last n.
__device__ inline void copies_end() {
#if defined(KOKKOS_ENABLE_CUDA)
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif defined(SSM_CUDA_CODE)
  emulated::end_copies();
#endif
}
template <int kLeft>
__device__ void copies_wait() {
#if defined(KOKKOS_ENABLE_CUDA)
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#elif defined(SSM_CUDA_CODE)
  emulated::wait_copies(kLeft);
#endif
}

#if defined(KOKKOS_ENABLE_CUDA)

__device__ inline unsigned chip_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }
// 16 bytes, both addresses multiples of them; zeros where not `there` (`from` must be an address all the same).
__device__ inline void copy_16(unsigned to, const Real* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void copy_16(unsigned to, const Real* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ inline void copy_one(unsigned to, const Real* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(sizeof(Real)) : "memory");
}
__device__ inline void prefetch(const Real* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// Neighbours to global memory by one access: the compiler cuts assignments of pairs and fours whose entries it computes one by one, and a state
// written four bytes at a time takes twice as long.
__device__ inline void put(float* to, float x, float y) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(x), "f"(y) : "memory");
}
__device__ inline void put(float* to, float x, float y, float z, float w) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x), "f"(y), "f"(z), "f"(w) : "memory");
}

// The compiler no longer knows where x came from, and keeps it instead of fetching it again.
__device__ inline void forget_source(float& x) { asm volatile("" : "+f"(x)); }
__device__ inline void forget_source(double& x) { asm volatile("" : "+d"(x)); }

// Through the L2 cache, for blocks that wait for each other.
__device__ inline void send(Bits* to, Bits letter) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(letter)); }
__device__ inline void send(Bits* to, Bits first, Bits second) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(first), "r"(second));
}
__device__ inline void look(Bits (&x)[4], const Bits* from, bool wanted) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
               : "+r"(x[0]), "+r"(x[1]), "+r"(x[2]), "+r"(x[3])
               : "l"(from), "r"(static_cast<int>(wanted)));
}

// Tensor cores, compute capability 8 and later.
// Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8, and gets number l % 4 of row l / 4 of each.
__device__ inline void load_matrices(Bits (&x)[4], unsigned at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(at)
               : "memory");
}
// d (16,8) += a (16,8) b (8,8); the low 13 bits of a and b are not looked at.
__device__ inline void mma(float& d0, float& d1, float& d2, float& d3, const Bits (&a)[4], const Bits (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#elif defined(SSM_CUDA_CODE)

inline unsigned chip_address(const void* p) { return static_cast<unsigned>(static_cast<const std::byte*>(p) - emulated::chip_memory()); }
inline void copy_16(unsigned to, const Real* from) { emulated::copy(to, from, 16); }
inline void copy_16(unsigned to, const Real* from, bool there) { emulated::copy(to, there ? from : nullptr, 16); }
inline void copy_one(unsigned to, const Real* from) { emulated::copy(to, from, sizeof(Real)); }
inline void prefetch(const Real*) {}
inline void put(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = {x, y}; }
inline void put(float* to, float x, float y, float z, float w) { *reinterpret_cast<float4*>(to) = {x, y, z, w}; }
inline void forget_source(float&) {}
inline void forget_source(double&) {}
inline void send(Bits* to, Bits letter) { *to = letter; }
inline void send(Bits* to, Bits first, Bits second) { to[0] = first, to[1] = second; }
inline void look(Bits (&x)[4], const Bits* from, bool wanted) {
  for (int e = 0; e < 4 && wanted; ++e) x[e] = from[e];
}
inline void load_matrices(Bits (&x)[4], unsigned at) {
  const std::byte* all = emulated::exchange("ldmatrix", &at, sizeof(at));
  for (int i = 0; i < 4; ++i) {
    unsigned row = 0;
    std::memcpy(&row, all + static_cast<std::size_t>(8 * i + emulated::lane() / 4) * emulated::kSlot, sizeof(row));
    std::memcpy(&x[i], emulated::chip_memory() + row + 4 * (emulated::lane() % 4), sizeof(Bits));
  }
}
inline void mma(float& d0, float& d1, float& d2, float& d3, const Bits (&a)[4], const Bits (&b)[2]) {
  float* d[4] = {&d0, &d1, &d2, &d3};
  emulated::multiply(d, a, b);
}

#endif

}  // namespace ssm::gpu_tile
#endif
