// hyena_filter_kernels.hpp - the dense layers of hyena_filter.cpp with neighbouring steps in the lanes, for a CPU, and what every form is told.
#pragma once
#include "launch.hpp"
#include "math.hpp"
#include "sine_cosine.hpp"

namespace ssm::hyena_filter_op {

constexpr int kLayers = 3;
constexpr int kMost = 128;              // units of a layer
constexpr int kRows = kOnHost ? 4 : 1;  // units that one pass over the layer below makes

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
          const SineCosine<Wide> v = sine_cosine(static_cast<Wide>(freq[j]) * pre[at + l]);
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
