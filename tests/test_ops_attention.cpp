// Softmax attention: tiled and plain kernels against loops and golden numbers, gradients, windows, padding, streaming.
#include <gtest/gtest.h>

#include <cmath>

#include "error.hpp"
#include "op_check.hpp"
#include "ops.hpp"

using namespace ssm;

namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Shape {
  Index B, T, dh;
};

// y (B,T,H dh) with the whole (T,T) matrix in sight.
Values plain_attention(const Values& qkv, Shape s, const AttentionOptions& o, const std::vector<std::int32_t>& lengths) {
  const Index H = o.heads, KV = o.kv_heads, dh = s.dh, wide = (H + 2 * KV) * dh;
  Values y(at(s.B * s.T * H * dh), 0);
  const auto turned = [&](Index b, Index t, Index head, Index c) {
    const double* row = &qkv[at((b * s.T + t) * wide + head * dh)];
    const Index half = dh / 2;
    if (o.positions != "rope" || c >= 2 * half) return row[c];
    const Index k = c % half;
    const double angle = static_cast<double>(t) * std::pow(1e4, -2.0 * static_cast<double>(k) / static_cast<double>(dh));
    return c < half ? row[k] * std::cos(angle) - row[k + half] * std::sin(angle)
                    : row[k + half] * std::cos(angle) + row[k] * std::sin(angle);
  };
  for (Index b = 0; b < s.B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < s.T; ++i) {
        Values weight(at(s.T), 0);
        double sum = 0, top = -1e300;
        std::vector<bool> seen(at(s.T), false);
        for (Index j = 0; j < s.T; ++j) {
          if (o.causal ? j > i : j >= lengths[at(b)]) continue;
          if (o.window && std::abs(i - j) >= o.window) continue;
          double score = 0;
          for (Index c = 0; c < dh; ++c) score += turned(b, i, h, c) * turned(b, j, H + h / (H / KV), c);
          score /= std::sqrt(static_cast<double>(dh));
          if (o.positions == "alibi")
            score -= std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(H)) * std::abs(static_cast<double>(i - j));
          seen[at(j)] = true;
          top = std::max(top, weight[at(j)] = score);
        }
        for (Index j = 0; j < s.T; ++j) sum += weight[at(j)] = seen[at(j)] ? std::exp(weight[at(j)] - top) : 0;
        for (Index j = 0; j < s.T && sum > 0; ++j)
          for (Index c = 0; c < dh; ++c)
            y[at(((b * s.T + i) * H + h) * dh + c)] +=
                weight[at(j)] / sum * qkv[at((b * s.T + j) * wide + (H + KV + h / (H / KV)) * dh + c)];
      }
  return y;
}

OpCase attention_case(Shape s, const AttentionOptions& o, std::vector<std::int32_t> lengths = {}) {
  OpCase c;
  if (lengths.empty()) lengths.assign(at(s.B), static_cast<std::int32_t>(s.T));
  c.B = s.B, c.T = s.T, c.lengths = lengths;
  c.inputs = {shaped({s.B, s.T, (o.heads + 2 * o.kv_heads) * s.dh})};
  c.input_scale = 2;
  c.expected = [=](const Arrays& in, Params&) { return plain_attention(in[0], s, o, lengths); };
  c.build = [o](Net& n, const std::vector<Tensor>& x) { return attention(n, x[0], o); };
  return c;
}

AttentionOptions options(const std::string& view, bool causal = true, const std::string& positions = "none", int heads = 2, int kv = 2) {
  AttentionOptions o;
  o.view = view, o.causal = causal, o.positions = positions, o.heads = heads, o.kv_heads = kv;
  return o;
}

class Views : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Attention, Views, ::testing::Values("tiled", "plain"), [](const auto& view) { return std::string(view.param); });

}  // namespace

// q = sin(t n), k = cos(t + n), v = sin(t + 2n), t = 1..4, n = 1,2 (variants.md G8).
TEST_P(Views, GoldenNumbers) {
  Values qkv;
  for (int t = 1; t <= 4; ++t)
    for (int part = 0; part < 3; ++part)
      for (int n = 1; n <= 2; ++n) qkv.push_back(part == 0 ? std::sin(t * n) : part == 1 ? std::cos(t + n) : std::sin(t + 2 * n));
  const std::map<std::string, Values> golden = {
      {"none", {.141120008, -.958924275, -.187614658, -.710152148, -.475127995, -.267492445, -.55836773, .371820594}},
      {"rope", {.141120008, -.958924275, -.373498912, -.569483013, -.542469055, -.163755351, -.490102642, .050895463}}};
  for (const auto& [positions, y] : golden) {
    OpCase c = attention_case({1, 4, 2}, options(GetParam(), true, positions, 1, 1));
    EXPECT_LT(relative_error(Probe(test_device().exec(), c).forward({qkv}), y), kDouble ? 2e-9 : 1e-6) << positions;
  }
  // A slope of 1/2 is that of head 0 of eight equal heads.
  Values eight;
  for (int t = 0; t < 4; ++t)
    for (int part = 0; part < 3; ++part)
      for (int h = 0; h < 8; ++h)
        for (int n = 0; n < 2; ++n) eight.push_back(qkv[at(t * 6 + part * 2 + n)]);
  const Values rows = {.141120008, -.958924275, -.296852967, -.627485338, -.650465121, -.002202777, -.537584179, .645734928};
  OpCase c = attention_case({1, 4, 2}, options(GetParam(), true, "alibi", 8, 8));
  const Values y = Probe(test_device().exec(), c).forward({eight});
  Values head0;
  for (int t = 0; t < 4; ++t)
    for (int c0 = 0; c0 < 2; ++c0) head0.push_back(y[at(t * 16 + c0)]);
  EXPECT_LT(relative_error(head0, rows), kDouble ? 2e-9 : 1e-6);
}

TEST_P(Views, OddSizesAgainstLoops) {
  for (const bool causal : {true, false})
    for (const std::string positions : {"none", "rope", "alibi"})
      for (const Index T : {1, 2, 3, 31, 33, 65, 129}) {
        SCOPED_TRACE(positions + " T " + std::to_string(T) + (causal ? " causal" : " full"));
        OpCase c = attention_case({2, T, T < 40 ? 6 : 20}, options(GetParam(), causal, positions, 4, 2));
        c.gradients = T == 3;
        c.value_tolerance = kDouble ? 1e-12 : 2e-6;
        check_op(c);
      }
}

TEST_P(Views, MoreThanOneBlockOfQueries) {
  for (const int window : {0, 70}) {
    AttentionOptions o = options(GetParam(), true, "rope", 1, 1);
    o.window = window;
    OpCase c = attention_case({1, 337, 4}, o);
    c.gradients = false;
    check_op(c);
  }
}

TEST_P(Views, HeadWidths) {
  for (const Index dh : {1, 7, 16, 17, 40, 64, 128, 130, 255, 256, 258})
    for (const std::string positions : {"none", "rope"}) {
      SCOPED_TRACE(std::to_string(dh) + " " + positions);
      OpCase c = attention_case({1, 9, dh}, options(GetParam(), true, positions, 1, 1));
      c.gradients = dh < 20;
      check_op(c);
    }
}

// The plain view's gradients are checked by differences; here the tiles of wide heads are held to it.
TEST(Attention, GradientsOfWideHeads) {
  for (const Index dh : {33, 96, 128, 200, 255, 256})
    for (const int kv : {1, 2}) {
      SCOPED_TRACE(std::to_string(dh) + " kv " + std::to_string(kv));
      std::vector<Values> found;
      for (const std::string view : {"plain", "tiled"}) {
        const OpCase c = attention_case({2, 70, dh}, options(view, true, "rope", 2, kv));
        Probe probe(test_device().exec(), c);
        const Values x = test_values("x", c.inputs[0].size(), 2);
        probe.forward({x});
        found.push_back(probe.backward(test_values("dy", 2 * 70 * 2 * dh))[0]);
      }
      EXPECT_LT(relative_error(found[1], found[0]), kDouble ? 1e-12 : 5e-6);
    }
}

TEST_P(Views, RopeLeavesTheOddChannel) { check_op(attention_case({1, 5, 3}, options(GetParam(), true, "rope"))); }

TEST_P(Views, PaddingIsHiddenFromFullAttention) {
  const Shape s{3, 9, 3};
  OpCase c = attention_case(s, options(GetParam(), false), {9, 1, 4});
  check_op(c);
  Probe probe(test_device().exec(), c);
  Values x = test_values("input0", c.inputs[0].size(), 2);
  const Values before = probe.forward({x});
  for (Index t = 4; t < 9; ++t)
    for (Index k = 0; k < 18; ++k) x[at((18 + t) * 18 + k)] = 100;
  const Values after = probe.forward({x});
  for (Index t = 0; t < 4; ++t)
    for (Index k = 0; k < 6; ++k) EXPECT_EQ(before[at((18 + t) * 6 + k)], after[at((18 + t) * 6 + k)]);
}

TEST_P(Views, Windows) {
  for (const bool causal : {true, false})
    for (const int window : {1, 3, 100}) {
      AttentionOptions o = options(GetParam(), causal, "alibi", 2, 1);
      o.window = window;
      check_op(attention_case({2, 11, 3}, o, {11, 5}));
    }
}

TEST_P(Views, GradientsAcrossTiles) {
  AttentionOptions o = options(GetParam(), true, "rope", 2, 1);
  check_op(attention_case({1, 67, 2}, o));
  o.causal = false, o.positions = "none";
  check_op(attention_case({1, 67, 2}, o, {65}));
}

TEST_P(Views, AddsBesideAnotherReader) {
  for (const std::string positions : {"none", "rope"}) {
    OpCase c = attention_case({2, 5, 4}, options(GetParam(), true, positions, 1, 1));
    const auto attend = c.build;
    c.expected = nullptr;
    c.build = [=](Net& n, const std::vector<Tensor>& x) {
      const Tensor y = attend(n, x);
      return add(n, y, slice(n, activation(n, x[0], "tanh"), 0, 4));
    };
    check_op(c);
  }
}

TEST_P(Views, LargeScoresStayFinite) {
  OpCase c = attention_case({1, 40, 4}, options(GetParam(), true, "none", 1, 1));
  c.input_scale = 100;
  c.gradients = false;
  c.value_tolerance = kDouble ? 1e-10 : 1e-3;  // scores of 1e4 carry a rounding of 1e-3
  check_op(c);
}

TEST(Attention, StreamsLikeTheWhole) {
  const Index B = 2, T = 21, dh = 4;
  for (const std::string positions : {"none", "rope", "alibi"})
    for (const int window : {0, 5}) {
      SCOPED_TRACE(positions + " window " + std::to_string(window));
      AttentionOptions o = options("tiled", true, positions, 4, 2);
      o.window = window;
      OpCase whole = attention_case({B, T, dh}, o);
      whole.mode = Mode::evaluate;
      const Values x = test_values("stream", whole.inputs[0].size(), 2);
      const Values y = Probe(test_device().exec(), whole).forward({x});
      OpCase one = attention_case({B, 1, dh}, o);
      one.mode = Mode::stream;
      one.l_max = T;
      Probe stream(test_device().exec(), one);
      EXPECT_EQ(stream.net().state_numbers(), 2 * (window ? window : T) * 2 * dh + 1);
      for (int again = 0; again < 2; ++again) {
        stream.reset();
        for (Index t = 0; t < T; ++t) {
          Values now, expected;
          for (Index b = 0; b < B; ++b)
            for (Index k = 0; k < 8 * dh; ++k) now.push_back(x[at((b * T + t) * 8 * dh + k)]);
          for (Index b = 0; b < B; ++b)
            for (Index k = 0; k < 4 * dh; ++k) expected.push_back(y[at((b * T + t) * 4 * dh + k)]);
          EXPECT_LT(relative_error(stream.step({now}), expected), kDouble ? 1e-12 : 2e-6) << t;
        }
      }
    }
}

TEST(Attention, SlopesOfSixHeads) {
  // One query looking at two equal keys with values 1 and 0: y = 1 / (1 + e^{-slope}).
  const Values slopes = {.25, .0625, .015625, .00390625, .5, .125};
  Values qkv;
  for (int t = 0; t < 2; ++t)
    for (int k = 0; k < 18; ++k) qkv.push_back(k < 12 ? 0 : t);
  OpCase c = attention_case({1, 2, 1}, options("plain", true, "alibi", 6, 6));
  const Values y = Probe(test_device().exec(), c).forward({qkv});
  for (std::size_t h = 0; h < 6; ++h) EXPECT_NEAR(y[6 + h], 1 / (1 + std::exp(-slopes[h])), 1e-6);
}

TEST(Attention, RefusesWhatItCannotDo) {
  Params params;
  Net n(params, Mode::stream, 1, 1, 8, 8);
  const Tensor qkv = n.input(shaped({1, 1, 12}));
  EXPECT_THROW(attention(n, qkv, options("tiled", false)), Unsupported);
  AttentionOptions o = options("tiled");
  o.dropout = 0.1;
  EXPECT_THROW(attention(n, qkv, o), Unsupported);
  EXPECT_THROW(attention(n, qkv, options("tiled", true, "ropes")), BadInput);
  EXPECT_THROW(attention(n, qkv, options("tiled", true, "none", 4, 3)), BadInput);
}
