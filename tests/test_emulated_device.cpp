// The emulated device alone: what its threads exchange, and that it shows what a kernel lacks.
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "lib/mma_tile.hpp"
#include "op_check.hpp"

using namespace ssm;

namespace {

constexpr int kBlocks = 8;  // every order of threads with every time of landing, twice

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

template <class F>
struct Kernel {
  static constexpr int kThreads = 64, kBlocks = 1;
  F f;
  void operator()(Index block, int thread, Real* memory) const { f(block, thread, memory); }
};
template <class F>
void start(const F& f, std::size_t bytes = 4096, Index blocks = kBlocks) {
  launch_shared("test::kernel", ssm::Run{test_device().exec()}, blocks, bytes, Kernel<F>{f});
}

TEST(EmulatedDevice, LanesExchange) {
  start([](Index, int thread, Real*) {
    const int lane = thread % 32, warp = thread - lane;
    EXPECT_EQ(__shfl_xor_sync(~0u, thread, 5), warp + (lane ^ 5));
    EXPECT_EQ(__shfl_sync(~0u, thread, 31), warp + 31);
    EXPECT_EQ(__shfl_up_sync(~0u, thread, 3), lane < 3 ? thread : thread - 3);
    EXPECT_EQ(__shfl_down_sync(~0u, thread, 3), lane > 28 ? thread : thread + 3);
    EXPECT_EQ(__any_sync(~0u, thread == 40), warp == 32);
    EXPECT_EQ(__syncthreads_or(thread == 40), 1);
    EXPECT_EQ(__syncthreads_or(0), 0);
  });
}

#if defined(SSM_CUDA_CODE)

// Tiles and tensor cores as the kernels use them: C (64,64) = A (64,K) B^T (64,K), or A^T B, terms weighted by the index of the sum.
constexpr int K = 64;
template <int kPasses, bool kAcross>
struct Product {
  static constexpr int kThreads = 256, kBlocks = 1;
  const Real *A, *B;
  Real* C;
  void operator()(Index, int thread, Real* m) const {
    using namespace gpu_tile;
    Real* right = m + 64 * K;
    copy_turned<256, 64, K>(thread, A, K, 64, K, true, m), copy_turned<256, 64, K>(thread, B, K, 64, K, true, right);
    copies_end(), copies_wait<0>();
    __syncthreads();
    using Tile = std::conditional_t<kAcross, Across<K>, Along<K>>;
    const MmaTile<kPasses> layout(thread);
    float acc[2][2][4] = {};
    layout.template add<K, Tile, Tile>(acc, m, right, [](int k) { return Real(1) + Real(k); });
    pairs(layout, acc, [&](int row, int column, float x, float y) { C[row * 64 + column] = x, C[row * 64 + column + 1] = y; });
  }
};
template <int kPasses, bool kAcross>
double error_of_product() {  // the worst, of the sum of the sizes of its terms
  std::vector<Real> A(64 * K), B(64 * K), C(64 * 64);
  for (std::size_t i = 0; i < A.size(); ++i) A[i] = std::sin(1.0f * static_cast<Real>(i)), B[i] = std::cos(2.0f * static_cast<Real>(i));
  launch_shared("test::product", ssm::Run{test_device().exec()}, 1, sizeof(Real) * 2 * 64 * K,
                Product<kPasses, kAcross>{A.data(), B.data(), C.data()});
  double worst = 0;
  for (std::size_t i = 0; i < 64; ++i)
    for (std::size_t j = 0; j < 64; ++j) {
      double sum = 0, sizes = 0;
      for (std::size_t k = 0; k < K; ++k) {
        const Real left = kAcross ? A[k * 64 + i] : A[i * K + k], right = kAcross ? B[k * 64 + j] : B[j * K + k];
        const double term = (1.0 + static_cast<double>(k)) * static_cast<double>(left) * static_cast<double>(right);
        sum += term, sizes += std::abs(term);
      }
      worst = std::max(worst, std::abs(sum - static_cast<double>(C[i * 64 + j])) / sizes);
    }
  return worst;
}
TEST(EmulatedDevice, TensorCores) {
  for (const double split : {error_of_product<3, false>(), error_of_product<3, true>()}) EXPECT_LT(split, 1e-6);
  for (const double tf32 : {error_of_product<1, false>(), error_of_product<1, true>()}) {
    EXPECT_LT(tf32, 1e-3);
    EXPECT_GT(tf32, 1e-5) << "operands were not rounded to TF32";
  }
}

#endif

// Blocks in which thread i found what thread i ^ 33, of the other warp, left on chip.
int blocks_that_agree(bool barrier) {
  std::vector<Real> found(kBlocks * 64);
  start([&](Index block, int thread, Real* m) {
    m[thread] = static_cast<Real>(thread);
    if (barrier) __syncthreads();
    found[static_cast<std::size_t>(block * 64 + thread)] = m[thread ^ 33];
  });
  int good = 0;
  for (std::size_t block = 0; block < kBlocks; ++block) {
    bool all = true;
    for (std::size_t thread = 0; thread < 64; ++thread) all = all && found[block * 64 + thread] == static_cast<Real>(thread ^ 33);
    good += all;
  }
  return good;
}
TEST(EmulatedDevice, ShowsAMissingBarrier) {
  EXPECT_EQ(blocks_that_agree(true), kBlocks);
  EXPECT_EQ(blocks_that_agree(false), 0);
}

#if defined(SSM_CUDA_CODE)

// Blocks whose threads found what they had copied; overwritten: a copy is asked for before the others have read what it goes over.
int blocks_that_copied(bool wait, bool overwritten) {
  alignas(16) static Real source[2][64 * 4];
  for (int i = 0; i < 64 * 4; ++i) source[0][i] = static_cast<Real>(i), source[1][i] = -1;
  std::vector<int> wrong(kBlocks * 64);
  start([&](Index block, int thread, Real* m) {
    using namespace gpu_tile;
    copy_16(chip_address(m + 4 * thread), source[0] + 4 * thread);
    copies_end();
    if (wait) copies_wait<0>();
    __syncthreads();
    if (overwritten) copy_16(chip_address(m + 4 * thread), source[1] + 4 * thread);
    const int other = thread ^ 33;
    for (int e = 0; e < 4; ++e) wrong[static_cast<std::size_t>(block * 64 + thread)] += m[4 * other + e] != source[0][4 * other + e];
  });
  int good = 0;
  for (std::size_t block = 0; block < kBlocks; ++block)
    good += std::accumulate(wrong.begin() + static_cast<std::ptrdiff_t>(block * 64),
                            wrong.begin() + static_cast<std::ptrdiff_t>(block * 64 + 64), 0) == 0;
  return good;
}
TEST(EmulatedDevice, ShowsCopiesThatAreNotWaitedFor) {
  EXPECT_EQ(blocks_that_copied(true, false), kBlocks);
  EXPECT_EQ(blocks_that_copied(false, false), kBlocks / 2) << "half of the blocks have late copies";
  EXPECT_EQ(blocks_that_copied(true, true), kBlocks / 2) << "in the other half copies land at once";
}
TEST(EmulatedDevice, RefusesUnalignedCopies) {
  alignas(16) static Real source[8] = {};
  const auto copy = [](int to, int from) {
    start([=](Index, int, Real* m) { gpu_tile::copy_16(gpu_tile::chip_address(m + to), source + from); });
  };
  copy(4, 4);
  EXPECT_EQ(message_of([&] { copy(1, 0); }),
            "test::kernel: an asynchronous copy of 16 bytes from or to an address that is no multiple of them");
  EXPECT_NE(message_of([&] { copy(0, 1); }), "nothing was thrown");
}

#endif

TEST(EmulatedDevice, NamesAKernelThatStandsStill) {
  EXPECT_EQ(message_of([] {
              start(
                  [](Index, int thread, Real*) {
                    if (thread == 0) __syncthreads();
                    else __syncwarp();
                  },
                  64, 1);
            }),
            "test::kernel: block 0 stands still: its threads wait at different barriers");
  EXPECT_EQ(message_of([] {
              start(
                  [](Index, int thread, Real*) {
                    if (thread % 2) __shfl_xor_sync(~0u, 1, 1);
                    else __syncwarp();
                  },
                  64, 1);
            }).rfind("test::kernel: lanes of a warp meet in different exchanges: ", 0),
            0u);
}
TEST(EmulatedDevice, ThreadsThatEndAreNotWaitedFor) {
  std::vector<int> passed(64);
  start(
      [&](Index, int thread, Real*) {
        if (thread >= 40) return;
        __syncthreads();
        passed[static_cast<std::size_t>(thread)] = 1;
      },
      64, 1);
  EXPECT_EQ(std::accumulate(passed.begin(), passed.end(), 0), 40);
}
TEST(EmulatedDevice, RefusesWhatTheDeviceHasNot) {
  EXPECT_EQ(message_of([] { start([](Index, int, Real*) {}, kChipMemory + 4); }),
            "test::kernel: " + std::to_string(kChipMemory + 4) + " bytes on chip, the emulated device has " + std::to_string(kChipMemory));
  const auto nothing = [](Index, int, Real*) {};
  EXPECT_EQ(message_of([&] { launch_together("test::kernel", ssm::Run{test_device().exec()}, 41, 0, Kernel<decltype(nothing)>{nothing}); }),
            "test::kernel: 41 blocks at once, the emulated device runs 40");
}

#if defined(SSM_CUDA_CODE)

// Every block waits for the one behind it.
TEST(EmulatedDevice, BlocksWaitForEachOther) {
  std::vector<gpu_tile::Bits> letters(4 * 5);
  const auto pass_on = [&](Index block, int thread, Real*) {
    gpu_tile::Bits seen[4] = {1, 0, 0, 0};
    if (block < 3) seen[0] = 0;
    while (__any_sync(~0u, seen[0] == 0)) gpu_tile::look(seen, letters.data() + 4 * (block + 1), true);
    if (thread == 0) gpu_tile::send(letters.data() + 4 * block, 1);
  };
  launch_together("test::kernel", ssm::Run{test_device().exec()}, 4, 0, Kernel<decltype(pass_on)>{pass_on});
  EXPECT_EQ(letters[0], 1u);
}

#endif

}  // namespace
