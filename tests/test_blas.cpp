// test_blas.cpp - the BLAS door and the plain kernels against loops in double.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "memory.hpp"
#include "probe.hpp"
#include "testing.hpp"

namespace ssm {
namespace {

using Door = std::function<void(const Run&, const Gemm&)>;
using SumDoor = std::function<void(const Run&, const Gemm&, Real*, Room)>;

struct Block {  // numbers on the host and on the device
  std::vector<double> host;
  Memory memory;
  Block(const std::string& name, Index count, double poison = 0) : Block(test_values(name, count)) {
    if (poison == 0) return;
    host.assign(host.size(), poison);
    put();
  }
  explicit Block(std::vector<double> values) : host(std::move(values)), memory("ssm::test", Index(host.size() * sizeof(Real))) { put(); }
  void put() {
    std::vector<Real> raw(host.begin(), host.end());
    host.assign(raw.begin(), raw.end());
    copy_in(memory.as<void>(), raw.data(), memory.bytes());
  }
  Real* p() const { return memory.as<Real>(); }
  Room room() const { return {p(), static_cast<Index>(host.size())}; }
  std::vector<double> read() const {
    std::vector<Real> raw(host.size());
    test_device().fence("ssm::test: result");
    copy_out(raw.data(), memory.as<void>(), memory.bytes());
    return {raw.begin(), raw.end()};
  }
};

double entry(const std::vector<double>& X, Index stride, Index ld, bool t, Index b, Index i, Index j) {
  return X[static_cast<std::size_t>(b * stride + (t ? j * ld + i : i * ld + j))];
}

const double kTolerance = kDouble ? 1e-13 : 1e-5;
const double kNaN = std::nan("");

struct Shape {
  Index M, N, K, batch;
};
const std::vector<Shape> kShapes = {{1, 1, 1, 1},    {1, 70, 33, 2},    {3, 1, 5, 3},     {7, 17, 31, 1},
                                    {65, 130, 3, 2}, {300, 140, 64, 1}, {33, 1100, 17, 1}};

// All transposes, a leading dimension wider than the matrix, alpha, and the ways to start C: from NaN, added to, from a bias of columns or
// rows, from another matrix, from that and a bias.
void check(const Door& door) {
  for (const Shape& s : kShapes)
    for (int way = 0; way < 28; ++way) {
      const bool ta = way & 1, tb = way & 2;
      const int start = way >> 2;
      const bool onto = start >= 4, columns = start == 2 || start == 5, rows = start == 3 || start == 6;
      const Index lda = (ta ? s.M : s.K) + 3, ldb = (tb ? s.K : s.N) + 1, ldc = s.N + 2;
      const Index sa = (ta ? s.K : s.M) * lda, sb = (tb ? s.N : s.K) * ldb, sc = s.M * ldc;
      const Block A("A", s.batch * sa), B("B", s.batch * sb), C("C", s.batch * sc, start == 1 ? 0 : kNaN), bias("bias", s.M + s.N),
          O("onto", s.batch * sc);
      const Real alpha = start == 1 || onto ? Real(0.5) : Real(1), beta = start == 1 ? Real(-2) : Real(0);
      std::vector<double> expected = C.host;
      for (Index b = 0; b < s.batch; ++b)
        for (Index m = 0; m < s.M; ++m)
          for (Index n = 0; n < s.N; ++n) {
            double sum = 0;
            for (Index k = 0; k < s.K; ++k) sum += entry(A.host, sa, lda, ta, b, m, k) * entry(B.host, sb, ldb, tb, b, k, n);
            double& c = expected[static_cast<std::size_t>(b * sc + m * ldc + n)];
            c = alpha * sum + (start == 1 ? beta * c : 0) + (columns || rows ? bias.host[static_cast<std::size_t>(rows ? m : n)] : 0) +
                (onto ? O.host[static_cast<std::size_t>(b * sc + m * ldc + n)] : 0);
          }
      Run run{test_device().exec()};
      door(run, {.ta = ta,
                 .tb = tb,
                 .M = s.M,
                 .N = s.N,
                 .K = s.K,
                 .alpha = alpha,
                 .A = A.p(),
                 .lda = lda,
                 .stride_a = sa,
                 .B = B.p(),
                 .ldb = ldb,
                 .stride_b = sb,
                 .beta = beta,
                 .C = C.p(),
                 .ldc = ldc,
                 .stride_c = sc,
                 .batch = s.batch,
                 .bias = columns || rows ? bias.p() : nullptr,
                 .bias_per_row = rows,
                 .onto = onto ? O.p() : nullptr});
      std::vector<double> y = C.read();
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(std::isnan(y[i]), std::isnan(expected[i])) << "written outside, or not written: entry " << i;
        if (std::isnan(y[i])) y[i] = expected[i] = 0;
      }
      EXPECT_LT(relative_error(y, expected), kTolerance) << s.M << 'x' << s.N << 'x' << s.K << " way " << way;
    }
}

void check_sum(const SumDoor& door) {
  for (const Shape& s : {Shape{1, 1, 1, 1},
                         {3, 5, 1700, 1},
                         {3, 5, 9001, 2},
                         {17, 33, 31, 3},
                         {130, 20, 600, 3},
                         {5, 7, 9, 300},
                         {520, 9, 40, 1},
                         {9, 530, 40, 1}})
    for (int way = 0; way < 16; ++way) {
      const bool ta = way & 1, tb = way & 2, rows = way & 4, product = !rows || way & 8;
      if (!product && s.N == 1) continue;
      const Index lda = ta ? s.M : s.K, ldb = tb ? s.K : s.N;
      const Block A("A", s.batch * s.M * s.K), B("B", s.batch * s.N * s.K), C("C", s.M * s.N), sums("sums", s.M);
      const Block scratch("scratch", gemm_sum_scratch(s.M, s.N, s.K, s.batch), kNaN);
      std::vector<double> expected = C.host, expected_sums = sums.host;
      for (Index b = 0; b < s.batch; ++b)
        for (Index m = 0; m < s.M; ++m)
          for (Index k = 0; k < s.K; ++k) {
            const double a = entry(A.host, s.M * s.K, lda, ta, b, m, k);
            if (rows) expected_sums[static_cast<std::size_t>(m)] += a;
            for (Index n = 0; product && n < s.N; ++n)
              expected[static_cast<std::size_t>(m * s.N + n)] += a * entry(B.host, s.N * s.K, ldb, tb, b, k, n);
          }
      Run run{test_device().exec()};
      door(run,
           {.ta = ta,
            .tb = tb,
            .M = s.M,
            .N = s.N,
            .K = s.K,
            .A = A.p(),
            .lda = lda,
            .stride_a = s.M * s.K,
            .B = B.p(),
            .ldb = ldb,
            .stride_b = s.N * s.K,
            .beta = 1,
            .C = product ? C.p() : nullptr,
            .ldc = s.N,
            .batch = s.batch},
           rows ? sums.p() : nullptr, scratch.room());
      EXPECT_LT(relative_error(C.read(), expected), kTolerance) << s.M << 'x' << s.N << 'x' << s.K << " way " << way;
      EXPECT_LT(relative_error(sums.read(), expected_sums), kTolerance) << s.M << 'x' << s.N << 'x' << s.K << " way " << way;
    }
}

// A smaller product may be cut into more parts than a larger one, so a caller's scratch may be large enough for one and not for the other.
void sum_refuses_too_little_room() {
  ASSERT_GT(gemm_sum_scratch(256, 256, 511, 256), gemm_sum_scratch(512, 256, 511, 256));
  const Block A("A", 1000), C("C", 1), scratch("scratch", gemm_sum_scratch(1, 1, 1000, 1) - 1);
  const Run run{test_device().exec()};
  const Gemm sum{.M = 1, .N = 1, .K = 1000, .A = A.p(), .lda = 1000, .B = A.p(), .ldb = 1, .C = C.p(), .ldc = 1};
  EXPECT_THROW(gemm_sum(run, sum, nullptr, scratch.room()), std::logic_error);
  EXPECT_THROW(plain::gemm_sum(run, sum, nullptr, scratch.room()), std::logic_error);
}

void bits_do_not_depend_on_threads() {
  if (test_device().threads < 2 && (kOnHost || kEmulated)) GTEST_SKIP() << "one thread: the float build compares it with two";
  const Index M = 1000, N = 96, K = 130;
  const Block A("A", M * K), B("B", N * K), C("C", M * N), D("D", K * N), scratch("scratch", gemm_sum_scratch(K, N, M, 1));
  std::vector<std::vector<double>> products, sums;
  Exec some{Kokkos::Experimental::partition_space(ExecSpace(), 1, 1)[0]};
  for (Exec* exec : {&test_device().exec(), &some}) {
    Run run{*exec};
    gemm(run, false, true, M, N, K, 1, A.p(), K, B.p(), K, 0, C.p(), N);
    gemm_sum(run, {.ta = true, .M = K, .N = N, .K = M, .A = A.p(), .lda = K, .B = C.p(), .ldb = N, .C = D.p(), .ldc = N}, nullptr,
             scratch.room());
    exec->space.fence("ssm::test");
    products.push_back(C.read());
    sums.push_back(D.read());
  }
  EXPECT_EQ(products[0], products[1]);
  EXPECT_EQ(sums[0], sums[1]);
}

std::vector<double> transposed(const std::vector<double>& x, Index rows, Index columns) {
  std::vector<double> y(x.size());
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) y[static_cast<std::size_t>(j * rows + i)] = x[static_cast<std::size_t>(i * columns + j)];
  return y;
}

// A large product in TF32 whose weights lie across the sum, of both sides, is the product by their transpose, bit for bit.
void weights_are_turned() {
  if (kEmulated) GTEST_SKIP() << "products around the emulated device are a CPU's";
  try {
    set_gemm_precision("tf32");
  } catch (const Unsupported& e) {
    GTEST_SKIP() << e.what();
  }
  const Index many = 20000, K = 516, few = 512;
  const Block weights("weights", K * few), rows("rows", many * K), columns("columns", many * K), C("C", many * few), E("E", many * few);
  const Block turned(transposed(weights.host, K, few));
  Run run{test_device().exec()};
  gemm(run, false, false, many, few, K, 1, rows.p(), K, weights.p(), few, 0, C.p(), few);
  gemm(run, false, true, many, few, K, 1, rows.p(), K, turned.p(), K, 0, E.p(), few);
  EXPECT_EQ(C.read(), E.read());
  gemm(run, true, false, few, many, K, 1, weights.p(), few, columns.p(), many, 0, C.p(), many);
  gemm(run, false, false, few, many, K, 1, turned.p(), K, columns.p(), many, 0, E.p(), many);
  EXPECT_EQ(C.read(), E.read());
  set_gemm_precision("fp32");
}

const Door kDoor = [](const ssm::Run& r, const Gemm& g) { gemm(r, g); };
TEST(Blas, Door) { check(kDoor); }
TEST(Blas, Plain) { check(plain::gemm); }
TEST(Blas, SumDoor) { check_sum(gemm_sum); }
TEST(Blas, SumPlain) { check_sum(plain::gemm_sum); }
TEST(Blas, SumRefusesTooLittleRoom) { sum_refuses_too_little_room(); }
TEST(Blas, BitsDoNotDependOnThreads) { bits_do_not_depend_on_threads(); }
TEST(Blas, WeightsAreTurned) { weights_are_turned(); }
TEST(Blas, SaysItsName) { EXPECT_FALSE(blas_name().empty()); }

// A core of this century is left alone; one of another library's choice is not ours to change.
TEST(Blas, OldCoresAreReplaced) {
  for (const char* good : {"Zen", "Haswell", "SkylakeX", "Cooperlake", "neoversen1"}) EXPECT_EQ(better_blas_core(good), "") << good;
#if defined(__AVX2__)
  if (!blas_name().starts_with("OpenBLAS")) GTEST_SKIP() << blas_name() << " is not OpenBLAS";
  EXPECT_NE(better_blas_core("Prescott"), "");
#endif
}

}  // namespace
}  // namespace ssm
