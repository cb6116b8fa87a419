// hyena.cpp - gated long convolutions whose kernels are functions of time (Hyena: Poli et al. 2023).
//
//   [x_0; ..; x_{n-1}; v] = shortconv(W_in u + b)     for x = x_{n-1}, .., x_1:  v <- h * (v x) + bias (v x)     y = W_out act(v x_0) + b
//   h_t = MLP(z_t) (e^{-t |delta|} + shift), an MLP of sines over features of t: ops/filters.hpp
//
// u, y (B,T,D)    x, v (B,D,T)    order n: n - 1 long convolutions of D channels; filter channel o D + d belongs to convolution o.
// in_proj ((n+1)D, D)  short_filter ((n+1)D,1,3)  filter_fn.*  out_proj (D,D)
// Other filters: explicit, a parameter per tap; fourier and transfer, ops/filters.hpp; ssm, a diagonal state space per channel, with D.
// Only ssm has a constant state: else a stream keeps the last l_max inputs of every convolution, and a step costs O(l_max) per channel.
#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "error.hpp"
#include "hippo.hpp"
#include "ops/filters.hpp"
#include "plain_filters.hpp"
#include "ssm_layer.hpp"

namespace ssm::hyena {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Hyena final : Variant {
  int order = 2, emb_dim = 5, filter_width = 64, filter_size = 64, short_conv = 3;
  double freq = 10, shift = 0, decay_fast = 0.3, decay_slow = 1.5, lr_filter = 1e-3, lr_z = 1e-5;
  std::string filter = "implicit", gates = "all", act = "id", view = "conv";
  bool window = true, wd_filter = false;

  std::string about() const override {
    return "Hyena: gated long convolutions with implicit kernels (Poli 2023); streams keep l_max inputs";
  }
  void knobs(Knobs& k) override {
    k("order", order, {2, 3}).range(2, 8).note("n: n - 1 long convolutions, n gates", "WikiText-103: paper's order 3 equals a transformer");
    k("filter", filter, {"implicit", "explicit", "fourier", "ssm", "transfer"})
        .note("kernels from an MLP over time (CKConv's with window = false), a parameter per tap, Fourier modes, S4D, rational functions",
              "implicit keeps recall at long T");
    k("filter_size", filter_size, {16, 64}).range(1, 4096).note("modes of fourier, states of ssm, coefficients of transfer");
    k("freq", freq, {1, 10, 14}).range(1e-3, 1000).note("initial frequency of the sines", "synthetics 10, Pile 14; larger is rougher");
    k("emb_dim", emb_dim, {3, 5, 33}).range(3, 127).note("features of time, odd", "3 is degenerate: only t varies");
    k("filter_width", filter_width, {16, 64}).range(1, 128).note("units of the MLP");
    k("window", window).note("kernels of the MLP decay, at a rate of their channel");
    k("decay_fast", decay_fast, {0.1, 0.3}).range(1e-3, 1e3).note("share of l_max after which the fastest window is 0.01");
    k("decay_slow", decay_slow, {1.5, 3}).range(1e-3, 1e3).note("the same of the slowest");
    k("shift", shift, {0, 0.05}).range(0, 10).note("what the window does not take away");
    k("short_conv", short_conv, {0, 3, 5}).range(0, 16).note("width of the short convolution, 0: none");
    k("gates", gates, {"all", "last", "none"}).note("which products there are");
    k("act", act, {"id", "gelu", "silu"}).note("activation before the output");
    k("lr_filter", lr_filter, {1e-3, 1}).range(0, 1000).note("largest learning rate of the filter", "Pile: that of the rest");
    k("lr_z", lr_z, {1e-5, 0}).range(0, 1000).note("the same of its features of time, 0: fixed");
    k("wd_filter", wd_filter).note("weight decay of the filter");
    k.view("view", view, {"conv", "direct", "library"});
  }
  Block block() const override { return {"layer", "pre", 2}; }

  // Parts of the input projection: gates in use, then v.
  Index parts() const { return gates == "all" ? order + 1 : gates == "last" ? 2 : 1; }

  // Kernels (D, taps) of all convolutions; none of ssm.
  std::vector<Tensor> kernels(Net& n, Index D) const {
    if (filter == "ssm") return {};
    const auto scope = n.scope("filter_fn");
    if (filter == "implicit") {
      HyenaFilterOptions o;
      o.d = D, o.filters = order - 1, o.emb = emb_dim, o.width = filter_width;
      o.freq = freq, o.shift = shift, o.window = window, o.fast = decay_fast, o.slow = decay_slow;
      o.lr_filter = lr_filter, o.lr_z = lr_z, o.decay = wd_filter;
      return hyena_filter(n, o);
    }
    LongKernelOptions o;
    o.length = n.l_max;
    o.init = init::normal(1 / std::sqrt(static_cast<double>(D * n.l_max)));
    o.group = {"hyena_filter", 1, lr_filter, wd_filter};
    std::vector<Tensor> out;
    for (int k = 0; k + 1 < order; ++k) {
      const std::string name = "kernel" + std::to_string(k);
      if (filter == "explicit") out.push_back(long_kernel(n, D, name, o));
      else if (filter == "fourier") out.push_back(fourier_kernel(n, D, name, modes(n.l_max), o.group));
      else out.push_back(transfer_kernel(n, D, name, filter_size, o.group));
    }
    return out;
  }
  Index modes(Index l_max) const { return std::min<Index>(filter_size, l_max / 2 + 1); }  // more would repeat them

  // Convolution k by states: parameters filter_fn.<k>.kernel.* and .D
  Tensor by_states(Net& n, Tensor v, int k) const {
    const auto scope = n.scope("filter_fn." + std::to_string(k));
    const Index D = v.D();
    SsmOptions o;
    o.n_ssm = 0;
    o.lambda = diagonal_init("lin", filter_size);
    const SsmParams p = declare_ssm(n, D, o, "hyena");
    const Param skip = n.param("D", {D}, init::normal(1));
    return n.as(diagonal_system(n, v, p, skip, view), Order::BDT);
  }

  Tensor build(Net& n, Tensor u) override {
    if (emb_dim % 2 == 0)
      throw BadInput("hyena.emb_dim is " + std::to_string(emb_dim) + "; it must be odd: time, and a cosine and a sine per band");
    if (decay_fast > decay_slow)
      throw BadInput("hyena.decay_fast = " + std::to_string(decay_fast) + " is above hyena.decay_slow = " + std::to_string(decay_slow));
    if (filter == "ssm" && filter_size % 2)
      throw BadInput("hyena.filter_size is " + std::to_string(filter_size) + "; filter = ssm needs an even one: conjugate pairs");
    const Index D = u.D();
    const std::vector<Tensor> K = kernels(n, D);
    const Tensor x = linear(n, n.as(u, Order::BTD), parts() * D, "in_proj");
    const std::vector<Index> sizes(at(parts()), D);
    const bool gated = short_conv && gates == "all";  // the first gate is part of the short convolution
    const std::vector<Tensor> part =
        short_conv ? causal_conv_channels(n, x, short_conv, "short_filter", sizes, gated) : split_channels(n, x, sizes);
    Tensor v = part.back();
    for (int k = 0; k + 1 < order; ++k) {
      if (gates == "all" && !(gated && k == 0)) v = multiply(n, v, part[at(order - 1 - k)]);
      v = K.empty() ? by_states(n, v, k) : long_conv(n, v, K[at(k)], {}, view);
    }
    if (gates != "none") v = multiply(n, v, part[0]);
    if (act != "id") v = activation(n, v, act);
    return linear(n, v, D, "out_proj");
  }

  // The first taps of the impulse response of convolution o, channel d, a state space with skip.
  std::vector<double> of_states(const Case& c, Index o, Index d, Index taps) const {
    Case own;
    const std::string place = "filter_fn." + std::to_string(o) + ".";
    for (const auto& [name, values] : c.params)
      if (name.starts_with(place)) own.params[name.substr(place.size())] = values;
    const SsmReader r{own, c.D, filter_size / 2, c.D, false, false};
    std::vector<double> K(at(taps));
    K[0] = own.p("D")[at(d)];
    for (Index m = 0; m < r.M; ++m) {
      const std::complex<double> a = r.a(d, m), step = std::exp(r.delta(d) * a);
      std::complex<double> state = 2.0 * r.out(0, d, m) * r.b(d, m) * (step - 1.0) / a;
      for (double& tap : K) tap += state.real(), state *= step;
    }
    return K;
  }

  std::vector<double> taps_of(const Case& c, Index o, Index d, Index taps) const {
    if (filter == "ssm") return of_states(c, o, d, taps);
    const std::string name = "filter_fn.kernel" + std::to_string(o);
    std::vector<double> K(at(taps));
    for (Index t = 0; t < taps; ++t) {
      if (filter == "implicit") K[at(t)] = plain_hyena_tap(c, "filter_fn", o * c.D + d, t, window, shift);
      if (filter == "explicit") K[at(t)] = c.p(name)[at(d * c.l_max + t)];
      if (filter == "transfer") {
        const double *up = &c.p(name + ".numerator")[at(d * filter_size)], *down = &c.p(name + ".denominator")[at(d * filter_size)];
        if (t < filter_size) K[at(t)] = up[t];
        for (Index k = 1; k <= std::min<Index>(t, filter_size); ++k) K[at(t)] -= down[k - 1] * K[at(t - k)];
      }
      for (Index m = 0; filter == "fourier" && m < modes(c.l_max); ++m) {
        const double* z = &c.p(name)[at((d * modes(c.l_max) + m) * 2)];
        const double angle = 2 * std::numbers::pi * static_cast<double>(m * t) / static_cast<double>(c.l_max);
        K[at(t)] += z[0] * std::cos(angle) - z[1] * std::sin(angle);
      }
    }
    return K;
  }

  void reference(Case& c) const override {
    const Index D = c.D, C = parts() * D, w = short_conv, taps = filter == "ssm" ? c.T : std::min(c.T, c.l_max);
    std::vector<double> K;
    for (Index o = 0; o + 1 < order; ++o)
      for (Index d = 0; d < D; ++d)
        for (const double tap : taps_of(c, o, d, taps)) K.push_back(tap);
    for (Index b = 0; b < c.B; ++b) {
      std::vector<double> raw(at(c.T * C)), x(at(c.T * C)), v(at(c.T)), y(at(c.T * D));
      for (Index t = 0; t < c.T; ++t)
        dense_row(&c.x[at((b * c.T + t) * D)], D, c.p("in_proj.weight"), &c.p("in_proj.bias"), &raw[at(t * C)]);
      for (Index t = 0; t < c.T; ++t)
        for (Index k = 0; k < C; ++k) {
          double sum = w ? c.p("short_filter.bias")[at(k)] : raw[at(t * C + k)];
          for (Index j = std::max<Index>(0, w - 1 - t); j < w; ++j)
            sum += c.p("short_filter.weight")[at(k * w + j)] * raw[at((t - w + 1 + j) * C + k)];
          x[at(t * C + k)] = sum;
        }
      for (Index d = 0; d < D; ++d) {
        for (Index t = 0; t < c.T; ++t) v[at(t)] = x[at(t * C + C - D + d)];
        for (Index o = 0; o + 1 < order; ++o) {
          for (Index t = 0; gates == "all" && t < c.T; ++t) v[at(t)] *= x[at(t * C + (order - 1 - o) * D + d)];
          for (Index t = c.T - 1; t >= 0; --t) {
            double sum = 0;
            for (Index q = 0; q <= t && q < taps; ++q) sum += K[at((o * D + d) * taps + q)] * v[at(t - q)];
            v[at(t)] = sum;
          }
        }
        for (Index t = 0; t < c.T; ++t) {
          const double a = v[at(t)] * (gates == "none" ? 1 : x[at(t * C + d)]);
          y[at(t * D + d)] = act == "gelu" ? 0.5 * a * (1 + std::erf(a / std::sqrt(2.0))) : act == "silu" ? a / (1 + std::exp(-a)) : a;
        }
      }
      for (Index t = 0; t < c.T; ++t)
        dense_row(&y[at(t * D)], D, c.p("out_proj.weight"), &c.p("out_proj.bias"), &c.y[at((b * c.T + t) * D)]);
    }
  }
};

SSM_VARIANT(Hyena, "hyena");

}  // namespace ssm::hyena
