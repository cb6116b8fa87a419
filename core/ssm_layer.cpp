#include "ssm_layer.hpp"

#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "ops/filters.hpp"

namespace ssm {

namespace {

using Cx = std::complex<double>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Entries of a complex array (.., M), repeated over leading extents, as pairs or as real parts alone.
Init repeated(const std::vector<Cx>& values, bool real) {
  return [=](const Draw&, Index i) {
    const Index m = static_cast<Index>(values.size());
    if (real) return values[at(i % m)].real();
    const Cx v = values[at(i / 2 % m)];
    return i % 2 ? v.imag() : v.real();
  };
}

}  // namespace

SsmParams declare_ssm(Net& n, Index H, const SsmOptions& o, const std::string& variant) {
  SsmParams p;
  p.H = H;
  p.M = static_cast<Index>(o.lambda.size());
  p.S = o.n_ssm == 0 ? H : o.n_ssm;
  if (p.S > H || H % p.S) {
    throw BadInput(variant + ".n_ssm is " + std::to_string(o.n_ssm) + ", which does not divide the " + std::to_string(H) +
                   " channels; nearest allowed: " + std::to_string(p.S > H ? H : 1) + " (0 means one set per channel)");
  }
  p.kernels = o.bidirectional ? 2 : 1;
  p.real = o.real;
  p.softplus = o.dt_transform == "softplus";
  p.train_B = o.train_B;
  p.disc = o.disc;
  p.length = n.l_max;
  p.train_decay = o.decay != "fixed";
  if (p.train_decay) p.decay = o.decay;
  p.steps = o.dt_tie ? 1 : p.M;
  p.rank = static_cast<Index>(o.P.size()) / p.M;

  const double lo = std::log(o.dt_min), hi = std::log(o.dt_max);
  const bool softplus = p.softplus;
  const Init step = [=](const Draw& draw, Index i) {
    const double log_dt = draw.uniform(i, lo, hi);
    return softplus ? std::log(std::expm1(std::exp(log_dt))) : log_dt;
  };
  std::vector<double> re, im;
  for (const Cx& l : o.lambda) {
    const double rate = std::max(-l.real(), 1e-4);
    re.push_back(p.decay == "exp" ? std::log(rate) : p.decay == "relu" ? rate - 1e-4 : rate);
    im.push_back(std::max(std::abs(l.imag()), 1e-4));
  }
  const auto tiled = [](const std::vector<double>& v) -> Init {
    return [v](const Draw&, Index i) { return v[at(i % static_cast<Index>(v.size()))]; };
  };
  const std::vector<Cx> B = o.B.empty() ? std::vector<Cx>(at(p.M), 1) : o.B;
  const Index parts = p.real ? 1 : 2;
  p.inv_dt = n.param("kernel.inv_dt", {H, p.steps}, step, ssm_group());
  p.A_real = n.param("kernel.A_real", {p.S, p.M}, tiled(re), ssm_group(), p.train_decay);
  if (!p.real) p.A_imag = n.param("kernel.A_imag", {p.S, p.M}, o.A_imag ? o.A_imag : tiled(im), ssm_group());
  p.B = n.param("kernel.B", {1, p.S, p.M, parts}, repeated(B, p.real), ssm_group(), p.train_B);
  p.C = n.param("kernel.C", {p.kernels, H, p.M, parts}, init::normal(p.real ? 1 : std::sqrt(0.5)));
  if (p.rank) {
    const Index S = p.S, M = p.M;
    const auto entries = [=, P = o.P](double sign) -> Init {  // of P, or of Q = P*
      return [=](const Draw&, Index i) {
        const Index k = i / 2, m = k % M, r = k / (M * S);
        return i % 2 ? sign * P[at(r * M + m)].imag() : P[at(r * M + m)].real();
      };
    };
    p.train_P = o.low_rank != "fixed";
    p.P = n.param("kernel.P", {p.rank, S, M, 2}, entries(1), ssm_group(), p.train_P);
    if (o.low_rank == "free") p.Q = n.param("kernel.Q", {p.rank, S, M, 2}, entries(-1), ssm_group());
  }
  return p;
}

Tensor diagonal_system(Net& n, Tensor u, const SsmParams& p, Param D, const std::string& view) {
  if (n.mode == Mode::stream || view == "scan") return diag_scan(n, n.as(u, Order::BTD), p, D);
  return long_conv(n, n.as(u, Order::BDT), s4d_kernel(n, p, u.T()), D, view);
}

Param declare_skip(Net& n, Index H) { return n.param("D", {1, H}, init::normal(1)); }

Tensor ssm_output(Net& n, Tensor y, bool gated, Index H) {
  if (H == 0) H = y.D();
  const Tensor z = linear(n, activation(n, y, "gelu"), gated ? 2 * H : H, "output_linear");
  return gated ? glu(n, z) : z;
}

void ssm_output_reference(Case& c, const std::vector<double>& y, bool gated) {
  const Index H = c.D, out = gated ? 2 * H : H, in = static_cast<Index>(y.size()) / (c.B * c.T);
  std::vector<double> a(at(in)), z(at(out));
  c.y.resize(at(c.B * c.T * H));
  for (Index row = 0; row < c.B * c.T; ++row) {
    for (Index h = 0; h < in; ++h) {
      const double v = y[at(row * in + h)];
      a[at(h)] = 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
    }
    dense_row(a.data(), in, c.p("output_linear.weight"), &c.p("output_linear.bias"), z.data());
    for (Index h = 0; h < H; ++h) c.y[at(row * H + h)] = gated ? z[at(h)] / (1 + std::exp(-z[at(H + h)])) : z[at(h)];
  }
}

double SsmReader::delta(Index h, Index n) const {
  const auto& steps = c.p("kernel.inv_dt");
  const double raw = steps[at(static_cast<Index>(steps.size()) == H ? h : h * M + n)];
  return softplus ? std::log1p(std::exp(raw)) : std::exp(raw);
}
Cx SsmReader::a(Index h, Index n) const {
  const Index i = h % S * M + n;
  const double raw = c.p("kernel.A_real")[at(i)];
  const double re = decay == "relu" ? -std::max(raw, 0.0) - 1e-4 : decay == "none" ? -raw : -std::exp(raw);
  return {re, real ? 0 : -c.p("kernel.A_imag")[at(i)]};
}
Cx SsmReader::b(Index h, Index n) const {
  const auto& v = c.p("kernel.B");
  const Index i = h % S * M + n;
  return real ? Cx(v[at(i)]) : Cx(v[at(2 * i)], v[at(2 * i + 1)]);
}
Cx SsmReader::p(Index rank, Index h, Index n, const char* name) const {
  const auto& v = c.p(name);
  const Index i = (rank * S + h % S) * M + n;
  return {v[at(2 * i)], v[at(2 * i + 1)]};
}
Cx SsmReader::out(Index kernel, Index h, Index n) const {
  const auto& v = c.p("kernel.C");
  const Index i = (kernel * H + h) * M + n;
  return real ? Cx(v[at(i)]) : Cx(v[at(2 * i)], v[at(2 * i + 1)]);
}

}  // namespace ssm
