// draws.hpp - the numbers of Rng, read faster: a host makes several Philox blocks at once in SIMD lanes, a device one.
#pragma once
#include "rng.hpp"

namespace ssm {

// Numbers 4 first .. 4 (first + N) - 1 that Rng(seed, stream, example) gives: blocks in order, each from its last number to its first.
template <int N>
void philox_blocks(std::uint64_t seed, std::uint64_t stream, std::uint64_t example, std::uint64_t first, std::uint32_t* out) {
  const std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15ull) ^ stream;
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  std::uint32_t a[N], b[N], c[N], d[N];
  for (int l = 0; l < N; ++l) {
    const std::uint64_t lane = first + static_cast<std::uint64_t>(l);
    a[l] = static_cast<std::uint32_t>(example), b[l] = static_cast<std::uint32_t>(example >> 32);
    c[l] = static_cast<std::uint32_t>(lane), d[l] = static_cast<std::uint32_t>(lane >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < N; ++l) {
      const std::uint64_t p = std::uint64_t{0xD2511F53} * a[l], q = std::uint64_t{0xCD9E8D57} * c[l];
      a[l] = static_cast<std::uint32_t>(q >> 32) ^ b[l] ^ k0, b[l] = static_cast<std::uint32_t>(q);
      c[l] = static_cast<std::uint32_t>(p >> 32) ^ d[l] ^ k1, d[l] = static_cast<std::uint32_t>(p);
    }
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  for (int l = 0; l < N; ++l) out[4 * l] = d[l], out[4 * l + 1] = c[l], out[4 * l + 2] = b[l], out[4 * l + 3] = a[l];
}

// Reads the sequence of Rng(seed, stream, example), number for number.
class Draws {
 public:
  SSM_FN Draws(std::uint64_t seed, std::uint64_t stream, std::uint64_t example) : seed_(seed), stream_(stream), example_(example) {}

  SSM_FN std::uint32_t u32() {
    if (next_ == end_) refill();
    return numbers_[next_++];
  }
  SSM_FN double uniform() {
    const std::uint32_t hi = u32();
    return unit(hi, u32());
  }
  // Uniform integer in [0, n), as Rng::below.
  SSM_FN int below(int n) { return static_cast<int>((static_cast<std::uint64_t>(u32()) * static_cast<std::uint32_t>(n)) >> 32); }

 private:
  static constexpr int kFew = 8, kMany = 32;  // GCC takes loops of up to 16 turns apart before it could vectorise them
  // One block, then few, then many: short examples need no more.
  SSM_FN void refill() {
#if !defined(__CUDA_ARCH__) && !defined(__HIP_DEVICE_COMPILE__)
    if (block_ > 0) {
      if (block_ == 1) philox_blocks<kFew>(seed_, stream_, example_, block_, numbers_);
      else philox_blocks<kMany>(seed_, stream_, example_, block_, numbers_);
      const int blocks = block_ == 1 ? kFew : kMany;
      block_ += static_cast<std::uint64_t>(blocks), next_ = 0, end_ = 4 * blocks;
      return;
    }
#endif
    const Bits bits = philox(seed_, stream_, example_, block_++);
    for (int k = 0; k < 4; ++k) numbers_[k] = bits.v[3 - k];
    next_ = 0, end_ = 4;
  }

  std::uint64_t seed_, stream_, example_, block_ = 0;
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
  std::uint32_t numbers_[4];
#else
  std::uint32_t numbers_[4 * kMany];
#endif
  int next_ = 0, end_ = 0;
};

}  // namespace ssm
