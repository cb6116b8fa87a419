// diag_scan.cpp - a diagonal system as a recurrence over u (B,T,H):
//
//   x_t = A x_{t-1} + u_t      y_t = 2 Re sum_n W_n x_{n,t} + D u_t,   W = C B
//
// With two kernels a second pass runs from the end and reads its state one sample late (variants.md 1.4). No state is stored: backward
// reruns the recurrence from check points. A is kept as a sum of two numbers: one alone would lose 1e-5 over the memory of a slow mode.
#include "launch.hpp"
#include "ops/diag_scan_gpu_step.hpp"
#include "ops/ssm.hpp"
#include "ops/starts.hpp"

namespace ssm::diag_scan_op {

constexpr int kChunk = 32;  // steps between check points
constexpr int kGroup = 2;   // modes that one pass over time carries

enum Field { kRe, kIm, kRestRe, kRestIm, kOut };  // then 2 per kernel: 2 W
SSM_FN Index fields(int kernels) { return kOut + 2 * kernels; }

// table (M, fields, H)
struct Tabulate {
  SsmView view;
  Real* table;
  SSM_FN void operator()(const Index i) const {
    const Index n = i / view.H, h = i - n * view.H, s = h % view.S;
    const Discrete d = discretize(view.disc, view.delta(h, n), view.a(s, n), view.length);
    Real* out = table + n * fields(view.kernels) * view.H + h;
    const Real re = static_cast<Real>(d.A.re), im = static_cast<Real>(d.A.im);
    out[kRe * view.H] = re;
    out[kIm * view.H] = im;
    out[kRestRe * view.H] = static_cast<Real>(d.A.re - static_cast<Wide>(re));
    out[kRestIm * view.H] = static_cast<Real>(d.A.im - static_cast<Wide>(im));
    for (int k = 0; k < view.kernels; ++k) {
      const ComplexW w = 2.0 * (view.c(k, h, n) * (d.gain * view.b(s, n)));
      out[(kOut + 2 * k) * view.H] = static_cast<Real>(w.re);
      out[(kOut + 2 * k + 1) * view.H] = static_cast<Real>(w.im);
    }
  }
};

// W channels of up to kGroup modes.
template <int W>
struct Modes {
  Real re[kGroup][W], im[kGroup][W], rest_re[kGroup][W], rest_im[kGroup][W], w_re[kGroup][W], w_im[kGroup][W];

  // Modes beyond `count` get zeros.
  SSM_FN void load(const Real* table, Index H, int kernels, int kernel, Index n0, int count, Index h0) {
    for (int g = 0; g < kGroup; ++g) {
      const Real* p = table + (n0 + g) * fields(kernels) * H + h0;
      const Real* w = p + (kOut + 2 * kernel) * H;
      for (int l = 0; l < W; ++l) {
        const bool on = g < count;
        re[g][l] = on ? p[kRe * H + l] : Real(0);
        im[g][l] = on ? p[kIm * H + l] : Real(0);
        rest_re[g][l] = on ? p[kRestRe * H + l] : Real(0);
        rest_im[g][l] = on ? p[kRestIm * H + l] : Real(0);
        w_re[g][l] = on ? w[l] : Real(0);
        w_im[g][l] = on ? w[H + l] : Real(0);
      }
    }
  }
  // x = A x + u
  SSM_FN void advance(int g, const Real* u, Real* x, Real* y) const {
    for (int l = 0; l < W; ++l) {
      const Real a = x[l], b = y[l];
      x[l] = re[g][l] * a - im[g][l] * b + (rest_re[g][l] * a - rest_im[g][l] * b + u[l]);
      y[l] = re[g][l] * b + im[g][l] * a + (rest_re[g][l] * b + rest_im[g][l] * a);
    }
  }
};

template <int W>
SSM_FN void clear(Real (&re)[kGroup][W], Real (&im)[kGroup][W]) {
  for (int g = 0; g < kGroup; ++g)
    for (int l = 0; l < W; ++l) re[g][l] = im[g][l] = 0;
}

struct Forward {
  const Real *u, *table, *D;
  Real* y;
  Index T, H, M;
  int kernels;
  const Real* starts;  // (B,T) of sequence_starts(), null: one sequence a row; one kernel only

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index h0) const {
    const Index base = b * T * H + h0;
    for (Index t = 0; t < T; ++t)
      for (int l = 0; l < W; ++l) y[base + t * H + l] = D[h0 + l] * u[base + t * H + l];
    for (int k = 0; k < kernels; ++k)
      for (Index n0 = 0; n0 < M; n0 += kGroup) {
        Modes<W> m;
        m.load(table, H, kernels, k, n0, static_cast<int>(M - n0 < kGroup ? M - n0 : kGroup), h0);
        Real xr[kGroup][W], xi[kGroup][W];
        for (int g = 0; g < kGroup; ++g)
          for (int l = 0; l < W; ++l) xr[g][l] = xi[g][l] = 0;
        for (Index step = 0; step < T; ++step) {
          const Index at = base + (k == 0 ? step : T - 1 - step) * H;
          if (starts_at(starts, T, b, step)) clear<W>(xr, xi);
          Real in[W], sum[W];
          for (int l = 0; l < W; ++l) in[l] = u[at + l], sum[l] = y[at + l];
          for (int g = 0; g < kGroup; ++g) {
            if (k == 0) m.advance(g, in, xr[g], xi[g]);
            for (int l = 0; l < W; ++l) sum[l] += m.w_re[g][l] * xr[g][l] - m.w_im[g][l] * xi[g][l];
            if (k == 1) m.advance(g, in, xr[g], xi[g]);
          }
          for (int l = 0; l < W; ++l) y[at + l] = sum[l];
        }
      }
  }
};

// parts (B, M, 2 + 2 kernels, H): dA, dW of every sequence; dskip (B, H).
struct Backward {
  const Real *u, *table, *D, *dy;
  Grad du;
  Real *parts, *dskip, *points;
  Index T, H, M;
  int kernels;
  const Real* starts;

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index h0) const {
    const Index base = b * T * H + h0, chunks = (T + kChunk - 1) / kChunk;
    Real skip[W];
    for (int l = 0; l < W; ++l) skip[l] = 0;
    for (Index t = 0; t < T; ++t)
      for (int l = 0; l < W; ++l) {
        const Index at = base + t * H + l;
        skip[l] += u[at] * dy[at];
        du(at, D[h0 + l] * dy[at]);
      }
    for (int l = 0; l < W; ++l) dskip[b * H + h0 + l] = skip[l];

    Real* point = points + (b * H + h0) * chunks * kGroup * 2;
    for (int k = 0; k < kernels; ++k)
      for (Index n0 = 0; n0 < M; n0 += kGroup) {
        const int count = static_cast<int>(M - n0 < kGroup ? M - n0 : kGroup);
        Modes<W> m;
        m.load(table, H, kernels, k, n0, count, h0);
        Real xr[kGroup][W], xi[kGroup][W];
        for (int g = 0; g < kGroup; ++g)
          for (int l = 0; l < W; ++l) xr[g][l] = xi[g][l] = 0;
        for (Index step = 0; step < T; ++step) {
          if (starts_at(starts, T, b, step)) clear<W>(xr, xi);
          if (step % kChunk == 0)
            for (int g = 0; g < kGroup; ++g)
              for (int l = 0; l < W; ++l) {
                point[((step / kChunk * kGroup + g) * 2) * W + l] = xr[g][l];
                point[((step / kChunk * kGroup + g) * 2 + 1) * W + l] = xi[g][l];
              }
          const Real* in = u + base + (k == 0 ? step : T - 1 - step) * H;
          for (int g = 0; g < kGroup; ++g) m.advance(g, in, xr[g], xi[g]);
        }
        sweep<W>(m, k, base, point, b, n0, count, h0);
      }
  }

  // From the last step to the first: lr + i li is the gradient of the state, conj(A) times that of the step after.
  template <int W>
  KOKKOS_FUNCTION void sweep(const Modes<W>& m, int k, Index base, const Real* point, Index b, Index n0, int count, Index h0) const {
    Real lr[kGroup][W], li[kGroup][W], ar[kGroup][W], ai[kGroup][W], wr[kGroup][W], wi[kGroup][W];
    for (int g = 0; g < kGroup; ++g)
      for (int l = 0; l < W; ++l) lr[g][l] = li[g][l] = ar[g][l] = ai[g][l] = wr[g][l] = wi[g][l] = 0;
    Real sr[kGroup][kChunk + 1][W], si[kGroup][kChunk + 1][W];
    for (Index chunk = (T - 1) / kChunk; chunk >= 0; --chunk) {
      const Index start = chunk * kChunk;
      const int steps = static_cast<int>(T - start < kChunk ? T - start : kChunk);
      for (int g = 0; g < kGroup; ++g) {
        for (int l = 0; l < W; ++l) {
          sr[g][0][l] = point[((chunk * kGroup + g) * 2) * W + l];
          si[g][0][l] = point[((chunk * kGroup + g) * 2 + 1) * W + l];
        }
        for (int i = 0; i < steps; ++i) {
          const bool fresh = starts_at(starts, T, b, start + i);
          for (int l = 0; l < W; ++l) sr[g][i + 1][l] = fresh ? Real(0) : sr[g][i][l], si[g][i + 1][l] = fresh ? Real(0) : si[g][i][l];
          m.advance(g, u + base + (k == 0 ? start + i : T - 1 - start - i) * H, sr[g][i + 1], si[g][i + 1]);
        }
      }
      for (int i = steps - 1; i >= 0; --i) {
        const Index at = base + (k == 0 ? start + i : T - 1 - start - i) * H;
        const Real past = starts_at(starts, T, b, start + i) ? Real(0) : Real(1);  // what a position reads of the state before it
        Real gy[W], sum[W];
        for (int l = 0; l < W; ++l) gy[l] = dy[at + l], sum[l] = 0;
        for (int g = 0; g < kGroup; ++g) {
          const Real *seen_re = sr[g][k == 0 ? i + 1 : i], *seen_im = si[g][k == 0 ? i + 1 : i];
          if (k == 0) retreat<W>(m, g, gy, lr[g], li[g]);
          for (int l = 0; l < W; ++l) {
            sum[l] += lr[g][l];
            ar[g][l] += past * (lr[g][l] * sr[g][i][l] + li[g][l] * si[g][i][l]);
            ai[g][l] += past * (li[g][l] * sr[g][i][l] - lr[g][l] * si[g][i][l]);
            wr[g][l] += gy[l] * seen_re[l];
            wi[g][l] -= gy[l] * seen_im[l];
          }
          if (k == 1) retreat<W>(m, g, gy, lr[g], li[g]);
        }
        for (int l = 0; l < W; ++l) du.p[at + l] += sum[l];
        if (past == 0) clear<W>(lr, li);
      }
    }
    for (int g = 0; g < count; ++g) {
      Real* out = parts + (b * M + n0 + g) * (2 + 2 * kernels) * H + h0;
      for (int l = 0; l < W; ++l) {
        out[l] = k == 0 ? ar[g][l] : out[l] + ar[g][l];
        out[H + l] = k == 0 ? ai[g][l] : out[H + l] + ai[g][l];
        out[(2 + 2 * k) * H + l] = wr[g][l];
        out[(3 + 2 * k) * H + l] = wi[g][l];
      }
    }
  }
  template <int W>
  KOKKOS_FUNCTION static void retreat(const Modes<W>& m, int g, const Real* gy, Real* lr, Real* li) {
    for (int l = 0; l < W; ++l) {
      const Real a = lr[l], b = li[l];
      lr[l] = m.re[g][l] * a + m.im[g][l] * b + (m.rest_re[g][l] * a + m.rest_im[g][l] * b + m.w_re[g][l] * gy[l]);
      li[l] = m.re[g][l] * b - m.im[g][l] * a + (m.rest_re[g][l] * b - m.rest_im[g][l] * a - m.w_im[g][l] * gy[l]);
    }
  }
};

// Sums over sequences, in order: item (h, n).
struct Finish {
  SsmView view;
  const Real* parts;
  Real* dC;
  Wide* modes;
  Index B, width;

  SSM_FN void operator()(const Index i) const {
    const Index h = i / view.M, n = i - h * view.M, s = h % view.S, count = 2 + 2 * view.kernels;
    const Discrete d = discretize(view.disc, view.delta(h, n), view.a(s, n), view.length);
    const ComplexW gain = d.gain * view.b(s, n);
    ComplexW dA{0, 0}, dB{0, 0};
    for (Index b = 0; b < B; ++b) {
      const Real* p = parts + (b * view.M + n) * count * view.H + h;
      dA = dA + ComplexW{static_cast<Wide>(p[0]), static_cast<Wide>(p[view.H])};
    }
    for (int k = 0; k < view.kernels; ++k) {
      ComplexW dW{0, 0};
      for (Index b = 0; b < B; ++b) {
        const Real* p = parts + ((b * view.M + n) * count + 2 + 2 * k) * view.H + h;
        dW = dW + ComplexW{2 * static_cast<Wide>(p[0]), 2 * static_cast<Wide>(p[view.H])};
      }
      const ComplexW dc = conj(gain) * dW;
      const Index at = (k * view.H + h) * view.M + n;
      if (view.real) {
        dC[at] += static_cast<Real>(dc.re);
      } else {
        dC[2 * at] += static_cast<Real>(dc.re);
        dC[2 * at + 1] += static_cast<Real>(dc.im);
      }
      dB = dB + conj(view.c(k, h, n)) * dW;
    }
    mode_gradients(view, h, n, d, conj(d.A_z) * dA, dB, modes + i * width);
  }
};

// state (B, M, 2, H)
struct Step {
  const Real *u, *table, *D;
  Real *y, *state;
  Index H, M;

  template <int W>
  KOKKOS_FUNCTION void run(Index b, Index h0) const {
    Real in[W], sum[W];
    for (int l = 0; l < W; ++l) in[l] = u[b * H + h0 + l], sum[l] = D[h0 + l] * in[l];
    for (Index n = 0; n < M; ++n) {
      const Real* p = table + n * fields(1) * H + h0;
      Real *xr = state + (b * M + n) * 2 * H + h0, *xi = xr + H;
      for (int l = 0; l < W; ++l) {
        const Real a = xr[l], c = xi[l];
        const Real re = p[l] * a - p[H + l] * c + (p[2 * H + l] * a - p[3 * H + l] * c + in[l]);
        const Real im = p[l] * c + p[H + l] * a + (p[2 * H + l] * c + p[3 * H + l] * a);
        sum[l] += p[4 * H + l] * re - p[5 * H + l] * im;
        xr[l] = re;
        xi[l] = im;
      }
    }
    for (int l = 0; l < W; ++l) y[b * H + h0 + l] = sum[l];
  }
};

struct DiagScan final : Op {
  SsmParams p;
  Tensor u, y, starts, modes;
  Param D;
  State carried;
  Scratch parts, dskip, points, table, grads;
  int kernels;

  DiagScan(Net& net, Tensor u_, const SsmParams& params, Param skip, Tensor starts_ = {})
      : Op(net), p(params), u(in(u_, save)), y(out(u_, drop)), starts(starts_), D(skip), kernels(static_cast<int>(params.kernels)) {
    if (u.order != Order::BTD || u.D() != p.H) throw std::logic_error("diag_scan takes (B,T,H)");
    if (starts.id >= 0 && kernels == 2) throw std::logic_error("diag_scan keeps sequences of a row apart one way only");
    if (starts.id >= 0) in(starts, save);
    const Index numbers = p.M * fields(kernels) * p.H, chunks = (u.T() + kChunk - 1) / kChunk;
    if (n.mode == Mode::stream) {
      if (kernels == 2) throw std::logic_error("diag_scan: two directions cannot stream");
      modes = Op::table(shaped({numbers}));
      carried = state(u.B() / n.B * 2 * p.H * p.M);
    } else {
      table = scratch(numbers);
    }
    if (n.mode == Mode::train) {
      parts = scratch(u.B() * p.M * (2 + 2 * p.kernels) * p.H);
      dskip = scratch(u.B() * p.H);
      points = scratch(u.B() * p.H * chunks * kGroup * 2);
      grads = scratch(mode_gradients_scratch(p));
    }
  }
  const char* name() const override { return "diag_scan"; }
  const Real* at_starts() const { return starts.id < 0 ? nullptr : v(starts); }

  Real* tabulate(const Run& r, Real* to) {
    launch("ssm::diag_scan_table", r, p.H * p.M, Tabulate{view_of(*this, p), to});
    return to;
  }
  void prepare(const Run& r) override {
    if (n.mode == Mode::stream) tabulate(r, v(modes));
  }
  void forward(const Run& r) override {
    const Real* at = tabulate(r, v(table));
    launch_lanes("ssm::diag_scan", r, u.B(), p.H, Forward{v(u), at, v(D), v(y), u.T(), p.H, p.M, kernels, at_starts()});
  }
  void backward(const Run& r) override {
    const Real* at = tabulate(r, v(table));
    const Index B = u.B(), H = p.H;
    const Real* skips = v(dskip);
    Real* dD = d(D);
    Wide* sums = reinterpret_cast<Wide*>(v(grads));
    launch_lanes("ssm::diag_scan_backward", r, B, H,
                 Backward{v(u), at, v(D), d(y), g(u), v(parts), v(dskip), v(points), u.T(), H, p.M, kernels, at_starts()});
    launch("ssm::diag_scan_modes", r, H * p.M, Finish{view_of(*this, p), v(parts), d(p.C), sums, B, kModeGrads + 2 * p.rank});
    add_mode_gradients(r, *this, p, sums);
    launch(
        "ssm::diag_scan_dD", r, H, KOKKOS_LAMBDA(const Index h) {
          Real sum = 0;
          for (Index b = 0; b < B; ++b) sum += skips[b * H + h];
          dD[h] += sum;
        });
  }
#if defined(SSM_GPU_CODE)
  bool leads(Tensor, Follows how) const override { return how == Follows::entries; }
  template <int kRows>
  void step_on_gpu(const Run& r) {
    StepOnGpu<kRows> step{v(u), v(modes), v(D), v(carried), u.B(), p.H, p.M, {}};
    ends(y, &step.to);
    step.run(r);
  }
  void step(const Run& r) override { u.B() < 16 ? step_on_gpu<1>(r) : step_on_gpu<4>(r); }
#else
  void step(const Run& r) override {
    launch_lanes("ssm::diag_scan_step", r, u.B(), p.H, Step{v(u), v(modes), v(D), v(y), v(carried), p.H, p.M});
  }
#endif
  Cost cost() const override {
    const double size = static_cast<double>(u.size()), modes_ = static_cast<double>(p.M) * kernels, real = sizeof(Real);
    const double exps = 4 * static_cast<double>(p.H * p.M);
    return {{size * (18 * modes_ + 2), exps, 2 * real * size}, {size * (62 * modes_ + 4), 2 * exps, 3 * real * size}};
  }
};

}  // namespace ssm::diag_scan_op

namespace ssm {

Tensor diag_scan(Net& n, Tensor u, const SsmParams& p, Param D) { return n.add<diag_scan_op::DiagScan>(u, p, D); }
Tensor diag_scan(Net& n, Tensor u, const SsmParams& p, Param D, Tensor starts) { return n.add<diag_scan_op::DiagScan>(u, p, D, starts); }

}  // namespace ssm
