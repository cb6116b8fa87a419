// rnn_kernels.hpp - the cells of rnn.cpp and the walk through time: the sequences of a work item go together, channels are the lanes.
#pragma once
#include "launch.hpp"
#include "lib/each.hpp"
#include "lib/team_capture.hpp"
#include "math.hpp"
#include "ops/starts.hpp"
#include "tensor.hpp"

namespace ssm::rnn_op {

// Numbers kept per position and channel. Gradients of the gates lie in the same order.
constexpr Index kSlots = 4;

struct Next {
  Real slot[kSlots], carry, h;
};
struct Past {
  Real slot[kSlots], carry;  // gradients of the gates, and of the carry one step earlier
};

// sigmoid and tanh of the gates. CUDA, float: from one exponential and one reciprocal of one instruction each, because every step waits for
// them; relative errors 1e-6.
SSM_FN double gate_sigmoid(double x) { return sigmoid(x); }
SSM_FN double gate_tanh(double x) { return fast_tanh(x); }
#if defined(__CUDA_ARCH__)
__device__ inline float reciprocal_1_exp2(float x) {  // 1 / (1 + 2^x)
  float y;
  asm("{\n.reg .f32 e;\nex2.approx.ftz.f32 e, %1;\nadd.f32 e, e, 0f3F800000;\nrcp.approx.ftz.f32 %0, e;\n}" : "=f"(y) : "f"(x));
  return y;
}
SSM_FN float gate_sigmoid(float x) { return reciprocal_1_exp2(-1.44269504f * x); }
SSM_FN float gate_tanh(float x) {
  const float small = x * x, series = x * (1.0f - small * (0.333333333f - small * (0.133333333f - small * 0.0539682540f)));
  return small < 0.01f ? series : 1.0f - 2.0f * reciprocal_1_exp2(2.88539008f * x);
}
#else
SSM_FN float gate_sigmoid(float x) { return sigmoid(x); }
SSM_FN float gate_tanh(float x) { return fast_tanh(x); }
#endif

// Slots i, f, g, o; the carry is c.   x, u: what input and state give to the gates.
struct LstmCell {
  static constexpr int kGates = 4;
  static constexpr bool kOwnCarry = true;
  SSM_FN static int slot(int gate) { return gate; }  // where the gradient lies that goes through the recurrent weights of a gate
  SSM_FN static Next next(const Real (&x)[kSlots], const Real (&u)[kSlots], Real carry) {
    const Real i = gate_sigmoid(x[0] + u[0]), f = gate_sigmoid(x[1] + u[1]), g = gate_tanh(x[2] + u[2]), o = gate_sigmoid(x[3] + u[3]);
    const Real c = f * carry + i * g;
    return {{i, f, g, o}, c, o * gate_tanh(c)};
  }
  SSM_FN static Past back(const Real (&s)[kSlots], Real before, Real carry, Real dh, Real dcarry) {
    const Real i = s[0], f = s[1], g = s[2], o = s[3], tanh_c = gate_tanh(carry), dc = dcarry + dh * o * (1 - tanh_c * tanh_c);
    return {{dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)}, dc * f};
  }
};

// Slots r, z, n and U_n h + b_hn; the carry is h.
struct GruCell {
  static constexpr int kGates = 3;
  static constexpr bool kOwnCarry = false;
  SSM_FN static int slot(int gate) { return gate == 2 ? 3 : gate; }
  SSM_FN static Next next(const Real (&x)[kSlots], const Real (&u)[kSlots], Real carry) {
    const Real r = gate_sigmoid(x[0] + u[0]), z = gate_sigmoid(x[1] + u[1]), n = gate_tanh(x[2] + r * u[2]), h = n + z * (carry - n);
    return {{r, z, n, u[2]}, h, h};
  }
  SSM_FN static Past back(const Real (&s)[kSlots], Real before, Real, Real dh, Real dcarry) {
    const Real r = s[0], z = s[1], n = s[2], all = dh + dcarry, dn = all * (1 - z) * (1 - n * n);
    return {{dn * s[3] * r * (1 - r), all * (before - n) * z * (1 - z), dn, dn * r}, all * z};
  }
};

struct Sequences {
  Real *slots, *y, *carry;        // (B,T,4H), (B,T,H), (B,T,H): c, or y again
  const Real *h0, *c0;            // (H) or null: zero
  const Real *U, *turned, *bias;  // (gates H, H), its transpose, (gates H)
  Index T, H;
  const Real *starts, *zeros;  // (B,T) of sequence_starts() with H zeros, or null: one sequence a row

  // Whether position t takes over nothing, being first in its sequence but not in its row; none does that lies outside of the row.
  SSM_FN bool fresh(Index b, Index t) const { return t < T && starts_at(starts, T, b, t); }
};

// Lanes of one visit, in groups: enough sums at once to hide how long each takes.
constexpr int kGroups = kOnHost ? 4 : 1;

template <class Cell>
struct Forward {
  Sequences s;

  // Position t of R sequences from b on, W channels from c on. `slots` holds what the input gives to the gates.
  template <int R, int W>
  KOKKOS_FUNCTION void visit(Index b, Index t, Index c) const {
    constexpr int G = Cell::kGates;
    const Index H = s.H;
    Real u[G][R][W];
    const Real* before[R];
    for (int r = 0; r < R; ++r) before[r] = t <= 0 ? s.h0 : s.fresh(b + r, t) ? s.zeros : s.y + ((b + r) * s.T + t - 1) * H;
    for (int g = 0; g < G; ++g) {
      Real sum[R][W];
      for (int r = 0; r < R; ++r)
        for (int l = 0; l < W; ++l) sum[r][l] = s.bias[g * H + c + l];
      const Real* p = s.turned + g * H + c;
      for (Index k = 0; before[0] && k < H; ++k)
        for (int r = 0; r < R; ++r) {
          const Real h = before[r][k];
          for (int l = 0; l < W; ++l) sum[r][l] += h * p[k * G * H + l];
        }
      for (int r = 0; r < R; ++r)
        for (int l = 0; l < W; ++l) u[g][r][l] = sum[r][l];
    }
    for (int r = 0; r < R; ++r) {
      const Index row = (b + r) * s.T + t;
      Real *slots = s.slots + row * kSlots * H + c, *y = s.y + row * H + c, *carry = s.carry + row * H + c;
      Real last[W];
      const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
      const bool goes_on = t > 0 && !s.fresh(b + r, t);
      for (int l = 0; l < W; ++l) last[l] = goes_on ? carry[l - H] : start ? start[c + l] : Real(0);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        Real x[kSlots], from_state[kSlots];
        for (int g = 0; g < G; ++g) x[g] = slots[g * H + l], from_state[g] = u[g][r][l];
        const Next next = Cell::next(x, from_state, last[l]);
        for (int g = 0; g < kSlots; ++g) slots[g * H + l] = next.slot[g];
        carry[l] = next.carry;
        y[l] = next.h;
      }
    }
  }
};

template <class Cell>
struct Backward {
  Sequences s;
  const Real* dy;
  Real *da, *dcarry, *dh0;  // (B,T,4H), (B,H); dh0 (B,H) where the start is a parameter

  // Positions from the last one on: visit i is T-1-i, and T, where wanted, is the start.
  template <int R, int W>
  KOKKOS_FUNCTION void visit(Index b, Index i, Index c) const {
    const Index H = s.H, t = s.T - 1 - i;
    Real dh[R][W], carried[R][W];
    bool cut[R];  // the next position takes nothing over
    for (int r = 0; r < R; ++r) {
      cut[r] = s.fresh(b + r, t + 1);
      for (int l = 0; l < W; ++l) {
        dh[r][l] = t >= 0 ? dy[((b + r) * s.T + t) * H + c + l] : Real(0);
        carried[r][l] = i > 0 && !cut[r] ? dcarry[(b + r) * H + c + l] : Real(0);
      }
    }
    for (int g = 0; i > 0 && g < Cell::kGates; ++g) {
      const Real *U = s.U + g * H * H + c, *from[R];
      for (int r = 0; r < R; ++r) from[r] = cut[r] ? s.zeros : da + ((b + r) * s.T + t + 1) * kSlots * H + Cell::slot(g) * H;
      for (Index k = 0; k < H; ++k)
        for (int r = 0; r < R; ++r) {
          const Real a = from[r][k];
          for (int l = 0; l < W; ++l) dh[r][l] += a * U[k * H + l];
        }
    }
    for (int r = 0; r < R; ++r) {
      Real* kept = dcarry + (b + r) * H + c;
      if (t < 0) {
        for (int l = 0; l < W; ++l) dh0[(b + r) * H + c + l] = dh[r][l] + (Cell::kOwnCarry ? Real(0) : carried[r][l]);
        continue;
      }
      const Index row = (b + r) * s.T + t;
      const Real *slots = s.slots + row * kSlots * H + c, *now = s.carry + row * H + c;
      Real* to = da + row * kSlots * H + c;
      Real before[W];
      const Real* start = Cell::kOwnCarry ? s.c0 : s.h0;
      const bool goes_on = t > 0 && !s.fresh(b + r, t);
      for (int l = 0; l < W; ++l) before[l] = goes_on ? now[l - H] : start ? start[c + l] : Real(0);
      SSM_INDEPENDENT
      for (int l = 0; l < W; ++l) {
        Real gate[kSlots];
        for (int g = 0; g < kSlots; ++g) gate[g] = slots[g * H + l];
        const Past past = Cell::back(gate, before[l], now[l], dh[r][l], carried[r][l]);
        for (int g = 0; g < kSlots; ++g) to[g * H + l] = past.slot[g];
        kept[l] = past.carry;
      }
    }
  }
};

// Visits 0..visits-1 in order; within one visit every channel, none of which reads what another writes. A work item of a CPU takes kRows
// sequences, so that a weight is read once for all of them; one block of a GPU takes one sequence.
constexpr int kRows = 4;

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)

using WalkPolicy = Kokkos::TeamPolicy<ExecSpace, Kokkos::IndexType<Index>>;
template <class K>
struct Walk {
  K kernel;
  Index visits, H;
  KOKKOS_FUNCTION void operator()(const typename WalkPolicy::member_type& team) const {
    const K& k = kernel;
    const Index b = team.league_rank();
    for (Index i = 0; i < visits; ++i) {
      Kokkos::parallel_for(Kokkos::TeamThreadRange(team, H), [&](const Index c) { k.template visit<1, 1>(b, i, c); });
      team.team_barrier();
    }
  }
};
template <class K>
void walk(const char* label, const Run& r, Index B, Index visits, Index H, const K& kernel) {
  fits_team<Walk<K>>();
  const int threads = static_cast<int>(H < 512 ? (H + 31) / 32 * 32 : 512);
  Kokkos::parallel_for(kernel_name(label), WalkPolicy(r.exec.space, static_cast<int>(B), threads), Walk<K>{kernel, visits, H});
}

#else

template <class K>
struct Walk {
  K kernel;
  Index B, visits, H, rows;
  void operator()(const Index item) const {
    const Index first = item * rows, last = first + rows < B ? first + rows : B;
    if (last - first == kRows) return run<kRows>(first);
    for (Index b = first; b < last; ++b) run<1>(b);
  }
  template <int R>
  void run(Index b) const {
    constexpr Index wide = kGroups * kLanes;
    for (Index i = 0; i < visits; ++i) {
      Index c = 0;
      for (; c + wide <= H; c += wide) kernel.template visit<R, wide>(b, i, c);
      for (; c + kLanes <= H; c += kLanes) kernel.template visit<R, kLanes>(b, i, c);
      for (; c < H; ++c) kernel.template visit<R, 1>(b, i, c);
    }
  }
};
template <class K>
void walk(const char* label, const Run& r, Index B, Index visits, Index H, const K& kernel) {
  const Index rows = B >= 2 * kRows ? kRows : 1;  // few sequences: one each, so that there is work for all threads
  launch(label, r, (B + rows - 1) / rows, Walk<K>{kernel, B, visits, H, rows});
}

#endif

}  // namespace ssm::rnn_op
