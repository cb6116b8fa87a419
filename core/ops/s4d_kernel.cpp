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
constexpr int kAtOnce = 8;  // steps per pass over the lanes: sums stay in registers

// Real of a Wide; numbers too small to matter become zero, since subnormal arithmetic is slow.
SSM_FN Real rounded(Wide x) { return ::fabs(x) < 1e-30 ? Real(0) : static_cast<Real>(x); }

// One item: channel h.
struct Forward {
  SsmView view;
  Real* K;
  Index T;

  SSM_FN void operator()(const Index h) const {
    const Index s = h % view.S, blocks = (T + kRun - 1) / kRun;
    for (int k = 0; k < view.kernels; ++k)
      for (Index t = 0; t < T; ++t) K[(k * view.H + h) * T + t] = 0;
    for (Index n0 = 0; n0 < view.M; n0 += kLanes) {
      const int lanes = static_cast<int>(view.M - n0 < kLanes ? view.M - n0 : kLanes);
      Real re[kLanes][kRun], im[kLanes][kRun];
      ComplexW W[2][kLanes], E[kLanes];
      for (int l = 0; l < lanes; ++l) {
        const Discrete d = discretize(view.disc, view.delta(h, n0 + l), view.a(s, n0 + l), view.length);
        const ComplexW B = 2.0 * (d.gain * view.b(s, n0 + l));
        ComplexW p{1, 0};
        for (int i = 0; i < kRun; ++i) {
          re[l][i] = rounded(p.re);
          im[l][i] = rounded(p.im);
          p = p * d.A;
        }
        E[l] = p;
        for (int k = 0; k < view.kernels; ++k) W[k][l] = view.c(k, h, n0 + l) * B;
      }
      for (Index j = 0; j < blocks; ++j)
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

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
// On a GPU a thread makes kRounds entries of the kernel, kStride apart: A^l = |A|^l (cos, sin)(l arg A) of the first, the angle in turns and in
// Wide until it lies within one, and A^kStride times the last for the others.
constexpr int kRounds = 8, kStride = 32;

struct Polar {
  Wide rate, turns;             // log2 |A|, arg A / 2 pi
  Real w[2][2];                 // W of every kernel
  Real further_re, further_im;  // A^kStride

  SSM_FN Complex<Real> power(Wide l) const {
    const Wide angle = l * turns;
    const Real size = exp2_decay(static_cast<Real>(l * rate)),
               turn = static_cast<Real>(2 * (angle - ::rint(angle))) * Real(3.14159265358979324);
    return {size * Kokkos::cos(turn), size * Kokkos::sin(turn)};
  }
};

void polar_modes(const Run& r, const SsmView& view, Polar* modes) {
  launch(
      "ssm::s4d_modes", r, view.H * view.M, KOKKOS_LAMBDA(const Index i) {
        const Index h = i / view.M, m = i - h * view.M, s = h % view.S;
        const Discrete d = discretize(view.disc, view.delta(h, m), view.a(s, m), view.length);
        const ComplexW B = 2.0 * (d.gain * view.b(s, m));
        Polar& to = modes[i];
        constexpr Wide per_turn = 0.15915494309189533577, log2e = 1.4426950408889634074;
        if (view.disc == Disc::zoh || view.disc == Disc::exp_euler) {
          const ComplexW z = view.delta(h, m) * view.a(s, m);
          to.rate = z.re * log2e, to.turns = z.im * per_turn;
        } else {
          const Wide square = norm2(d.A);
          to.rate = 0.5 * log2e * ::log(square > 1e-300 ? square : 1e-300), to.turns = ::atan2(d.A.im, d.A.re) * per_turn;
        }
        const Complex<Real> further = to.power(kStride);
        to.further_re = further.re, to.further_im = further.im;
        for (int k = 0; k < view.kernels; ++k) {
          const ComplexW w = view.c(k, h, m) * B;
          to.w[k][0] = static_cast<Real>(w.re), to.w[k][1] = static_cast<Real>(w.im);
        }
      });
}

template <int kernels>
void polar_kernel(const Run& r, const SsmView& view, const Polar* modes, Index T, Real* K) {
  constexpr Index kSpan = kRounds * kStride;
  const Index M = view.M, H = view.H, spans = (T + kSpan - 1) / kSpan;
  launch(
      "ssm::s4d_kernel", r, H * spans * kStride, KOKKOS_LAMBDA(const Index i) {
        const Index row = quotient(i, spans * kStride), within = i - row * spans * kStride;
        const Index first = within / kStride * kSpan + within % kStride;
        Real sum[kernels][kRounds] = {};
        for (Index m = 0; m < M; ++m) {
          const Polar p = modes[row * M + m];
          Complex<Real> power = p.power(static_cast<Wide>(first));
          for (int q = 0; q < kRounds; ++q) {
            for (int k = 0; k < kernels; ++k) sum[k][q] += p.w[k][0] * power.re - p.w[k][1] * power.im;
            power = power * Complex<Real>{p.further_re, p.further_im};
          }
        }
        for (int k = 0; k < kernels; ++k)
          for (int q = 0; q < kRounds; ++q)
            if (first + q * kStride < T) K[(k * H + row) * T + first + q * kStride] = sum[k][q];
      });
}
#endif

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
    Discrete d[W];
    Wide ar[W], ai[W], er[W], ei[W];  // A, and A^64
    for (int l = 0; l < W; ++l) {
      d[l] = discretize(view.disc, view.delta(h, n0 + l), view.a(s, n0 + l), view.length);
      ar[l] = d[l].A.re, ai[l] = d[l].A.im;
      er[l] = 1, ei[l] = 0;
    }
    Real re[kRun][W], im[kRun][W];
    for (int i = 0; i < kRun; ++i)
      for (int l = 0; l < W; ++l) {
        re[i][l] = rounded(er[l]);
        im[i][l] = rounded(ei[l]);
        const Wide next = er[l] * ar[l] - ei[l] * ai[l];
        ei[l] = er[l] * ai[l] + ei[l] * ar[l];
        er[l] = next;
      }
    ComplexW dlog[W], dB[W];  // of log A, of the discrete B
    for (int l = 0; l < W; ++l) dlog[l] = dB[l] = {0, 0};
    for (int k = 0; k < view.kernels; ++k) {
      const Real* g = dK + (k * view.H + h) * T;
      Wide s0r[W], s0i[W], s1r[W], s1i[W], pr[W], pi[W];
      for (int l = 0; l < W; ++l) s0r[l] = s0i[l] = s1r[l] = s1i[l] = pi[l] = 0, pr[l] = 1;
      for (Index j = 0; j < blocks; ++j) {
        const int count = static_cast<int>(T - j * kRun < kRun ? T - j * kRun : kRun);
        Real x[kRun], y[kRun], r0[W], i0[W], r1[W], i1[W];
        for (int i = 0; i < kRun; ++i) {
          x[i] = i < count ? g[j * kRun + i] : Real(0);
          y[i] = static_cast<Real>(i) * x[i];
        }
        for (int l = 0; l < W; ++l) r0[l] = i0[l] = r1[l] = i1[l] = 0;
        for (int first = 0; first < kRun; first += kAtOnce)
          for (int l = 0; l < W; ++l) {
            Real a = r0[l], b = i0[l], c = r1[l], e = i1[l];
            for (int i = first; i < first + kAtOnce; ++i) {
              a += x[i] * re[i][l];
              b -= x[i] * im[i][l];
              c += y[i] * re[i][l];
              e -= y[i] * im[i][l];
            }
            r0[l] = a, i0[l] = b, r1[l] = c, i1[l] = e;
          }
        const Wide start = static_cast<Wide>(j * kRun);
        for (int l = 0; l < W; ++l) {
          const Wide a = static_cast<Wide>(r0[l]), b = static_cast<Wide>(i0[l]);
          const Wide c = start * a + static_cast<Wide>(r1[l]), e = start * b + static_cast<Wide>(i1[l]);
          s0r[l] += pr[l] * a + pi[l] * b;
          s0i[l] += pr[l] * b - pi[l] * a;
          s1r[l] += pr[l] * c + pi[l] * e;
          s1i[l] += pr[l] * e - pi[l] * c;
          const Wide next = pr[l] * er[l] - pi[l] * ei[l];
          pi[l] = pr[l] * ei[l] + pi[l] * er[l];
          pr[l] = next;
        }
      }
      for (int l = 0; l < W; ++l) {
        const ComplexW c = view.c(k, h, n0 + l), B = d[l].gain * view.b(s, n0 + l), dW{2 * s0r[l], 2 * s0i[l]}, dc = conj(B) * dW;
        const Index at = (k * view.H + h) * view.M + n0 + l;
        if (view.real) {
          dC[at] += static_cast<Real>(dc.re);
        } else {
          dC[2 * at] += static_cast<Real>(dc.re);
          dC[2 * at + 1] += static_cast<Real>(dc.im);
        }
        dB[l] = dB[l] + conj(c) * dW;
        dlog[l] = dlog[l] + conj(c * B) * ComplexW{2 * s1r[l], 2 * s1i[l]};
      }
    }
    for (int l = 0; l < W; ++l)
      mode_gradients(view, h, n0 + l, d[l], conj(d[l].log_z) * dlog[l], dB[l], parts + (h * view.M + n0 + l) * width);
  }
};

struct Kernel final : Op {
  SsmParams p;
  Tensor y;
  Scratch parts, polar_forms;
  Kernel(Net& net, const SsmParams& params, Index T)
      : Op(net), p(params), y(out(p.kernels == 2 ? shaped({2, p.H, T}) : shaped({p.H, T}), drop)) {
    if (n.mode == Mode::train) parts = scratch(mode_gradients_scratch(p));
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
    polar_forms = scratch(p.H * p.M * static_cast<Index>(sizeof(Polar) / sizeof(Real)));
#endif
  }
  const char* name() const override { return "s4d_kernel"; }

  void forward(const Run& r) override {
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
    Polar* const polar = reinterpret_cast<Polar*>(v(polar_forms));
    polar_modes(r, view_of(*this, p), polar);
    if (p.kernels == 2) polar_kernel<2>(r, view_of(*this, p), polar, y.last(), v(y));
    else polar_kernel<1>(r, view_of(*this, p), polar, y.last(), v(y));
#else
    launch("ssm::s4d_kernel", r, p.H, Forward{view_of(*this, p), v(y), y.last()});
#endif
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
