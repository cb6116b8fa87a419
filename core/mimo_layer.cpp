#include "mimo_layer.hpp"

#include <cmath>
#include <memory>
#include <numbers>

namespace ssm {

namespace {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

constexpr double kCutDeviation = 0.87962566103423978;  // of a standard normal cut at +-2

double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); }

}  // namespace

double truncated_normal(const Draw& draw, Index i) {
  constexpr Index kFar = Index{1} << 40;  // further draws of one entry lie beyond all entries
  double z = draw.normal(i);
  for (Index k = 1; std::abs(z) > 2; ++k) z = draw.normal(i + k * kFar);
  return z / kCutDeviation;
}

Init lecun_normal(Index fan_in) {
  const double deviation = 1 / std::sqrt(static_cast<double>(fan_in));
  return [deviation](const Draw& draw, Index i) { return deviation * truncated_normal(draw, i); };
}

Init whole(std::function<std::vector<double>(const Draw&)> make) {
  struct Made {
    std::uint64_t seed = 0, stream = 0;
    std::vector<double> entries;
  };
  return [make = std::move(make), made = std::make_shared<Made>()](const Draw& draw, Index i) {
    if (made->entries.empty() || made->seed != draw.seed || made->stream != draw.stream) *made = {draw.seed, draw.stream, make(draw)};
    return made->entries[at(i)];
  };
}

Tensor gelu_gate(Net& n, Tensor y, const std::string& kind) {
  const Index H = y.D();
  const Tensor x = activation(n, y, "gelu_tanh");
  if (kind == "gelu") return x;
  LinearOptions o;
  o.weight = lecun_normal(H);
  o.bias_init = init::constant(0);
  const Tensor gate = linear(n, x, H, "out2", o);
  return sigmoid_gate(n, kind == "half_glu2" ? y : kind == "full_glu" ? linear(n, x, H, "out1", o) : x, gate);
}

void mimo_reference(Case& c, const MimoLoops& m, const std::string& gate) {
  const Index H = c.D, p = static_cast<Index>(m.lambda.size());
  std::vector<double> y(c.x.size());
  for (Index b = 0; b < c.B; ++b)
    for (std::size_t direction = 0; direction < m.C.size(); ++direction) {
      std::vector<Cx> state(at(p));
      for (Index k = 0; k < c.T; ++k) {
        const Index row = b * c.T + (direction ? c.T - 1 - k : k);
        for (Index n = 0; n < p; ++n) {
          Cx in = 0;
          for (Index h = 0; h < H; ++h) in += m.B[at(n * H + h)] * c.x[at(row * H + h)];
          const auto [next, gain] = m.at_gap ? m.at_gap(n, c.gap(b, row - b * c.T)) : std::pair<Cx, Cx>{m.lambda[at(n)], 1};
          state[at(n)] = next * state[at(n)] + gain * in;
        }
        for (Index h = 0; h < H; ++h) {
          Cx sum = 0;
          for (Index n = 0; n < p; ++n) sum += m.C[direction][at(h * p + n)] * state[at(n)];
          y[at(row * H + h)] += m.scale * sum.real() + (direction ? 0 : c.p("D")[at(h)] * c.x[at(row * H + h)]);
        }
      }
    }
  gelu_gate_reference(c, y, gate);
}

void gelu_gate_reference(Case& c, const std::vector<double>& y, const std::string& gate) {
  const Index H = c.D;
  std::vector<double> x(at(H)), value(at(H)), logit(at(H));
  for (Index row = 0; row < c.B * c.T; ++row) {
    const double* from = y.data() + row * H;
    double* to = c.y.data() + row * H;
    for (Index h = 0; h < H; ++h) x[at(h)] = to[h] = gelu_tanh(from[h]);
    if (gate == "gelu") continue;
    value = x;
    if (gate == "half_glu2") value.assign(from, from + H);
    if (gate == "full_glu") dense_row(x.data(), H, c.p("out1.weight"), &c.p("out1.bias"), value.data());
    dense_row(x.data(), H, c.p("out2.weight"), &c.p("out2.bias"), logit.data());
    for (Index h = 0; h < H; ++h) to[h] = value[at(h)] / (1 + std::exp(-logit[at(h)]));
  }
}

}  // namespace ssm
