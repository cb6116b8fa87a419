// test_few_rows.cpp - products of few rows with all that they can end with, against loops in double; mixers streamed at the batches that take
// the different kernels.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "check.hpp"
#include "launch.hpp"
#include "lib/few_rows.hpp"
#include "memory.hpp"
#include "probe.hpp"
#include "registry.hpp"
#include "testing.hpp"
#include "variant.hpp"

namespace ssm {
namespace {

using Numbers = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Block {  // numbers on the host and on the device
  Numbers host;
  Memory memory;
  explicit Block(Numbers numbers)
      : host(std::move(numbers)), memory("ssm::test", static_cast<Index>(host.size()) * static_cast<Index>(sizeof(Real))) {
    const std::vector<Real> raw(host.begin(), host.end());
    host.assign(raw.begin(), raw.end());
    copy_in(memory.as<void>(), raw.data(), memory.bytes());
  }
  Block(const std::string& name, Index count, double scale = 1) : Block(test_values(name, count, scale)) {}
  Real* p() const { return memory.as<Real>(); }
  Numbers read() const {
    std::vector<Real> raw(host.size());
    test_device().fence("ssm::test: result");
    copy_out(raw.data(), memory.as<void>(), memory.bytes());
    return {raw.begin(), raw.end()};
  }
};
Block nothing(Index count) { return Block(Numbers(at(count), std::nan(""))); }

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

struct Size {
  Index rows, N, K;
  Index pad = 0;  // of leading extents: 4 keeps rows aligned, 1 does not
};
// One row; up to 8, 16 and 32 rows of x and 16, 32 and 64 of W a block; whole and odd sizes.
const std::vector<Size> kSizes = {{1, 16, 8},     {1, 70, 36, 4},  {1, 514, 1044}, {1, 38, 33, 1},   {3, 32, 64, 4},  {3, 30, 31, 1},
                                  {8, 2, 2100},   {64, 64, 1028},  {10, 1536, 40}, {64, 384, 72, 4}, {61, 1550, 100}, {64, 1536, 520},
                                  {20, 1538, 60}, {33, 46, 35, 3}, {64, 1000, 36}, {50, 2302, 276}};

// x, W and what a product of theirs starts from.
struct Operands {
  Size s;
  Block x, W, bias, onto;
  explicit Operands(const Size& size)
      : s(size),
        x("x", s.rows * (s.K + s.pad)),
        W("W", s.N * (s.K + s.pad), 1 / std::sqrt(static_cast<double>(s.K))),
        bias("bias", s.N),
        onto("onto", s.rows * s.N) {}
  FewRows product() const {
    FewRows p;
    p.rows = s.rows, p.K = s.K, p.x = x.p(), p.W = W.p(), p.ldx = p.ldw = s.K + s.pad, p.parts = 1, p.fixed = true;
    p.part[0].count = p.part[0].ld = s.N;
    return p;
  }
  double entry(Index row, Index c, const Numbers& by = {}) const {
    double sum = 0, square = 0;
    for (Index k = 0; k < s.K; ++k) {
      const double v = x.host[at(row * (s.K + s.pad) + k)];
      sum += v * (by.empty() ? 1 : by[at(k)]) * W.host[at(c * (s.K + s.pad) + k)];
      square += v * v;
    }
    return by.empty() ? sum : sum / std::sqrt(square / static_cast<double>(s.K) + 1e-5);
  }
};

// Builds without these products compute them by plain loops here: what the net runs together is then the same.
struct Everywhere {
  Everywhere() { few_rows_everywhere(true); }
  ~Everywhere() { few_rows_everywhere(false); }
};

const double kTolerance = kDouble ? 1e-12 : 1e-5;

struct FewRowsOf : testing::Test {
  const Everywhere on;
  ssm::Run run{test_device().exec(), Mode::stream};
  void expect(const FewRows& p, const Block& y, const Numbers& expected, const std::string& what) {
    few_rows(run, &p);
    const Numbers first = y.read();
    EXPECT_LT(relative_error(first, expected), kTolerance) << what << ' ' << p.rows << 'x' << p.part[0].count << 'x' << p.K;
  }
};

TEST_F(FewRowsOf, ProductsWithBiasAndSummandRepeatTheirBits) {
  for (const Size& s : kSizes) {
    const Operands o(s);
    const Block y = nothing(s.rows * s.N), again = nothing(s.rows * s.N);
    FewRows p = o.product();
    p.alpha = Real(0.5);
    p.part[0].y = y.p(), p.part[0].bias = o.bias.p(), p.part[0].onto = o.onto.p();
    Numbers expected(at(s.rows * s.N));
    for (Index row = 0; row < s.rows; ++row)
      for (Index c = 0; c < s.N; ++c)
        expected[at(row * s.N + c)] = 0.5 * o.entry(row, c) + o.bias.host[at(c)] + o.onto.host[at(row * s.N + c)];
    expect(p, y, expected, "product");
    p.part[0].y = again.p();
    few_rows(run, &p);
    EXPECT_EQ(again.read(), y.read());
  }
}

TEST_F(FewRowsOf, RowsScaledByTheirNorm) {
  for (const Size& s : kSizes) {
    const Operands o(s);
    const Block y = nothing(s.rows * s.N), by("by", s.K);
    FewRows p = o.product();
    p.weight = by.p(), p.eps = Real(1e-5), p.part[0].y = y.p();
    Numbers expected(at(s.rows * s.N));
    for (Index row = 0; row < s.rows; ++row)
      for (Index c = 0; c < s.N; ++c) expected[at(row * s.N + c)] = o.entry(row, c, by.host);
    expect(p, y, expected, "scaled");
  }
}

TEST_F(FewRowsOf, ActivationsAndGates) {
  for (const Size& s : kSizes)
    for (int way = 0; way < 7; ++way) {
      const Operands o(s);
      const Block y = nothing(s.rows * s.N);
      FewRows p = o.product();
      Finish& f = p.part[0];
      f.y = y.p();
      f.kind = way == 0 ? Finish::Kind::gelu : way == 1 ? Finish::Kind::gelu_tanh : way == 2 ? Finish::Kind::silu : Finish::Kind::gate;
      f.other = o.onto.p(), f.gates = way & 1, f.by_silu = way > 4;
      Numbers expected(at(s.rows * s.N));
      for (Index row = 0; row < s.rows; ++row)
        for (Index c = 0; c < s.N; ++c) {
          const double v = o.entry(row, c), other = o.onto.host[at(row * s.N + c)], by = f.gates ? v : other;
          double& to = expected[at(row * s.N + c)];
          if (way == 0) to = v * 0.5 * std::erfc(-v / std::sqrt(2.0));
          else if (way == 1) to = 0.5 * v * (1 + std::tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v)));
          else if (way == 2) to = v * logistic(v);
          else to = (f.gates ? other : v) * logistic(by) * (f.by_silu ? by : 1);
        }
      expect(p, y, expected, "way " + std::to_string(way));
    }
}

// Three parts: a convolution cut in two outputs and the gates of a decay; then the same step once more, from the states that the first left.
TEST_F(FewRowsOf, PartsOfAConvolutionAndADecay) {
  for (const Size& s : kSizes)
    for (const int w : {1, 2, 4}) {
      if (s.N < 16) continue;
      const Operands o(s);
      const Index wide = s.N - 5, one = wide / 3, two = wide - one, H = 5;
      const Block taps("taps", wide * w), at_conv("at", wide), state("state", s.rows * (w - 1) * wide + 1), rate("rate", H), at_dt("dt", H);
      const Block y1 = nothing(s.rows * one), y2 = nothing(s.rows * two), gate = nothing(s.rows * H), delta = nothing(s.rows * H);
      FewRows p = o.product();
      p.parts = 3;
      for (int q = 0; q < 2; ++q) {
        Finish& f = p.part[q] = {};
        const Index first = q == 0 ? 0 : one;
        f.kind = Finish::Kind::conv, f.count = f.ld = q == 0 ? one : two, f.y = q == 0 ? y1.p() : y2.p();
        f.taps = taps.p() + first * w, f.at = at_conv.p() + first, f.w = w, f.silu = true, f.state = state.p() + first, f.wide = wide;
      }
      Finish& f = p.part[2] = {};
      f.kind = Finish::Kind::decay, f.count = f.ld = H, f.y = gate.p(), f.y2 = delta.p(), f.at = at_dt.p(), f.rate = rate.p();
      f.low = Real(0.3), f.high = Real(0.9);
      Numbers past = state.host, e1(at(s.rows * one)), e2(at(s.rows * two)), eg(at(s.rows * H)), ed(eg);
      for (int step = 0; step < 2; ++step) {
        few_rows(run, &p);
        for (Index row = 0; row < s.rows; ++row)
          for (Index c = 0; c < s.N; ++c) {
            const double v = o.entry(row, c);
            if (c >= wide) {
              const Index h = c - wide;
              const double d = std::min(std::max(std::log1p(std::exp(v + at_dt.host[at(h)])), 0.3), 0.9);
              ed[at(row * H + h)] = d, eg[at(row * H + h)] = -std::exp(rate.host[at(h)]) * d;
              continue;
            }
            double sum = at_conv.host[at(c)] + taps.host[at(c * w + w - 1)] * v;
            for (Index k = 0; k + 1 < w; ++k) {
              double& old = past[at((row * (w - 1) + k) * wide + c)];
              sum += taps.host[at(c * w + k)] * old;
              old = k + 2 < w ? past[at((row * (w - 1) + k + 1) * wide + c)] : v;
            }
            (c < one ? e1[at(row * one + c)] : e2[at(row * two + c - one)]) = sum * logistic(sum);
          }
        EXPECT_LT(relative_error(y1.read(), e1), kTolerance) << s.rows << ' ' << w << " step " << step;
        EXPECT_LT(relative_error(y2.read(), e2), kTolerance) << s.rows << ' ' << w << " step " << step;
        EXPECT_LT(relative_error(gate.read(), eg), kTolerance) << s.rows;
        EXPECT_LT(relative_error(delta.read(), ed), kTolerance) << s.rows;
        if (w > 1) {
          EXPECT_LT(relative_error(state.read(), past), kTolerance) << s.rows << ' ' << w;
        }
      }
    }
}

TEST_F(FewRowsOf, PairsOfAGluAndOfModes) {
  for (const Size& s : kSizes)
    for (const bool modes : {false, true}) {
      const Operands o(s);
      const Index P = s.N / 2, out = modes ? s.N : P;
      const Block y = nothing(s.rows * out), lambda("lambda", 4 * P), state("state", s.rows * s.N), skip("skip", s.N);
      FewRows p = o.product();
      Finish& f = p.part[0];
      f.kind = modes ? Finish::Kind::modes : Finish::Kind::glu;
      f.y = y.p(), f.ld = out, f.taps = lambda.p(), f.state = state.p(), f.bias = o.bias.p(), f.skip = skip.p(), f.in = o.onto.p();
      Numbers expected(at(s.rows * out));
      for (Index row = 0; row < s.rows; ++row)
        for (Index c = 0; c < P; ++c) {
          double v[2];
          for (const Index k : {Index{0}, Index{1}})
            v[k] = o.entry(row, c + k * P) + o.bias.host[at(c + k * P)] + skip.host[at(c + k * P)] * o.onto.host[at(row * s.N + c + k * P)];
          if (!modes) {
            expected[at(row * P + c)] = v[0] * logistic(v[1]);
            continue;
          }
          const double re = lambda.host[at(c)] + lambda.host[at(2 * P + c)], im = lambda.host[at(P + c)] + lambda.host[at(3 * P + c)];
          const double a = state.host[at(row * s.N + c)], b = state.host[at(row * s.N + P + c)];
          expected[at(row * s.N + c)] = v[0] + re * a - im * b;
          expected[at(row * s.N + P + c)] = v[1] + re * b + im * a;
        }
      expect(p, y, expected, modes ? "modes" : "glu");
      if (modes) {
        EXPECT_LT(relative_error(state.read(), expected), kTolerance);
      }
    }
}

TEST_F(FewRowsOf, TwoProductsAtOnce) {
  for (const Index rows : {1, 3, 64}) {
    const Operands a({rows, 48, 20}), b({rows, 1600, 132, 4});
    const Block ya = nothing(rows * 48), yb = nothing(rows * 1600);
    FewRows both[2] = {a.product(), b.product()};
    both[0].part[0].y = ya.p(), both[1].part[0].y = yb.p();
    few_rows(run, both, 2);
    Numbers ea(at(rows * 48)), eb(at(rows * 1600));
    for (Index row = 0; row < rows; ++row) {
      for (Index c = 0; c < 48; ++c) ea[at(row * 48 + c)] = a.entry(row, c);
      for (Index c = 0; c < 1600; ++c) eb[at(row * 1600 + c)] = b.entry(row, c);
    }
    EXPECT_LT(relative_error(ya.read(), ea), kTolerance) << rows;
    EXPECT_LT(relative_error(yb.read(), eb), kTolerance) << rows;
  }
}

// Mixers with the knobs that change what a step is made of.
void streams_as_it_runs_whole(const std::string& name, const VariantKnobs& knobs) {
  const Everywhere on;
  for (const auto& [B, T, D] : {std::array<Index, 3>{1, 6, 64}, {1, 5, 36}, {3, 5, 68}, {20, 4, 64}, {64, 3, 48}, {70, 2, 32}}) {
    VariantKnobs fitting = knobs;
    if (name == "mamba2" && 2 * D % 64) fitting[name].emplace("headdim", "4");  // whole heads must fill the channels
    const CheckReport r = self_check(name, fitting, test_device().exec(), B, T, D);
    EXPECT_TRUE(r.passed && r.streamed) << B << ' ' << T << ' ' << D << ": " << r.text;
  }
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) {
    if (!make_variant(name, {})->streams().yes || !make_variant(name, {})->causal().yes) continue;
    add_test("few_rows_" + name, "streams_as_it_runs_whole", [=] { streams_as_it_runs_whole(name, {}); });
  }
  const std::vector<std::array<std::string, 3>> changed = {{"mamba", "gate", "false"},     {"mamba", "select_delta", "false"},
                                                           {"mamba", "d_state", "5"},      {"mamba", "dt_rank", "70"},
                                                           {"mamba", "A_init", "complex"}, {"mamba", "d_conv", "6"},
                                                           {"mamba2", "norm", "none"},     {"mamba2", "norm", "before_gate"},
                                                           {"mamba2", "headdim", "2"},     {"mamba2", "projections", "sequential"},
                                                           {"gla", "gate", "false"},       {"gla", "gate_kind", "vector"},
                                                           {"deltanet", "gate", "true"},   {"lru", "activation", "half_glu2"},
                                                           {"s4d", "glu", "false"},        {"s5", "activation", "gelu"}};
  for (const auto& [name, knob, value] : changed)
    add_test("few_rows_" + name, knob + "_" + value, [=] { streams_as_it_runs_whole(name, {{name, {{knob, value}}}}); });
});

}  // namespace
}  // namespace ssm
