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
#include "lib/rows.hpp"
#include "ops/filters.hpp"
#include "ops/hyena_filter_gpu.hpp"

namespace ssm::hyena_filter_op {

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
    const Group slow{"hyena_filter", 1, o.lr_filter, o.decay};
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
    const double most = std::log(1e-2) / o.fast, least = std::log(1e-2) / o.slow;
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
    run_layers("ssm::hyena_layers", r, layers);
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
    run_layers("ssm::hyena_layers_backward", r, layers);
    product(r, C, dh, v(last), true, units, out_W, nullptr);
    for (int k = 0; k < kLayers; ++k) {
      const Real* below = k ? v(sines) + (k - 1) * units * taps : v(z);
      product(r, units, v(g_) + k * units * taps, below, k > 0, k ? units : o.emb, W[k], d(b[k]));
    }
    const Real* from = v(moved);
    Real* dfreq = d(freq);
    const Index count = units;
#if defined(SSM_GPU_CODE)
    launch_rows(
        "ssm::hyena_dfreq", r, units, KOKKOS_LAMBDA(const Row& row, const Index j) {
          Wide sum = 0;
          for (Index k = 0; k < kLayers; ++k)
            sum += row.sum<Wide>(width, [&](const Index i) { return static_cast<Wide>(from[(k * count + j) * width + i]); });
          row.once([&] { dfreq[j] += static_cast<Real>(sum); });
        });
#else
    launch(
        "ssm::hyena_dfreq", r, units, KOKKOS_LAMBDA(const Index j) {
          Wide sum = 0;
          for (int k = 0; k < kLayers; ++k)
            for (Index i = 0; i < width; ++i) sum += static_cast<Wide>(from[(k * count + j) * width + i]);
          dfreq[j] += static_cast<Real>(sum);
        });
#endif
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
    gemm_sum(r, to, row_sum, room(sums));
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
