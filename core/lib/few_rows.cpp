// few_rows.cpp - a block has 16 or 32 rows of W, one to 32 rows of x and 8 or 16 warps, which take turns along K, 16 numbers each. A lane's
// four numbers of a row are one load; they are slots t, t + 4 of two products of 16 x 8 x 8. What belongs to W is on its way before the block
// waits for x.
#include "lib/few_rows.hpp"

#include <cstdint>
#include <limits>
#include <stdexcept>

#include "lib/chained.hpp"
#include "lib/mma.hpp"
#include "lib/warp.hpp"

namespace ssm {

#if defined(SSM_TENSOR_CORES)
namespace few_rows_of {

using namespace gpu_tile;

constexpr int kMostProducts = 2;

struct Products {
  FewRows of[kMostProducts];
  Index first[kMostProducts + 1];  // blocks of each
};

// kRow: groups of eight rows of x, 0: one row by multiply-adds. kOut: groups of sixteen rows of W. kEarly: steps along K in registers at once.
// kWhole: rows are loaded in fours.
template <int kOut, int kRow, int kEarly, int kPasses, bool kWhole>
struct Kernel {
  static constexpr int kWarps = 16, kThreads = kWarps * kWarp, kBlocks = kRow == 0 && kEarly == 2 ? 2 : 1;
  static constexpr int kRows = kRow ? 8 * kRow : 1, kOuts = 16 * kOut, kOwn = (kRows * kOuts + kThreads - 1) / kThreads;
  static constexpr int kLd = kOuts + 4, kPart = kRows * kLd;
  static constexpr std::size_t kBytes = sizeof(Real) * (kWarps * kPart + kWarps * kRows);
  static constexpr int kXs = kRow ? kRow : 1, kChains = kXs * kOut < 4 ? 2 : 1;
  Products all;

  static Index blocks(const FewRows& p, Index columns) { return (columns + kOuts - 1) / kOuts * ((p.rows + kRows - 1) / kRows); }

  // Where row `out` of the block's of W is: part and column, -1 beyond the last. In a part of pairs the second half of a tile are partners.
  struct Place {
    int part;
    int c;
    Index row;  // of W
  };
  __device__ static Place place(const FewRows& p, int tile, int out) {
    int first = tile * kOuts;
    Index row = 0;
    if (p.parts == 1 && p.part[0].pairs()) {
      constexpr int half = kOuts / 2;
      const int count = static_cast<int>(p.part[0].count) / 2, c = tile * half + out % half;
      return {0, c < count ? c : -1, c + (out >= half ? count : 0)};
    }
    int c = first + out;
    for (int q = 0; q < p.parts; ++q) {
      const int count = static_cast<int>(p.part[q].count);
      if (c < count) return {q, c, row + c};
      c -= count, row += count;
    }
    return {0, -1, 0};
  }
  // Four numbers of a row from k on, zeros beyond its end.
  __device__ static float4 four(const Real* row, int k, int K, bool there) {
    float4 v = make_float4(0, 0, 0, 0);
    if (!there) return v;
    if (kWhole) {
      if (k < K) v = *reinterpret_cast<const float4*>(row + k);
    } else {
      if (k < K) v.x = row[k];
      if (k + 1 < K) v.y = row[k + 1];
      if (k + 2 < K) v.z = row[k + 2];
      if (k + 3 < K) v.w = row[k + 3];
    }
    return v;
  }

  struct Sums {
    float c[kRow ? kOut : 1][kXs][kChains][4];  // chains of products half as long where there are few
    float row[kOut][2];                         // one row of x
    float square[kXs];
  };
  __device__ static void scale(const Real* weight, int first, int K, float4 (&x)[kEarly][kXs], Sums& s) {
    float4 by[kEarly];
    SSM_UNROLL
    for (int i = 0; i < kEarly; ++i) by[i] = four(weight, first + i * 16 * kWarps, K, true);
    SSM_UNROLL
    for (int i = 0; i < kEarly; ++i) SSM_UNROLL
    for (int b = 0; b < kXs; ++b) {
      float4& v = x[i][b];
      s.square[b] += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
      v.x *= by[i].x, v.y *= by[i].y, v.z *= by[i].z, v.w *= by[i].w;
    }
  }
  __device__ static void add(Sums& s, const float4 (&w)[kOut][2], const float4 (&x)[kXs]) {
    if constexpr (kRow == 0) {
      SSM_UNROLL
      for (int o = 0; o < kOut; ++o) SSM_UNROLL
      for (int e = 0; e < 2; ++e) {
        const float4 a = w[o][e];
        s.row[o][e] = fmaf(a.w, x[0].w, fmaf(a.z, x[0].z, fmaf(a.y, x[0].y, fmaf(a.x, x[0].x, s.row[o][e]))));
      }
    } else {
      SSM_UNROLL
      for (int h = 0; h < 2; ++h) {
        Bits high[kOut][4], low[kOut][4], xh[kXs][2], xl[kXs][2];
        SSM_UNROLL
        for (int o = 0; o < kOut; ++o) SSM_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float4 a = w[o][e % 2];
          Mma<kPasses>::split(h == 0 ? (e < 2 ? a.x : a.y) : (e < 2 ? a.z : a.w), high[o][e], low[o][e]);
        }
        SSM_UNROLL
        for (int b = 0; b < kXs; ++b) SSM_UNROLL
        for (int e = 0; e < 2; ++e)
          Mma<kPasses>::split(h == 0 ? (e == 0 ? x[b].x : x[b].y) : (e == 0 ? x[b].z : x[b].w), xh[b][e], xl[b][e]);
        SSM_UNROLL
        for (int pass = kPasses > 1 ? 0 : 2; pass < 3; ++pass) SSM_UNROLL
        for (int o = 0; o < kOut; ++o) SSM_UNROLL
        for (int b = 0; b < kXs; ++b) {
          float(&c)[4] = s.c[o][b][h % kChains];
          mma(c[0], c[1], c[2], c[3], pass == 0 ? low[o] : high[o], pass == 1 ? xl[b] : xh[b]);
        }
      }
    }
  }

  __device__ void operator()(Index block, int thread, Real* memory) const {
    const FewRows& p = all.of[block >= all.first[1]];
    const int at = static_cast<int>(block >= all.first[1] ? block - all.first[1] : block);
    const int rows = static_cast<int>(p.rows), K = static_cast<int>(p.K), row_tiles = (rows + kRows - 1) / kRows;
    const int tile = at / row_tiles, row0 = (at - tile * row_tiles) * kRows;
    const int warp = thread / kWarp, g = thread % kWarp / 4, t = thread % 4, k0 = 16 * warp + 4 * t;
    constexpr int kStep = 16 * kWarps;

    int of_W[kOut][2];
    SSM_UNROLL
    for (int o = 0; o < kOut; ++o) SSM_UNROLL
    for (int e = 0; e < 2; ++e) {
      const Place own = place(p, tile, 16 * o + 8 * e + g);
      of_W[o][e] = own.c < 0 ? -1 : static_cast<int>(own.row * p.ldw);
    }
    float4 w[kEarly][kOut][2];
    const auto weights = [&](int first) {
      SSM_UNROLL
      for (int i = 0; i < kEarly; ++i) SSM_UNROLL
      for (int o = 0; o < kOut; ++o) SSM_UNROLL
      for (int e = 0; e < 2; ++e) w[i][o][e] = four(p.W + of_W[o][e], first + i * kStep, K, of_W[o][e] >= 0);
    };
    if (p.fixed) weights(k0);
    wait_for_last();
    if (!p.fixed) weights(k0);

    // What this thread writes; with several entries it needs the registers first.
    const bool pairs = p.parts == 1 && p.part[0].pairs();
    const int outs = pairs ? kOuts / 2 : kOuts, entries = outs * kRows;
    Held held[kOwn];
    Place mine[kOwn];
    const auto hold = [&] {
      SSM_UNROLL
      for (int q = 0; q < kOwn; ++q) {
        const int entry = thread + q * kThreads, row = row0 + entry / outs;
        mine[q] = {0, -1, 0};
        if (entry < entries && row < rows) mine[q] = place(p, tile, entry % outs);
        if (mine[q].c >= 0) held[q] = held_for(p.part[mine[q].part], row, mine[q].c);
      }
    };
    if (kOwn == 1) hold();

    // Loads of one stretch of K before its first product: a wait for each would cost more than the products.
    Sums s{};
    for (int first = k0; first - 4 * t < K; first += kEarly * kStep) {
      if (first > k0) weights(first);
      float4 x[kEarly][kXs];
      SSM_UNROLL
      for (int i = 0; i < kEarly; ++i) SSM_UNROLL
      for (int b = 0; b < kXs; ++b) {
        const int row = row0 + (kRow ? 8 * b + g : 0);
        x[i][b] = four(p.x + row * p.ldx, first + i * kStep, K, row < rows);
      }
      if (p.weight) scale(p.weight, first, K, x, s);
      SSM_UNROLL
      for (int i = 0; i < kEarly; ++i)
        if (first - 4 * t + i * kStep < K) add(s, w[i], x[i]);
    }

    if (kOwn > 1) hold();
    Real *part = memory + warp * kPart, *squares = memory + kWarps * kPart;
    if constexpr (kRow == 0) {
      SSM_UNROLL
      for (int o = 0; o < kOut; ++o) SSM_UNROLL
      for (int e = 0; e < 2; ++e) {
        Real sum = s.row[o][e];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (t == 0) part[16 * o + 8 * e + g] = sum;
      }
    } else {
      SSM_UNROLL
      for (int o = 0; o < kOut; ++o) SSM_UNROLL
      for (int b = 0; b < kXs; ++b) SSM_UNROLL
      for (int e = 0; e < 4; ++e)
        part[(8 * b + 2 * t + e % 2) * kLd + 16 * o + e / 2 * 8 + g] =
            kChains > 1 ? s.c[o][b][0][e] + s.c[o][b][kChains - 1][e] : s.c[o][b][0][e];
    }
    if (p.weight) {
      SSM_UNROLL
      for (int b = 0; b < kXs; ++b) {
        Real sum = s.square[b];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (t == 0 && (kRow || g == 0)) squares[warp * kRows + 8 * b + (kRow ? g : 0)] = sum;
      }
    }
    __syncthreads();

    SSM_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      if (mine[own].c < 0) continue;
      const int entry = thread + own * kThreads, row = entry / outs, out = entry - row * outs;
      Real factor = p.alpha;
      if (p.weight) {
        Real square = 0;
        SSM_UNROLL
        for (int q = 0; q < kWarps; ++q) square += squares[q * kRows + row];
        factor *= 1 / Kokkos::sqrt(square / static_cast<Real>(K) + p.eps);
      }
      const auto total = [&](int o) {
        Real sum = 0;
        SSM_UNROLL
        for (int q = 0; q < kWarps; ++q) sum += memory[q * kPart + row * kLd + o];
        return factor * sum;
      };
      const Real sum = total(out);
      finish(p.part[mine[own].part], held[own], row0 + row, mine[own].c, sum, pairs ? total(out + outs) : sum);
    }
  }
};

Index columns_of(const FewRows& p) {
  Index sum = 0;
  for (int q = 0; q < p.parts; ++q) sum += p.part[q].count;
  return sum;
}

template <class K>
void start(const Run& r, const FewRows* products, int count) {
  Products all{};
  for (int i = 0; i < kMostProducts; ++i) {
    const FewRows& p = products[i < count ? i : 0];
    all.of[i] = p;
    all.first[i + 1] = all.first[i] + (i < count ? K::blocks(p, columns_of(p)) : 0);
  }
  launch_chained("ssm::few_rows", r, all.first[kMostProducts], K::kBytes, K{all});
}

bool aligned(const Real* p, Index ld) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && ld % 4 == 0; }

// The tile that is done first: as many turns of all multiprocessors as its blocks need, each of the rows that a block reads and of what it waits.
template <int kPasses>
void choose(const Run& r, const FewRows* products, int count, bool whole) {
  constexpr Index kProcessors = 132, kWaits = 85, kTiles = 5;
  constexpr Index kOut[kTiles] = {1, 1, 1, 2, 4}, kRow[kTiles] = {1, 2, 4, 4, 4};
  Index best = 0, least = 0;
  for (Index k = 0; k < (whole ? kTiles : 1); ++k) {
    Index blocks = 0;
    for (int i = 0; i < count; ++i)
      blocks += (columns_of(products[i]) + 16 * kOut[k] - 1) / (16 * kOut[k]) * ((products[i].rows + 8 * kRow[k] - 1) / (8 * kRow[k]));
    const Index cost = (blocks + kProcessors - 1) / kProcessors * (kWaits + 16 * kOut[k] + 8 * kRow[k]);
    if (k == 0 || cost < least) best = k, least = cost;
  }
  if (!whole) start<Kernel<1, 1, 4, kPasses, false>>(r, products, count);
  else if (best == 0) start<Kernel<1, 1, 4, kPasses, true>>(r, products, count);
  else if (best == 1) start<Kernel<1, 2, 4, kPasses, true>>(r, products, count);
  else if (best == 2) start<Kernel<1, 4, 2, kPasses, true>>(r, products, count);
  else if (best == 3) start<Kernel<2, 4, 2, kPasses, true>>(r, products, count);
  else start<Kernel<4, 4, 1, kPasses, true>>(r, products, count);
}

}  // namespace few_rows_of

bool takes_few_rows(Index rows) { return !kDouble && rows <= kFewRows; }
void few_rows_everywhere(bool) {}

void few_rows(const Run& r, const FewRows* products, int count) {
  using namespace few_rows_of;
  if (count < 1 || count > kMostProducts) throw std::logic_error("few_rows takes one or two products at once");
  bool whole = true;
  const Index rows = products[0].rows;
  Index longest = 0;
  for (int i = 0; i < count; ++i) {
    const FewRows& p = products[i];
    longest = p.K > longest ? p.K : longest;
    whole = whole && p.K % 4 == 0 && aligned(p.x, p.ldx) && aligned(p.W, p.ldw) && aligned(p.weight, 0);
    if (columns_of(p) * p.ldw > std::numeric_limits<int>::max()) throw std::logic_error("few_rows: W has 2^31 numbers at most");
    if (p.rows != rows || p.parts < 1 || p.parts > kMostParts) throw std::logic_error("few_rows: rows of both alike, one to six parts");
    for (int q = 0; q < p.parts; ++q)
      if (p.part[q].pairs() && p.parts > 1) throw std::logic_error("few_rows: pairs are the only part");
  }
  if (rows == 1 && whole)
    return longest <= 512 ? start<Kernel<1, 0, 2, 1, true>>(r, products, count) : start<Kernel<1, 0, 4, 1, true>>(r, products, count);
  tf32_products() ? choose<1>(r, products, count, whole) : choose<3>(r, products, count, whole);
}

bool gemm_of_few_rows(const Run& r, const Gemm& g) {
  constexpr Index kMostColumns = 8192, kMostK = 4096;  // larger ones fill a GPU by the library, too
  if (!takes_few_rows(g.M) || g.ta || !g.tb || g.batch != 1 || g.beta != 0 || g.bias_per_row) return false;
  if (g.N > kMostColumns || g.K > kMostK) return false;
  FewRows p;
  p.rows = g.M, p.K = g.K, p.x = g.A, p.ldx = g.lda, p.W = g.B, p.ldw = g.ldb, p.alpha = g.alpha, p.parts = 1, p.fixed = g.fixed;
  Finish& f = p.part[0];
  f.count = g.N, f.y = g.C, f.ld = g.ldc, f.bias = g.bias, f.onto = g.onto;
  few_rows(r, &p);
  return true;
}

#else

// Plain loops, so that tests of any build see what steps run together; nothing else asks for them.
namespace few_rows_of {

bool everywhere = false;

// One part, whose first row of W is `first`.
struct Plain {
  const Real *x, *W, *weight;
  Index K, ldx, ldw, first;
  Real alpha, eps;
  Finish f;

  SSM_FN Real scale(Index row) const {
    Real square = 0;
    for (Index k = 0; k < K; ++k) square += x[row * ldx + k] * x[row * ldx + k];
    return alpha / Kokkos::sqrt(square / static_cast<Real>(K) + eps);
  }
  SSM_FN Real sum(Index row, Index c) const {
    Real total = 0;
    for (Index k = 0; k < K; ++k) total += x[row * ldx + k] * (weight ? weight[k] : Real(1)) * W[(first + c) * ldw + k];
    return total * (weight ? scale(row) : alpha);
  }
  SSM_FN void operator()(Index item) const {
    const Index wide = f.pairs() ? f.count / 2 : f.count, row = item / wide, c = item - row * wide;
    finish(f, held_for(f, row, c), row, c, sum(row, c), f.pairs() ? sum(row, c + wide) : Real(0));
  }
};

}  // namespace few_rows_of

bool takes_few_rows(Index rows) { return few_rows_of::everywhere && rows <= kFewRows; }
void few_rows_everywhere(bool on) { few_rows_of::everywhere = on; }
void few_rows(const Run& r, const FewRows* products, int count) {
  for (int i = 0; i < count; ++i) {
    const FewRows& p = products[i];
    Index first = 0;
    for (int q = 0; q < p.parts; ++q) {
      const Finish& f = p.part[q];
      launch("ssm::few_rows", r, p.rows * (f.pairs() ? f.count / 2 : f.count),
             few_rows_of::Plain{p.x, p.W, p.weight, p.K, p.ldx, p.ldw, first, p.alpha, p.eps, f});
      first += f.count;
    }
  }
}
bool gemm_of_few_rows(const Run&, const Gemm&) { return false; }

#endif

}  // namespace ssm
