// causal_conv_gpu.hpp - the short causal convolution of 2 to 4 taps on CUDA and HIP: a thread takes one channel over a run of positions, the
// window in registers, 8 positions' loads in flight. Every array is read or written once: 8 bytes an entry forward, 12 backward.
#pragma once
#include "lib/each.hpp"
#include "lib/gpu.hpp"
#include "lib/warp.hpp"
#include "ops/causal_conv_kernels.hpp"

#if defined(SSM_GPU_CODE)
namespace ssm::causal_conv_op {

constexpr int kAhead = 8;  // positions loaded together
static_assert(kRun % kAhead == 0);

// Where item k works: channel c of positions [begin, end) of the sequence whose first entry of that channel is `origin` of x, `out` of y.
struct Place {
  Index row, c, begin, end, origin, out;
  KOKKOS_FUNCTION Place(const Arguments& a, Index k) {
    row = quotient(k, a.D);
    c = k - row * a.D;
    const Index b = quotient(row, a.runs);
    begin = (row - b * a.runs) * a.run;
    end = begin + a.run < a.T ? begin + a.run : a.T;
    origin = b * a.T * a.wide + c;
    out = b * a.T * a.D + c;
  }
};

// x[s] = from[s step] for s < count, 0 above.
KOKKOS_FUNCTION inline void load_run(Real (&x)[kAhead], const Real* from, Index step, Index count) {
  SSM_UNROLL
  for (int s = 0; s < kAhead; ++s) x[s] = s < count ? from[s * step] : Real(0);
}

template <int taps>
struct ForwardHeld {
  Arguments a;

  KOKKOS_FUNCTION void operator()(const Index item) const {
    constexpr int kPast = taps - 1;
    const Place at(a, item);
    Real tap[taps], x[kPast + kAhead];
    const Real bias = a.b[at.c];
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) tap[k] = a.W[at.c * taps + k];
    SSM_UNROLL
    for (int j = 0; j < kPast; ++j) x[j] = at.begin - kPast + j < 0 ? Real(0) : a.x[at.origin + (at.begin - kPast + j) * a.wide];
    for (Index first = at.begin; first < at.end; first += kAhead) {
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s) x[kPast + s] = first + s < at.end ? a.x[at.origin + (first + s) * a.wide] : Real(0);
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s) {
        Real sum = bias;
        SSM_UNROLL
        for (int k = 0; k < taps; ++k) sum += tap[k] * x[s + k];
        if (first + s < at.end) a.y[at.out + (first + s) * a.D] = a.silu ? silu(sum) : sum;
      }
      SSM_UNROLL
      for (int j = 0; j < kPast; ++j) x[j] = x[kAhead + j];
    }
  }
};

// x[j] is position first - kPast + j, g[j] position first + j: dx_t needs g as far ahead as the convolution looks back. up[j], next[j] are dy
// at first + j and at first + kAhead + j.
template <int taps>
struct BackwardHeld {
  static constexpr int kPast = taps - 1;
  Arguments a;

  KOKKOS_FUNCTION void operator()(const Index item) const {
    const Place at(a, item);
    Real tap[taps], dW[taps], db = 0, x[2 * kPast + kAhead], g[kPast + kAhead], up[kAhead], next[kAhead];
    const Real* dy = a.dy + at.out;
    load_run(up, dy + at.begin * a.D, a.D, a.T - at.begin);
    const Real bias = a.b[at.c];
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) tap[k] = a.W[at.c * taps + k], dW[k] = 0;
    SSM_UNROLL
    for (int j = 0; j < 2 * kPast; ++j) {
      const Index t = at.begin - kPast + j;
      x[j] = t < 0 || t >= a.T ? Real(0) : a.x[at.origin + t * a.wide];
    }
    SSM_UNROLL
    for (int j = 0; j < kPast; ++j) g[j] = slope_times(tap, bias, x + j, up[j]);
    for (Index first = at.begin; first < at.end; first += kAhead) {
      load_run(next, dy + (first + kAhead) * a.D, a.D, a.T - first - kAhead);
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s) {
        const Index t = first + kPast + s;
        x[2 * kPast + s] = t < a.T ? a.x[at.origin + t * a.wide] : Real(0);
      }
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s)
        g[kPast + s] = slope_times(tap, bias, x + kPast + s, s + kPast < kAhead ? up[s + kPast] : next[s + kPast - kAhead]);
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s) {
        if (first + s >= at.end) continue;
        Real dx = 0;
        SSM_UNROLL
        for (int k = 0; k < taps; ++k) {
          dW[k] += g[s] * x[s + k];
          dx += tap[k] * g[s + kPast - k];
        }
        db += g[s];
        a.dx(at.origin + (first + s) * a.wide, dx);
      }
      SSM_UNROLL
      for (int j = 0; j < 2 * kPast; ++j) x[j] = x[kAhead + j];
      SSM_UNROLL
      for (int j = 0; j < kPast; ++j) g[j] = g[kAhead + j];
      SSM_UNROLL
      for (int s = 0; s < kAhead; ++s) up[s] = next[s];
    }
    Real* part = a.parts + at.row * a.D * (taps + 1);
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) part[at.c * taps + k] = dW[k];
    part[a.D * taps + at.c] = db;
  }
  // dy times the slope of the activation at bias + sum tap_k window_k
  KOKKOS_FUNCTION Real slope_times(const Real (&tap)[taps], Real bias, const Real* window, Real dy) const {
    if (!a.silu) return dy;
    Real sum = bias;
    SSM_UNROLL
    for (int k = 0; k < taps; ++k) sum += tap[k] * window[k];
    return dy * silu_slope(sum);
  }
};

template <template <int> class Held>
void launch_held(const char* label, const Run& r, Index B, const Arguments& a) {
  const Index items = B * a.runs * a.D;
  if (a.w == 2) launch(label, r, items, Held<2>{a});
  else if (a.w == 3) launch(label, r, items, Held<3>{a});
  else launch(label, r, items, Held<4>{a});
}
inline void forward_on_gpu(const Run& r, Index B, const Arguments& a) { launch_held<ForwardHeld>("ssm::causal_conv", r, B, a); }
inline void backward_on_gpu(const Run& r, Index B, const Arguments& a) { launch_held<BackwardHeld>("ssm::causal_conv_bwd", r, B, a); }

}  // namespace ssm::causal_conv_op
#endif
