// glu.cpp - gates: a * sigmoid(b) on the halves of one tensor, y * silu(z) and y * sigmoid(z) of two. Each can add a tensor to what it makes.
#include "launch.hpp"
#include "lib/finish.hpp"
#include "lib/into.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm::glu_op {

// x (.., 2D) or, of order BDT, (B,2D,T): in both cases `rows` rows whose two halves of `half` entries are contiguous.
struct Glu final : Op {
  Tensor x, y, added;
  Index rows, half;
  static Tensor halved(Tensor x) {
    Index& extent = x.n[x.order == Order::BDT && x.rank == 3 ? 1 : x.rank - 1];
    if (extent % 2) throw std::logic_error("glu needs an even number of channels");
    extent /= 2;
    return x;
  }
  Glu(Net& net, Tensor x_) : Op(net), x(in(x_, save)), y(out(halved(x_), drop)) {
    rows = x.order == Order::BDT && x.rank == 3 ? x.B() : x.rows();
    half = y.size() / rows;
  }
  const char* name() const override { return "glu"; }
  bool adds(Tensor more) override {
    added = in(more, drop), passes(added, y);
    return true;
  }

  void forward(const Run& r) override {
    const Real* X = v(x);
    const Index D = half;
    if (added.id >= 0) {
      const Real* more = v(added);
      return each_row_into(
          "ssm::glu_add", r, rows, D, D, v(y), KOKKOS_LAMBDA(const Index row, const Index c) {
            const Real *a = X + row * 2 * D, *b = a + D;
            return more[row * D + c] + a[c] * sigmoid(b[c]);
          });
    }
    each_row_into(
        "ssm::glu", r, rows, D, D, v(y), KOKKOS_LAMBDA(const Index row, const Index c) {
          const Real *a = X + row * 2 * D, *b = a + D;
          return a[c] * sigmoid(b[c]);
        });
  }
  Follows follows(Tensor) const override { return added.id < 0 && x.order == Order::BTD ? Follows::pairs : Follows::no; }
  int finish(Tensor, Finish* to) const override {
    *to = Finish{};
    to->kind = Finish::Kind::glu;
    to->y = v(y), to->ld = half, to->count = 2 * half;
    return 1;
  }
  void backward(const Run& r) override {
    const Real *X = v(x), *dY = d(y);
    const Grad da = g(x), db{da.p + half, da.add};
    const Index D = half;
    each_row_into(
        "ssm::glu_backward", r, rows, D, 2 * D, da, db, KOKKOS_LAMBDA(const Index row, const Index c) {
          const Index i = row * 2 * D + c;
          const Real s = sigmoid(X[i + D]), dy = dY[row * D + c];
          return Two{dy * s, dy * X[i] * s * (1 - s)};
        });
    if (added.id >= 0) pass(r, y, added);
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real), more = added.id < 0 ? 0 : 1;
    return {{(4 + more) * n_, n_, (3 + more) * real * n_}, {8 * n_, n_, 5 * real * n_}};
  }
};

// What a gate multiplies by, and its derivative.
struct Silu {
  static constexpr bool kSilu = true;
  static constexpr const char *name = "silu_gate", *forward = "ssm::silu_gate", *adding = "ssm::silu_gate_add",
                              *backward = "ssm::silu_gate_backward";
  static constexpr double flops = 5, flops_back = 12;
  static SSM_FN Two both(Real z) {
    const Real s = sigmoid(z);
    return {z * s, s * (1 + z * (1 - s))};
  }
};
struct Sigmoid {
  static constexpr bool kSilu = false;
  static constexpr const char *name = "sigmoid_gate", *forward = "ssm::sigmoid_gate", *adding = "ssm::sigmoid_gate_add",
                              *backward = "ssm::sigmoid_gate_backward";
  static constexpr double flops = 4, flops_back = 8;
  static SSM_FN Two both(Real z) {
    const Real s = sigmoid(z);
    return {s, s * (1 - s)};
  }
};

template <class Kind>
struct Gate final : Op {
  Tensor a, z, y, added;
  Gate(Net& net, Tensor a_, Tensor z_) : Op(net), a(in(a_, save)), z(in(z_, save)), y(out(a_, drop)) {
    if (a.size() != z.size() || a.order != z.order) throw std::logic_error(std::string(Kind::name) + " needs two tensors of one shape");
  }
  const char* name() const override { return Kind::name; }
  bool adds(Tensor more) override {
    added = in(more, drop), passes(added, y);
    return true;
  }

  void forward(const Run& r) override {
    const Real *A = v(a), *Z = v(z);
    if (added.id >= 0) {
      const Real* more = v(added);
      return each_into(
          Kind::adding, r, y.size(), v(y), KOKKOS_LAMBDA(const Index i) { return more[i] + A[i] * Kind::both(Z[i]).one; });
    }
    each_into(
        Kind::forward, r, y.size(), v(y), KOKKOS_LAMBDA(const Index i) { return A[i] * Kind::both(Z[i]).one; });
  }
  Follows follows(Tensor) const override { return added.id < 0 ? Follows::entries : Follows::no; }
  int finish(Tensor h, Finish* to) const override {
    *to = Finish{};
    to->kind = Finish::Kind::gate;
    to->gates = h.id == z.id, to->by_silu = Kind::kSilu;
    to->other = v(to->gates ? a : z);
    to->y = v(y), to->ld = to->count = columns(y);
    return 1;
  }
  void backward(const Run& r) override {
    const Real *A = v(a), *Z = v(z), *dY = d(y);
    each_into(
        Kind::backward, r, y.size(), g(a), g(z), KOKKOS_LAMBDA(const Index i) {
          const Two by = Kind::both(Z[i]);
          return Two{dY[i] * by.one, dY[i] * A[i] * by.two};
        });
    if (added.id >= 0) pass(r, y, added);
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real), more = added.id < 0 ? 0 : 1;
    return {{(Kind::flops + more) * n_, n_, (3 + more) * real * n_}, {Kind::flops_back * n_, n_, 5 * real * n_}};
  }
};

}  // namespace ssm::glu_op

namespace ssm {

Tensor glu(Net& n, Tensor x) { return n.add<glu_op::Glu>(x); }
Tensor silu_gate(Net& n, Tensor y, Tensor z) { return n.add<glu_op::Gate<glu_op::Silu>>(y, z); }
Tensor sigmoid_gate(Net& n, Tensor y, Tensor z) { return n.add<glu_op::Gate<glu_op::Sigmoid>>(y, z); }

}  // namespace ssm
