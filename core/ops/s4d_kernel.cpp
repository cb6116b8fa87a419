// s4d_kernel.cpp - the convolution kernel of a diagonal system (variants.md 3.2, 3.4), without an (H,M,T) tensor.
//
//   K_l = 2 Re sum_n W_n A_n^l,  W = C B        l = 64 j + i:  A^l = A^{64 j} A^i
//
// Powers are products in Wide, rounded once: A^{64 j} per block, A^i in a table of 64. What is left is a small matrix product per block.
#include "launch.hpp"
#include "lib/each.hpp"
#include "ops/ssm.hpp"

namespace ssm::s4d_kernel_op {

constexpr int kRun = 64;

// Real of a Wide; numbers too small to matter become zero, since subnormal arithmetic is slow.
SSM_FN Real rounded(Wide x) { return x < 1e-30 && x > -1e-30 ? Real(0) : static_cast<Real>(x); }

SSM_FN ComplexW power(ComplexW a, Index exponent) {
  ComplexW result{1, 0};
  for (; exponent > 0; exponent /= 2, a = a * a)
    if (exponent % 2) result = result * a;
  return result;
}

// One item: channel h, blocks [block, block + span).
struct Forward {
  SsmView view;
  Real* K;
  Index T, blocks, span;

  SSM_FN void operator()(const Index item) const {
    const Index parts = (blocks + span - 1) / span, h = item / parts, first = (item - h * parts) * span, s = h % view.S;
    const Index last = first + span < blocks ? first + span : blocks, end = last * kRun < T ? last * kRun : T;
    for (int k = 0; k < view.kernels; ++k)
      for (Index t = first * kRun; t < end; ++t) K[(k * view.H + h) * T + t] = 0;
    for (Index n0 = 0; n0 < view.M; n0 += kLanes) {
      const int lanes = static_cast<int>(view.M - n0 < kLanes ? view.M - n0 : kLanes);
      Real re[kLanes][kRun], im[kLanes][kRun];
      ComplexW W[2][kLanes], E[kLanes];
      for (int l = 0; l < lanes; ++l) {
        const Discrete d = discretize(view.disc, view.delta(h), view.a(s, n0 + l));
        const ComplexW B = 2.0 * (d.gain * view.b(s, n0 + l));
        ComplexW p{1, 0};
        for (int i = 0; i < kRun; ++i) {
          re[l][i] = rounded(p.re);
          im[l][i] = rounded(p.im);
          p = p * d.A;
        }
        E[l] = p;
        const ComplexW start = power(p, first);
        for (int k = 0; k < view.kernels; ++k) W[k][l] = start * (view.c(k, h, n0 + l) * B);
      }
      for (Index j = first; j < last; ++j)
        for (int k = 0; k < view.kernels; ++k) {
          Real sum[kRun];
          for (int i = 0; i < kRun; ++i) sum[i] = 0;
          for (int l = 0; l < lanes; ++l) {
            const Real x = rounded(W[k][l].re), y = rounded(W[k][l].im);
            for (int i = 0; i < kRun; ++i) sum[i] += x * re[l][i] - y * im[l][i];
            W[k][l] = W[k][l] * E[l];
          }
          const Index t0 = j * kRun;
          const int count = static_cast<int>(T - t0 < kRun ? T - t0 : kRun);
          Real* out = K + (k * view.H + h) * T + t0;
          for (int i = 0; i < count; ++i) out[i] += sum[i];
        }
    }
  }
};

// One item: W modes of one channel. S0 = sum_l dK_l conj(A^l), S1 = sum_l l dK_l conj(A^l).
struct Backward {
  SsmView view;
  const Real* dK;
  Real* dC;
  Wide* parts;
  Index T, width;

  template <int W>
  KOKKOS_FUNCTION void run(Index h, Index n0) const {
    const Index s = h % view.S, blocks = (T + kRun - 1) / kRun;
    Real re[kRun][W], im[kRun][W];
    Discrete d[W];
    ComplexW E[W];
    for (int l = 0; l < W; ++l) {
      d[l] = discretize(view.disc, view.delta(h), view.a(s, n0 + l));
      ComplexW p{1, 0};
      for (int i = 0; i < kRun; ++i) {
        re[i][l] = rounded(p.re);
        im[i][l] = rounded(p.im);
        p = p * d[l].A;
      }
      E[l] = p;
    }
    ComplexW dlog[W], dB[W];  // of log A, of the discrete B
    for (int l = 0; l < W; ++l) dlog[l] = dB[l] = {0, 0};
    for (int k = 0; k < view.kernels; ++k) {
      const Real* g = dK + (k * view.H + h) * T;
      ComplexW S0[W], S1[W], P[W];
      for (int l = 0; l < W; ++l) S0[l] = S1[l] = {0, 0}, P[l] = {1, 0};
      for (Index j = 0; j < blocks; ++j) {
        const int count = static_cast<int>(T - j * kRun < kRun ? T - j * kRun : kRun);
        Real r0[W], i0[W], r1[W], i1[W];
        for (int l = 0; l < W; ++l) r0[l] = i0[l] = r1[l] = i1[l] = 0;
        for (int i = 0; i < count; ++i) {
          const Real x = g[j * kRun + i], y = static_cast<Real>(i) * x;
          for (int l = 0; l < W; ++l) {
            r0[l] += x * re[i][l];
            i0[l] -= x * im[i][l];
            r1[l] += y * re[i][l];
            i1[l] -= y * im[i][l];
          }
        }
        const Wide start = static_cast<Wide>(j * kRun);
        for (int l = 0; l < W; ++l) {
          const ComplexW zero{static_cast<Wide>(r0[l]), static_cast<Wide>(i0[l])}, one{static_cast<Wide>(r1[l]), static_cast<Wide>(i1[l])};
          S0[l] = S0[l] + conj(P[l]) * zero;
          S1[l] = S1[l] + conj(P[l]) * (start * zero + one);
          P[l] = P[l] * E[l];
        }
      }
      for (int l = 0; l < W; ++l) {
        const ComplexW c = view.c(k, h, n0 + l), B = d[l].gain * view.b(s, n0 + l), dW = 2.0 * S0[l], dc = conj(B) * dW;
        const Index at = (k * view.H + h) * view.M + n0 + l;
        if (view.real) {
          dC[at] += static_cast<Real>(dc.re);
        } else {
          dC[2 * at] += static_cast<Real>(dc.re);
          dC[2 * at + 1] += static_cast<Real>(dc.im);
        }
        dB[l] = dB[l] + conj(c) * dW;
        dlog[l] = dlog[l] + conj(c * B) * (2.0 * S1[l]);
      }
    }
    for (int l = 0; l < W; ++l)
      mode_gradients(view, h, n0 + l, d[l], conj(d[l].log_z) * dlog[l], dB[l], parts + (h * view.M + n0 + l) * width);
  }
};

struct Kernel final : Op {
  SsmParams p;
  Tensor y;
  Scratch parts;
  Kernel(Net& net, const SsmParams& params, Index T)
      : Op(net), p(params), y(out(p.kernels == 2 ? shaped({2, p.H, T}) : shaped({p.H, T}), drop)) {
    if (n.mode == Mode::train) parts = scratch(mode_gradients_scratch(p));
  }
  const char* name() const override { return "s4d_kernel"; }

  void forward(const Run& r) override {
    const Index T = y.last(), blocks = (T + kRun - 1) / kRun, span = kOnHost ? blocks : 1;
    launch("ssm::s4d_kernel", r, p.H * ((blocks + span - 1) / span), Forward{view_of(*this, p), v(y), T, blocks, span});
  }
  void backward(const Run& r) override {
    Wide* at = reinterpret_cast<Wide*>(v(parts));
    launch_lanes("ssm::s4d_kernel_backward", r, p.H, p.M, Backward{view_of(*this, p), d(y), d(p.C), at, y.last(), kModeGrads + 2 * p.rank});
    add_mode_gradients(r, *this, p, at);
  }
  Cost cost() const override {
    const double k = static_cast<double>(p.kernels), modes = static_cast<double>(p.H * p.M), T = static_cast<double>(y.last());
    const double real = sizeof(Real), bytes = real * (k * static_cast<double>(p.H) * T + modes * (4 + 2 * k));
    return {{modes * (4 * k * T + 6 * kRun + k * T / 8), 4 * modes, bytes}, {modes * (8 * k * T + 6 * kRun + k * T / 4), 6 * modes, bytes}};
  }
};

}  // namespace ssm::s4d_kernel_op

namespace ssm {

Tensor s4d_kernel(Net& n, const SsmParams& p, Index T) { return n.add<s4d_kernel_op::Kernel>(p, T); }

}  // namespace ssm
