// blas_host.cpp - CBLAS. Every product is cut into tiles by its shape alone; a tile is one single-threaded BLAS call inside our own launch.
// A BLAS that divides the work among its own threads would change the order of sums, and so the bits, with their number.
#include <cblas.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "lib/wide_sum.hpp"

namespace ssm {

namespace blas_host {

int to_int(Index n) { return static_cast<int>(n); }
CBLAS_TRANSPOSE op(bool t) { return t ? CblasTrans : CblasNoTrans; }

void cblas(bool ta, bool tb, Index m, Index n, Index k, float alpha, const float* A, Index lda, const float* B, Index ldb, float beta,
           float* C, Index ldc) {
  cblas_sgemm(CblasRowMajor, op(ta), op(tb), to_int(m), to_int(n), to_int(k), alpha, A, to_int(lda), B, to_int(ldb), beta, C, to_int(ldc));
}
void cblas(bool ta, bool tb, Index m, Index n, Index k, double alpha, const double* A, Index lda, const double* B, Index ldb, double beta,
           double* C, Index ldc) {
  cblas_dgemm(CblasRowMajor, op(ta), op(tb), to_int(m), to_int(n), to_int(k), alpha, A, to_int(lda), B, to_int(ldb), beta, C, to_int(ldc));
}
// y (n) += alpha op(B)^T a, op(B) (k,n)
void cblas_row(bool tb, Index n, Index k, float alpha, const float* a, Index step_a, const float* B, Index ldb, float* y) {
  cblas_sgemv(CblasRowMajor, op(!tb), to_int(tb ? n : k), to_int(tb ? k : n), alpha, B, to_int(ldb), a, to_int(step_a), 1, y, 1);
}
void cblas_row(bool tb, Index n, Index k, double alpha, const double* a, Index step_a, const double* B, Index ldb, double* y) {
  cblas_dgemv(CblasRowMajor, op(!tb), to_int(tb ? n : k), to_int(tb ? k : n), alpha, B, to_int(ldb), a, to_int(step_a), 1, y, 1);
}

void one_thread() {
  static const bool set = (openblas_set_num_threads(1), true);
  static_cast<void>(set);
}

Index tiles_of(Index n, Index tile) { return (n + tile - 1) / tile; }

// Rows and columns of the tiles of a product: at least 32 of them where that leaves 128 x 128 each. Smaller tiles pack the same rows too
// often: at (16384,128) x (128,256) tiles of 512 rows cost 5 % over one call, tiles of 128 rows 20 %.
struct Tile {
  Index m, n;
};
Tile tile_of(const Gemm& g) {
  constexpr Index kWanted = 32, kLeast = 128;
  Tile t{512, 1024};
  while (g.batch * tiles_of(g.M, t.m) * tiles_of(g.N, t.n) < kWanted && (t.m > kLeast || t.n > kLeast)) {
    if (t.n > kLeast && (t.n >= 2 * t.m || t.m == kLeast)) t.n /= 2;
    else t.m /= 2;
  }
  return t;
}

// What a tile starts from when its product is added to it: a bias, `onto` or both, or beta C without reading C for beta = 0.
void start_tile(const Gemm& g, Real* C, Index m0, Index m, Index n0, Index n) {
  const Real beta = g.beta;
  const Real* onto = g.onto ? g.onto + (C - g.C) : nullptr;
  for (Index i = 0; i < m; ++i, C += g.ldc) {
    if (onto) {
      const Real* from = onto + i * g.ldc;
      const Real all = g.bias && g.bias_per_row ? g.bias[m0 + i] : Real(0);
      if (g.bias && !g.bias_per_row)
        for (Index j = 0; j < n; ++j) C[j] = from[j] + g.bias[n0 + j];
      else
        for (Index j = 0; j < n; ++j) C[j] = from[j] + all;
    } else if (g.bias && !g.bias_per_row) std::copy(g.bias + n0, g.bias + n0 + n, C);
    else if (g.bias || beta == 0) std::fill(C, C + n, g.bias ? g.bias[m0 + i] : Real(0));
    else
      for (Index j = 0; j < n; ++j) C[j] *= beta;
  }
}

void run_tile(const Gemm& g, Index b, Index m0, Index m, Index n0, Index n) {
  const Real* A = g.A + b * g.stride_a + (g.ta ? m0 : m0 * g.lda);
  const Real* B = g.B + b * g.stride_b + (g.tb ? n0 * g.ldb : n0);
  Real* C = g.C + b * g.stride_c + m0 * g.ldc + n0;
  const bool started = g.bias || g.onto || m == 1;
  if (started) start_tile(g, C, m0, m, n0, n);
  const Real beta = started ? Real(1) : g.beta;
  if (m == 1) cblas_row(g.tb, n, g.K, g.alpha, A, g.ta ? g.lda : 1, B, g.ldb, C);
  else cblas(g.ta, g.tb, m, n, g.K, g.alpha, A, g.lda, B, g.ldb, beta, C, g.ldc);
}

Index least(Index a, Index b) { return a < b ? a : b; }

// s (M) += sum over k in [first, last) of op(A)(m, k)
void add_row_sums(const Gemm& g, const Real* A, Index first, Index last, Real* s) {
  if (g.ta) {
    for (Index k = first; k < last; ++k)
      for (Index m = 0; m < g.M; ++m) s[m] += g.alpha * A[k * g.lda + m];
  } else {
    for (Index m = 0; m < g.M; ++m) {
      Real lane[16] = {};
      Index k = first;
      for (; k + 16 <= last; k += 16)
        for (int l = 0; l < 16; ++l) lane[l] += A[m * g.lda + k + l];
      for (; k < last; ++k) lane[0] += A[m * g.lda + k];
      Real sum = 0;
      for (int l = 0; l < 16; ++l) sum += lane[l];
      s[m] += g.alpha * sum;
    }
  }
}

}  // namespace blas_host
using namespace blas_host;

void gemm(const Run& r, const Gemm& g) {
  one_thread();
  const Tile t = tile_of(g);
  const Index down = tiles_of(g.M, t.m), across = tiles_of(g.N, t.n);
  launch(
      "ssm::gemm", r, g.batch * down * across, KOKKOS_LAMBDA(const Index i) {
        const Index b = i / (down * across), m0 = (i / across) % down * t.m, n0 = i % across * t.n;
        run_tile(g, b, m0, least(t.m, g.M - m0), n0, least(t.n, g.N - n0));
      });
}

void gemm_sum(const Run& r, const Gemm& g, Real* row_sum, Room room) {
  one_thread();
  Real* scratch = plain::parts_of_sum(g, room);
#if defined(SSM_TENSOR_CORES)
  if (tf32_products() && wide_sum::sum(r, g, row_sum, room)) return;
#endif
  constexpr Index kTile = 512;
  const SumCut cut = sum_cut(g.M, g.N, g.K, g.batch);
  const Index pieces = g.batch * cut.cuts, piece = (g.K + cut.cuts - 1) / cut.cuts, stride = g.M * (g.N + 1);
  const Index down = tiles_of(g.M, kTile), across = g.C ? tiles_of(g.N, kTile) : 1;
  launch(
      "ssm::gemm_sum", r, cut.parts * down * across, KOKKOS_LAMBDA(const Index i) {
        const Index p = i / (down * across), m0 = (i / across) % down * kTile, n0 = i % across * kTile;
        Real* C = scratch + p * stride;
        Gemm piece_of = g;  // one piece into this part, rows [m0, m0 + m)
        piece_of.M = least(kTile, g.M - m0);
        Real* s = row_sum && n0 == 0 ? C + g.M * g.N + m0 : nullptr;
        for (Index m = 0; s && m < piece_of.M; ++m) s[m] = 0;
        Real beta = 0;
        for (Index q = pieces * p / cut.parts; q < pieces * (p + 1) / cut.parts; ++q, beta = 1) {
          const Index b = q / cut.cuts, first = (q - b * cut.cuts) * piece, last = least(first + piece, g.K);
          const Real* A = g.A + b * g.stride_a + (g.ta ? m0 : m0 * g.lda);
          const Real* B = g.B + b * g.stride_b + (g.tb ? n0 * g.ldb : n0);
          if (g.C)
            cblas(g.ta, g.tb, piece_of.M, least(kTile, g.N - n0), last - first, g.alpha, A + (g.ta ? first * g.lda : first), g.lda,
                  B + (g.tb ? first : first * g.ldb), g.ldb, beta, C + m0 * g.N + n0, g.N);
          if (s) add_row_sums(piece_of, A, first, last, s);
        }
      });
  if (g.C) plain::add_parts(r, scratch, cut.parts, stride, g.M * g.N, g.beta, g.C);
  if (row_sum) plain::add_parts(r, scratch + g.M * g.N, cut.parts, stride, g.M, 1, row_sum);
}

#if defined(SSM_EMULATED_DEVICE) && SSM_EMULATED_DEVICE == 1
namespace {
bool tf32 = false;  // of the emulated device's kernels; the library's products stay as they are
}
void set_gemm_precision(const std::string& precision) { tf32 = precision == "tf32"; }
bool tf32_products() { return tf32; }
#else
void set_gemm_precision(const std::string& precision) {
  if (precision != "fp32") throw Unsupported("run.gemm = " + precision + ": products on a CPU have the precision of the build only");
}
bool tf32_products() { return false; }
#endif
std::string blas_name() { return std::string(openblas_get_config()) + " core " + openblas_get_corename(); }

std::string better_blas_core(const std::string& chosen) {
#if defined(__x86_64__)
  static const std::set<std::string> old{"Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Athlon", "Opteron", "Barcelona"};
  if (!old.contains(chosen)) return "";
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return "";
}

void choose_blas_core(char** argv) {
  const std::string core = std::getenv("OPENBLAS_CORETYPE") ? "" : better_blas_core(openblas_get_corename());
  if (core.empty()) return;
  ::setenv("OPENBLAS_CORETYPE", core.c_str(), 1);
  ::execv("/proc/self/exe", argv);
  std::fprintf(stderr, "ssmbench: OpenBLAS runs its %s kernels; OPENBLAS_CORETYPE=%s would be faster\n", openblas_get_corename(),
               core.c_str());
}

}  // namespace ssm
