// ssm.hpp - linear time-invariant state-space layers (S4D, S4): their parameters, and one mode of them inside a kernel.
//
//   x' = a x + b u,  y = 2 Re sum_n c_n x_n      per channel h, with modes n < M and a step size Delta_h, or one per mode
//   Delta = exp(inv_dt) or softplus(inv_dt)      a = -exp(A_real) - i A_imag (or as `decay` says)      channel h uses set h mod S of A, B (and P)
//
// Everything of one mode is computed in Wide: single precision would lose the phase of long kernels.
#pragma once
#include <string>

#include "math.hpp"
#include "net.hpp"

namespace ssm {

struct SsmParams {
  Index H = 0, M = 0, S = 1;                // channels, modes, sets of (A, B)
  Index kernels = 1;                        // 2: the second acts on the reversed sequence
  bool real = false;                        // real modes: no A_imag; B and C have a trailing extent of 1
  bool softplus = false;                    // Delta = softplus(inv_dt), else exp
  bool train_B = true, train_decay = true;  // of A_real
  std::string decay = "exp";                // Re a: "exp" -exp(A_real), "relu" -max(A_real, 0) - 1e-4, "none" -A_real
  Index length = 0;                         // of "dss": the longest sequence
  Index steps = 1;                          // step sizes of a channel: 1, or M; S4: 1
  std::string disc = "zoh";                 // zoh, bilinear, backward_euler, exp_euler, dss
  Index rank = 0;                           // of P, S4 only
  bool train_P = true;
  bool wide = false;             // S4 only: the whole kernel in Wide (FouT)
  Param inv_dt, A_real, A_imag;  // (H,steps)  (S,M)  (S,M)
  Param B, C, P;                 // (1,S,M,2)  (kernels,H,M,2)  (rank,S,M,2)
  Param Q;                       // (rank,S,M,2): A = diag(a) - P Q^T; absent: Q = P*
};

// K (H,T), or (2,H,T) when there are two kernels, of a diagonal system.
Tensor s4d_kernel(Net& n, const SsmParams& p, Index T);
// The same system as a recurrence over u (B,T,H), plus D u. Step carries 2 H M numbers.
Tensor diag_scan(Net& n, Tensor u, const SsmParams& p, Param D);
// The same recurrence at uneven times: position t steps by gaps_t Delta. gaps (B,T), without a gradient; one kernel.
Tensor diag_gap_scan(Net& n, Tensor u, Tensor gaps, const SsmParams& p, Param D);
// K (H,T) or (2,H,T) of a diagonal-plus-low-rank system whose C holds C~ for length n.l_max.
Tensor s4_kernel(Net& n, const SsmParams& p, Index T);
// One step of it: u (B,1,H) -> y (B,1,H), carrying 2 H M numbers; prepare() computes C from C~.
Tensor s4_step(Net& n, Tensor u, const SsmParams& p, Param D);

using ComplexW = Complex<Wide>;
enum class Disc : int { zoh, bilinear, backward_euler, exp_euler, dss };
// Throws std::logic_error for an unknown name.
Disc disc_of(const std::string& name);

enum class Decay : int { exp, relu, none };

// Gradients of one mode of one channel, before sums over channels that share a set: dA_real, dA_imag, dB (2), dDelta, then dP (2 rank) and,
// where Q is a parameter, dQ (2 rank).
constexpr Index kModeGrads = 5;

// Addresses for kernels.
struct SsmView {
  const Real *inv_dt, *A_real, *A_imag, *B, *C, *P, *Q;
  Index H, M, S;
  int kernels, rank;
  Disc disc;
  bool softplus, real;
  Decay decay;
  Index length, steps;

  SSM_FN Wide raw_step(Index h, Index n) const { return static_cast<Wide>(inv_dt[steps > 1 ? h * steps + n : h]); }
  SSM_FN Wide delta(Index h, Index n = 0) const {
    const Wide raw = raw_step(h, n);
    return softplus ? ssm::softplus(raw) : ::exp(raw);
  }
  SSM_FN Wide delta_slope(Index h, Index n) const {
    const Wide raw = raw_step(h, n);
    return softplus ? softplus_slope(raw) : ::exp(raw);
  }
  SSM_FN static ComplexW pair(const Real* p, Index i, bool real) {
    return real ? ComplexW{static_cast<Wide>(p[i]), 0} : ComplexW{static_cast<Wide>(p[2 * i]), static_cast<Wide>(p[2 * i + 1])};
  }
  SSM_FN ComplexW a(Index s, Index n) const {
    const Wide raw = static_cast<Wide>(A_real[s * M + n]);
    const Wide re = decay == Decay::exp ? -::exp(raw) : decay == Decay::none ? -raw : raw > 0 ? -raw - 1e-4 : -1e-4;
    return {re, real ? Wide(0) : -static_cast<Wide>(A_imag[s * M + n])};
  }
  // d(Re a)/d(A_real)
  SSM_FN Wide decay_slope(Index s, Index n) const {
    if (decay == Decay::exp) return a(s, n).re;
    return decay == Decay::none || A_real[s * M + n] > 0 ? -1 : 0;
  }
  SSM_FN ComplexW b(Index s, Index n) const { return pair(B, s * M + n, real); }
  SSM_FN ComplexW c(int k, Index h, Index n) const { return pair(C, (k * H + h) * M + n, real); }
  SSM_FN ComplexW p(int r, Index s, Index n) const { return pair(P, (r * S + s) * M + n, false); }
  SSM_FN ComplexW q(int r, Index s, Index n) const { return Q ? pair(Q, (r * S + s) * M + n, false) : conj(p(r, s, n)); }
  SSM_FN Index grads() const { return kModeGrads + (Q ? 4 : 2) * rank; }
};
SsmView view_of(const Op& op, const SsmParams& p);

SSM_FN ComplexW cexpm1(ComplexW z) {
  const Wide half = ::sin(z.im / 2), e = ::expm1(z.re);
  return {e * ::cos(z.im) - 2 * half * half, (e + 1) * ::sin(z.im)};
}
// (e^z - 1)/z and its derivative (e^z - phi1)/z, by series near 0.
SSM_FN ComplexW phi1(ComplexW z) { return norm2(z) < 1e-30 ? ComplexW{1, 0} : cexpm1(z) / z; }
SSM_FN ComplexW phi1_slope(ComplexW z) {
  if (norm2(z) > 1e-4) return (cexp(z) - phi1(z)) / z;
  const Wide series[7] = {1.0 / 2, 1.0 / 3, 1.0 / 8, 1.0 / 30, 1.0 / 144, 1.0 / 840, 1.0 / 5760};
  ComplexW sum{series[6], 0};
  for (int k = 5; k >= 0; --k) sum = sum * z + ComplexW{series[k], 0};
  return sum;
}

// One mode in discrete time: x_t = A x_{t-1} + B u_t with B = gain * b, and what backward needs. variants.md 1.2.
struct Discrete {
  ComplexW A, gain;          // gain = dB/db
  ComplexW A_z, log_z;       // dA/dz and d(log A)/dz, z = Delta a
  ComplexW gain_a, gain_dt;  // dB/da and dB/dDelta for b = 1
};
// dss is zoh over e^{zL} - 1: what the weights of a mode sum to over `length` L positions, for Re a < 0 (variants.md 3.7).
SSM_FN Discrete discretize(Disc disc, Wide dt, ComplexW a, Index length = 0) {
  const ComplexW z = dt * a, one{1, 0};
  if (disc == Disc::zoh || disc == Disc::dss) {
    const ComplexW e = cexp(z), gain = dt * phi1(z), gain_a = dt * dt * phi1_slope(z);
    if (disc == Disc::zoh) return {e, gain, e, one, gain_a, e};
    const Wide L = static_cast<Wide>(length);
    const ComplexW sum = cexpm1(L * z), over = one / sum, own = gain * over, slope = L * ((sum + one) * own);
    return {e, own, e, one, (gain_a - dt * slope) * over, (e - a * slope) * over};
  }
  if (disc == Disc::exp_euler) {
    const ComplexW e = cexp(z);
    return {e, {dt, 0}, e, one, {0, 0}, one};
  }
  const Wide alpha = disc == Disc::bilinear ? 0.5 : 1;
  const ComplexW m = one / (one - alpha * z), m2 = m * m, up = one + (1 - alpha) * z;
  return {up * m, dt * m, m2, m / up, (alpha * dt * dt) * m2, m2};
}

// From dz and dBd (of the discrete B = gain b) to out[0..4].
SSM_FN void mode_gradients(const SsmView& view, Index h, Index n, const Discrete& d, ComplexW dz, ComplexW dBd, Wide* out) {
  const Index s = h % view.S;
  const ComplexW a = view.a(s, n), b = view.b(s, n), db = conj(d.gain) * dBd;
  const Wide dt = view.delta(h, n);
  const ComplexW da = dt * dz + conj(d.gain_a * b) * dBd, ddt = conj(a) * dz + conj(d.gain_dt * b) * dBd;
  out[0] = da.re * view.decay_slope(s, n);
  out[1] = -da.im;
  out[2] = db.re;
  out[3] = db.im;
  out[4] = ddt.re;
}

// Scratch (numbers) for the gradients of all modes, and the sums over them into the gradients of the parameters.
Index mode_gradients_scratch(const SsmParams& p);
void add_mode_gradients(const Run& r, const Op& op, const SsmParams& p, const Wide* parts);

}  // namespace ssm
