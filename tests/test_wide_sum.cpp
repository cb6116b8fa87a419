// test_wide_sum.cpp - weight gradients in TF32, whose operands lie across a long sum, against loops in double.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "error.hpp"
#include "lib/blas.hpp"
#include "memory.hpp"
#include "probe.hpp"
#include "testing.hpp"

namespace ssm {
namespace {

bool has_tf32() {
  try {
    set_gemm_precision("tf32");
  } catch (const Unsupported&) {
    return false;
  }
  return true;
}

struct Numbers {  // on the host and on the device
  std::vector<Real> host;
  Memory memory;
  explicit Numbers(std::vector<Real> values)
      : host(std::move(values)), memory("ssm::test", static_cast<Index>(host.size() * sizeof(Real))) {
    copy_in(memory.as<void>(), host.data(), memory.bytes());
  }
  Numbers(const std::string& name, Index count) : Numbers(made(name, count)) {}
  Numbers(Real value, Index count) : Numbers(std::vector<Real>(static_cast<std::size_t>(count), value)) {}
  static std::vector<Real> made(const std::string& name, Index count) {
    const std::vector<double> values = test_values(name, count);
    return {values.begin(), values.end()};
  }
  Real* p() const { return memory.as<Real>(); }
  std::vector<Real> read() const {
    std::vector<Real> out(host.size());
    test_device().fence("ssm::test: result");
    copy_out(out.data(), memory.as<void>(), memory.bytes());
    return out;
  }
};

struct Shape {
  Index M, N, K, batch, apart;  // apart: how much wider rows of A and B are than the matrix
};

struct Result {
  std::vector<Real> C, sums;
};
// C += 2 A^T B from C = 1, sums += 2 sum A from 3; rows of NaN lie behind each operand.
Result run(const Shape& s, bool with_sums) {
  const Index lda = s.M + s.apart, ldb = s.N + s.apart;
  std::vector<Real> a = Numbers::made("A", s.batch * s.K * lda), b = Numbers::made("B", s.batch * s.K * ldb);
  a.resize(a.size() + static_cast<std::size_t>(40 * lda), std::nanf("")),
      b.resize(b.size() + static_cast<std::size_t>(40 * ldb), std::nanf(""));
  const Numbers A(a), B(b), C(Real(1), s.M * s.N), sums(Real(3), s.M), scratch(std::nanf(""), gemm_sum_scratch(s.M, s.N, s.K, s.batch));
  gemm_sum(ssm::Run{test_device().exec()},
           {.ta = true,
            .M = s.M,
            .N = s.N,
            .K = s.K,
            .alpha = 2,
            .A = A.p(),
            .lda = lda,
            .stride_a = s.K * lda,
            .B = B.p(),
            .ldb = ldb,
            .stride_b = s.K * ldb,
            .beta = 1,
            .C = C.p(),
            .ldc = s.N,
            .batch = s.batch},
           with_sums ? sums.p() : nullptr, {scratch.p(), static_cast<Index>(scratch.host.size())});
  return {C.read(), sums.read()};
}

// Against double; errors of the size of the terms of their sum, where TF32 may be off by 2^-11 a factor, in no common direction.
void check(const Shape& s, bool tf32) {
  const Index lda = s.M + s.apart, ldb = s.N + s.apart;
  const std::vector<Real> a = Numbers::made("A", s.batch * s.K * lda), b = Numbers::made("B", s.batch * s.K * ldb);
  std::vector<double> C(static_cast<std::size_t>(s.M * s.N), 0), sums(static_cast<std::size_t>(s.M), 0);
  for (Index k = 0; k < s.batch * s.K; ++k)
    for (Index m = 0; m < s.M; ++m) {
      const double left = a[static_cast<std::size_t>(k * lda + m)];
      sums[static_cast<std::size_t>(m)] += left;
      for (Index n = 0; n < s.N; ++n) C[static_cast<std::size_t>(m * s.N + n)] += left * b[static_cast<std::size_t>(k * ldb + n)];
    }
  const Result got = run(s, true);
  const double size = std::sqrt(static_cast<double>(s.batch * s.K));  // of a sum of that many terms of either sign
  double worst = 0, worst_sum = 0;
  for (std::size_t i = 0; i < C.size(); ++i) worst = std::max(worst, std::abs(1 + 2 * C[i] - static_cast<double>(got.C[i])) / size);
  for (std::size_t i = 0; i < sums.size(); ++i)
    worst_sum = std::max(worst_sum, std::abs(3 + 2 * sums[i] - static_cast<double>(got.sums[i])) / size);
  EXPECT_LT(worst, tf32 ? 4e-3 : 1e-5) << s.M << 'x' << s.N << 'x' << s.K;
  EXPECT_LT(worst_sum, 1e-5) << s.M << 'x' << s.N << 'x' << s.K << ": the sums of columns are in float";
  EXPECT_EQ(run(s, true).C, got.C) << "the same bits each time";
  const Result without = run(s, false);
  EXPECT_EQ(without.C, got.C);
  EXPECT_EQ(without.sums, std::vector<Real>(without.sums.size(), Real(3)));
}

// Whole tiles of both shapes, cut ones, a sum that ends within a stage, several matrices behind each other; the last ones are the library's:
// rows that do not start at 16 bytes, a short sum, a tile half empty.
const std::vector<Shape> kShapes = {{128, 256, 4096, 1, 0}, {256, 128, 4096, 1, 0}, {120, 244, 4099, 1, 8}, {228, 124, 2051, 2, 0},
                                    {128, 256, 4096, 1, 1}, {128, 256, 1000, 1, 0}, {64, 64, 4096, 1, 0}};
TEST(WideSum, AgainstPlainLoops) {
  const bool tf32 = has_tf32();
  for (const Shape& s : kShapes) check(s, tf32);
  if (tf32) set_gemm_precision("fp32");
}

}  // namespace
}  // namespace ssm
