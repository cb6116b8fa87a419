// test_held_rows.cpp - norms of wide rows and short convolutions over long runs, for which a GPU has kernels of its own: values and gradients
// against plain loops, in every build.
#include <cmath>
#include <numeric>

#include "op_check.hpp"
#include "ops.hpp"
#include "ops/filters.hpp"
#include "ops/starts.hpp"

namespace ssm {
namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Expected {
  Values y, dx;
  std::map<std::string, Values> parameters;  // their gradients
};

// One input; `plain` gives what the op is to make of it and of dy.
void check_against(const OpCase& c, const std::function<Expected(const Values& x, const Values& dy, Params&)>& plain) {
  const double tolerance = kDouble ? 1e-10 : 2e-5;
  Probe probe(test_device().exec(), c);
  const Arrays inputs = {test_values("input0", c.inputs[0].size())};
  const Values y = probe.forward(inputs), dy = test_values("dy", static_cast<Index>(y.size())), dx = probe.backward(dy)[0];
  const Expected expected = plain(inputs[0], dy, probe.params());
  EXPECT_LT(relative_error(y, expected.y), tolerance) << "y";
  EXPECT_LT(relative_error(dx, expected.dx), tolerance) << "dx";
  for (const auto& [name, gradient] : expected.parameters)
    EXPECT_LT(relative_error(probe.params().get_grad(name), gradient), tolerance) << "gradient of " << name;
}

Expected plain_norm(bool centred, Index rows, Index D, const Values& x, const Values& dy, Params& p) {
  const Values w = p.get("norm.weight"), b = centred ? p.get("norm.bias") : Values(at(D), 0);
  Expected e{Values(x.size()), Values(x.size()), {{"norm.weight", Values(at(D))}}};
  if (centred) e.parameters["norm.bias"] = Values(at(D));
  const double per = 1 / static_cast<double>(D);
  for (Index i = 0; i < rows; ++i) {
    const double *in = &x[at(i * D)], *up = &dy[at(i * D)];
    double mean = 0, square = 0, g1 = 0, g2 = 0;
    for (Index c = 0; c < D && centred; ++c) mean += per * in[c];
    for (Index c = 0; c < D; ++c) square += per * (in[c] - mean) * (in[c] - mean);
    const double s = 1 / std::sqrt(square + 1e-5);
    for (Index c = 0; c < D; ++c) {
      const double h = (in[c] - mean) * s, g = up[c] * w[at(c)];
      e.y[at(i * D + c)] = h * w[at(c)] + b[at(c)];
      e.parameters["norm.weight"][at(c)] += up[c] * h;
      if (centred) e.parameters["norm.bias"][at(c)] += up[c], g1 += per * g;
      g2 += per * g * h;
    }
    for (Index c = 0; c < D; ++c) e.dx[at(i * D + c)] = s * (up[c] * w[at(c)] - g1 - (in[c] - mean) * s * g2);
  }
  return e;
}

TEST(HeldRows, Norms) {
  for (const bool centred : {true, false})
    for (const Index D : {33, 64, 100, 200, 500, 700, 1030}) {
      SCOPED_TRACE((centred ? "layer " : "rms ") + std::to_string(D));
      OpCase c;
      c.inputs = {shaped({3, 29, D})};
      c.build = [=](Net& n, const std::vector<Tensor>& x) { return norm(n, x[0], centred ? "layer" : "rms", "norm"); };
      check_against(c, [=](const Values& x, const Values& dy, Params& p) { return plain_norm(centred, 87, D, x, dy, p); });
      c.build = [=](Net& n, const std::vector<Tensor>& x) { return multiply(n, norm(n, x[0], centred ? "layer" : "rms", "norm"), x[0]); };
      check_against(c, [=](const Values& x, const Values& dy, Params& p) {  // the gradient of x is there already, and added to
        Values up = dy;
        for (std::size_t i = 0; i < x.size(); ++i) up[i] *= x[i];
        Expected e = plain_norm(centred, 87, D, x, up, p);
        for (std::size_t i = 0; i < x.size(); ++i) e.dx[i] += dy[i] * e.y[i], e.y[i] *= x[i];
        return e;
      });
    }
}

Expected plain_conv(Index B, Index T, Index D, int w, bool silu, const Values& x, const Values& dy, Params& p) {
  const Values W = p.get("c.weight"), bias = p.get("c.bias");
  Expected e{Values(x.size()), Values(x.size()), {{"c.weight", Values(W.size())}, {"c.bias", Values(bias.size())}}};
  for (Index b = 0; b < B; ++b)
    for (Index t = 0; t < T; ++t)
      for (Index d = 0; d < D; ++d) {
        const Index here = (b * T + t) * D + d, first = std::max<Index>(0, w - 1 - t);
        double pre = bias[at(d)];
        for (Index k = first; k < w; ++k) pre += W[at(d * w + k)] * x[at(here - (w - 1 - k) * D)];
        const double gate = 1 / (1 + std::exp(-pre)), g = dy[at(here)] * (silu ? gate * (1 + pre * (1 - gate)) : 1);
        e.y[at(here)] = silu ? pre * gate : pre;
        e.parameters["c.bias"][at(d)] += g;
        for (Index k = first; k < w; ++k) {
          e.parameters["c.weight"][at(d * w + k)] += g * x[at(here - (w - 1 - k) * D)];
          e.dx[at(here - (w - 1 - k) * D)] += g * W[at(d * w + k)];
        }
      }
  return e;
}

TEST(HeldRows, ShortConvolutions) {
  struct Shape {
    Index B, T, D;
    int w;
    const char* act;
  };
  for (const Shape& s : {Shape{1, 1, 3, 4, "silu"}, Shape{2, 67, 33, 4, "silu"}, Shape{2, 130, 5, 3, "id"}, Shape{3, 129, 7, 2, "silu"},
                         Shape{150, 70, 2, 4, "id"}, Shape{1, 200, 3, 5, "silu"}}) {
    SCOPED_TRACE(testing::Message() << "B " << s.B << " T " << s.T << " D " << s.D << " w " << s.w << ' ' << s.act);
    OpCase c;
    c.B = s.B, c.T = s.T;
    c.inputs = {shaped({s.B, s.T, s.D})};
    c.build = [=](Net& n, const std::vector<Tensor>& x) { return causal_conv(n, x[0], s.w, "c", s.act); };
    check_against(c, [=](const Values& x, const Values& dy, Params& p) {
      return plain_conv(s.B, s.T, s.D, s.w, std::string(s.act) == "silu", x, dy, p);
    });
  }
}

// Channels in two blocks, each a tensor of its own, that are then added: y = first + second, or with `turned` the same as (B,D,T).
TEST(HeldRows, ShortConvolutionsInBlocks) {
  struct Shape {
    Index B, T, half;
    int w;
    bool turned;
  };
  for (const Shape& s : {Shape{2, 67, 33, 4, false}, Shape{1, 5, 4, 5, false}, Shape{2, 1, 3, 3, true}, Shape{2, 63, 33, 4, true},
                         Shape{1, 64, 32, 2, true}, Shape{2, 600, 5, 3, true}, Shape{3, 1100, 40, 3, true}, Shape{1, 40, 6, 6, true}}) {
    SCOPED_TRACE(testing::Message() << "B " << s.B << " T " << s.T << " blocks of " << s.half << " w " << s.w
                                    << (s.turned ? " turned" : ""));
    const Index B = s.B, T = s.T, half = s.half, D = 2 * half;
    OpCase c;
    c.B = B, c.T = T;
    c.inputs = {shaped({B, T, D})};
    const auto build = [=](Net& n, Tensor x) {
      const auto parts =
          s.turned ? causal_conv_channels(n, x, s.w, "c", {half, half}) : causal_conv_split(n, x, s.w, "c", "silu", {half, half}, {});
      return add(n, parts[0], parts[1]);
    };
    const auto place = [=](Index b, Index t, Index d) { return at(s.turned ? (b * half + d) * T + t : (b * T + t) * half + d); };
    const auto expected = [=](const Values& x, const Values& dy, Params& p) {
      Values up(x.size()), y(dy.size());
      const auto each = [&](const auto& f) {
        for (Index b = 0; b < B; ++b)
          for (Index t = 0; t < T; ++t)
            for (Index d = 0; d < D; ++d) f(at((b * T + t) * D + d), place(b, t, d % half));
      };
      each([&](std::size_t i, std::size_t k) { up[i] = dy[k]; });
      Expected e = plain_conv(B, T, D, s.w, !s.turned, x, up, p);
      each([&](std::size_t i, std::size_t k) { y[k] += e.y[i]; });
      e.y = y;
      return e;
    };
    c.build = [=](Net& n, const std::vector<Tensor>& x) { return build(n, x[0]); };
    check_against(c, expected);
    c.build = [=](Net& n, const std::vector<Tensor>& x) {  // the gradient of x is there already, and added to
      const Tensor y = build(n, x[0]);
      return add(n, y, n.as(slice(n, x[0], 0, half), s.turned ? Order::BDT : Order::BTD));
    };
    check_against(c, [=](const Values& x, const Values& dy, Params& p) {
      Expected e = expected(x, dy, p);
      for (Index b = 0; b < B; ++b)
        for (Index t = 0; t < T; ++t)
          for (Index d = 0; d < half; ++d) {
            const std::size_t i = at((b * T + t) * D + d);
            e.y[place(b, t, d)] += x[i], e.dx[i] += dy[place(b, t, d)];
          }
      return e;
    });
  }
}

// Blocks of any sizes as (B,size,T), the last two multiplied. y = the sum of all that comes, each repeated to as many channels as the last has.
TEST(HeldRows, ShortConvolutionsMultiplied) {
  struct Shape {
    Index B, T;
    int w;
    std::vector<Index> sizes;
  };
  for (const Shape& s : {Shape{2, 1, 3, {3, 3}}, Shape{1, 2, 4, {2, 4, 4}}, Shape{2, 7, 2, {3, 3, 3}}, Shape{2, 5, 6, {1, 2, 2}},
                         Shape{2, 63, 4, {11, 33, 33}}, Shape{1, 64, 2, {64, 32, 64, 64}}, Shape{2, 66, 3, {35, 70, 70}},
                         Shape{3, 300, 3, {8, 40, 40}}, Shape{1, 130, 4, {5, 5, 5, 5, 5}}}) {
    const Index B = s.B, T = s.T, last = s.sizes.back(), before = std::accumulate(s.sizes.begin(), s.sizes.end() - 2, Index{0}),
                C = before + 2 * last;
    SCOPED_TRACE(testing::Message() << "B " << B << " T " << T << " w " << s.w << " channels " << C);
    const auto build = [=](Net& n, Tensor x) {
      const std::vector<Tensor> parts = causal_conv_channels(n, x, s.w, "c", s.sizes, true);
      EXPECT_EQ(parts.size(), s.sizes.size() - 1);
      Tensor y = parts.back();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const Index times = last / s.sizes[i];
        y = add(n, y, times == 1 ? parts[i] : repeat_channels(n, parts[i], times));
      }
      return y;
    };
    const auto expected = [=](const Values& x, const Values& dy, Params& p) {
      const Values z = plain_conv(B, T, C, s.w, false, x, Values(x.size()), p).y;
      Values up(x.size()), y(dy.size());
      for (Index b = 0; b < B; ++b)
        for (Index t = 0; t < T; ++t) {
          const Index row = (b * T + t) * C;
          for (Index d = 0; d < last; ++d) {
            const std::size_t one = at(row + before + d), two = at(row + before + last + d), out = at((b * last + d) * T + t);
            y[out] = z[one] * z[two], up[one] = dy[out] * z[two], up[two] = dy[out] * z[one];
            Index first = 0;
            for (std::size_t i = 0; i + 2 < s.sizes.size(); first += s.sizes[i++])
              y[out] += z[at(row + first + d % s.sizes[i])], up[at(row + first + d % s.sizes[i])] += dy[out];
          }
        }
      Expected e = plain_conv(B, T, C, s.w, false, x, up, p);
      e.y = y;
      return e;
    };
    OpCase c;
    c.B = B, c.T = T;
    c.inputs = {shaped({B, T, C})};
    c.build = [=](Net& n, const std::vector<Tensor>& x) { return build(n, x[0]); };
    if (T < 10) check_op(c);
    check_against(c, expected);
    c.build = [=](Net& n, const std::vector<Tensor>& x) {  // the gradient of x is there already, and added to
      const Tensor y = build(n, x[0]);
      return add(n, y, n.as(slice(n, x[0], 0, last), Order::BDT));
    };
    check_against(c, [=](const Values& x, const Values& dy, Params& p) {
      Expected e = expected(x, dy, p);
      for (Index b = 0; b < B; ++b)
        for (Index t = 0; t < T; ++t)
          for (Index d = 0; d < last; ++d) {
            const std::size_t i = at((b * T + t) * C + d), out = at((b * last + d) * T + t);
            e.y[out] += x[i], e.dx[i] += dy[out];
          }
      return e;
    });
  }
}

TEST(HeldRows, BlocksOfTwoSizesAreNotMultiplied) {
  OpCase c;
  c.inputs = {shaped({1, 4, 5})};
  c.build = [](Net& n, const std::vector<Tensor>& x) { return causal_conv_channels(n, x[0], 3, "c", {2, 3}, true)[0]; };
  EXPECT_THROW(Probe(test_device().exec(), c), std::logic_error);
  c.build = [](Net& n, const std::vector<Tensor>& x) { return causal_conv_channels(n, x[0], 3, "c", {2, 2})[0]; };
  EXPECT_THROW(Probe(test_device().exec(), c), std::logic_error);
}

}  // namespace
}  // namespace ssm
