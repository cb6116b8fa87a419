// test_ops_dense.cpp - linear, embeddings and the two short convolutions against plain loops, gradients by differences, streaming.
#include "op_check.hpp"

#include "error.hpp"
#include "ops.hpp"

namespace ssm {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }
// Entry (b,t,c) of a sequence tensor in either order.
double entry(const std::vector<double>& x, Order order, Index T, Index D, Index b, Index t, Index c) {
  return x[at(order == Order::BTD ? (b * T + t) * D + c : (b * D + c) * T + t)];
}
Tensor sequence(Index B, Index T, Index D, Order order = Order::BTD) {
  return order == Order::BTD ? shaped({B, T, D}) : shaped({B, D, T}, Order::BDT);
}

// The derivative along one random direction of all inputs and parameters: for shapes too large for every difference.
void check_direction(const OpCase& c) {
  if (!kDouble) return;
  Probe probe(test_device().exec(), c);
  Arrays inputs;
  for (std::size_t k = 0; k < c.inputs.size(); ++k) inputs.push_back(test_values("input" + std::to_string(k), c.inputs[k].size()));
  const std::vector<double> y = probe.forward(inputs), dy = test_values("dy", static_cast<Index>(y.size()));
  const Arrays dx = probe.backward(dy);
  double slope = 0;
  Arrays along, start;
  std::vector<std::string> names;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    along.push_back(test_values("along" + std::to_string(k), static_cast<Index>(inputs[k].size())));
    slope += dot(dx[k], along[k]);
  }
  for (const ParamInfo& p : probe.params().all()) {
    names.push_back(p.name);
    start.push_back(probe.params().get(p.name));
    along.push_back(test_values("along " + p.name, p.size));
    slope += dot(probe.params().get_grad(p.name), along.back());
  }
  const auto value = [&](double h) {
    Arrays moved = inputs;
    for (std::size_t k = 0; k < inputs.size(); ++k)
      for (std::size_t i = 0; i < moved[k].size(); ++i) moved[k][i] += h * along[k][i];
    for (std::size_t k = 0; k < names.size(); ++k) {
      std::vector<double> p = start[k];
      for (std::size_t i = 0; i < p.size(); ++i) p[i] += h * along[inputs.size() + k][i];
      probe.params().set(names[k], p);
    }
    return dot(probe.forward(moved), dy);
  };
  const double fd = (value(1e-5) - value(-1e-5)) / 2e-5;
  EXPECT_LT(std::abs(slope - fd), 1e-6 * std::abs(fd));
}

// The same parameters at T = 1, step by step, twice with a reset between, against the whole sequence.
void check_stream(OpCase c, Index D) {
  c.mode = Mode::evaluate;
  c.inputs = {shaped({c.B, c.T, D})};
  Probe whole(test_device().exec(), c);
  const std::vector<double> x = test_values("x", c.B * c.T * D), y = whole.forward({x});
  const Index out = static_cast<Index>(y.size()) / (c.B * c.T);
  OpCase one = c;
  one.mode = Mode::stream;
  one.T = 1;
  one.lengths = {};
  one.inputs = {shaped({c.B, 1, D})};
  Probe stream(test_device().exec(), one, whole.shared());
  for (int pass = 0; pass < 2; ++pass) {
    stream.reset();
    std::vector<double> steps(y.size());
    for (Index t = 0; t < c.T; ++t) {
      std::vector<double> now(at(c.B * D));
      for (Index b = 0; b < c.B; ++b)
        for (Index i = 0; i < D; ++i) now[at(b * D + i)] = entry(x, Order::BTD, c.T, D, b, t, i);
      const std::vector<double> result = stream.step({now});
      for (Index b = 0; b < c.B; ++b)
        for (Index o = 0; o < out; ++o) steps[at((b * c.T + t) * out + o)] = result[at(b * out + o)];
    }
    EXPECT_LT(relative_error(steps, y), kDouble ? 1e-12 : 1e-5);
  }
}

void check_linear(Index B, Index T, Index in, Index out, Order from, Order to, bool bias) {
  SCOPED_TRACE(testing::Message() << B << ' ' << T << ' ' << in << "->" << out << (from == to ? " same" : " turned") << (to == Order::BDT));
  OpCase c;
  c.B = B, c.T = T, c.D = in;
  c.inputs = {sequence(B, T, in, from)};
  c.build = [=](Net& n, const std::vector<Tensor>& x) {
    LinearOptions o;
    o.bias = bias;
    o.order = to;
    return linear(n, x[0], out, "w", o);
  };
  c.expected = [=](const Arrays& x, Params& p) {
    const std::vector<double> W = p.get("w.weight"), b = bias ? p.get("w.bias") : std::vector<double>(at(out), 0.0);
    std::vector<double> y(at(B * T * out));
    for (Index s = 0; s < B; ++s)
      for (Index t = 0; t < T; ++t)
        for (Index o = 0; o < out; ++o) {
          double sum = b[at(o)];
          for (Index i = 0; i < in; ++i) sum += W[at(o * in + i)] * entry(x[0], from, T, in, s, t, i);
          y[at(to == Order::BTD ? (s * T + t) * out + o : (s * out + o) * T + t)] = sum;
        }
    return y;
  };
  check_op(c);
}

TEST(Linear, EveryOrder) {
  for (const Order from : {Order::BTD, Order::BDT})
    for (const Order to : {Order::BTD, Order::BDT})
      for (const Index T : {1, 2, 3, 31})
        for (const Index in : {1, 17}) check_linear(2, T, in, 7, from, to, T != 3);
}
// Three parts of linear_split multiplied, narrow ones and wide ones, against products as written.
TEST(Linear, SplitsInNarrowAndWideParts) {
  for (const Index size : {3, 150}) {
    SCOPED_TRACE(size);
    OpCase c;
    c.inputs = {shaped({2, 3, 4})};
    c.gradients = size == 3;
    c.build = [=](Net& n, const std::vector<Tensor>& x) {
      const std::vector<Tensor> parts = linear_split(n, x[0], {size, size, size}, "w");
      return multiply(n, multiply(n, parts[0], parts[1]), parts[2]);
    };
    c.expected = [=](const Arrays& x, Params& p) {
      const std::vector<double> W = p.get("w.weight");
      std::vector<double> y(at(6 * size), 1);
      for (Index row = 0; row < 6; ++row)
        for (Index o = 0; o < 3 * size; ++o) {
          double sum = 0;
          for (Index i = 0; i < 4; ++i) sum += W[at(o * 4 + i)] * x[0][at(row * 4 + i)];
          y[at(row * size + o % size)] *= sum;
        }
      return y;
    };
    check_op(c);
    check_direction(c);
  }
}
TEST(Linear, ManyRows) {
  for (const Order from : {Order::BTD, Order::BDT})
    for (const Order to : {Order::BTD, Order::BDT}) {
      OpCase c;
      c.inputs = {sequence(3, 700, 5, from)};
      c.build = [=](Net& n, const std::vector<Tensor>& x) {
        LinearOptions o;
        o.order = to;
        return linear(n, x[0], 6, "w", o);
      };
      check_direction(c);
    }
}
TEST(Linear, TwoUsersOfOneInput) {
  OpCase c;
  c.inputs = {shaped({2, 7, 5})};
  c.build = [](Net& n, const std::vector<Tensor>& x) { return add(n, linear(n, x[0], 3, "a"), linear(n, x[0], 3, "b")); };
  check_op(c);
}
TEST(Linear, OtherRanks) {
  OpCase c;
  c.inputs = {shaped({6, 5})};
  c.build = [](Net& n, const std::vector<Tensor>& x) { return linear(n, x[0], 3, "w"); };
  check_op(c);
  c.inputs = {shaped({2, 3, 2, 5})};
  check_op(c);
}
TEST(Linear, StartsAsTorchDoes) {
  OpCase c;
  c.inputs = {shaped({1, 1, 16})};
  c.build = [](Net& n, const std::vector<Tensor>& x) { return linear(n, x[0], 500, "w"); };
  Probe probe(test_device().exec(), c);
  double largest = 0;
  for (const double w : probe.params().get("w.weight")) largest = std::max(largest, std::abs(w));
  EXPECT_LE(largest, 0.25);
  EXPECT_GT(largest, 0.249);
}

TEST(Embedding, TableAndItsGradient) {
  struct Size {
    Index B, T, vocab, D;
  };
  for (const Size s : {Size{1, 1, 1, 1}, {2, 3, 16, 7}, {3, 200, 16, 17}, {2, 500, 300, 130}, {2, 90, 8192, 128}}) {
    OpCase c;
    c.B = s.B, c.T = s.T;
    c.build = [=](Net& n, const std::vector<Tensor>&) { return embedding(n, s.vocab, s.D, "e", 0.5); };
    for (Index i = 0; i < s.B * s.T; ++i) c.tokens.push_back(static_cast<std::int32_t>(i * i * 7 % s.vocab));
    Probe probe(test_device().exec(), c);
    const std::vector<double> y = probe.forward({}), table = probe.params().get("e.weight"), dy = test_values("dy", s.B * s.T * s.D);
    std::vector<double> expected(y.size()), gradient(table.size(), 0.0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t k = static_cast<std::size_t>(c.tokens[i / at(s.D)]) * at(s.D) + i % at(s.D);
      expected[i] = table[k];
      gradient[k] += dy[i];
    }
    EXPECT_EQ(y, expected);
    probe.backward(dy);
    EXPECT_LT(relative_error(probe.params().get_grad("e.weight"), gradient), kDouble ? 1e-14 : 1e-6) << "vocabulary " << s.vocab;
  }
}
TEST(Embedding, Positions) {
  OpCase c;
  c.B = 3, c.T = 9, c.l_max = 11;
  c.inputs = {shaped({3, 9, 5})};
  c.build = [](Net& n, const std::vector<Tensor>& x) { return add_positions(n, x[0], "p"); };
  c.expected = [](const Arrays& x, Params& p) {
    std::vector<double> y = x[0], table = p.get("p.weight");
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += table[i % 45];
    return y;
  };
  check_op(c);
  check_stream(c, 5);
  c.l_max = 8;
  EXPECT_THROW(Probe(test_device().exec(), c), BadInput);
}
TEST(Embedding, Patches) {
  OpCase c;
  c.B = 3, c.T = 5;
  c.features = test_values("features", 3 * 5 * 4 * 2);
  c.build = [](Net& n, const std::vector<Tensor>&) { return patch_embedding(n, 4, 2, 7, "p"); };
  c.expected = [&](const Arrays&, Params& p) {
    const std::vector<double> W = p.get("p.weight");
    std::vector<double> y;
    for (std::size_t row = 0; row < 15; ++row)
      for (std::size_t o = 0; o < 7; ++o) {
        y.push_back(p.get("p.bias")[o]);
        for (std::size_t i = 0; i < 8; ++i) y.back() += W[o * 8 + i] * c.features[row * 8 + i];
      }
    return y;
  };
  check_op(c);
}

OpCase causal_case(Index B, Index T, Index D, int w, const std::string& act) {
  OpCase c;
  c.B = B, c.T = T;
  c.inputs = {shaped({B, T, D})};
  c.build = [=](Net& n, const std::vector<Tensor>& x) { return causal_conv(n, x[0], w, "c", act); };
  c.expected = [=](const Arrays& x, Params& p) {
    const std::vector<double> W = p.get("c.weight"), bias = p.get("c.bias");
    std::vector<double> y(x[0].size());
    for (Index b = 0; b < B; ++b)
      for (Index t = 0; t < T; ++t)
        for (Index d = 0; d < D; ++d) {
          double sum = bias[at(d)];
          for (Index k = 0; k < w; ++k)
            if (t - (w - 1 - k) >= 0) sum += W[at(d * w + k)] * entry(x[0], Order::BTD, T, D, b, t - (w - 1 - k), d);
          y[at((b * T + t) * D + d)] = act == "silu" ? sum / (1 + std::exp(-sum)) : sum;
        }
    return y;
  };
  return c;
}
TEST(CausalConv, PlainLoops) {
  for (const Index T : {1, 2, 3, 33, 67})
    for (const Index D : {1, 17})
      for (const int w : {1, 2, 3, 4}) {
        if (T == 67 && D == 17) continue;
        SCOPED_TRACE(testing::Message() << "T " << T << " D " << D << " w " << w);
        check_op(causal_case(2, T, D, w, (T + w) % 2 ? "silu" : "id"));
      }
}
TEST(CausalConv, LongRuns) {
  check_direction(causal_case(150, 330, 2, 4, "silu"));
  check_direction(causal_case(1, 1000, 35, 16, "id"));
}
TEST(CausalConv, Streams) {
  check_stream(causal_case(3, 40, 19, 4, "silu"), 19);
  check_stream(causal_case(2, 5, 3, 1, "id"), 3);
}

OpCase dilated_case(Index B, Index T, Index in, Index out, int k, int delta, bool causal, bool normed, bool affine = true) {
  OpCase c;
  c.B = B, c.T = T;
  c.inputs = {shaped({B, T, in})};
  c.build = [=](Net& n, const std::vector<Tensor>& x) { return dilated_conv(n, x[0], out, "c", {k, delta, causal, normed, affine}); };
  c.expected = [=](const Arrays& x, Params& p) {
    const std::vector<double> v = p.get(normed ? "c.weight_v" : "c.weight"), bias = affine ? p.get("c.bias") : std::vector<double>(at(out));
    std::vector<double> y(at(B * T * out));
    for (Index o = 0; o < out; ++o) {
      double square = 0;
      for (Index q = 0; q < in * k; ++q) square += v[at(o * in * k + q)] * v[at(o * in * k + q)];
      const double scale = normed ? p.get("c.weight_g")[at(o)] / std::sqrt(square) : 1;
      for (Index b = 0; b < B; ++b)
        for (Index t = 0; t < T; ++t) {
          double sum = bias[at(o)];
          for (Index j = 0; j < k; ++j) {
            const Index from = t - (causal ? (k - 1 - j) * delta : ((k - 1) / 2 - j) * delta);
            for (Index i = 0; from >= 0 && from < T && i < in; ++i)
              sum += scale * v[at((o * in + i) * k + j)] * entry(x[0], Order::BTD, T, in, b, from, i);
          }
          y[at((b * T + t) * out + o)] = sum;
        }
    }
    return y;
  };
  return c;
}
TEST(DilatedConv, PlainLoops) {
  for (const Index T : {1, 3, 17})
    for (const int k : {1, 2, 3})
      for (const int delta : {1, 2, 5})
        for (const bool causal : {true, false}) {
          SCOPED_TRACE(testing::Message() << "T " << T << " k " << k << " delta " << delta << " causal " << causal);
          check_op(dilated_case(2, T, 3, 4, k, delta, causal, (k + delta) % 2));
          check_op(dilated_case(1, T, 4, 1, k, delta, causal, (k + delta + 1) % 2));
          check_op(dilated_case(2, T, 3, 2, k, delta, causal, (k + delta) % 2, false));
        }
}
TEST(DilatedConv, ManyRows) {
  check_direction(dilated_case(3, 700, 9, 17, 7, 64, true, true));
  check_direction(dilated_case(1, 1500, 5, 3, 3, 1, false, false));
}
TEST(DilatedConv, LengthStartsAsTheNorm) {
  Probe probe(test_device().exec(), dilated_case(1, 2, 3, 2, 2, 1, true, true));
  const std::vector<double> v = probe.params().get("c.weight_v"), g = probe.params().get("c.weight_g");
  for (std::size_t o = 0; o < 2; ++o) {
    double square = 0;
    for (std::size_t q = 0; q < 6; ++q) square += v[o * 6 + q] * v[o * 6 + q];
    EXPECT_NEAR(g[o], std::sqrt(square), 1e-6);
  }
}
TEST(DilatedConv, BeforeABatchNorm) {
  for (const bool normed : {false, true}) {
    Probe probe(test_device().exec(), dilated_case(1, 2, 3, 2, 2, 1, true, normed, false));
    EXPECT_EQ(probe.params().find("c.bias"), nullptr);
    EXPECT_EQ(probe.params().count(), 12) << "weight_g is trained";
  }
}
TEST(DilatedConv, Streams) {
  check_stream(dilated_case(2, 9, 3, 4, 2, 2, true, true, false), 3);
  check_stream(dilated_case(3, 40, 5, 7, 3, 4, true, true), 5);
  check_stream(dilated_case(2, 9, 3, 3, 2, 1, true, false), 3);
  check_stream(dilated_case(2, 4, 3, 3, 1, 3, true, true), 3);
  OpCase centred = dilated_case(1, 1, 3, 3, 3, 1, false, false);
  centred.mode = Mode::stream;
  EXPECT_THROW(Probe(test_device().exec(), centred), BadInput);
}

}  // namespace
}  // namespace ssm
