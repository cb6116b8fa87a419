// test_dplr_scan.cpp - the two columns of a correction of rank 2: HiPPO matrices stepped as dense ones, every gradient, and columns that add
// nothing to a single one.
#include <algorithm>
#include <cmath>
#include <complex>
#include <string>

#include "hippo.hpp"
#include "op_check.hpp"
#include "open_task.hpp"
#include "ops/dplr_scan.hpp"

using namespace ssm;

namespace {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// The scan of one channel group without gate: u (1,T,D), one head.
OpCase alone(Index T, Index D, const DplrScanOptions& options) {
  OpCase c;
  c.B = 1, c.T = T, c.D = D, c.l_max = T;
  c.inputs = {shaped({1, T, D})};
  c.build = [options](Net& n, const std::vector<Tensor>& in) { return dplr_scan(n, {in[0], {}, {}}, options); };
  return c;
}
DplrScanOptions of(const Dplr& d) {
  DplrScanOptions o;
  o.rank = d.rank, o.lambda = d.lambda, o.B = d.B, o.P = d.P;
  o.train_step = false;
  return o;
}

// x_t = (I - dt/2 A)^-1 ((I + dt/2 A) x_{t-1} + dt B u_t) by elimination without row exchange; row t: x_t.
std::vector<double> dense_states(const Hippo& h, double dt, const std::vector<double>& u) {
  const Index N = h.N;
  std::vector<double> out, x(at(N));
  for (const double now : u) {
    std::vector<double> left(at(N * N)), right(at(N));
    for (Index i = 0; i < N; ++i) {
      right[at(i)] = x[at(i)] + dt * h.B[at(i)] * now;
      for (Index k = 0; k < N; ++k) {
        const double half = dt / 2 * h.A[at(i * N + k)];
        left[at(i * N + k)] = (i == k ? 1 : 0) - half;
        right[at(i)] += half * x[at(k)];
      }
    }
    for (Index k = 0; k < N; ++k)
      for (Index i = 0; i < N; ++i) {
        if (i == k) continue;
        const double f = left[at(i * N + k)] / left[at(k * N + k)];
        for (Index j = k; j < N; ++j) left[at(i * N + j)] -= f * left[at(k * N + j)];
        right[at(i)] -= f * right[at(k)];
      }
    for (Index i = 0; i < N; ++i) x[at(i)] = right[at(i)] / left[at(i * N + i)];
    out.insert(out.end(), x.begin(), x.end());
  }
  return out;
}

// Channel n reads coordinate n of the state back: C = row n of V.
TEST(DplrScan, HippoMatricesStepAsDenseOnes) {
  for (const char* kind : {"legs", "legt"}) {
    const Index N = 8, M = N / 2, T = 40;
    const Hippo h = hippo(kind, N);
    const Eigenbasis e = eigenbasis(h);
    DplrScanOptions o = of(dplr(kind, N, false));
    for (Cx& l : o.lambda) l = {std::min(l.real(), -1e-9), l.imag()};
    Probe probe(test_device().exec(), alone(T, N, o));
    const double dt = 0.07;
    std::vector<double> C, u = test_values("u", T), wide;
    for (Index n = 0; n < N; ++n)
      for (Index m = 0; m < M; ++m) C.push_back(e.V[at(n * N + m)].real()), C.push_back(e.V[at(n * N + m)].imag());
    for (const double now : u) wide.insert(wide.end(), at(N), now);
    probe.params().set("C", C);
    probe.params().set("D", std::vector<double>(at(N)));
    probe.params().set("dt_bias", {std::log(std::expm1(dt))});
    EXPECT_LT(relative_error(probe.forward({wide}), dense_states(h, dt, u)), kDouble ? 1e-8 : 1e-5) << kind;
  }
}

TEST(DplrScan, GradientsOfRank2) {
  for (const bool per_mode : {false, true}) {
    const Index B = 2, T = 19, D = 4, R = 2, M = 3;
    OpCase c;
    c.B = B, c.T = T, c.D = D, c.l_max = T;
    c.inputs = {shaped({B, T, D}), per_mode ? shaped({B, T, R}) : shaped({B, R}), shaped({B, T, per_mode ? R * M : R})};
    c.build = [=](Net& n, const std::vector<Tensor>& in) {
      DplrScanOptions o = of(dplr("legs", 2 * M, false));
      o.heads = R, o.rank = 2, o.train_step = true;
      return dplr_scan(n, {in[0], in[1], in[2]}, o);
    };
    check_op(c);
  }
}

// P P^H in two parts is the same system; a second column of zeros as well, and it has no gradient.
TEST(DplrScan, TwoColumnsOfOne) {
  const Index T = 35, D = 19, M = 4;
  DplrScanOptions o = of(dplr("legs", 2 * M, false));
  const std::vector<double> u = test_values("u", T * D), dy = test_values("dy", T * D);
  Probe one(test_device().exec(), alone(T, D, o));
  const std::vector<double> y = one.forward({u}), du = one.backward(dy)[0], dP = one.params().get_grad("P");
  o.rank = 2;
  Probe two(test_device().exec(), alone(T, D, o));
  for (const double part : {0.6, 1.0}) {
    const double rest = std::sqrt(1 - part * part);
    std::vector<double> P, expected;
    for (const double share : {part, rest})
      for (std::size_t i = 0; i < dP.size(); ++i) P.push_back(share * one.params().get("P")[i]), expected.push_back(share * dP[i]);
    two.params().set("P", P);
    EXPECT_LT(relative_error(two.forward({u}), y), kDouble ? 1e-12 : 1e-5) << part;
    EXPECT_LT(relative_error(two.backward(dy)[0], du), kDouble ? 1e-12 : 1e-5) << part;
    EXPECT_LT(relative_error(two.params().get_grad("P"), expected), kDouble ? 1e-11 : 1e-4) << part;
  }
}

TEST(DplrScan, RefusesOtherRanks) {
  DplrScanOptions o = of(dplr("legs", 8, false));
  for (const Index rank : {-1, 3}) {
    o.rank = rank;
    EXPECT_EQ(bad_input([&] { Probe(test_device().exec(), alone(4, 4, o)); }),
              "rank = " + std::to_string(rank) + "; allowed are 0, 1 and 2");
  }
}

}  // namespace
