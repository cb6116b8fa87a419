// hyena.cpp - gated long convolutions whose kernels are functions of time (Hyena: Poli et al. 2023).
//
//   [x_0; ..; x_{n-1}; v] = shortconv(W_in u + b)     for x = x_{n-1}, .., x_1:  v <- h * (v x) + bias (v x)     y = W_out act(v x_0) + b
//   h_t = MLP(z_t) (e^{-t |delta|} + shift), an MLP of sines over features of t: ops/filters.hpp
//
// u, y (B,T,D)    x, v (B,D,T)    order n: n - 1 long convolutions of D channels; filter channel o D + d belongs to convolution o.
// in_proj ((n+1)D, D)  short_filter ((n+1)D,1,3)  filter_fn.*  out_proj (D,D)
// There is no constant state: a stream keeps the last l_max inputs of every convolution, and a step costs O(l_max) per channel.
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "ops/filters.hpp"
#include "variant.hpp"

namespace ssm::hyena {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

struct Hyena final : Variant {
  int order = 2, emb_dim = 5, filter_width = 64, short_conv = 3;
  double freq = 10, shift = 0, lr_filter = 1e-3, lr_z = 1e-5;
  std::string filter = "implicit", gates = "all", act = "id", view = "conv";
  bool window = true;

  std::string about() const override {
    return "Hyena: gated long convolutions with implicit kernels (Poli 2023); streams keep l_max inputs";
  }
  void knobs(Knobs& k) override {
    k("order", order, {2, 3}).range(2, 8).note("n: n - 1 long convolutions, n gates", "WikiText-103: paper's order 3 equals a transformer");
    k("filter", filter, {"implicit", "explicit"})
        .note("kernels from an MLP over time, or one parameter per tap", "implicit keeps recall at long T");
    k("freq", freq, {1, 10, 14}).range(1e-3, 1000).note("initial frequency of the sines", "synthetics 10, Pile 14; larger is rougher");
    k("emb_dim", emb_dim, {3, 5, 33}).range(3, 127).note("features of time, odd", "3 is degenerate: only t varies");
    k("filter_width", filter_width, {16, 64}).range(1, 128).note("units of the MLP");
    k("window", window).note("kernels decay, at a rate of their channel");
    k("shift", shift, {0, 0.05}).range(0, 10).note("what the window does not take away");
    k("short_conv", short_conv, {0, 3, 5}).range(0, 16).note("width of the short convolution, 0: none");
    k("gates", gates, {"all", "last", "none"}).note("which products there are");
    k("act", act, {"id", "gelu", "silu"}).note("activation before the output");
    k("lr_filter", lr_filter, {1e-3, 1})
        .range(0, 1000)
        .note("largest learning rate of the filter; it never decays", "Pile: that of the rest");
    k("lr_z", lr_z, {1e-5, 0}).range(0, 1000).note("the same of its features of time, 0: fixed");
    k.view("view", view, {"conv", "direct", "library"});
  }
  Block block() const override { return {"layer", "pre", 2}; }

  // Parts of the input projection: gates in use, then v.
  Index parts() const { return gates == "all" ? order + 1 : gates == "last" ? 2 : 1; }

  std::vector<Tensor> kernels(Net& n, Index D) const {
    const auto scope = n.scope("filter_fn");
    if (filter == "implicit") {
      HyenaFilterOptions o;
      o.d = D, o.filters = order - 1, o.emb = emb_dim, o.width = filter_width;
      o.freq = freq, o.shift = shift, o.window = window, o.lr_filter = lr_filter, o.lr_z = lr_z;
      return hyena_filter(n, o);
    }
    LongKernelOptions o;
    o.length = n.l_max;
    o.init = init::normal(1 / std::sqrt(static_cast<double>(D * n.l_max)));
    o.group = {"hyena_filter", 1, lr_filter, false};
    std::vector<Tensor> out;
    for (int k = 0; k + 1 < order; ++k) out.push_back(long_kernel(n, D, "kernel" + std::to_string(k), o));
    return out;
  }

  Tensor build(Net& n, Tensor u) override {
    if (emb_dim % 2 == 0)
      throw BadInput("hyena.emb_dim is " + std::to_string(emb_dim) + "; it must be odd: time, and a cosine and a sine per band");
    const Index D = u.D();
    const std::vector<Tensor> K = kernels(n, D);
    Tensor x = linear(n, n.as(u, Order::BTD), parts() * D, "in_proj");
    if (short_conv) x = causal_conv(n, x, short_conv, "short_filter", "id");
    const std::vector<Tensor> part = split_channels(n, x, std::vector<Index>(at(parts()), D));
    Tensor v = part.back();
    for (int k = 0; k + 1 < order; ++k) {
      if (gates == "all") v = multiply(n, v, part[at(order - 1 - k)]);
      v = long_conv(n, v, K[at(k)], {}, view);
    }
    if (gates != "none") v = multiply(n, v, part[0]);
    if (act != "id") v = activation(n, v, act);
    return linear(n, v, D, "out_proj");
  }

  // Kernel tap t of channel d of convolution o, bias included.
  double tap(const Case& c, Index o, Index d, Index t) const {
    const Index row = o * c.D + d, w = filter_width;
    if (filter == "explicit") return c.p("filter_fn.kernel" + std::to_string(o))[at(d * c.l_max + t)];
    const double* z = &c.p("filter_fn.pos_emb.z")[at(t * emb_dim)];
    std::vector<double> s(z, z + emb_dim), next(at(w));
    for (const char* place : {"0", "2", "4"}) {
      const std::string name = std::string("filter_fn.implicit_filter.") + place;
      dense_row(s.data(), static_cast<Index>(s.size()), c.p(name + ".weight"), &c.p(name + ".bias"), next.data());
      s = next;
      for (Index j = 0; j < w; ++j) s[at(j)] = std::sin(c.p("filter_fn.implicit_filter.1.freq")[at(j)] * s[at(j)]);
    }
    double h = 0;
    for (Index j = 0; j < w; ++j) h += c.p("filter_fn.implicit_filter.6.weight")[at(row * w + j)] * s[at(j)];
    const double decay = std::exp(-c.p("filter_fn.pos_emb.t")[at(t)] * std::abs(c.p("filter_fn.modulation.deltas")[at(row)])) + shift;
    return h * (window ? decay : 1) + (t ? 0 : c.p("filter_fn.bias")[at(row)]);
  }

  void reference(Case& c) const override {
    const Index D = c.D, C = parts() * D, w = short_conv, taps = std::min(c.T, c.l_max);
    std::vector<double> K;
    for (Index o = 0; o + 1 < order; ++o)
      for (Index d = 0; d < D; ++d)
        for (Index t = 0; t < taps; ++t) K.push_back(tap(c, o, d, t));
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
