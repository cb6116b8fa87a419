// wide_sum.hpp - weight gradients on tensor cores, in TF32 (CUDA): C (M,N) = alpha sum_k A[k][m] B[k][n] over many rows k, and the sums of
// A's columns in the same pass.
//
// Both operands lie across the sum, as rows of tokens do. The instructions of compute capability 9 do not read TF32 so; cuBLAS takes kernels
// of capability 8 (512 x 512 over 32,768 rows on an H200: 96 us and 7 to add parts, and 31 us more for the column sums of a bias).
//
// A block sums a run of rows for a tile of C, 64 x 64 a warp, kDeep rows at a time, kStages of them on their way. A thread's slots of mma are
// eight neighbouring columns of A and eight of B, so that it reads 16 bytes at once: slot (tile i, row g) of A is column 8 g + i. Groups of four
// columns are exchanged by the row, so that the eight threads of one access meet no bank twice. On chip 4 (64 + 64) 8 bytes a warp and 32 mma,
// 64 % of what the memory on chip gives in the time of the products; from the L2 cache 4 (kM + kN) bytes a row and block.
#pragma once
#include <algorithm>
#include <cstdint>

#include "lib/blas.hpp"
#include "lib/mma.hpp"
#include "lib/warp.hpp"

#if defined(SSM_TENSOR_CORES)
namespace ssm::wide_sum {

using namespace gpu_tile;

constexpr int kDeep = 32, kStages = 4, kEdge = 64;  // rows of a stage; stages; the tile of a warp

struct Arguments {
  const Real *A, *B;     // (K,M), (K,N), leading extents lda, ldb
  Real *parts, *totals;  // (count,M,N); (count,M) or null
  Real alpha;
  Index lda, ldb, K, length;  // length: rows of a part, a multiple of kDeep
  int M, N, across, tiles;    // tiles of C, `across` of them in a row
};

template <int kM, int kN>
struct SumTile {
  static constexpr int kWide = kM + kN, kThreads = kM / kEdge * (kN / kEdge) * kWarp, kBlocks = 1;
  static constexpr std::size_t kBytes = sizeof(Real) * kStages * kDeep * kWide;
  Arguments a;

  // Row % 4 to what the groups of that row are exchanged by.
  __device__ static int exchanged(int row) { return (row & 1) + (row & 2) * 2; }

  // What a thread copies of one operand: a group of columns of rows `row`, row + kAtOnce, ..
  template <int kColumns>
  struct Copies {
    static constexpr int kGroups = kColumns / 4, kAtOnce = kThreads / kGroups;
    static_assert(kAtOnce % 4 == 0 && kDeep % kAtOnce == 0);
    const Real* from;  // of the next stage
    unsigned to;
    int row;
    bool all, there;  // of the tile's columns; of this thread's

    __device__ Copies(int thread, const Real* p, Index ld, Index begin, int first, int columns, Real* stage)
        : row(thread / kGroups), all(first + kColumns <= columns), there(first + thread % kGroups * 4 < columns) {
      const int group = thread % kGroups;
      from = p + (begin + row) * ld + (there ? first + group * 4 : 0);
      to = chip_address(stage + row * kColumns + (group ^ exchanged(row)) * 4);
    }
    // The next kDeep rows, of which there are `rows`, to the stage `bytes` further; zeros beyond. anywhere: an address.
    __device__ void issue(int rows, unsigned bytes, Index ld, const Real* anywhere) {
      const Real* p = from;
      if (all && rows >= kDeep) {
        SSM_UNROLL
        for (int i = 0; i < kDeep; i += kAtOnce) {
          copy_16(to + bytes + 4u * i * kColumns, p);
          p += kAtOnce * ld;
        }
      } else {
        SSM_ROLLED
        for (int i = 0; i < kDeep; i += kAtOnce) {
          const bool now = there && row + i < rows;
          copy_16(to + bytes + 4u * i * kColumns, now ? p : anywhere, now);
          p += kAtOnce * ld;
        }
      }
      from += kDeep * ld;
    }
  };

  // Rows t and t + 4 of eight, eight columns each.
  struct Slots {
    gpu_tile::Four early[2], late[2];
    template <int kColumns>
    __device__ void load(const Real* low, const Real* high, int row) {
      early[0] = four(low + row * kColumns), early[1] = four(high + row * kColumns);
      late[0] = four(low + (row + 4) * kColumns), late[1] = four(high + (row + 4) * kColumns);
    }
    __device__ float at(bool second, int i) const { return static_cast<float>((second ? late : early)[i / 4].at[i % 4]); }
    __device__ Bits rounded(bool second, int i) const { return Part<1>(at(second, i)).high; }
  };

  // acc += A^T B of one stage, whose rows t start there; sum += the columns of A.
  template <bool kSums>
  __device__ static void multiply(float (&acc)[4][8][4], float (&sum)[8], const Real* low_A, const Real* high_A, const Real* low_B,
                                  const Real* high_B) {
#pragma unroll 2
    for (int k = 0; k < kDeep; k += 8) {
      Slots left, rights;
      left.template load<kM>(low_A, high_A, k);
      rights.template load<kN>(low_B, high_B, k);
      Bits x[4][4], y[8][2];
      SSM_UNROLL
      for (int i = 0; i < 8; ++i) {
        if (kSums) sum[i] += left.at(false, i) + left.at(true, i);
        x[i / 2][i % 2] = left.rounded(false, i), x[i / 2][i % 2 + 2] = left.rounded(true, i);
        y[i][0] = rights.rounded(false, i), y[i][1] = rights.rounded(true, i);
      }
      SSM_UNROLL
      for (int i = 0; i < 32; ++i) {
        const int m = i / 8, n = i % 8;
        mma(acc[m][n][0], acc[m][n][1], acc[m][n][2], acc[m][n][3], x[m], y[n]);
      }
    }
  }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const Index part = block / a.tiles, begin = part * a.length, last = begin + a.length < a.K ? begin + a.length : a.K;
    const int tile = static_cast<int>(block - part * a.tiles), m0 = tile / a.across * kM, n0 = tile % a.across * kN;
    const int warp = thread / kWarp, g = thread % kWarp / 4, t = thread % 4, down = warp % (kM / kEdge), right = warp / (kM / kEdge);
    const bool sums = a.totals && n0 == 0 && right == 0;
    constexpr unsigned kStage = sizeof(Real) * kDeep * kWide;
    Copies<kM> copies_A(thread, a.A, a.lda, begin, m0, a.M, memory);
    Copies<kN> copies_B(thread, a.B, a.ldb, begin, n0, a.N, memory + kDeep * kM);
    const int rows = static_cast<int>(last - begin), steps = (rows + kDeep - 1) / kDeep;
    const auto issue = [&](int step) {
      const unsigned bytes = static_cast<unsigned>(step % kStages) * kStage;
      if (step < steps) {
        copies_A.issue(rows - step * kDeep, bytes, a.lda, a.A);
        copies_B.issue(rows - step * kDeep, bytes, a.ldb, a.B);
      }
      copies_end();
    };
    SSM_ROLLED
    for (int s = 0; s + 1 < kStages; ++s) issue(s);

    const int group_A = (down * kEdge / 4 + 2 * g) ^ exchanged(t), group_B = (right * kEdge / 4 + 2 * g) ^ exchanged(t);
    const Real *low_A = memory + t * kM + 4 * group_A, *high_A = memory + t * kM + 4 * (group_A ^ 1);
    const Real *low_B = memory + kDeep * kM + t * kN + 4 * group_B, *high_B = memory + kDeep * kM + t * kN + 4 * (group_B ^ 1);
    float acc[4][8][4] = {}, sum[8] = {};
    SSM_ROLLED
    for (int step = 0; step < steps; ++step) {
      copies_wait<kStages - 2>();
      __syncthreads();
      issue(step + kStages - 1);
      const int at = step % kStages * kDeep * kWide;
      if (sums) multiply<true>(acc, sum, low_A + at, high_A + at, low_B + at, high_B + at);
      else multiply<false>(acc, sum, low_A + at, high_A + at, low_B + at, high_B + at);
    }

    // Entry (m, n, e) is row 8 g + 2 m + e / 2, column 16 t + 8 (e % 2) + n of the warp's tile.
    float* to = reinterpret_cast<float*>(a.parts) + part * a.M * a.N;
    const int row0 = m0 + down * kEdge + 8 * g, column0 = n0 + right * kEdge + 16 * t;
    SSM_UNROLL
    for (int m = 0; m < 8; ++m) {
      if (row0 + m >= a.M) continue;
      SSM_UNROLL
      for (int n = 0; n < 16; n += 4) {
        const auto entry = [&](int i) { return static_cast<float>(a.alpha) * acc[m / 2][(n + i) % 8][m % 2 * 2 + n / 8]; };
        if (column0 + n < a.N) put(to + static_cast<Index>(row0 + m) * a.N + column0 + n, entry(0), entry(1), entry(2), entry(3));
      }
    }
    if (!sums) return;
    SSM_UNROLL
    for (int i = 0; i < 8; ++i) {
      const Real total = lanes_sum<4>(sum[i]);
      if (t == 0 && row0 + i < a.M) a.totals[part * a.M + row0 + i] = a.alpha * total;
    }
  }
};

inline int tiles_of(Index size, int edge) { return static_cast<int>((size + edge - 1) / edge); }

// Parts that the sum is cut into: the best of the blocks' time, in rounds of the device's multiprocessors, and that of adding the parts.
inline Index best_parts(Index tiles, Index K, Index numbers, Index most, Index processors) {
  constexpr double kRow = 40e-9, kNumber = 8 / 4e12;  // seconds a row of a block's tile (220 TFLOP/s, assumed), and a number of a part
  Index best = 1;
  double least = 0;
  for (Index p = 1; p <= most; ++p) {
    const Index rows = (tiles * p + processors - 1) / processors * ((K + p - 1) / p);
    const double time = static_cast<double>(rows) * kRow + static_cast<double>(p * numbers) * kNumber;
    if (p == 1 || time < least) best = p, least = time;
  }
  return best;
}

template <int kM, int kN>
void sum_tiles(const Run& r, const Gemm& g, Real* row_sum, Room room) {
  const Index numbers = g.M * g.N + g.M, K = g.batch * g.K;
  Arguments a{};
  a.A = g.A, a.B = g.B, a.parts = room.p, a.alpha = g.alpha, a.lda = g.lda, a.ldb = g.ldb, a.K = K;
  a.M = static_cast<int>(g.M), a.N = static_cast<int>(g.N);
  a.across = tiles_of(g.N, kN), a.tiles = a.across * tiles_of(g.M, kM);
  constexpr Index kLeast = 8 * kDeep;  // rows that are worth a part
  const Index most = std::max<Index>(1, std::min(room.size / numbers, K / kLeast));
  const Index wanted = best_parts(a.tiles, K, numbers, most, gpu_processors());
  a.length = ((K + wanted - 1) / wanted + kDeep - 1) / kDeep * kDeep;
  const Index count = (K + a.length - 1) / a.length;
  if (row_sum) a.totals = room.p + count * g.M * g.N;
  launch_shared("ssm::wide_sum", r, a.tiles * count, SumTile<kM, kN>::kBytes, SumTile<kM, kN>{a});
  plain::add_parts(r, a.parts, count, g.M * g.N, g.M * g.N, g.beta, g.C);
  if (row_sum) plain::add_parts(r, a.totals, count, g.M, g.M, 1, row_sum);
}

// gemm_sum() where both operands lie across a sum that is long enough, rows start at 16 bytes, and the tiles are filled by three quarters.
// False, and nothing done, elsewhere.
inline bool sum(const Run& r, const Gemm& g, Real* row_sum, Room room) {
  constexpr Index kLong = 4096;  // rows from which it pays
  const auto whole = [](const Real* p, Index ld) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && ld % 4 == 0; };
  if (kDouble || !g.C || !g.ta || g.tb || g.batch * g.K < kLong || room.size < g.M * g.N + g.M) return false;
  if (g.batch > 1 && (g.stride_a != g.K * g.lda || g.stride_b != g.K * g.ldb)) return false;
  if (!whole(g.A, g.lda) || !whole(g.B, g.ldb) || !whole(g.C, g.N) || g.M % 4) return false;
  const auto filled = [&](int m, int n) {
    return static_cast<double>(g.M * g.N) / (static_cast<double>(tiles_of(g.M, m)) * tiles_of(g.N, n) * m * n);
  };
  const double flat = filled(128, 256), steep = filled(256, 128);
  if (std::max(flat, steep) < 0.75) return false;
  if (flat >= steep) sum_tiles<128, 256>(r, g, row_sum, room);
  else sum_tiles<256, 128>(r, g, row_sum, room);
  return true;
}

}  // namespace ssm::wide_sum
#endif
