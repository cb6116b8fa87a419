// hyena_filter.cpp - the implicit filters of Hyena, made once for the T of a net: no batch in it.
//
//   s_0 = z_t    p_l = W_l s_{l-1} + b_l    s_l = sin(freq * p_l)    h_t = W s_3    K_t = h_t (e^{-t |delta|} + shift)    K_0 += bias
//   tau = ds_l cos(freq * p_l)    dfreq += sum_t tau p_l    g = tau freq    dW_l = sum_t g s_{l-1}^T    db_l = sum_t g
//   ds_{l-1} = W_l^T g
//
// The sines are in Wide: a frequency of 14 in three layers would make 1e-4 of a rounding. Arrays are (layer, unit, t), t fastest.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "ops/filters.hpp"

namespace ssm::hyena_filter_op {

constexpr int kLayers = 3;
constexpr int kMost = 128;              // units of a layer
constexpr int kRows = kOnHost ? 4 : 1;  // units that one pass over the layer below makes

struct SineCosine {
  Wide sine, cosine;
};
// Branch-free on the host, absolute error 2e-16 for |x| < 1e5: x = k pi/2 + r, series in r, and the quarter k modulo 4 in -2..2.
SSM_FN SineCosine sine_cosine(Wide x) {
#if SSM_DEVICE_CODE
  return {::sin(x), ::cos(x)};
#else
  constexpr Wide nearest = 6755399441055744.0;  // adding and taking it away rounds to an integer
  const Wide k = (x * 0.63661977236758134308 + nearest) - nearest, quarter = k - 4 * ((k * 0.25 + nearest) - nearest);
  const Wide r = (x - k * 1.57079632673412561417) - k * 6.07710050650619224932e-11, y = r * r;
  Wide s = 1.0 / 355687428096000, c = 1.0 / 20922789888000;
  s = s * y - 1.0 / 1307674368000;
  s = s * y + 1.0 / 6227020800;
  s = s * y - 1.0 / 39916800;
  s = s * y + 1.0 / 362880;
  s = s * y - 1.0 / 5040;
  s = s * y + 1.0 / 120;
  s = s * y - 1.0 / 6;
  s = s * y * r + r;
  c = c * y - 1.0 / 87178291200;
  c = c * y + 1.0 / 479001600;
  c = c * y - 1.0 / 3628800;
  c = c * y + 1.0 / 40320;
  c = c * y - 1.0 / 720;
  c = c * y + 1.0 / 24;
  c = c * y - 0.5;
  c = c * y + 1;
  const Wide size = quarter < 0 ? -quarter : quarter, sine = size == 1 ? c : s, cosine = size == 1 ? s : c;
  const Wide back = quarter == -1 ? -sine : sine, down = quarter == 1 ? -cosine : cosine;
  return {size == 2 ? -sine : back, size == 2 ? -cosine : down};
#endif
}

struct Layers {
  const Real *z, *freq;
  const Real *W[kLayers], *b[kLayers];
  Wide* pre;   // (layers, units, T)
  Real* last;  // (units, T)
  Index T;
  int emb, units;

  // p = W s + b for units [j, j + kRows).
  template <int W_>
  KOKKOS_FUNCTION void dense(int layer, int width, int j, const Wide (&s)[kMost][W_], Wide (&p)[kMost][W_]) const {
    const Real* w[kRows];
    Wide sum[kRows][W_];
    for (int k = 0; k < kRows; ++k) {
      const int unit = j + k < units ? j + k : units - 1;
      w[k] = W[layer] + unit * width;
      for (int l = 0; l < W_; ++l) sum[k][l] = static_cast<Wide>(b[layer][unit]);
    }
    for (int i = 0; i < width; ++i)
      for (int k = 0; k < kRows; ++k) {
        const Wide x = static_cast<Wide>(w[k][i]);
        for (int l = 0; l < W_; ++l) sum[k][l] += x * s[i][l];
      }
    for (int k = 0; k < kRows && j + k < units; ++k)
      for (int l = 0; l < W_; ++l) p[j + k][l] = sum[k][l];
  }
  template <int W_>
  KOKKOS_FUNCTION void run(Index, Index t0) const {
    Wide s[kMost][W_], p[kMost][W_];
    for (int i = 0; i < emb; ++i)
      for (int l = 0; l < W_; ++l) s[i][l] = static_cast<Wide>(z[(t0 + l) * emb + i]);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int j = 0; j < units; j += kRows) dense<W_>(layer, layer ? units : emb, j, s, p);
      for (int j = 0; j < units; ++j) {
        const Wide f = static_cast<Wide>(freq[j]);
        Wide* to = pre + (layer * units + j) * T + t0;
        for (int l = 0; l < W_; ++l) to[l] = p[j][l];
        for (int l = 0; l < W_; ++l) s[j][l] = sine_cosine(f * p[j][l]).sine;
      }
    }
    for (int j = 0; j < units; ++j)
      for (int l = 0; l < W_; ++l) last[j * T + t0 + l] = static_cast<Real>(s[j][l]);
  }
};

// From ds (units, T) of the last layer: g and the s_l below it for the sums over t, tau p for dfreq, and dz.
struct LayersBackward {
  const Real *freq, *ds;
  const Real* W[kLayers];
  const Wide* pre;
  Real *g, *sines, *moved;  // (layers, units, T) each
  Real* dz;                 // (T, emb), added to; or null
  Index T;
  int emb, units;

  template <int W_>
  KOKKOS_FUNCTION void run(Index, Index t0) const {
    Real grad[2][kMost][W_];
    for (int j = 0; j < units; ++j)
      for (int l = 0; l < W_; ++l) grad[0][j][l] = ds[j * T + t0 + l];
    int from = 0;
    for (int layer = kLayers - 1; layer >= 0; --layer) {
      const int width = layer ? units : emb;
      for (int i = 0; i < width; ++i)
        for (int l = 0; l < W_; ++l) grad[1 - from][i][l] = 0;
      for (int j = 0; j < units; ++j) {
        const Index at = (layer * units + j) * T + t0;
        Real here[W_];
        for (int l = 0; l < W_; ++l) {
          const SineCosine v = sine_cosine(static_cast<Wide>(freq[j]) * pre[at + l]);
          const Real tau = grad[from][j][l] * static_cast<Real>(v.cosine);
          sines[at + l] = static_cast<Real>(v.sine);
          moved[at + l] = tau * static_cast<Real>(pre[at + l]);
          g[at + l] = here[l] = tau * freq[j];
        }
        const Real* w = W[layer] + j * width;
        for (int i = 0; i < width; ++i)
          for (int l = 0; l < W_; ++l) grad[1 - from][i][l] += w[i] * here[l];
      }
      from = 1 - from;
    }
    if (!dz) return;
    for (int i = 0; i < emb; ++i)
      for (int l = 0; l < W_; ++l) dz[(t0 + l) * emb + i] += grad[from][i][l];
  }
};

struct HyenaFilter final : Op {
  HyenaFilterOptions o;
  std::vector<Tensor> kernels;
  Tensor y, pre, last;
  Param z, t, freq, W[kLayers], b[kLayers], out_W, bias, deltas;
  Scratch h, ds, g_, sines, moved, sums;
  Index L, taps, C, units;

  HyenaFilter(Net& net, const HyenaFilterOptions& options)
      : Op(net), o(options), L(n.l_max), taps(n.mode == Mode::stream || n.T > L ? L : n.T), C(o.filters * o.d), units(o.width) {
    if (o.emb > kMost || units > kMost) throw BadInput("a layer of Hyena's filter has at most 128 units");
    const Group slow{"hyena_filter", 1, o.lr_filter, false};
    const double step = 1 / static_cast<double>(L > 1 ? L - 1 : 1), turn = 2 * std::numbers::pi / static_cast<double>(L);
    const Index emb = o.emb, bands = (emb - 1) / 2, all = C;
    const auto feature = [=](const Draw&, Index i) {
      const Index place = i / emb, k = i % emb - 1, band = k % bands;
      const double at = static_cast<double>(place), last_ = static_cast<double>(bands - 1);
      if (k < 0) return at * step;
      const double f = bands > 1 ? 1e-4 + (last_ - 1e-4) * static_cast<double>(band) / last_ : 1e-4;
      return k < bands ? std::cos(f * at * turn) : -std::sin(f * at * turn);
    };
    z = n.param("pos_emb.z", {1, L, emb}, feature, {"hyena_z", 1, o.lr_z, false}, o.lr_z > 0);
    t = buffer("pos_emb.t", {1, L, 1}, [=](const Draw&, Index i) { return static_cast<double>(i) * step; });
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::string name_ = "implicit_filter." + std::to_string(2 * layer);
      const Index in_size = layer ? units : emb;
      W[layer] = param(name_ + ".weight", {units, in_size}, init::torch_linear(in_size), slow);
      b[layer] = param(name_ + ".bias", {units}, init::torch_linear(in_size), slow);
    }
    freq = param("implicit_filter.1.freq", {1, units}, init::constant(o.freq), slow);
    out_W = param("implicit_filter.6.weight", {C, units}, init::torch_linear(units), slow);
    bias = param("bias", {C}, init::normal(1), slow);
    const double most = std::log(1e-2) / 0.3, least = std::log(1e-2) / 1.5;
    deltas = buffer("modulation.deltas", {1, 1, C}, [=](const Draw&, Index i) {
      return all > 1 ? least + (most - least) * static_cast<double>(i) / static_cast<double>(all - 1) : least;
    });
    for (Index k = 0; k < o.filters; ++k)
      kernels.push_back(n.mode == Mode::stream ? table(shaped({o.d, taps})) : out(shaped({o.d, taps}), drop));
    y = kernels[0];
    pre = keep(shaped({kLayers * units * taps, static_cast<Index>(sizeof(Wide) / sizeof(Real))}));
    last = keep(shaped({units, taps}));
    h = scratch(C * taps);
    if (n.mode != Mode::train) return;
    ds = scratch(units * taps);
    for (Scratch* s : {&g_, &sines, &moved}) *s = scratch(kLayers * units * taps);
    sums = scratch(
        std::max({gemm_sum_scratch(units, units, taps, 1), gemm_sum_scratch(units, emb, taps, 1), gemm_sum_scratch(C, units, taps, 1)}));
  }
  const char* name() const override { return "hyena_filter"; }

  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) forward(r);
  }
  void step(const Run&) override {}
  void forward(const Run& r) override {
    Layers layers{v(z), v(freq), {}, {}, reinterpret_cast<Wide*>(v(pre)), v(last), taps, static_cast<int>(o.emb), static_cast<int>(units)};
    for (int k = 0; k < kLayers; ++k) layers.W[k] = v(W[k]), layers.b[k] = v(b[k]);
    launch_lanes("ssm::hyena_layers", r, 1, taps, layers);
    gemm(r, false, false, C, taps, units, 1, v(out_W), units, v(last), taps, 0, v(h), taps);
    const Real *at = v(t), *delta = v(deltas), *first = v(bias), *from = v(h), shift = static_cast<Real>(o.shift);
    const Index width = taps, rows = o.d;
    const bool window = o.window;
    for (std::size_t k = 0; k < kernels.size(); ++k) {
      const Index base = static_cast<Index>(k) * rows;
      Real* to = v(kernels[k]);
      each_row(
          "ssm::hyena_window", r, rows, taps, KOKKOS_LAMBDA(const Index row, const Index i) {
            const Index c = base + row;
            const Real rate = delta[c] < 0 ? delta[c] : -delta[c], factor = window ? fast_exp(at[i] * rate) + shift : Real(1);
            to[row * width + i] = from[c * width + i] * factor + (i == 0 ? first[c] : Real(0));
          });
    }
  }

  void backward(const Run& r) override {
    const Real *at = v(t), *delta = v(deltas), shift = static_cast<Real>(o.shift);
    Real *dh = v(h), *dbias = d(bias);
    const Index width = taps, rows = o.d;
    const bool window = o.window;
    for (std::size_t k = 0; k < kernels.size(); ++k) {
      const Index base = static_cast<Index>(k) * rows;
      const Real* from = d(kernels[k]);
      each_row(
          "ssm::hyena_window_backward", r, rows, taps, KOKKOS_LAMBDA(const Index row, const Index i) {
            const Index c = base + row;
            const Real rate = delta[c] < 0 ? delta[c] : -delta[c], factor = window ? fast_exp(at[i] * rate) + shift : Real(1);
            dh[c * width + i] = from[row * width + i] * factor;
          });
      launch(
          "ssm::hyena_dbias", r, rows, KOKKOS_LAMBDA(const Index row) { dbias[base + row] += from[row * width]; });
    }
    gemm(r, true, false, units, taps, C, 1, v(out_W), units, dh, taps, 0, v(ds), taps);
    LayersBackward layers{v(freq),
                          v(ds),
                          {},
                          reinterpret_cast<const Wide*>(v(pre)),
                          v(g_),
                          v(sines),
                          v(moved),
                          o.lr_z > 0 ? d(z) : nullptr,
                          taps,
                          static_cast<int>(o.emb),
                          static_cast<int>(units)};
    for (int k = 0; k < kLayers; ++k) layers.W[k] = v(W[k]);
    launch_lanes("ssm::hyena_layers_backward", r, 1, taps, layers);
    product(r, C, dh, v(last), true, units, out_W, nullptr);
    for (int k = 0; k < kLayers; ++k) {
      const Real* below = k ? v(sines) + (k - 1) * units * taps : v(z);
      product(r, units, v(g_) + k * units * taps, below, k > 0, k ? units : o.emb, W[k], d(b[k]));
    }
    const Real* from = v(moved);
    Real* dfreq = d(freq);
    const Index count = units;
    launch(
        "ssm::hyena_dfreq", r, units, KOKKOS_LAMBDA(const Index j) {
          Wide sum = 0;
          for (int k = 0; k < kLayers; ++k)
            for (Index i = 0; i < width; ++i) sum += static_cast<Wide>(from[(k * count + j) * width + i]);
          dfreq[j] += static_cast<Real>(sum);
        });
  }
  // dW (M,N) += a (M,T) times the rows of b, stored (N,T) or (T,N); row_sum += sum_t a.
  void product(const Run& r, Index M, const Real* a, const Real* below, bool rows, Index N, Param weight, Real* row_sum) {
    const Gemm to{.tb = rows,
                  .M = M,
                  .N = N,
                  .K = taps,
                  .A = a,
                  .lda = taps,
                  .B = below,
                  .ldb = rows ? taps : N,
                  .beta = 1,
                  .C = d(weight),
                  .ldc = N};
    gemm_sum(r, to, row_sum, v(sums));
  }
  Cost cost() const override {
    const double T = static_cast<double>(taps), w = static_cast<double>(units), all = static_cast<double>(C), real = sizeof(Real);
    const double flops = 2 * T * (w * static_cast<double>(o.emb) + 2 * w * w + w * all), sine = 3 * T * w, bytes = real * T * all;
    return {{flops, sine + T * all, bytes}, {2 * flops, 2 * sine + T * all, bytes}};
  }
};

}  // namespace ssm::hyena_filter_op

namespace ssm {

std::vector<Tensor> hyena_filter(Net& n, const HyenaFilterOptions& options) {
  return n.push(std::make_unique<hyena_filter_op::HyenaFilter>(n, options))->kernels;
}

}  // namespace ssm
