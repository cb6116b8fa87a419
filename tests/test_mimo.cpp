// S5 and LRU: golden numbers of their scans and initial values, the scan op alone, one direction as the mirror of the other.
#include <cmath>

#include "error.hpp"
#include "lib/blas.hpp"
#include "model.hpp"
#include "op_check.hpp"
#include "ops/mimo.hpp"
#include "variant.hpp"

using namespace ssm;

namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// One channel, two modes: Lambda = -1/2 + i(1,3), Delta = (.1,.2), B = (1, .5-.5i), C = (.3+.1i, -.2+.4i), D = 0.
ProbeSpec golden(bool both) {
  ProbeSpec s;
  s.B = 1, s.T = 5, s.D = 1;
  s.inputs = {shaped({1, 5, 1})};
  s.build = [both](Net& n, const std::vector<Tensor>& in) {
    MimoParams p;
    p.p = 2, p.H = 1, p.scale = 2;
    p.a = n.param("Lambda_re", {2}, init::constant(-0.5));
    p.b = n.param("Lambda_im", {2}, init::values({1, 3}));
    p.c = n.param("log_step", {2}, init::values({std::log(0.1), std::log(0.2)}));
    p.B = {n.param("B", {2, 1, 2}, init::values({1, 0, 0.5, -0.5})), {}, 1, 0};
    const Param C = n.param("C", {1, 2, 2}, init::values({0.3, 0.1, -0.2, 0.4}));
    p.C.assign(both ? 2 : 1, {C, {}, 2, 0});
    return mimo_scan(n, in[0], mimo_system(n, p), n.param("D", {1}, init::constant(0)), "chunked");
  };
  return s;
}

TEST(Mimo, GoldenNumbers) {
  std::vector<double> u;
  for (int k = 1; k <= 5; ++k) u.push_back(std::sin(0.7 * k));
  const std::vector<double> forth = {.039063429, .055936401, .019074439, -.055420951, -.116117097};
  const std::vector<double> both = {.027310216, .111919897, .084365751, -.03302916, -.13738754};
  for (const bool two : {false, true}) {
    const std::vector<double> y = Probe(test_device().exec(), golden(two)).forward({u});
    for (std::size_t t = 0; t < 5; ++t) EXPECT_NEAR(y[t], (two ? both : forth)[t], kDouble ? 2e-9 : 2e-7) << two << ' ' << t;
  }
}

// u1 = .25 on the ring .9 to .999 and u2 = .5 of phases to .314.
TEST(Mimo, LruRingGoldenNumbers) {
  const double nu_log = -2.561893086, theta_log = -1.851509474, gamma = .378153077;
  ProbeSpec s;
  s.B = 1, s.T = 2, s.D = 1;
  s.inputs = {shaped({1, 2, 1})};
  s.build = [=](Net& n, const std::vector<Tensor>& in) {
    MimoParams p;
    p.p = 1, p.H = 1, p.kind = "stable_exp";
    p.a = n.param("nu_log", {1}, init::constant(nu_log));
    p.b = n.param("theta_log", {1}, init::constant(theta_log));
    p.c = n.param("gamma_log", {1}, init::constant(std::log(gamma)));
    p.B = {n.param("B_re", {1, 1}, init::constant(1)), n.param("B_im", {1, 1}, init::constant(0)), 1, 0};
    p.C = {{n.param("C_re", {1, 1}, init::constant(1)), n.param("C_im", {1, 1}, init::constant(1)), 1, 0}};
    return mimo_scan(n, in[0], mimo_system(n, p), n.param("D", {1}, init::constant(0)), "sequential");
  };
  const std::vector<double> y = Probe(test_device().exec(), s).forward({{1, 0}});
  const double tolerance = kDouble ? 2e-9 : 2e-7;
  EXPECT_NEAR(y[0], gamma, tolerance);  // Re((1 + i) gamma), then one multiplication by lambda = .914357176 + .144745311i
  EXPECT_NEAR(y[1], gamma * (.914357176 - .144745311), tolerance);
}

// gamma^2 + |lambda|^2 = 1 at the start, and |lambda| keeps to the ring.
TEST(Mimo, LruStartsOnItsRing) {
  ProbeSpec s;
  s.B = 1, s.T = 1, s.D = 4;
  s.inputs = {shaped({1, 1, 4})};
  const VariantKnobs knobs = {{"lru", {{"r_min", "0.9"}, {"r_max", "0.999"}, {"max_phase", "0.314"}}}};
  s.build = [&](Net& n, const std::vector<Tensor>& in) { return make_variant("lru", knobs)->build(n, in[0]); };
  Probe probe(test_device().exec(), s);
  const auto nu = probe.params().get("nu_log"), theta = probe.params().get("theta_log"), gamma = probe.params().get("gamma_log");
  double least = 1, most = 0;
  for (std::size_t k = 0; k < nu.size(); ++k) {
    const double radius = std::exp(-std::exp(nu[k]));
    least = std::min(least, radius), most = std::max(most, radius);
    EXPECT_NEAR(radius * radius + std::exp(2 * gamma[k]), 1, 1e-6);
    EXPECT_GT(std::exp(theta[k]), 0);
    EXPECT_LE(std::exp(theta[k]), 0.314 * (1 + 1e-6));
  }
  EXPECT_GE(least, 0.9 - 1e-6);
  EXPECT_LT(least, 0.93);
  EXPECT_LE(most, 0.999 + 1e-6);
  EXPECT_GT(most, 0.97);
}

// S5's first B and C, in the eigenbasis, are those of a real system: with conjugate pairs V B~ is real and as large as asked for.
TEST(Mimo, S5StartsFromARealSystem) {
  ProbeSpec s;
  s.B = 1, s.T = 1, s.D = 64;
  s.inputs = {shaped({1, 1, 64})};
  s.build = [](Net& n, const std::vector<Tensor>& in) { return make_variant("s5", {})->build(n, in[0]); };
  Probe probe(test_device().exec(), s);
  const auto B = probe.params().get("B"), C = probe.params().get("C"), re = probe.params().get("Lambda_re"),
             im = probe.params().get("Lambda_im");
  ASSERT_EQ(re.size(), 32u);
  const std::vector<double> omega = {19.857410371, 5.354208515, 1.957794151, .427488712};
  for (std::size_t k = 0; k < 32; ++k) {
    EXPECT_NEAR(re[k], -0.5, 1e-6);
    EXPECT_NEAR(im[k], -omega[k % 4], 1e-5);
  }
  double b = 0, c = 0;
  for (const double v : B) b += v * v;
  for (const double v : C) c += v * v;
  // V is unitary, so |B0|^2 = 2 |B~|^2 = P H / P; C keeps half of the columns of C0 V, |C0|^2 = 2 H P / P.
  EXPECT_NEAR(2 * b / 64, 1, 0.1);
  EXPECT_NEAR(2 * c / 128, 1, 0.1);
}

struct ScanCase {
  Index B, T, H, p;
  int directions;
  const char* view;
};
std::ostream& operator<<(std::ostream& out, const ScanCase& c) { return out << c.T << ' ' << c.H << ' ' << c.p << ' ' << c.view; }

// The op against plain loops and central differences, chunks and their remainders included.
class Scan : public ::testing::TestWithParam<ScanCase> {};
TEST_P(Scan, MatchesLoops) {
  const ScanCase k = GetParam();
  OpCase c;
  c.B = k.B, c.T = k.T, c.D = k.H;
  const Index S = 2 * k.p * k.directions;
  c.inputs = {shaped({k.B, k.T, k.H}), shaped({4, k.p}), shaped({2 * k.p, k.H}), shaped({k.H, S})};
  c.values_of_inputs = {test_values("u", k.B * k.T * k.H), test_values("lambda", 4 * k.p, 0.65), test_values("B", 2 * k.p * k.H)};
  for (std::size_t i = at(2 * k.p); i < at(4 * k.p); ++i) c.values_of_inputs[1][i] *= 1e-3;
  c.build = [k](Net& n, const std::vector<Tensor>& in) {
    return mimo_scan(n, in[0], {in[1], in[2], in[3]}, n.param("D", {k.H}, init::normal(1)), k.view);
  };
  c.gradients = k.T < 70;
  c.expected = [k, S](const Arrays& in, Params& params) {
    const std::vector<double>&u = in[0], &L = in[1], &B = in[2], &C = in[3], D = params.get("D");
    std::vector<double> y(u.size());
    for (Index b = 0; b < k.B; ++b)
      for (int q = 0; q < k.directions; ++q) {
        std::vector<double> re(at(k.p)), im(at(k.p));
        for (Index i = 0; i < k.T; ++i) {
          const Index row = b * k.T + (q ? k.T - 1 - i : i);
          for (Index m = 0; m < k.p; ++m) {
            double x = 0, z = 0;
            for (Index h = 0; h < k.H; ++h) {
              x += B[at(m * k.H + h)] * u[at(row * k.H + h)];
              z += B[at((k.p + m) * k.H + h)] * u[at(row * k.H + h)];
            }
            const double lr = L[at(m)] + L[at(2 * k.p + m)], li = L[at(k.p + m)] + L[at(3 * k.p + m)], r0 = re[at(m)], i0 = im[at(m)];
            re[at(m)] = lr * r0 - li * i0 + x;
            im[at(m)] = lr * i0 + li * r0 + z;
          }
          for (Index h = 0; h < k.H; ++h) {
            double sum = q ? 0 : D[at(h)] * u[at(row * k.H + h)];
            for (Index m = 0; m < k.p; ++m)
              sum += C[at(h * S + 2 * q * k.p + m)] * re[at(m)] + C[at(h * S + (2 * q + 1) * k.p + m)] * im[at(m)];
            y[at(row * k.H + h)] += sum;
          }
        }
      }
    return y;
  };
  check_op(c);
}
INSTANTIATE_TEST_SUITE_P(Mimo, Scan,
                         ::testing::Values(ScanCase{2, 1, 3, 1, 1, "chunked"}, ScanCase{2, 9, 3, 2, 2, "sequential"},
                                           ScanCase{2, 64, 1, 2, 1, "chunked"}, ScanCase{1, 65, 2, 1, 1, "chunked"},
                                           ScanCase{1, 66, 2, 1, 2, "chunked"}, ScanCase{2, 200, 3, 17, 2, "chunked"},
                                           ScanCase{3, 129, 5, 33, 1, "chunked"}, ScanCase{1, 1100, 1, 1, 2, "chunked"}));

bool has_tf32() {
  try {
    set_gemm_precision("tf32");
    set_gemm_precision("fp32");
    return true;
  } catch (const Unsupported&) {
    return false;
  }
}

// Where run.gemm allows TF32 a GPU walks tiles: outputs and every gradient against the plain kernels, tiles cut by the end of a sequence, modes and
// columns that fill no block, modes that forget nothing for long, gradients added to another's; the same bits in two runs; evaluation.
TEST(Mimo, TilesInTf32) {
  if (!has_tf32()) GTEST_SKIP() << "no TF32 in this build";
  struct Tiles {
    Index B, T, H, p;
    double most = 0.65;  // of |Re lambda|
    bool twice = false;
  };
  for (const Tiles& k :
       {Tiles{2, 100, 24, 40}, Tiles{1, 1, 8, 4}, Tiles{3, 17, 4, 4, 0.65, true}, Tiles{2, 130, 132, 36}, Tiles{2, 300, 128, 64},
        Tiles{2, 129, 260, 128, 0.65, true}, Tiles{1, 70, 512, 100}, Tiles{2, 200, 512, 32}, Tiles{1, 333, 260, 64},
        Tiles{1, 20000, 8, 4, 0.9995}, Tiles{1, 5000, 4, 12, 0.9995}, Tiles{2, 4096, 4, 4, 0.9995}, Tiles{2, 9, 8, 64},
        Tiles{2, 70, 24, 100}, Tiles{1, 150, 100, 72}, Tiles{70, 530, 256, 128}, Tiles{64, 40, 16, 1}}) {
    const auto run = [&](const char* view, const char* precision, Mode mode) {
      set_gemm_precision(precision);
      OpCase c;
      c.B = k.B, c.T = k.T, c.D = k.H, c.mode = mode;
      c.inputs = {shaped({k.B, k.T, k.H}), shaped({4, k.p}), shaped({2 * k.p, k.H}), shaped({k.H, 2 * k.p})};
      c.build = [&](Net& n, const std::vector<Tensor>& in) {
        const MimoSystem system{in[1], in[2], in[3]};
        const Tensor y = mimo_scan(n, in[0], system, n.param("D", {k.H}, init::normal(1)), view);
        return k.twice ? add(n, y, mimo_scan(n, in[0], system, n.param("E", {k.H}, init::normal(1)), view)) : y;
      };
      Arrays in;
      for (const Tensor& t : c.inputs) in.push_back(test_values("in" + std::to_string(in.size()), t.size()));
      for (std::size_t i = 0; i < at(4 * k.p); ++i) in[1][i] *= i < at(k.p) ? k.most : i < at(2 * k.p) ? 0.02 : 1e-6;
      if (k.most > 0.9)
        for (std::size_t i = 0; i < at(k.p); ++i) in[1][i] = k.most - 1e-3 * std::abs(in[1][i]);
      Probe probe(test_device().exec(), c);
      Arrays all{probe.forward(in)};
      if (mode == Mode::train) {
        for (auto& dx : probe.backward(test_values("dy", static_cast<Index>(all[0].size())))) all.push_back(dx);
        all.push_back(probe.params().get_grad("D"));
      }
      set_gemm_precision("fp32");
      return all;
    };
    const Arrays plain = run("sequential", "fp32", Mode::train), tiles = run("chunked", "tf32", Mode::train);
    for (std::size_t i = 0; i < plain.size(); ++i)
      EXPECT_LT(relative_error(tiles[i], plain[i]), 0.01) << k.T << ' ' << k.H << ' ' << k.p << ", array " << i;
    EXPECT_EQ(run("chunked", "tf32", Mode::train), tiles) << k.T << ' ' << k.H << ' ' << k.p;
    EXPECT_EQ(run("chunked", "tf32", Mode::evaluate)[0], tiles[0]) << k.T << ' ' << k.H << ' ' << k.p;
  }
}

}  // namespace
