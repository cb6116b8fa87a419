// Entry-by-entry ops, dropout and pooling against plain loops, and their gradients.
#include <gtest/gtest.h>

#include <cmath>

#include "error.hpp"
#include "math.hpp"
#include "op_check.hpp"
#include "ops.hpp"
#include "ops/feature_maps.hpp"

using namespace ssm;

namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }

const std::vector<std::int32_t> kLengths = {7, 1, 4};

// The op alone sets the gradient of x; beside another reader of x it must add.
void check_set_and_add(OpCase c, const std::function<Tensor(Net&, Tensor)>& op) {
  c.build = [op](Net& n, const std::vector<Tensor>& x) { return op(n, x[0]); };
  check_op(c);
  c.expected = nullptr;
  c.build = [op](Net& n, const std::vector<Tensor>& x) {
    const Tensor once = op(n, x[0]), twice = op(n, activation(n, x[0], "tanh"));
    return add(n, once, twice);
  };
  check_op(c);
}

double plain_activation(const std::string& kind, double x) {
  if (kind == "gelu") return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  if (kind == "gelu_tanh") return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  if (kind == "silu") return x * logistic(x);
  if (kind == "relu") return x > 0 ? x : 0;
  if (kind == "tanh") return std::tanh(x);
  return logistic(x);
}

}  // namespace

TEST(Activation, EveryKind) {
  for (const std::string kind : {"gelu", "gelu_tanh", "silu", "relu", "tanh", "sigmoid"}) {
    SCOPED_TRACE(kind);
    OpCase c = one_input(shaped({3, 3, 17}));
    c.input_scale = 4;
    c.expected = [kind](const Arrays& in, Params&) {
      Values y;
      for (const double x : in[0]) y.push_back(plain_activation(kind, x));
      return y;
    };
    c.value_tolerance = kDouble ? 1e-12 : 3e-7;
    c.build = [kind](Net& n, const std::vector<Tensor>& x) { return activation(n, x[0], kind); };
    check_op(c);
  }
}

TEST(Activation, UnknownKindNamesTheNearest) {
  OpCase c = one_input(shaped({1, 1, 1}));
  c.build = [](Net& n, const std::vector<Tensor>& x) { return activation(n, x[0], "gleu"); };
  EXPECT_THROW(check_op(c), BadInput);
}

TEST(Math, ErfAndNormalCdf) {
  for (double x = -12; x <= 12; x += 0.0009765625) {
    const double cdf = 0.5 * std::erfc(-x / std::sqrt(2.0));
    EXPECT_NEAR(fast_erf(static_cast<float>(x)), std::erf(x), 2e-7) << x;
    EXPECT_NEAR(gauss(static_cast<float>(x)).cdf, cdf, 1e-7) << x;
    EXPECT_NEAR(static_cast<float>(x) * gauss(static_cast<float>(x)).cdf, x * cdf, 1e-6) << x;
  }
}

TEST(Glu, BothOrders) {
  for (const Order order : {Order::BTD, Order::BDT}) {
    const Index B = 2, T = 5, D = 7;
    OpCase c = one_input(order == Order::BTD ? shaped({B, T, 2 * D}) : shaped({B, 2 * D, T}, Order::BDT));
    c.expected = [=](const Arrays& in, Params&) {
      Values y(at(B * T * D));
      for (Index b = 0; b < B; ++b)
        for (Index t = 0; t < T; ++t)
          for (Index d = 0; d < D; ++d) {
            const auto x = [&](Index k) { return in[0][at(order == Order::BTD ? (b * T + t) * 2 * D + k : (b * 2 * D + k) * T + t)]; };
            y[at(order == Order::BTD ? (b * T + t) * D + d : (b * D + d) * T + t)] = x(d) * logistic(x(D + d));
          }
      return y;
    };
    check_set_and_add(c, [](Net& n, Tensor x) { return glu(n, x); });
  }
}

TEST(FeatureMaps, SoftmaxOfSigns) {
  const Index K = 5, rows = 2 * 3 * 2;
  OpCase c = one_input(shaped({2, 3, 2, K}));
  c.B = 2, c.T = 3, c.D = 2 * K;
  c.input_scale = 3;
  c.expected = [=](const Arrays& in, Params&) {
    Values y(at(2 * K * rows));
    for (Index row = 0; row < rows; ++row) {
      double sum = 0;
      for (Index i = 0; i < 2 * K; ++i) sum += y[at(row * 2 * K + i)] = std::exp((i < K ? 1 : -1) * in[0][at(row * K + i % K)]);
      for (Index i = 0; i < 2 * K; ++i) y[at(row * 2 * K + i)] /= sum;
    }
    return y;
  };
  check_set_and_add(c, softmax_of_signs);
}

// More rolls than 2 K, too: their products repeat, and those of a whole turn are squares.
TEST(FeatureMaps, RolledProducts) {
  for (const auto& [K, nu] : {std::pair<Index, int>{5, 3}, {1, 1}, {2, 5}}) {
    OpCase c = one_input(shaped({2, 3, K}));
    c.expected = [K = K, nu = nu](const Arrays& in, Params&) {
      Values y;
      for (Index row = 0; row < 6; ++row)
        for (Index j = 1; j <= nu; ++j)
          for (Index i = 0; i < 2 * K; ++i) {
            const auto z = [&](Index k) { return std::max((k % (2 * K) < K ? 1 : -1) * in[0][at(row * K + k % K)], 0.0); };
            y.push_back(z(i) * z(i + j * (2 * K - 1)));
          }
      return y;
    };
    check_set_and_add(c, [nu = nu](Net& n, Tensor x) { return rolled_products(n, x, nu); });
  }
}

TEST(Pairs, GateProductSum) {
  OpCase c = one_input(shaped({1, 3, 33}));
  c.inputs.push_back(c.inputs[0]);
  struct Kind {
    const char* name;
    Tensor (*build)(Net&, Tensor, Tensor);
    double (*plain)(double, double);
  };
  for (const Kind& kind :
       {Kind{"silu_gate", silu_gate, [](double a, double z) { return a * z * logistic(z); }},
        Kind{"sigmoid_gate", sigmoid_gate, [](double a, double z) { return a * logistic(z); }},
        Kind{"multiply", multiply, [](double a, double b) { return a * b; }}, Kind{"add", add, [](double a, double b) { return a + b; }}}) {
    SCOPED_TRACE(kind.name);
    c.expected = [&](const Arrays& in, Params&) {
      Values y;
      for (std::size_t i = 0; i < in[0].size(); ++i) y.push_back(kind.plain(in[0][i], in[1][i]));
      return y;
    };
    c.build = [&](Net& n, const std::vector<Tensor>& x) { return kind.build(n, x[0], x[1]); };
    check_op(c);
    c.expected = nullptr;
    c.build = [&](Net& n, const std::vector<Tensor>& x) { return multiply(n, kind.build(n, x[0], x[1]), add(n, x[1], x[0])); };
    check_op(c);
  }
}

TEST(Slice, SetsZeroAroundIt) {
  const Index rows = 6, wide = 9, first = 2, count = 4;
  OpCase c = one_input(shaped({2, 3, wide}));
  c.expected = [=](const Arrays& in, Params&) {
    Values y;
    for (Index i = 0; i < rows; ++i)
      for (Index k = 0; k < count; ++k) y.push_back(in[0][at(i * wide + first + k)]);
    return y;
  };
  check_set_and_add(c, [=](Net& n, Tensor x) { return slice(n, x, first, count); });
}

TEST(Moves, TransposeReverseMask) {
  struct Kind {
    const char* name;
    Tensor (*build)(Net&, Tensor);
  };
  const Index B = 3, T = 7, D = 17;
  for (const Order order : {Order::BTD, Order::BDT})
    for (const Kind& kind : {Kind{"transpose", transpose}, Kind{"reverse", reverse}, Kind{"mask", mask_padding}}) {
      SCOPED_TRACE(kind.name);
      OpCase c = one_input(order == Order::BTD ? shaped({B, T, D}) : shaped({B, D, T}, Order::BDT));
      c.lengths = kLengths;
      const std::string name = kind.name;
      c.expected = [=](const Arrays& in, Params&) {
        const auto place = [&](bool btd, Index b, Index t, Index d) { return at(btd ? (b * T + t) * D + d : (b * D + d) * T + t); };
        const bool btd = order == Order::BTD;
        Values y(in[0].size());
        for (Index b = 0; b < B; ++b)
          for (Index t = 0; t < T; ++t)
            for (Index d = 0; d < D; ++d) {
              const Index length = kLengths[at(b)];
              const double x = in[0][place(btd, b, t, d)];
              if (name == "transpose") y[place(!btd, b, t, d)] = x;
              if (name == "reverse") y[place(btd, b, t < length ? length - 1 - t : t, d)] = x;
              if (name == "mask") y[place(btd, b, t, d)] = t < length ? x : 0;
            }
        return y;
      };
      check_set_and_add(c, kind.build);
    }
}

TEST(Dropout, KeepsTheMeanAndDrawsAgain) {
  for (const bool tied : {false, true}) {
    const Index B = 3, T = 31, D = 101;
    OpCase c = one_input(shaped({B, T, D}));
    c.gradient_tolerance = 1e-6;
    c.build = [=](Net& n, const std::vector<Tensor>& x) { return dropout(n, x[0], 0.25, tied); };
    if (!tied) c.gradients = !kDouble;  // one shape of full differences is enough
    if (tied) c.B = 1, c.inputs = {shaped({1, 5, 33})};
    check_op(c);

    c.B = B, c.inputs = {shaped({B, T, D})};
    Probe probe(test_device().exec(), c);
    const Values ones(at(B * T * D), 1), y = probe.forward({ones});
    double kept = 0;
    for (Index i = 0; i < B * T * D; ++i) {
      const double v = y[at(i)];
      EXPECT_TRUE(v == 0 || std::abs(v - 4.0 / 3) < 1e-6);
      if (tied) {
        EXPECT_EQ(v, y[at(i / (T * D) * T * D + i % D)]);
      }
      kept += v > 0;
    }
    const double draws = static_cast<double>(tied ? B * D : B * T * D), rate = kept / static_cast<double>(B * T * D);
    EXPECT_NEAR(rate, 0.75, 5 * std::sqrt(0.25 * 0.75 / draws));
    const Arrays dx = probe.backward(ones);
    EXPECT_EQ(dx[0], y);

    StepState next{};
    next.seed_dropout = c.seed;
    next.step = 1;
    copy_in(probe.run().state, &next, sizeof next);
    EXPECT_NE(probe.forward({ones}), y);
    next.step = 0, next.micro = 1;
    copy_in(probe.run().state, &next, sizeof next);
    EXPECT_NE(probe.forward({ones}), y);
  }
}

TEST(Dropout, NothingOutsideTraining) {
  for (const Mode mode : {Mode::evaluate, Mode::stream}) {
    Params params;
    Net n(params, mode, 1, 1, 3, 1);
    dropout(n, n.input(shaped({1, 1, 3})), 0.5, false);
    EXPECT_TRUE(n.ops().empty());
  }
}

TEST(Pool, EveryKind) {
  const Index B = 3, T = 7, D = 5;
  for (const std::string kind : {"mean", "last", "first", "mean_full", "last_full"}) {
    SCOPED_TRACE(kind);
    OpCase c = one_input(shaped({B, T, D}));
    c.lengths = kLengths;
    c.expected = [=](const Arrays& in, Params&) {
      Values y(at(B * D), 0);
      for (Index b = 0; b < B; ++b) {
        const Index length = kind.find("full") != std::string::npos ? T : kLengths[at(b)];
        for (Index t = 0; t < length; ++t)
          for (Index k = 0; k < D; ++k) {
            const double x = in[0][at((b * T + t) * D + k)];
            if (kind[0] == 'm') y[at(b * D + k)] += x / static_cast<double>(length);
            if ((kind[0] == 'l' && t == length - 1) || (kind[0] == 'f' && t == 0)) y[at(b * D + k)] = x;
          }
      }
      return y;
    };
    check_set_and_add(c, [kind](Net& n, Tensor x) { return pool(n, x, kind); });
  }
}

TEST(Pool, LongMean) {
  const Index T = 6001;
  OpCase c = one_input(shaped({1, T, 3}));
  c.gradients = false;
  c.lengths = {5000};
  c.expected = [=](const Arrays& in, Params&) {
    Values y(3, 0);
    for (Index t = 0; t < 5000; ++t)
      for (Index k = 0; k < 3; ++k) y[at(k)] += in[0][at(t * 3 + k)] / 5000;
    return y;
  };
  c.build = [](Net& n, const std::vector<Tensor>& x) { return pool(n, x[0], "mean"); };
  check_op(c);
}

TEST(Pool, StreamsTheWholeSequenceSoFar) {
  const Index B = 2, T = 6, D = 5;
  const Values x = test_values("stream", B * T * D);
  for (const std::string kind : {"mean", "last", "first"}) {
    SCOPED_TRACE(kind);
    OpCase c = one_input(shaped({B, 1, D}));
    c.mode = Mode::stream;
    c.build = [kind](Net& n, const std::vector<Tensor>& in) { return pool(n, in[0], kind); };
    Probe stream(test_device().exec(), c);
    stream.reset();
    for (Index t = 0; t < T; ++t) {
      Values row, whole;
      for (Index b = 0; b < B; ++b)
        for (Index k = 0; k < D; ++k) row.push_back(x[at((b * T + t) * D + k)]);
      for (Index b = 0; b < B; ++b)
        for (Index i = 0; i < (t + 1) * D; ++i) whole.push_back(x[at(b * T * D + i)]);
      OpCase all = one_input(shaped({B, t + 1, D}));
      all.mode = Mode::evaluate;
      all.build = c.build;
      EXPECT_LT(relative_error(stream.step({row}), Probe(test_device().exec(), all).forward({whole})), kDouble ? 1e-12 : 1e-6);
    }
  }
}

TEST(JoinPairs, FourFeatures) {
  OpCase c = one_input(shaped({6, 7}));
  c.expected = [](const Arrays& in, Params&) {
    Values y(84);
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t k = 0; k < 7; ++k) {
        const double u = in[0][2 * i * 7 + k], v = in[0][(2 * i + 1) * 7 + k];
        y[i * 28 + k] = u, y[i * 28 + 7 + k] = v, y[i * 28 + 14 + k] = u - v, y[i * 28 + 21 + k] = u * v;
      }
    return y;
  };
  check_set_and_add(c, [](Net& n, Tensor x) { return join_pairs(n, x); });
}
