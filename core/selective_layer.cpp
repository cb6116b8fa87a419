#include "selective_layer.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <stdexcept>

#include "ops/complex_selective_scan.hpp"
#include "ops/gaps.hpp"
#include "ops/starts.hpp"
#include "plain_heads.hpp"

namespace ssm {

namespace {

Init step_init(double dt_min, double dt_max) {
  const double low = std::log(dt_min), high = std::log(dt_max);
  return [=](const Draw& draw, Index i) {
    const double dt = std::max(std::exp(draw.uniform(i, low, high)), 1e-4);
    return dt + std::log(-std::expm1(-dt));  // softplus^-1
  };
}

Init counted(Index N) {
  return [N](const Draw&, Index i) { return std::log(static_cast<double>(i % N + 1)); };
}

// Numbers of B_t, and of C_t.
Index numbers(const SelectiveOptions& o) { return o.complex ? 2 * o.d_state : o.d_state; }

}  // namespace

Tensor selective_layer(Net& n, Tensor u, Tensor z, const SelectiveOptions& o, Tensor gaps, Tensor starts) {
  if ((gaps.id >= 0 || starts.id >= 0) && u.B() != n.B)
    throw std::logic_error("selective_layer: gaps and starts are those of the batch's sequences");
  SelectiveScanInputs in;
  in.u = u, in.z = z;
  std::vector<Index> sizes;
  if (o.delta) sizes.push_back(o.rank);
  if (o.B) sizes.push_back(numbers(o));
  if (o.C) sizes.push_back(numbers(o));
  if (!sizes.empty()) {
    const auto parts = linear_split(n, u, sizes, "x_proj");
    auto part = parts.begin();
    if (o.delta) {
      const double bound = o.dt_scale / std::sqrt(static_cast<double>(o.rank));
      const Init weight = init::uniform(-bound, bound);
      if (n.mode == Mode::stream && gaps.id < 0 && !o.complex) {  // the scan makes it itself
        in.low = *part++, in.to_raw = n.param("dt_proj.weight", {u.last(), o.rank}, weight);
      } else {
        LinearOptions to_step;
        to_step.bias = false;
        to_step.weight = weight;
        in.raw = linear(n, *part++, u.last(), "dt_proj", to_step);
      }
    }
    if (o.B) in.B = *part++;
    if (o.C) in.C = *part++;
  }
  ComplexScanOptions s;
  s.d_state = o.d_state;
  s.A_log_init = o.A_log ? o.A_log : o.complex ? init::constant(std::log(0.5)) : counted(o.d_state);
  s.A_imag_init = [N = o.d_state](const Draw&, Index i) { return static_cast<double>(i % N); };
  s.bias_init = step_init(o.dt_min, o.dt_max);
  s.B_init = o.complex ? Init([](const Draw&, Index i) { return i % 2 ? 0.0 : 1.0; }) : init::constant(1);
  s.C_init = init::normal(o.complex ? std::sqrt(0.5) : 1);
  if (gaps.id >= 0) in.raw = stretch_steps(n, in.raw, gaps, u.last(), s.bias_name, s.bias_init);
  return o.complex ? complex_selective_scan(n, in, s, starts) : selective_scan(n, in, s, starts);
}

std::vector<double> plain_selective(const Case& c, Index b, const std::vector<double>& u, const SelectiveOptions& o) {
  using Cx = std::complex<double>;
  const Index E = static_cast<Index>(u.size()) / c.T, N = o.d_state, wide = numbers(o), R = o.delta ? o.rank : 0;
  std::vector<double> parts(R + (o.B ? wide : 0) + (o.C ? wide : 0)), y(u.size());
  std::vector<Cx> state(E * N);
  const double *Bt = parts.data() + R, *Ct = Bt + (o.B ? wide : 0);
  const auto number = [&o](const double* from, Index i) { return o.complex ? Cx(from[2 * i], from[2 * i + 1]) : Cx(from[i]); };
  for (Index t = 0; t < c.T; ++t) {
    const double* now = u.data() + t * E;
    if (!parts.empty()) dense_row(now, E, c.p("x_proj.weight"), nullptr, parts.data());
    for (Index e = 0; e < E; ++e) {
      double raw = c.p("dt_proj.bias")[e], sum = c.p("D")[e] * now[e];
      for (Index k = 0; k < R; ++k) raw += c.p("dt_proj.weight")[e * R + k] * parts[k];
      const double delta = c.gap(b, t) * plain_softplus(raw);
      for (Index k = 0; k < N; ++k) {
        const Index i = e * N + k;
        const Cx A(-std::exp(c.p("A_log")[i]), o.complex ? c.p("A_imag")[i] : 0);
        state[i] = std::exp(delta * A) * state[i] + delta * now[e] * (o.B ? number(Bt, k) : number(c.p("B").data(), i));
        sum += (o.complex ? 2 : 1) * (state[i] * (o.C ? number(Ct, k) : number(c.p("C").data(), i))).real();
      }
      y[t * E + e] = sum;
    }
  }
  return y;
}

}  // namespace ssm
