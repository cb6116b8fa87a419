// test_wide_rnn.cpp - LSTM and GRU of more units than one processor of a GPU holds, whose kernels share the weights between blocks: values and
// gradients against plain loops, in every build.
#include <cmath>

#include "op_check.hpp"
#include "ops.hpp"
#include "ops/rnn.hpp"

namespace ssm {
namespace {

using Values = std::vector<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

struct Shape {
  Index B, T, H;
};

// Walk of one layer of I = H inputs, one sequence after the other.
struct Plain {
  bool lstm;
  Shape s;
  Values W, U, bias_x, bias_h, h0, c0;
  Values y, dx;
  std::map<std::string, Values> gradients;

  Plain(bool lstm_, const Shape& shape, Params& p, bool learned) : lstm(lstm_), s(shape) {
    W = p.get("weight_ih_l0"), U = p.get("weight_hh_l0"), bias_x = p.get("bias_ih_l0"), bias_h = p.get("bias_hh_l0");
    h0 = learned ? p.get("h0_l0") : Values(at(s.H), 0), c0 = learned && lstm ? p.get("c0_l0") : Values(at(s.H), 0);
    y.resize(at(s.B * s.T * s.H)), dx.resize(y.size());
    for (const char* name : {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}) gradients[name].resize(p.get(name).size());
    if (learned) gradients["h0_l0"].resize(at(s.H));
    if (learned && lstm) gradients["c0_l0"].resize(at(s.H));
  }

  void run(const Values& x, const Values& dy) {
    for (Index b = 0; b < s.B; ++b) sequence(&x[at(b * s.T * s.H)], &dy[at(b * s.T * s.H)], &y[at(b * s.T * s.H)], &dx[at(b * s.T * s.H)]);
  }
  void sequence(const double* x, const double* dy, double* out, double* in_gradient) {
    const Index H = s.H, T = s.T, G = lstm ? 4 : 3;
    Values gates(at(T * 4 * H)), c(at((T + 1) * H)), h(at((T + 1) * H));
    std::copy(h0.begin(), h0.end(), h.begin()), std::copy(c0.begin(), c0.end(), c.begin());
    for (Index t = 0; t < T; ++t) {
      const double *last = &h[at(t * H)], *now = x + t * H;
      for (Index k = 0; k < H; ++k) {
        double from_x[4], from_h[4], *slot = &gates[at((t * H + k) * 4)];
        for (Index g = 0; g < G; ++g) {
          const double *w = &W[at((g * H + k) * H)], *u = &U[at((g * H + k) * H)];
          double a = bias_x[at(g * H + k)], r = bias_h[at(g * H + k)];
          for (Index j = 0; j < H; ++j) a += w[j] * now[j], r += u[j] * last[j];
          from_x[g] = a, from_h[g] = r;
        }
        double &cell = c[at((t + 1) * H + k)], &state = h[at((t + 1) * H + k)];
        if (lstm) {
          for (Index g = 0; g < 4; ++g) slot[g] = g == 2 ? std::tanh(from_x[g] + from_h[g]) : sigmoid_of(from_x[g] + from_h[g]);
          cell = slot[1] * c[at(t * H + k)] + slot[0] * slot[2];
          state = slot[3] * std::tanh(cell);
        } else {
          slot[0] = sigmoid_of(from_x[0] + from_h[0]), slot[1] = sigmoid_of(from_x[1] + from_h[1]);
          slot[2] = std::tanh(from_x[2] + slot[0] * from_h[2]), slot[3] = from_h[2];
          state = (1 - slot[1]) * slot[2] + slot[1] * last[k];
        }
        out[t * H + k] = state;
      }
    }
    Values dh(at(H), 0), dc(at(H), 0), before(at(H));
    for (Index t = T - 1; t >= 0; --t) {
      std::fill(before.begin(), before.end(), 0);
      for (Index k = 0; k < H; ++k) {
        const double* slot = &gates[at((t * H + k) * 4)];
        const double up = dy[t * H + k] + dh[at(k)];
        double through_x[4], through_h[4];
        if (lstm) {
          const double tanh_c = std::tanh(c[at((t + 1) * H + k)]), all = dc[at(k)] + up * slot[3] * (1 - tanh_c * tanh_c);
          through_x[0] = all * slot[2] * slot[0] * (1 - slot[0]), through_x[1] = all * c[at(t * H + k)] * slot[1] * (1 - slot[1]);
          through_x[2] = all * slot[0] * (1 - slot[2] * slot[2]), through_x[3] = up * tanh_c * slot[3] * (1 - slot[3]);
          std::copy(through_x, through_x + 4, through_h);
          dc[at(k)] = all * slot[1];
        } else {
          const double dn = up * (1 - slot[1]) * (1 - slot[2] * slot[2]);
          through_x[0] = dn * slot[3] * slot[0] * (1 - slot[0]);
          through_x[1] = up * (h[at(t * H + k)] - slot[2]) * slot[1] * (1 - slot[1]);
          through_x[2] = dn, std::copy(through_x, through_x + 3, through_h), through_h[2] = dn * slot[0];
          before[at(k)] += up * slot[1];
        }
        for (Index g = 0; g < G; ++g) {
          const Index row = g * H + k;
          gradients["bias_ih_l0"][at(row)] += through_x[g], gradients["bias_hh_l0"][at(row)] += through_h[g];
          double *to_W = &gradients["weight_ih_l0"][at(row * H)], *to_U = &gradients["weight_hh_l0"][at(row * H)];
          const double *w = &W[at(row * H)], *u = &U[at(row * H)], *now = x + t * H, *last = &h[at(t * H)];
          double* to_x = in_gradient + t * H;
          for (Index j = 0; j < H; ++j) {
            to_W[j] += through_x[g] * now[j], to_U[j] += through_h[g] * last[j];
            to_x[j] += through_x[g] * w[j], before[at(j)] += through_h[g] * u[j];
          }
        }
      }
      dh = before;
    }
    if (gradients.contains("h0_l0"))
      for (Index k = 0; k < H; ++k) gradients["h0_l0"][at(k)] += dh[at(k)];
    if (gradients.contains("c0_l0"))
      for (Index k = 0; k < H; ++k) gradients["c0_l0"][at(k)] += dc[at(k)];
  }
};

void check(const char* cell, const Shape& s, bool learned) {
  SCOPED_TRACE(testing::Message() << cell << " B " << s.B << " T " << s.T << " H " << s.H << (learned ? ", learned start" : ""));
  OpCase c;
  c.B = s.B, c.T = s.T, c.D = s.H, c.l_max = s.T;
  c.inputs = {shaped({s.B, s.T, s.H})};
  RnnOptions o;
  o.cell = cell, o.learn_start = learned;
  c.build = [=](Net& n, const std::vector<Tensor>& x) { return rnn(n, x[0], o); };
  Probe probe(test_device().exec(), c);
  if (learned)
    for (const char* name : {"h0_l0", "c0_l0"})
      if (name[0] == 'h' || o.cell == "lstm") probe.params().set(name, test_values(name, s.H, 0.5));
  const Values x = test_values("input0", s.B * s.T * s.H), dy = test_values("dy", s.B * s.T * s.H);
  const Values y = probe.forward({x}), dx = probe.backward(dy)[0];
  Plain plain(o.cell == "lstm", s, probe.params(), learned);
  plain.run(x, dy);
  const double tolerance = kDouble ? 1e-10 : 2e-5;
  EXPECT_LT(relative_error(y, plain.y), tolerance) << "y";
  EXPECT_LT(relative_error(dx, plain.dx), tolerance) << "dx";
  std::map<std::string, Values> first;
  for (const auto& [name, gradient] : plain.gradients)
    EXPECT_LT(relative_error(first[name] = probe.params().get_grad(name), gradient), tolerance) << "gradient of " << name;
  EXPECT_EQ(y, probe.forward({x})) << "two runs differ";
  EXPECT_EQ(dx, probe.backward(dy)[0]) << "two backward passes differ";
  for (const auto& [name, gradient] : first) EXPECT_EQ(gradient, probe.params().get_grad(name)) << "two gradients differ: " << name;
}

TEST(WideRnn, AgainstPlainLoops) {
  for (const char* cell : {"lstm", "gru"}) {
    bool learned = false;
    for (const Shape& s :
         {Shape{1, 1, 129}, Shape{1, 1, 130}, Shape{3, 5, 130}, Shape{9, 2, 132}, Shape{8, 33, 136}, Shape{70, 3, 256}, Shape{17, 3, 300}})
      check(cell, s, learned), learned = !learned;
  }
}
TEST(WideRnn, OfManySequences) {
  check("lstm", {230, 3, 129}, true);
  check("gru", {17, 3, 500}, true);
}
TEST(WideRnn, OfManyUnits) {
  for (const char* cell : {"lstm", "gru"}) check(cell, {8, 3, 512}, true), check(cell, {9, 2, 600}, true), check(cell, {2, 3, 1024}, false);
  check("lstm", {1, 2, 1025}, false);
}

// So many positions that the sums of gradients are cut: that of the GRU's last gate into more parts than those of all gates together.
TEST(WideRnn, GradientsOfManyPositions) {
  OpCase c;
  c.B = c.T = kEmulated ? 24 : 128, c.D = 256, c.l_max = c.T;
  c.inputs = {shaped({c.B, c.T, c.D})};
  RnnOptions o;
  o.cell = "gru";
  c.build = [=](Net& n, const std::vector<Tensor>& x) { return rnn(n, x[0], o); };
  Probe probe(test_device().exec(), c);
  probe.forward({test_values("input0", c.inputs[0].size())});
  const Values dx = probe.backward(test_values("dy", c.inputs[0].size()))[0];
  for (const double v : dx) ASSERT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace ssm
