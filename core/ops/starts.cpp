// starts.cpp - where the sequences of a row start, and gates that close there.
#include "ops/starts.hpp"

#include "launch.hpp"
#include "lib/each.hpp"

namespace ssm::starts_op {

constexpr Index kChunk = 128;  // positions of a work item

struct SequenceStarts final : Op {
  Tensor y;
  Index token;
  Scratch last;  // (B, chunks): where the last sequence starts that starts in a chunk, -1: none does

  SequenceStarts(Net& net, Index token_) : Op(net), y(keep(shaped({n.B, n.T}))), token(token_), last(scratch(n.B * chunks())) {}
  const char* name() const override { return "sequence_starts"; }
  Index chunks() const { return (n.T + kChunk - 1) / kChunk; }

  void forward(const Run& r) override {
    const std::int32_t* tokens = n.batch.tokens;
    const Index T = n.T, C = chunks(), which = token;
    Real *seen = v(last), *Y = v(y);
    launch(
        "ssm::starts_seen", r, n.B * C, KOKKOS_LAMBDA(const Index i) {
          const Index b = i / C, first = (i - b * C) * kChunk, end = first + kChunk < T ? first + kChunk : T;
          Index at = first == 0 ? 0 : -1;
          for (Index t = first; t < end; ++t)
            if (tokens[b * T + t] == which) at = t;
          seen[i] = static_cast<Real>(at);
        });
    launch(
        "ssm::starts", r, n.B * C, KOKKOS_LAMBDA(const Index i) {
          const Index b = i / C, first = (i - b * C) * kChunk, end = first + kChunk < T ? first + kChunk : T;
          Index before = i;
          while (before > b * C && (before == i || seen[before] < 0)) --before;
          Real start = seen[before];
          if (first == 0) start = 0;
          for (Index t = first; t < end; ++t) {
            if (tokens[b * T + t] == which) start = static_cast<Real>(t);
            Y[b * T + t] = start;
          }
        });
  }
  void backward(const Run&) override {}
  Cost cost() const override {
    const double places = static_cast<double>(y.size());
    return {{0, 0, (4 + sizeof(Real)) * places}, {}};
  }
};

struct Cut final : Op {
  Tensor gate, starts, y;
  CutGate o;

  Cut(Net& net, Tensor gate_, Tensor starts_, const CutGate& options)
      : Op(net), gate(gate_), starts(in(starts_, save)), y(out(shaped({n.B, n.T, options.width}), drop)), o(options) {
    if (gate.id >= 0) in(gate, drop);
    if (gate.id >= 0 && gate.last() != o.width) throw std::logic_error("cut_gate: a gate of another width");
  }
  const char* name() const override { return "cut_gate"; }

  void forward(const Run& r) override {
    const Real *from = gate.id < 0 ? nullptr : v(gate), *S = v(starts);
    const Index T = n.T, width = o.width;
    const CutGate c = o;
    Real* Y = v(y);
    each_row(
        "ssm::cut_gate", r, y.rows(), width, KOKKOS_LAMBDA(const Index row, const Index k) {
          const Real steady =
              c.decay_first > 0 ? static_cast<Real>(::log1p(-::exp2(-(c.decay_first + c.decay_step * static_cast<double>(k))))) : c.open;
          const Real gate_ = from ? from[row * width + k] : steady;
          Y[row * width + k] = starts_at(S, T, row / T, row % T) ? c.closed : gate_;
        });
  }
  void backward(const Run& r) override {
    if (gate.id < 0) return;
    const Real *dY = d(y), *S = v(starts);
    const Index T = n.T, width = o.width;
    const Grad to = g(gate);
    each_row(
        "ssm::cut_gate_backward", r, y.rows(), width, KOKKOS_LAMBDA(const Index row, const Index k) {
          to(row * width + k, starts_at(S, T, row / T, row % T) ? Real(0) : dY[row * width + k]);
        });
  }
  Cost cost() const override {
    const double bytes = sizeof(Real) * static_cast<double>(y.size()) * (gate.id < 0 ? 1 : 2);
    return {{0, 0, bytes}, {0, 0, gate.id < 0 ? 0 : bytes}};
  }
};

}  // namespace ssm::starts_op

namespace ssm {

Tensor sequence_starts(Net& n, Index token) { return n.add<starts_op::SequenceStarts>(token); }
Tensor cut_gate(Net& n, Tensor gate, Tensor starts, const CutGate& options) {
  return starts.id < 0 ? gate : n.add<starts_op::Cut>(gate, starts, options);
}

}  // namespace ssm
