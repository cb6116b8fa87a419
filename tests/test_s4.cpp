// S4D and S4: golden numbers of their initial values, kernels and gradients; kernels against plain loops; C and C~; lengths beyond l_max.
#include <cmath>
#include <complex>
#include <numbers>

#include "check.hpp"
#include "hippo.hpp"
#include "op_check.hpp"
#include "s4_transform.hpp"
#include "ssm_layer.hpp"

using namespace ssm;

namespace {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

void expect_near(const std::vector<double>& found, const std::vector<double>& golden, const char* what, double scale = 1) {
  ASSERT_EQ(found.size(), golden.size()) << what;
  const double tolerance = (kDouble ? 2e-9 : 2e-6) * scale;  // the golden numbers have nine decimals
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], golden[i], tolerance) << what << ", entry " << i;
}

std::vector<double> cosines(Index T) {
  std::vector<double> out;
  for (Index l = 0; l < T; ++l) out.push_back(std::cos(0.3 * static_cast<double>(l)));
  return out;
}

TEST(Hippo, LegSGoldenNumbers) {
  const Dplr four = dplr("legs", 4, false), eight = dplr("legs", 8, false);
  const std::vector<Cx> P4 = {{.202953689, 1.868510598}, {.45695711, .508594282}}, l4 = {{-.5, -4.603293007}, {-.5, -.556501115}};
  const std::vector<Cx> P8 = {{.091764802, 3.644422655}, {.121228382, 1.298164072}, {.205584617, .804984723}, {.429671812, .367359699}};
  const std::vector<double> w8 = {19.857410371, 5.354208515, 1.957794151, .427488712};
  for (std::size_t n = 0; n < 2; ++n) {
    EXPECT_NEAR(std::abs(four.lambda[n] - l4[n]), 0, 2e-9);
    EXPECT_NEAR(std::abs(four.P[n] - P4[n]), 0, 2e-9);
    EXPECT_NEAR(std::abs(four.B[n] - std::sqrt(2.0) * P4[n]), 0, 3e-9);
  }
  for (std::size_t n = 0; n < 4; ++n) {
    EXPECT_NEAR(eight.lambda[n].imag(), -w8[n], 2e-9);
    EXPECT_NEAR(std::abs(eight.P[n] - P8[n]), 0, 2e-9);
  }
  EXPECT_NEAR(dplr("legs", 64, true).lambda[0].imag(), -1303.27, 0.01);
  int clipped = 0;
  for (const Cx b : dplr("legs", 64, true).B) clipped += std::abs(b.imag()) == 2;
  EXPECT_EQ(clipped, 11);
}

// The basis gives back the matrix: V diag(lambda) V^H - sum P P^T = A.
TEST(Hippo, EigenbasisReconstructs) {
  for (const char* kind : {"legs", "legt", "fout"}) {
    const Index N = 8;
    const Hippo h = hippo(kind, N);
    const Eigenbasis e = eigenbasis(h);
    for (Index i = 0; i < N; ++i)
      for (Index j = 0; j < N; ++j) {
        Cx sum = 0;
        for (Index k = 0; k < N; ++k) sum += e.V[at(i * N + k)] * e.lambda[at(k)] * std::conj(e.V[at(j * N + k)]);
        for (Index r = 0; r < h.rank; ++r) sum -= h.P[at(r * N + i)] * h.P[at(r * N + j)];
        EXPECT_NEAR(std::abs(sum - h.A[at(i * N + j)]), 0, 1e-12) << kind << ' ' << i << ',' << j;
      }
  }
}

// A = V diag(lambda) V^-1 of a matrix with real eigenvalues as well as pairs, frequencies ascending.
TEST(Hippo, DenseEigenbasisReconstructs) {
  const Index N = 9;
  const std::vector<double> A = test_values("A", N * N);
  const Eigenbasis e = eigenbasis(N, A);
  for (Index i = 0; i < N; ++i)
    for (Index j = 0; j < N; ++j) {
      Cx sum = 0, one = 0;
      for (Index k = 0; k < N; ++k) {
        sum += e.V[at(i * N + k)] * e.lambda[at(k)] * e.inverse[at(k * N + j)];
        one += e.V[at(i * N + k)] * e.inverse[at(k * N + j)];
      }
      EXPECT_NEAR(std::abs(sum - A[at(i * N + j)]), 0, 1e-12) << i << ',' << j;
      EXPECT_NEAR(std::abs(one - (i == j ? 1.0 : 0.0)), 0, 1e-12) << i << ',' << j;
    }
  EXPECT_LT(e.lambda.front().imag(), 0);
  EXPECT_EQ(e.lambda.front(), std::conj(e.lambda.back()));
  for (std::size_t k = 1; k < e.lambda.size(); ++k) EXPECT_LE(e.lambda[k - 1].imag(), e.lambda[k].imag());
}

// A net whose output is the kernel of one kind.
struct KernelCase {
  const char* name;
  bool dplr;
  Index T, H, M, l_max;
  SsmOptions options;
};
std::ostream& operator<<(std::ostream& out, const KernelCase& c) { return out << c.name; }

OpCase op_case(const KernelCase& c) {
  OpCase o;
  o.B = 1, o.T = c.T, o.D = c.H, o.l_max = c.l_max;
  o.build = [c](Net& n, const std::vector<Tensor>&) {
    SsmOptions options = c.options;
    const Index M = c.M;
    if (!c.dplr && options.lambda.empty())
      for (Index m = 0; m < M; ++m)
        options.lambda.emplace_back(-0.5 - 0.1 * static_cast<double>(m), options.real ? 0 : 0.3 + 2.0 * static_cast<double>(m));
    SsmParams p = declare_ssm(n, c.H, options, "test");
    p.wide = c.dplr;
    return c.dplr ? s4_kernel(n, p, c.T) : s4d_kernel(n, p, c.T);
  };
  return o;
}

SsmOptions with(const std::function<void(SsmOptions&)>& change) {
  SsmOptions o;
  o.dt_min = 0.05;
  o.dt_max = 0.3;
  change(o);
  return o;
}
SsmOptions low_rank(
    const char* kind, Index N, const std::function<void(SsmOptions&)>& change = [](SsmOptions&) {}) {
  return with([&](SsmOptions& o) {
    const Dplr d = dplr(kind, N, true);
    o.disc = "bilinear";
    o.lambda = d.lambda;
    o.B = d.B;
    o.P = d.P;
    change(o);
  });
}

class Kernels : public ::testing::TestWithParam<KernelCase> {};
TEST_P(Kernels, Gradients) {
  OpCase o = op_case(GetParam());
  if (!kDouble && GetParam().dplr) o.value_tolerance = 1e-5;
  check_op(o);
}
const auto nothing = [](SsmOptions&) {};
INSTANTIATE_TEST_SUITE_P(
    Shapes, Kernels,
    ::testing::Values(KernelCase{"zoh", false, 7, 3, 2, 8, with(nothing)}, KernelCase{"one_tap", false, 1, 1, 1, 8, with(nothing)},
                      KernelCase{"blocks", false, 130, 2, 3, 200, with([](SsmOptions& o) { o.n_ssm = 0; })},
                      KernelCase{"many_modes", false, 9, 1, 19, 9, with([](SsmOptions& o) { o.bidirectional = true; })},
                      KernelCase{"bilinear", false, 33, 4, 2, 40, with([](SsmOptions& o) { o.disc = "bilinear", o.n_ssm = 2; })},
                      KernelCase{"backward_euler", false, 33, 2, 2, 40, with([](SsmOptions& o) { o.disc = "backward_euler"; })},
                      KernelCase{"exp_euler", false, 33, 2, 2, 40, with([](SsmOptions& o) { o.disc = "exp_euler"; })},
                      KernelCase{"softplus", false, 33, 2, 2, 40, with([](SsmOptions& o) { o.dt_transform = "softplus"; })},
                      KernelCase{"real", false, 33, 3, 3, 40, with([](SsmOptions& o) { o.real = true; })},
                      KernelCase{"fixed_B", false, 9, 3, 2, 40, with([](SsmOptions& o) { o.train_B = false; })},
                      KernelCase{"legs", true, 16, 3, 2, 16, low_rank("legs", 4)},
                      KernelCase{"legs_short", true, 5, 2, 4, 16, low_rank("legs", 8, [](SsmOptions& o) { o.n_ssm = 0; })},
                      KernelCase{"legs_odd", true, 31, 2, 4, 31, low_rank("legs", 8, [](SsmOptions& o) { o.dt_transform = "softplus"; })},
                      KernelCase{"legs_both", true, 33, 2, 3, 40, low_rank("legs", 6, [](SsmOptions& o) { o.bidirectional = true; })},
                      KernelCase{"legs_one", true, 1, 2, 2, 1, low_rank("legs", 4)},
                      KernelCase{"legt", true, 20, 2, 3, 20, low_rank("legt", 6)},
                      KernelCase{"legt_both", true, 20, 2, 2, 24, low_rank("legt", 4, [](SsmOptions& o) { o.bidirectional = true; })}),
    [](const auto& each) { return each.param.name; });

// G2: a = -1/2 + i pi n, C = (1 + .5i, -.3 + .2i), B = 1, Delta = .1.
TEST(S4D, GoldenNumbers) {
  SsmOptions options;
  options.lambda = {{-.5, 0}, {-.5, -std::numbers::pi}};
  const std::vector<double> C = {1, .5, -.3, .2};
  for (const bool zoh : {true, false}) {
    options.disc = zoh ? "zoh" : "bilinear";
    Probe probe(test_device().exec(), op_case({"golden", false, 8, 1, 2, 8, options}));
    probe.params().set("kernel.inv_dt", {std::log(.1)});
    probe.params().set("kernel.A_imag", {0, -std::numbers::pi});
    probe.params().set("kernel.C", C);
    const std::vector<double> K = probe.forward({});
    if (!zoh) {
      expect_near(K, {.132085359, .119885489, .114584042, .115206875, .12035347, .128366404, .137509345, .146135998}, "bilinear");
      continue;
    }
    expect_near(K, {.131475499, .119399241, .114349363, .115296742, .120778597, .129077443, .138407422, .147089534}, "zoh");
    probe.backward(cosines(8));
    const auto grad = [&](const char* name) { return probe.params().get_grad(name); };
    expect_near(grad("kernel.C"), {.58880765, 0, .570428886, -.294496115}, "dC");
    expect_near(grad("kernel.A_real"), {-.033806755, .023442517}, "dA_real");
    expect_near(grad("kernel.A_imag"), {.033806755, .010173584}, "dA_imag");
    expect_near(grad("kernel.inv_dt"), {.316454266}, "dlog Delta");
  }
}

// G3: LegS of N = 4 unclipped, C~ = the C of G2, L = 8.
TEST(S4, GoldenNumbers) {
  const Dplr d = dplr("legs", 4, false);
  SsmOptions options;
  options.disc = "bilinear";
  options.lambda = d.lambda;
  options.B = d.B;
  options.P = d.P;
  for (const bool wide : {true, false}) {
    OpCase o = op_case({"golden", true, 8, 1, 2, 8, options});
    if (!wide) {
      o.build = [options](Net& n, const std::vector<Tensor>&) { return s4_kernel(n, declare_ssm(n, 1, options, "test"), 8); };
    }
    Probe probe(test_device().exec(), o);
    probe.params().set("kernel.inv_dt", {std::log(.1)});
    probe.params().set("kernel.C", {1, .5, -.3, .2});
    expect_near(probe.forward({}), {-.159800084, .062357129, .124474562, .111931936, .071358447, .026603722, -.011480514, -.039146443},
                "K");
    probe.backward(cosines(8));
    const auto grad = [&](const char* name) { return probe.params().get_grad(name); };
    expect_near(grad("kernel.C"), {.457524328, -.29619779, .575394661, -.073066478}, "dC~");
    expect_near(grad("kernel.B"), {.439762824, .155082465, -.095621833, -.489438492}, "dB");
    expect_near(grad("kernel.P"), {-.322974693, -.053667099, .004331873, .342612865}, "dP");
    expect_near(grad("kernel.A_real"), {-.5 * .031326113, -.5 * -.030127934}, "dA_real");
    expect_near(grad("kernel.A_imag"), {.033394976, .29794987}, "dA_imag");
    expect_near(grad("kernel.inv_dt"), {.4463329309}, "dlog Delta");
  }
}

// Long kernels and their gradients in the build's own precision against sums of exponentials in double.
TEST(S4D, LongKernel) {
  const Index T = 4096, H = 3, M = 32;
  KernelCase c{"long", false, T, H, M, T, {}};
  c.options.lambda = diagonal_init("lin", 2 * M);
  Probe probe(test_device().exec(), op_case(c));
  const std::vector<double> K = probe.forward({}), dK = test_values("dK", H * T), dt = probe.params().get("kernel.inv_dt"),
                            C = probe.params().get("kernel.C"), re = probe.params().get("kernel.A_real"),
                            im = probe.params().get("kernel.A_imag");
  std::vector<double> expected(K.size()), dC, dA(at(M));
  for (Index h = 0; h < H; ++h)
    for (Index n = 0; n < M; ++n) {
      const double delta = std::exp(dt[at(h)]);
      const Cx a{-std::exp(re[at(n)]), -im[at(n)]}, z = delta * a, gain = (std::exp(z) - 1.0) / a,
                                                    weight{C[at(2 * (h * M + n))], C[at(2 * (h * M + n) + 1)]};
      const Cx gain_a = (delta * std::exp(z) - gain) / a;
      Cx sum = 0, slope = 0;
      for (Index l = 0; l < T; ++l) {
        const Cx e = std::exp(z * static_cast<double>(l));
        expected[at(h * T + l)] += 2 * (weight * gain * e).real();
        sum += 2 * dK[at(h * T + l)] * std::conj(gain * e);
        slope += 2 * dK[at(h * T + l)] * std::conj(weight * (gain_a + gain * delta * static_cast<double>(l)) * e);
      }
      dC.push_back(sum.real());
      dC.push_back(sum.imag());
      dA[at(n)] -= slope.imag();
    }
  EXPECT_LT(relative_error(K, expected), kDouble ? 1e-11 : 2e-6);
  probe.backward(dK);
  EXPECT_LT(relative_error(probe.params().get_grad("kernel.C"), dC), kDouble ? 1e-11 : 2e-6);
  EXPECT_LT(relative_error(probe.params().get_grad("kernel.A_imag"), dA), kDouble ? 1e-11 : 2e-6);
}

TEST(S4, LongKernelsMatchDensePowers) {
  for (const char* name : {"s4", "s4d"}) {
    const CheckReport r = self_check(name, {}, test_device().exec(), 1, 1000, 2);
    EXPECT_TRUE(r.passed) << name << ' ' << r.text << " reference " << r.reference_error << " streaming " << r.streaming_error;
  }
}

S4Host host_case(const char* kind, Index N) {
  const Dplr d = dplr(kind, N, true);
  S4Host s{2, N / 2, 1, 2, d.rank, false, {std::log(0.01), std::log(0.1)}, {}, {}, {}, test_values("C", 2 * 2 * N)};
  for (const Cx& l : d.lambda) s.A_real.push_back(std::log(std::max(-l.real(), 1e-4))), s.A_imag.push_back(std::max(-l.imag(), 1e-4));
  for (const Cx& p : d.P) s.P.push_back(p.real()), s.P.push_back(p.imag());
  return s;
}

TEST(S4, TransformsInvertAndDouble) {
  for (const char* kind : {"legs", "legt", "fout"}) {
    const S4Host plain = host_case(kind, 16);
    S4Host once = plain, twice = plain;
    s4_transform(once, 40, S4Map::to_tilde);
    s4_transform(twice, 80, S4Map::to_tilde);
    EXPECT_GT(relative_error(once.C, plain.C), 1e-3) << kind;
    S4Host doubled = once;
    s4_transform(doubled, 40, S4Map::doubled);
    EXPECT_LT(relative_error(doubled.C, twice.C), 1e-11) << kind;
    s4_transform(once, 40, S4Map::to_plain);
    EXPECT_LT(relative_error(once.C, plain.C), 1e-9) << kind;
  }
}

// With a Q far from P*: the kernel, its lengthened form and the stream agree with dense powers.
TEST(S4, FreeQ) {
  for (const char* init : {"legs", "legt"}) {
    const auto variant = make_variant("s4", {{"s4", {{"d_state", "8"}, {"init", init}, {"low_rank", "free"}}}});
    const Index B = 2, T = 20, D = 3;
    ProbeSpec spec;
    spec.B = B, spec.T = T, spec.D = D, spec.l_max = 16;
    spec.mode = Mode::evaluate;
    spec.inputs = {shaped({B, T, D})};
    spec.build = [&](Net& n, const std::vector<Tensor>& in) { return variant->build(n, in[0]); };
    Probe probe(test_device().exec(), spec);
    probe.params().set("kernel.Q", test_values("Q", static_cast<Index>(probe.params().get("kernel.Q").size())));
    Case c;
    c.B = B, c.T = T, c.D = D, c.l_max = 16;
    c.x = test_values("x", B * T * D);
    for (const ParamInfo& p : probe.params().all()) c.params[p.name] = probe.params().get(p.name);
    c.y.assign(c.x.size(), 0.0);
    variant->reference(c);
    probe.prepare();
    EXPECT_LT(relative_error(probe.forward({c.x}), c.y), kDouble ? 1e-10 : 1e-5) << init;
    spec.mode = Mode::stream, spec.T = 1;
    spec.inputs = {shaped({B, 1, D})};
    Probe one(test_device().exec(), spec, probe.shared());
    one.prepare();
    one.reset();
    std::vector<double> streamed(c.y.size());
    for (Index t = 0; t < T; ++t) {
      std::vector<double> now;
      for (Index i = 0; i < B * D; ++i) now.push_back(c.x[at((i / D * T + t) * D + i % D)]);
      const std::vector<double> out = one.step({now});
      for (Index i = 0; i < B * D; ++i) streamed[at((i / D * T + t) * D + i % D)] = out[at(i)];
    }
    EXPECT_LT(relative_error(streamed, c.y), kDouble ? 1e-10 : 1e-5) << init << " streamed";
  }
}

// Sequences up to four times l_max are evaluated with a prepared, lengthened C~; parameters stay as they are.
TEST(S4, LongerThanTrained) {
  for (const char* init : {"legs", "legt", "fout"}) {
    const VariantKnobs knobs = {{"s4", {{"d_state", "8"}, {"init", init}}}};
    const auto variant = make_variant("s4", knobs);
    ProbeSpec spec;
    spec.B = 2, spec.T = 50, spec.D = 3, spec.l_max = 16;
    spec.mode = Mode::evaluate;
    spec.inputs = {shaped({2, 50, 3})};
    spec.build = [&](Net& n, const std::vector<Tensor>& in) { return variant->build(n, in[0]); };
    Probe probe(test_device().exec(), spec);
    Case c;
    c.B = 2, c.T = 50, c.D = 3, c.l_max = 16;
    c.x = test_values("x", 2 * 50 * 3);
    const std::vector<double> before = probe.params().get("kernel.C");
    probe.prepare();
    const std::vector<double> y = probe.forward({c.x});
    EXPECT_EQ(before, probe.params().get("kernel.C"));
    for (const ParamInfo& p : probe.params().all()) c.params[p.name] = probe.params().get(p.name);
    c.y.assign(c.x.size(), 0.0);
    variant->reference(c);
    EXPECT_LT(relative_error(y, c.y), kDouble ? 1e-10 : 1e-5) << init;
    spec.mode = Mode::train;
    EXPECT_THROW(Probe(test_device().exec(), spec), BadInput);
  }
}

}  // namespace
