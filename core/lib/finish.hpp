// finish.hpp - what a GPU's kernel does to an entry h(row, c) of a matrix before it writes it: the step of the op that comes next in a stream,
// where that looks at one entry (or a pair of them) at a time. Net::join_steps says when.
#pragma once
#include "math.hpp"
#include "real.hpp"

#if SSM_DEVICE_CODE
#define SSM_STEADY _Pragma("unroll")  // the loop's arrays live in registers
#else
#define SSM_STEADY
#endif

namespace ssm {

// Every kind starts from  v = h + bias_c + onto(row, c) + skip_c in(row, c)  of what is not null, and writes y(row, c). Leading extents: ld.
struct Finish {
  static constexpr int kTaps = 4;  // of conv, at most
  enum class Kind : int {
    store,
    gelu,
    gelu_tanh,
    silu,
    gate,   // other silu(v) or other sigmoid(v) where v is what gates, else v silu(other), v sigmoid(other)
    conv,   // a causal convolution of w taps over this and the w-1 entries before it: state (rows,w-1,wide), oldest first, moves on
    decay,  // y2 = delta = cut(softplus(v + at_c)), y = -e^{rate_c} delta
    glu,    // of the pair v(row, c), v(row, c + count/2): v sigmoid(its partner), c < count/2
    modes,  // of such a pair, real and imaginary part: state = lambda state + v, y = state, where lambda (4,count/2) is that of mimo_scan
  };
  Kind kind = Kind::store;
  Index count = 0;  // columns
  Real* y = nullptr;
  Index ld = 0;
  const Real *bias = nullptr, *onto = nullptr;  // onto: leading extent ld
  const Real *skip = nullptr, *in = nullptr;    // in (rows,count)
  // gate: other (rows,count)
  const Real* other = nullptr;
  bool by_silu = false, gates = false;
  // conv: taps (count,w), at its bias      decay: rate, at (count)      modes: taps is lambda
  Real* state = nullptr;
  const Real *taps = nullptr, *at = nullptr, *rate = nullptr;
  Index wide = 0;
  int w = 0;
  bool silu = false;
  Real low = 0, high = 0;
  Real* y2 = nullptr;

  SSM_FN bool pairs() const { return kind == Kind::glu || kind == Kind::modes; }
};

// What it reads of memory for one entry, so that a kernel has it on its way while it still sums.
struct Held {
  Real start, partner, a[8];  // partner: the start of the other one of a pair
};

SSM_FN Real start_of(const Finish& f, Index row, Index c) {
  Real v = f.bias ? f.bias[c] : Real(0);
  if (f.onto) v += f.onto[row * f.ld + c];
  if (f.skip) v += f.skip[c] * f.in[row * f.count + c];
  return v;
}

SSM_FN Held held_for(const Finish& f, Index row, Index c) {
  Held h{};
  h.start = start_of(f, row, c);
  const Index P = f.count / 2;
  if (f.pairs()) h.partner = start_of(f, row, c + P);
  if (f.kind == Finish::Kind::gate) {
    h.a[0] = f.other[row * f.count + c];
  } else if (f.kind == Finish::Kind::conv) {
    const Real* past = f.state + row * (f.w - 1) * f.wide + c;
    SSM_STEADY
    for (int k = 0; k < Finish::kTaps; ++k) h.a[k] = k < f.w ? f.taps[c * f.w + k] : Real(0);
    SSM_STEADY
    for (int k = 0; k + 1 < Finish::kTaps; ++k) h.a[Finish::kTaps + k] = k + 1 < f.w ? past[k * f.wide] : Real(0);
    h.a[7] = f.at[c];
  } else if (f.kind == Finish::Kind::decay) {
    h.a[0] = f.at[c], h.a[1] = f.rate[c];
  } else if (f.kind == Finish::Kind::modes) {
    SSM_STEADY
    for (int k = 0; k < 4; ++k) h.a[k] = f.taps[k * P + c];
    h.a[4] = f.state[row * 2 * P + c], h.a[5] = f.state[row * 2 * P + P + c];
  }
  return h;
}

// One entry, where `sum` is h(row, c) and `other` h(row, c + count/2) of a pair.
SSM_FN void finish(const Finish& f, const Held& h, Index row, Index c, Real sum, Real other) {
  const Real v = sum + h.start;
  Real* y = f.y + row * f.ld + c;
  switch (f.kind) {
    case Finish::Kind::store:
      *y = v;
      break;
    case Finish::Kind::gelu:
      *y = v * gauss(v).cdf;
      break;
    case Finish::Kind::gelu_tanh:
      *y = gelu_tanh(v);
      break;
    case Finish::Kind::silu:
      *y = silu(v);
      break;
    case Finish::Kind::gate: {
      const Real by = f.gates ? v : h.a[0];
      *y = (f.gates ? h.a[0] : v) * (f.by_silu ? silu(by) : sigmoid(by));
      break;
    }
    case Finish::Kind::conv: {
      Real *past = f.state + row * (f.w - 1) * f.wide + c, pre = h.a[7];
      SSM_STEADY
      for (int k = 0; k < Finish::kTaps; ++k) {
        if (k >= f.w) continue;
        pre += h.a[k] * (k + 1 < f.w ? h.a[Finish::kTaps + k] : v);
        if (k > 0) past[(k - 1) * f.wide] = k + 1 < f.w ? h.a[Finish::kTaps + k] : v;
      }
      *y = f.silu ? silu(pre) : pre;
      break;
    }
    case Finish::Kind::decay: {
      const Real step = softplus(v + h.a[0]), delta = step < f.low ? f.low : step > f.high ? f.high : step;
      *y = -fast_exp(h.a[1]) * delta;
      if (f.y2) f.y2[row * f.ld + c] = delta;
      break;
    }
    case Finish::Kind::glu:
      *y = v * sigmoid(other + h.partner);
      break;
    case Finish::Kind::modes: {
      const Index P = f.count / 2;
      const Real re = h.a[4], im = h.a[5];
      Real* z = f.state + row * 2 * P + c;
      y[0] = z[0] = v + (h.a[0] * re - h.a[1] * im + (h.a[2] * re - h.a[3] * im));
      y[P] = z[P] = other + h.partner + (h.a[0] * im + h.a[1] * re + (h.a[2] * im + h.a[3] * re));
      break;
    }
  }
}

}  // namespace ssm
