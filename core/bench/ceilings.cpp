#include "bench/ceilings.hpp"

#include <chrono>

#include "bench/timer.hpp"
#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "memory.hpp"

namespace ssm {

namespace {

constexpr Index kBytes = sizeof(Real);

template <class F>
Ceiling ceiling(Device& device, const std::string& name, const char* unit, double work, int samples, const F& f) {
  Ceiling out{name, unit, work, {}};
  f();
  for (int i = 0; i < samples; ++i) out.seconds.push_back(seconds_of(device, f));
  return out;
}

}  // namespace

namespace ceilings {

constexpr int kExpWidth = kOnHost ? 256 : 1;
constexpr Index kExpRounds = 1024;

// 16 bytes an entry: the widest load and store of a GPU's thread.
struct alignas(16) Piece {
  char bytes[16];
};
void copy(const Run& r, const Real* from, Real* to, Index count) {
  const Piece* x = reinterpret_cast<const Piece*>(from);
  Piece* y = reinterpret_cast<Piece*>(to);
  each(
      "ssm::ceiling_copy", r, count * kBytes / static_cast<Index>(sizeof(Piece)), KOKKOS_LAMBDA(const Index i) { y[i] = x[i]; });
}

// Every work item walks a small block again and again: memory stays out of it.
void exponentials(const Run& r, Real* x, Index items) {
  launch(
      "ssm::ceiling_exp", r, items, KOKKOS_LAMBDA(const Index i) {
        Real v[kExpWidth];
        for (int l = 0; l < kExpWidth; ++l) v[l] = x[i * kExpWidth + l];
        for (Index round = 0; round < kExpRounds; ++round)
          for (int l = 0; l < kExpWidth; ++l) v[l] = exp2_decay(v[l] * Real(-0.3));
        for (int l = 0; l < kExpWidth; ++l) x[i * kExpWidth + l] = v[l];
      });
}

#if !defined(KOKKOS_ENABLE_HIP)
constexpr double kSpin = 0.01;  // seconds

SSM_FN long long nanoseconds() {
#if defined(__CUDA_ARCH__)
  long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

// Ends kSpin after it began, by the device's own clock.
void spin(const Run& r) {
  launch(
      "ssm::ceiling_spin", r, 1, KOKKOS_LAMBDA(const Index) {
        const long long end = nanoseconds() + static_cast<long long>(1e9 * kSpin);
        while (nanoseconds() < end) {}
      });
}
#endif

}  // namespace ceilings

double Ceiling::best_rate() const { return work / *std::min_element(seconds.begin(), seconds.end()); }

std::vector<Ceiling> measure_ceilings(Device& device, int samples) {
  const Run r{device.exec()};
  std::vector<Ceiling> out;
  {
    const Index count = Index{1} << (kOnHost ? 25 : 28);
    const Memory pair("ssm::ceiling", 2 * count * kBytes);
    fill_bytes(pair.as<void>(), 0, pair.bytes());
    Real* x = pair.as<Real>();
    out.push_back(
        ceiling(device, "copy", "B", 2.0 * static_cast<double>(count * kBytes), samples, [&] { ceilings::copy(r, x, x + count, count); }));
  }
  {
    const Index size = kOnHost ? 1024 : 8192, count = size * size;
    const Memory block("ssm::ceiling", 3 * count * kBytes);
    fill_bytes(block.as<void>(), 0, block.bytes());
    Real* A = block.as<Real>();
    const double edge = static_cast<double>(size);
    const auto product = [&](const std::string& name) {
      out.push_back(ceiling(device, name, "flop", 2 * edge * edge * edge, samples,
                            [&] { gemm(r, false, true, size, size, size, 1, A, size, A + count, size, 0, A + 2 * count, size); }));
    };
    product("gemm");
    const std::string set = tf32_products() ? "tf32" : "fp32", other = tf32_products() ? "fp32" : "tf32";
    try {
      set_gemm_precision(other);
      product("gemm_" + other);
    } catch (const Unsupported&) {  // this build has one precision
    }
    set_gemm_precision(set);
  }
  {
    const Index items = kOnHost ? 64 : Index{1} << 20;
    const Memory block("ssm::ceiling", items * ceilings::kExpWidth * kBytes);
    fill_bytes(block.as<void>(), 0, block.bytes());
    const double calls = static_cast<double>(items * ceilings::kExpWidth * ceilings::kExpRounds);
    out.push_back(ceiling(device, "exp", "call", calls, samples, [&] { ceilings::exponentials(r, block.as<Real>(), items); }));
  }
#if !defined(KOKKOS_ENABLE_HIP)
  out.push_back(ceiling(device, "timer", "s", ceilings::kSpin, samples, [&] { ceilings::spin(r); }));
#endif
  return out;
}

}  // namespace ssm
