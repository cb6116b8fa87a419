// hyena_filter_kernels.hpp - the dense layers of hyena_filter.cpp with neighbouring steps in the lanes, for a CPU, and what every form is told.
#pragma once
#include "launch.hpp"
#include "math.hpp"

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

}  // namespace ssm::hyena_filter_op
