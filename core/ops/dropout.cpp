// dropout.cpp - inverted dropout. The mask is a pure function of (seed.dropout, op, step, micro-batch, element): backward draws it again.
#include "error.hpp"
#include "launch.hpp"
#include "lib/into.hpp"
#include "ops.hpp"
#include "rng.hpp"

namespace ssm::dropout_op {

// Philox calls whose words one work item draws side by side, 4 numbers a call.
constexpr int kCalls = kOnHost ? 16 : 1;

// Factors (0 or `scale`) of the 4 * kCalls elements from 4 * call on.
struct Mask {
  const StepState* state;
  std::uint64_t stream;
  std::uint32_t threshold;  // a word below it drops its element
  Real scale;

  SSM_FN void draw(std::uint64_t call, Real (&factor)[4 * kCalls]) const {
    const std::uint64_t lane = static_cast<std::uint64_t>(state->step) << 16 | static_cast<std::uint64_t>(state->micro);
    for (int k = 0; k < kCalls; ++k) {
      const Bits bits = philox(state->seed_dropout, stream, call + static_cast<std::uint64_t>(k), lane);
      for (int j = 0; j < 4; ++j) factor[4 * k + j] = bits.v[j] < threshold ? Real(0) : scale;
    }
  }
};

struct Dropout final : Op {
  Tensor x, y;
  double p;
  bool tied;
  Scratch factors;
  Dropout(Net& net, Tensor x_, double p_, bool tied_) : Op(net), x(in(x_, drop)), y(out(x_, drop)), p(p_), tied(tied_) {
    if (tied) factors = scratch(x.B() * x.D());
  }
  const char* name() const override { return "dropout"; }

  void forward(const Run& r) override { apply("ssm::dropout", r, v(x), {v(y), false}); }
  void backward(const Run& r) override { apply("ssm::dropout_backward", r, d(y), g(x)); }

  // to = from * mask
  void apply(const char* label, const Run& r, const Real* from, Grad to) {
    if (r.mode != Mode::train) {
      each_into(
          label, r, x.size(), to, KOKKOS_LAMBDA(const Index i) { return from[i]; });
      return;
    }
    if (!r.state) throw std::logic_error("dropout needs the step state of the run");
    const Mask mask{r.state, mix(hash_name("dropout") + static_cast<std::uint64_t>(index)), static_cast<std::uint32_t>(p * 4294967296.0),
                    static_cast<Real>(1 / (1 - p))};
    constexpr Index W = 4 * kCalls;
    const Index count = tied ? x.B() * x.D() : x.size();
    Real* few = tied ? v(factors) : nullptr;
    launch(
        label, r, (count + W - 1) / W, KOKKOS_LAMBDA(const Index k) {
          Real factor[W];
          mask.draw(static_cast<std::uint64_t>(k * kCalls), factor);
          const Index first = k * W, width = count - first < W ? count - first : W;
          if (few) {
            for (Index j = 0; j < width; ++j) few[first + j] = factor[j];
          } else {
            for (Index j = 0; j < width; ++j) to(first + j, from[first + j] * factor[j]);
          }
        });
    if (!tied) return;
    const Index T = x.T(), D = x.D();
    if (x.order == Order::BTD)
      each_row_into(
          label, r, x.B() * T, D, D, to,
          KOKKOS_LAMBDA(const Index row, const Index c) { return from[row * D + c] * few[quotient(row, T) * D + c]; });
    else
      each_row_into(
          label, r, x.B() * D, T, T, to, KOKKOS_LAMBDA(const Index row, const Index t) { return from[row * T + t] * few[row]; });
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(x.size()), real = sizeof(Real);
    return {{n_, 0, 2 * real * n_}, {n_, 0, 2 * real * n_}};
  }
};

}  // namespace ssm::dropout_op

namespace ssm {

Tensor dropout(Net& n, Tensor x, double p, bool tied) {
  if (p < 0 || p >= 1) throw BadInput("dropout is " + std::to_string(p) + "; it must be in [0, 1)");
  if (p == 0 || n.mode != Mode::train) return x;
  if (tied && x.rank != 3) throw std::logic_error("tied dropout needs a tensor of rank 3");
  return n.add<dropout_op::Dropout>(x, p, tied);
}

}  // namespace ssm
