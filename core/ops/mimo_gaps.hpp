// mimo_gaps.hpp - the scan inside mimo_scan.cpp at uneven times: a mode a of a step Delta at gaps delta_t,
//
//   x_t = A_t x_{t-1} + g_t w_t      A_t, g_t: the discrete forms of a at the step delta_t Delta (variants.md 1.2)
//   l_t = dx_t + conj(A_{t+1}) l_{t+1}      dw_t = conj(g_t) l_t      dA_t = l_t conj(x_{t-1})      dg_t = l_t conj(w_t)
//
// One work item walks one mode of one sequence; what it knows of a step is in Wide.
#pragma once
#include "launch.hpp"
#include "ops/ssm.hpp"

namespace ssm::mimo_scan_op {

struct GapSweep {
  const Real *lambda, *gaps, *from;  // (4,p): Re a, Im a, Delta and its rest; (B,T); (B,T,2p): w, or dx
  Real* to;                          // (B,T,2p): x, or dw
  const Real *seen, *in;             // adjoint: x and w, both (B,T,2p); else null
  Real* parts;                       // adjoint: (B,3p), sums of Re da, Im da, dDelta
  Real* state;                       // of a stream: (B,2p), the x before, replaced by the one after; else null
  Index T, p;
  Disc disc;

  KOKKOS_FUNCTION ComplexW read(const Real* q, Index at) const { return {static_cast<Wide>(q[at]), static_cast<Wide>(q[at + p])}; }
  KOKKOS_FUNCTION static void write(Real* q, Index at, Index p, ComplexW z) {
    q[at] = static_cast<Real>(z.re), q[at + p] = static_cast<Real>(z.im);
  }
  KOKKOS_FUNCTION void operator()(const Index i) const {
    const Index b = i / p, k = i - b * p, first = b * T;
    const ComplexW a = read(lambda, k);
    const Wide step = static_cast<Wide>(lambda[2 * p + k]) + static_cast<Wide>(lambda[3 * p + k]);
    if (seen) return back(b, k, a, step);
    ComplexW x{0, 0};
    if (state) x = read(state, b * 2 * p + k);
    for (Index t = first; t < first + T; ++t) {
      const Discrete d = discretize(disc, static_cast<Wide>(gaps[t]) * step, a);
      x = d.A * x + d.gain * read(from, t * 2 * p + k);
      write(to, t * 2 * p + k, p, x);
    }
    if (state) write(state, b * 2 * p + k, p, x);
  }
  KOKKOS_FUNCTION void back(Index b, Index k, ComplexW a, Wide step) const {
    ComplexW carry{0, 0}, da{0, 0};
    Wide dstep = 0;
    for (Index t = T - 1; t >= 0; --t) {
      const Index at = (b * T + t) * 2 * p + k;
      const Wide gap = static_cast<Wide>(gaps[b * T + t]), dt = gap * step;
      const Discrete d = discretize(disc, dt, a);
      const ComplexW l = read(from, at) + carry, before = t > 0 ? read(seen, at - 2 * p) : ComplexW{0, 0};
      const ComplexW dz = conj(d.A_z) * (l * conj(before)), dgain = l * conj(read(in, at));
      da = da + dt * dz + conj(d.gain_a) * dgain;
      dstep += gap * (conj(a) * dz + conj(d.gain_dt) * dgain).re;
      write(to, at, p, conj(d.gain) * l);
      carry = conj(d.A) * l;
    }
    Real* part = parts + b * 3 * p + k;
    part[0] = static_cast<Real>(da.re), part[p] = static_cast<Real>(da.im), part[2 * p] = static_cast<Real>(dstep);
  }
};

// Sums over sequences, in order: to (4,p). The rest of Delta has no gradient of its own.
inline void add_pole_gradients(const Run& r, const Real* parts, Index B, Index p, Grad to) {
  launch(
      "ssm::mimo_dpole", r, 4 * p, KOKKOS_LAMBDA(const Index i) {
        Wide sum = 0;
        for (Index b = 0; i < 3 * p && b < B; ++b) sum += static_cast<Wide>(parts[b * 3 * p + i]);
        to(i, static_cast<Real>(sum));
      });
}

}  // namespace ssm::mimo_scan_op
