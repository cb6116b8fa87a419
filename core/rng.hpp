// rng.hpp - counter-based random numbers (Philox 4x32-10, Salmon et al. 2011, from Random123).
//
// A number is a pure function of (seed, stream, position): no state travels between threads, devices or resumed runs.
// The stream is a hash of a name ("layers.0.mixer.C", "listops/train") and the position an index within it.
#pragma once
#include <cmath>
#include <string_view>
#if defined(__HIPCC__)  // Random123 marks its functions for nvcc only; what it includes itself stays unmarked
#include <immintrin.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <stdexcept>
#pragma clang force_cuda_host_device begin
#endif
#include <Random123/philox.h>
#if defined(__HIPCC__)
#pragma clang force_cuda_host_device end
#endif

#include "real.hpp"

namespace ssm {

// FNV-1a, 64 bit: the stream of a name.
constexpr std::uint64_t hash_name(std::string_view name, std::uint64_t h = 0xcbf29ce484222325ull) {
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return h;
}

// splitmix64 finaliser: folds several keys into one.
SSM_FN std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct Bits {
  std::uint32_t v[4];
};

// 128 random bits at `position` of `stream` under `seed`; `lane` separates independent uses of one position.
SSM_FN Bits philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t position, std::uint64_t lane = 0) {
  const std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15ull) ^ stream;
  const r123::Philox4x32::ctr_type counter = {{static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
                                               static_cast<std::uint32_t>(lane), static_cast<std::uint32_t>(lane >> 32)}};
  const r123::Philox4x32::key_type k = {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}};
  const r123::Philox4x32::ctr_type out = r123::Philox4x32()(counter, k);
  return {{out.v[0], out.v[1], out.v[2], out.v[3]}};
}

// Uniform in [0,1) with 53 bits.
SSM_FN double unit(std::uint32_t hi, std::uint32_t lo) {
  return static_cast<double>((static_cast<std::uint64_t>(hi) << 32 | lo) >> 11) * 0x1.0p-53;
}

// The draws that initialise one parameter: entry i of the parameter called `name`.
struct Draw {
  std::uint64_t seed, stream;

  double uniform(Index i, double low = 0, double high = 1) const {
    const Bits b = philox(seed, stream, static_cast<std::uint64_t>(i));
    return low + (high - low) * unit(b.v[0], b.v[1]);
  }
  // Standard normal (Box-Muller).
  double normal(Index i) const {
    const Bits b = philox(seed, stream, static_cast<std::uint64_t>(i));
    return std::sqrt(-2 * std::log(1 - unit(b.v[0], b.v[1]))) * std::cos(6.283185307179586476925 * unit(b.v[2], b.v[3]));
  }
};

// A sequential reader of one example's randomness: example i of a task is Rng(seed, hash_name("task/split"), i).
class Rng {
 public:
  SSM_FN Rng(std::uint64_t seed, std::uint64_t stream, std::uint64_t example) : seed_(seed), stream_(stream), example_(example) {}

  SSM_FN std::uint32_t u32() {
    if (left_ == 0) {
      bits_ = philox(seed_, stream_, example_, block_++);
      left_ = 4;
    }
    return bits_.v[--left_];
  }
  SSM_FN double uniform() {
    const std::uint32_t hi = u32();
    return unit(hi, u32());
  }
  // Uniform integer in [0, n), n < 2^32 (multiply-shift; bias below 2^-32 n).
  SSM_FN std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((static_cast<std::uint64_t>(u32()) * n) >> 32); }
  SSM_FN double normal() {
    const double u = uniform();
    return ::sqrt(-2 * ::log(1 - u)) * ::cos(6.283185307179586476925 * uniform());
  }

 private:
  std::uint64_t seed_, stream_, example_, block_ = 0;
  Bits bits_{};
  int left_ = 0;
};

}  // namespace ssm
