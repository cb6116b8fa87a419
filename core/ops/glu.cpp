// glu.cpp - gates: a * sigmoid(b) on the halves of one tensor, and y * silu(z) of two.
#include "launch.hpp"
#include "lib/each.hpp"
#include "math.hpp"
#include "ops.hpp"

namespace ssm::glu_op {

template <bool add>
struct GluBackward {
  const Real *X, *dY;
  Real* dX;
  Index D;
  KOKKOS_FUNCTION void operator()(Index row, Index c) const {
    const Index i = row * 2 * D + c;
    const Real s = sigmoid(X[i + D]), dy = dY[row * D + c], a = X[i];
    put<add>(dX, i, dy * s);
    put<add>(dX, i + D, dy * a * s * (1 - s));
  }
};

template <bool add_a, bool add_z>
struct GateBackward {
  const Real *A, *Z, *dY;
  Real *dA, *dZ;
  KOKKOS_FUNCTION void operator()(Index i) const {
    const Real z = Z[i], s = sigmoid(z), dy = dY[i], a = A[i];
    put<add_a>(dA, i, dy * z * s);
    put<add_z>(dZ, i, dy * a * s * (1 + z * (1 - s)));
  }
};

// x (.., 2D) or, of order BDT, (B,2D,T): in both cases `rows` rows whose two halves of `half` entries are contiguous.
struct Glu final : Op {
  Tensor x, y;
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

  void forward(const Run& r) override {
    const Real* X = v(x);
    Real* Y = v(y);
    const Index D = half;
    each_row(
        "ssm::glu", r, rows, D, KOKKOS_LAMBDA(const Index row, const Index c) {
          const Real *a = X + row * 2 * D, *b = a + D;
          Y[row * D + c] = a[c] * sigmoid(b[c]);
        });
  }
  void backward(const Run& r) override {
    const Grad dX = g(x);
    if (dX.add) each_row("ssm::glu_backward", r, rows, half, GluBackward<true>{v(x), d(y), dX.p, half});
    else each_row("ssm::glu_backward", r, rows, half, GluBackward<false>{v(x), d(y), dX.p, half});
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real);
    return {{4 * n_, n_, 3 * real * n_}, {8 * n_, n_, 5 * real * n_}};
  }
};

struct SiluGate final : Op {
  Tensor a, z, y;
  SiluGate(Net& net, Tensor a_, Tensor z_) : Op(net), a(in(a_, save)), z(in(z_, save)), y(out(a_, drop)) {
    if (a.size() != z.size() || a.order != z.order) throw std::logic_error("silu_gate needs two tensors of one shape");
  }
  const char* name() const override { return "silu_gate"; }

  void forward(const Run& r) override {
    const Real *A = v(a), *Z = v(z);
    Real* Y = v(y);
    each(
        "ssm::silu_gate", r, y.size(), KOKKOS_LAMBDA(const Index i) { Y[i] = A[i] * silu(Z[i]); });
  }
  void backward(const Run& r) override {
    if (g(a).add) to_z<true>(r);
    else to_z<false>(r);
  }
  template <bool add_a>
  void to_z(const Run& r) {
    const Grad dA = g(a), dZ = g(z);
    if (dZ.add) each("ssm::silu_gate_backward", r, y.size(), GateBackward<add_a, true>{v(a), v(z), d(y), dA.p, dZ.p});
    else each("ssm::silu_gate_backward", r, y.size(), GateBackward<add_a, false>{v(a), v(z), d(y), dA.p, dZ.p});
  }
  Cost cost() const override {
    const double n_ = static_cast<double>(y.size()), real = sizeof(Real);
    return {{5 * n_, n_, 3 * real * n_}, {12 * n_, n_, 5 * real * n_}};
  }
};

}  // namespace ssm::glu_op

namespace ssm {

Tensor glu(Net& n, Tensor x) { return n.add<glu_op::Glu>(x); }
Tensor silu_gate(Net& n, Tensor y, Tensor z) { return n.add<glu_op::SiluGate>(y, z); }

}  // namespace ssm
