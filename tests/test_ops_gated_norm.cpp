// RMS norm and SiLU gate as one op, in both orders: values and gradients against plain loops, rows of every width that a GPU holds and wider,
// gradients that are set and added to.
#include <cmath>

#include "op_check.hpp"
#include "ops.hpp"
#include "ops/gated_norm.hpp"

namespace ssm {
namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct GatedCase {
  Index B, T, heads, width;  // width: channels of a head
  bool gate_first;
  bool more_x = false, more_z = false;  // y + tanh(x) + tanh(z): their gradients are there already, and added to
};

std::ostream& operator<<(std::ostream& out, const GatedCase& k) {
  return out << (k.gate_first ? "gate, norm " : "norm, gate ") << k.B << ' ' << k.T << ' ' << k.heads << ' ' << k.width
             << (k.more_x ? " x added to" : "") << (k.more_z ? " z added to" : "");
}

Tensor gated(Net& n, Tensor x, Tensor z, const GatedCase& k) {
  return k.gate_first ? gate_then_norm(n, x, z, k.heads, "norm")
                      : norm_then_gate(
                            n, x, [&] { return z; }, k.heads, "norm");
}

OpCase case_of(const GatedCase& k) {
  OpCase c;
  c.B = k.B, c.T = k.T;
  const Tensor shape = shaped({k.B, k.T, k.heads * k.width});
  c.inputs = {shape, shape};
  c.input_scale = 3;
  c.build = [k](Net& n, const std::vector<Tensor>& in) {
    Tensor y = gated(n, in[0], in[1], k);
    if (k.more_x) y = add(n, y, activation(n, in[0], "tanh"));
    if (k.more_z) y = add(n, y, activation(n, in[1], "tanh"));
    return y;
  };
  return c;
}

struct Expected {
  Values y, dx, dz, dw;
};

Expected plain(const GatedCase& k, const Values& x, const Values& z, const Values& dy, const Values& w) {
  Expected e{Values(x.size()), Values(x.size()), Values(x.size()), Values(w.size())};
  const Index V = k.width;
  const double per = 1 / static_cast<double>(V);
  for (std::size_t first = 0; first < x.size(); first += at(V)) {
    Values silu(at(V)), slope(at(V)), normed(at(V)), dnormed(at(V));  // what the norm sees, and the gradient of what it gives
    double square = 0, along = 0;
    for (std::size_t c = 0; c < at(V); ++c) {
      const double b = z[first + c], sigmoid = 1 / (1 + std::exp(-b));
      silu[c] = b * sigmoid, slope[c] = sigmoid * (1 + b * (1 - sigmoid));
      normed[c] = x[first + c] * (k.gate_first ? silu[c] : 1);
      square += per * normed[c] * normed[c];
    }
    const double s = 1 / std::sqrt(square + 1e-5);
    for (std::size_t c = 0; c < at(V); ++c) {
      const double h = normed[c] * s, after = k.gate_first ? 1 : silu[c];
      e.y[first + c] = h * w[c] * after;
      e.dw[c] += dy[first + c] * after * h;
      e.dz[first + c] = k.gate_first ? 0 : dy[first + c] * h * w[c] * slope[c];
      dnormed[c] = dy[first + c] * after * w[c];
      along += per * dnormed[c] * h;
    }
    for (std::size_t c = 0; c < at(V); ++c) {
      const double d = s * (dnormed[c] - normed[c] * s * along);
      e.dx[first + c] = d * (k.gate_first ? silu[c] : 1);
      if (k.gate_first) e.dz[first + c] = d * x[first + c] * slope[c];
    }
  }
  const auto and_more = [&](const Values& from, Values& to) {
    for (std::size_t i = 0; i < from.size(); ++i) {
      const double t = std::tanh(from[i]);
      e.y[i] += t, to[i] += dy[i] * (1 - t * t);
    }
  };
  if (k.more_x) and_more(x, e.dx);
  if (k.more_z) and_more(z, e.dz);
  return e;
}

void check_against_plain(const GatedCase& k) {
  SCOPED_TRACE(testing::Message() << k);
  const double tolerance = kDouble ? 1e-10 : 2e-5;
  Probe probe(test_device().exec(), case_of(k));
  Values w = test_values("weight", k.width);
  for (double& v : w) v += 1.5;
  probe.params().set("norm.weight", w);
  const Index size = k.B * k.T * k.heads * k.width;
  const Arrays in = {test_values("x", size), test_values("z", size, 4)};
  const Values y = probe.forward(in), dy = test_values("dy", size);
  const Arrays d = probe.backward(dy);
  const Values dw = probe.params().get_grad("norm.weight");
  const Expected e = plain(k, in[0], in[1], dy, w);
  EXPECT_LT(relative_error(y, e.y), tolerance) << "y";
  EXPECT_LT(relative_error(d[0], e.dx), tolerance) << "dx";
  EXPECT_LT(relative_error(d[1], e.dz), tolerance) << "dz";
  EXPECT_LT(relative_error(dw, e.dw), tolerance) << "gradient of the weight";
  EXPECT_EQ(y, probe.forward(in)) << "two runs differ";
  EXPECT_EQ(d, probe.backward(dy)) << "two backward passes differ";
}

TEST(GatedNorm, GradientsByDifferences) {
  for (const bool gate_first : {false, true})
    for (const GatedCase& k : {GatedCase{2, 3, 1, 5, gate_first}, GatedCase{1, 1, 1, 2, gate_first}, GatedCase{1, 35, 3, 2, gate_first},
                               GatedCase{2, 3, 2, 3, gate_first, true, true}, GatedCase{1, 2, 1, 67, gate_first}}) {
      SCOPED_TRACE(testing::Message() << k);
      OpCase c = case_of(k);
      c.expected = [=](const Arrays& in, Params& p) { return plain(k, in[0], in[1], Values(in[0].size()), p.get("norm.weight")).y; };
      check_op(c);
    }
}

TEST(GatedNorm, Widths) {
  for (const bool gate_first : {false, true})
    for (const Index width : {1, 33, 128, 200, 257, 512, 700, 1030, 2048, 2100})
      check_against_plain({1, 37, width < 300 ? 3 : 1, width, gate_first});
}

// More rows than all blocks of a backward pass take at once.
TEST(GatedNorm, ManyRows) {
  for (const bool gate_first : {false, true})
    for (const auto& [rows, width] : {std::pair<Index, Index>{9001, 9}, {4300, 130}, {2200, 300}, {2150, 600}, {900, 1030}, {70, 2050}})
      check_against_plain({1, rows, 1, width, gate_first});
}

TEST(GatedNorm, AddsToGradients) {
  for (const bool gate_first : {false, true})
    for (const Index width : {40, 250, 400, 900, 2000, 2100})
      for (const auto& [more_x, more_z] : {std::pair{true, false}, {false, true}, {true, true}})
        check_against_plain({2, 11, 2, width, gate_first, more_x, more_z});
}

// A gate that is shut or wide open, a row of zeros: finite, and right.
TEST(GatedNorm, Extremes) {
  for (const bool gate_first : {false, true}) {
    const GatedCase k{1, 4, 1, 40, gate_first};
    Probe probe(test_device().exec(), case_of(k));
    Values x = test_values("x", 160, 1e3), z = test_values("z", 160);
    for (std::size_t i = 0; i < 40; ++i) x[i] = 0, z[40 + i] = -200, z[80 + i] = 200;
    const Values y = probe.forward({x, z}), dy = test_values("dy", 160);
    const Arrays d = probe.backward(dy);
    const Expected e = plain(k, x, z, dy, Values(40, 1));
    const auto same = [&](const Values& a, const Values& b, const char* what) {  // row by row; 1e-30 is 0 beside what a float holds
      for (std::size_t first = 0; first < 160; first += 40) {
        double worst = 0, largest = 1e-30;
        for (std::size_t i = first; i < first + 40; ++i)
          worst = std::max(worst, std::isfinite(a[i]) ? std::abs(a[i] - b[i]) : INFINITY), largest = std::max(largest, std::abs(b[i]));
        EXPECT_LT(worst, (kDouble ? 1e-10 : 2e-5) * largest) << what << " of row " << first / 40;
      }
    };
    same(y, e.y, "y"), same(d[0], e.dx, "dx"), same(d[1], e.dz, "dz");
  }
}

TEST(GatedNorm, OneOpButInStreams) {
  for (const bool gate_first : {false, true})
    for (const Mode mode : {Mode::train, Mode::evaluate, Mode::stream}) {
      OpCase c = case_of({2, 1, 2, 3, gate_first});
      c.mode = mode;
      Probe probe(test_device().exec(), c);
      EXPECT_EQ(probe.net().ops().size(), mode == Mode::stream ? 2u : 1u);
      EXPECT_NE(probe.params().find("norm.weight"), nullptr);
    }
}

TEST(GatedNorm, RefusesOtherShapes) {
  OpCase c = case_of({2, 3, 1, 4, false});
  c.inputs[1] = shaped({2, 3, 5});
  EXPECT_THROW(Probe(test_device().exec(), c), std::logic_error);
  c.inputs = {shaped({2, 4, 3}, Order::BDT), shaped({2, 4, 3}, Order::BDT)};
  EXPECT_THROW(Probe(test_device().exec(), c), std::logic_error);
}

}  // namespace
}  // namespace ssm
