// channels.cpp - channels split off, repeated, and multiplied head by head, in the order BDT that convolutions work in.
#include "launch.hpp"
#include "lib/each.hpp"
#include "lib/turn_gpu.hpp"
#include "ops.hpp"
#include "ops/filters.hpp"

namespace ssm::channels_op {

Tensor bdt(Index B, Index D, Index T) { return shaped({B, D, T}, Order::BDT); }

struct Split final : Op {
  Tensor x, y;
  std::vector<Tensor> parts;
  Split(Net& net, Tensor x_, const std::vector<Index>& sizes) : Op(net), x(in(x_, drop)) {
    Index sum = 0;
    for (const Index size : sizes) parts.push_back(out(bdt(x.B(), size, x.T()), drop)), sum += size;
    if (x.order != Order::BTD || x.rank != 3 || sum != x.D()) throw std::logic_error("split_channels takes (B,T,C), all of its channels");
    y = parts[0];
  }
  const char* name() const override { return "split_channels"; }

#if defined(SSM_GPU_CODE)
  void give(const char* label, const Run& r, const Real* X, Index first, Index size, Real* part) const {
    turn_tiles(label, r, x.B(), {X + first, {part, false}, x.T(), size, x.T() * x.D(), x.D(), size * x.T(), x.T()});
  }
  void take(const char* label, const Run& r, const Real* part, Index size, Grad dX, Index first) const {
    turn_tiles(label, r, x.B(), {part, {dX.p + first, dX.add}, size, x.T(), size * x.T(), x.T(), x.T() * x.D(), x.D()});
  }
#else
  // f(at of (B,T,C), at of (B,size,T)) for every entry of one part, tile by tile.
  template <class F>
  void walk(const char* label, const Run& r, Index first, Index size, const F& f) const {
    constexpr Index kTile = 32;
    const Index T = x.T(), C = x.D(), down = (T + kTile - 1) / kTile, across = (size + kTile - 1) / kTile, tiles = down * across;
    launch(
        label, r, x.B() * tiles, KOKKOS_LAMBDA(const Index k) {
          const Index b = k / tiles, tile = k - b * tiles, t0 = tile % down * kTile, c0 = tile / down * kTile;
          const Index t1 = t0 + kTile < T ? t0 + kTile : T, c1 = c0 + kTile < size ? c0 + kTile : size;
          for (Index c = c0; c < c1; ++c) {
            SSM_INDEPENDENT
            for (Index t = t0; t < t1; ++t) f((b * T + t) * C + first + c, (b * size + c) * T + t);
          }
        });
  }
  void give(const char* label, const Run& r, const Real* X, Index first, Index size, Real* part) const {
    walk(
        label, r, first, size, KOKKOS_LAMBDA(const Index from, const Index at) { part[at] = X[from]; });
  }
  void take(const char* label, const Run& r, const Real* part, Index size, Grad dX, Index first) const {
    walk(
        label, r, first, size, KOKKOS_LAMBDA(const Index to, const Index at) { dX(to, part[at]); });
  }
#endif
  void forward(const Run& r) override {
    Index first = 0;
    for (const Tensor& part : parts) {
      give("ssm::split_channels", r, v(x), first, part.D(), v(part));
      first += part.D();
    }
  }
  void backward(const Run& r) override {
    Index first = 0;
    for (const Tensor& part : parts) {
      take("ssm::split_channels_backward", r, d(part), part.D(), g(x), first);
      first += part.D();
    }
  }
  Cost cost() const override {
    const double bytes = 2.0 * sizeof(Real) * static_cast<double>(x.size());
    return {{0, 0, bytes}, {0, 0, bytes}};
  }
};

struct Repeat final : Op {
  Tensor x, y;
  Index count;
  Repeat(Net& net, Tensor x_, Index times) : Op(net), x(in(x_, drop)), y(out(bdt(x_.B(), times * x_.D(), x_.T()), drop)), count(times) {
    if (x.order != Order::BDT || x.rank != 3) throw std::logic_error("repeat_channels takes (B,H,T)");
  }
  const char* name() const override { return "repeat_channels"; }

  void forward(const Run& r) override {
    const Index block = x.D() * x.T(), times = count;
    const Real* X = v(x);
    Real* Y = v(y);
    each_row(
        "ssm::repeat_channels", r, x.B() * count, block,
        KOKKOS_LAMBDA(const Index row, const Index i) { Y[row * block + i] = X[row / times * block + i]; });
  }
  void backward(const Run& r) override {
    const Index block = x.D() * x.T(), times = count;
    const Real* dY = d(y);
    const Grad dX = g(x);
    each_row(
        "ssm::repeat_channels_backward", r, x.B(), block, KOKKOS_LAMBDA(const Index b, const Index i) {
          Real sum = 0;
          for (Index k = 0; k < times; ++k) sum += dY[(b * times + k) * block + i];
          dX(b * block + i, sum);
        });
  }
  Cost cost() const override {
    const double bytes = static_cast<double>(sizeof(Real)) * static_cast<double>(x.size() + y.size());
    return {{0, 0, bytes}, {static_cast<double>(y.size()), 0, bytes}};
  }
};

// Row `channel` of a (B,H m,T) tensor, and rows ((b,i,j),h) of a (B m m, H, T) one.
struct Heads {
  Index H, m, T;
  SSM_FN Index row(Index b, Index i, Index j, Index h) const { return (((b * m + i) * m + j) * H + h) * T; }
};

struct Outer final : Op {
  Tensor a, b, y;
  Heads heads;
  Outer(Net& net, Tensor a_, Tensor b_, Index m) : Op(net), a(in(a_, save)), b(in(b_, save)), heads{a_.D() / m, m, a_.T()} {
    if (a.order != Order::BDT || b.order != Order::BDT || a.size() != b.size()) throw std::logic_error("outer_heads takes two (B,d,T)");
    y = out(bdt(a.B() * m * m, heads.H, heads.T), drop);
  }
  const char* name() const override { return "outer_heads"; }

  void forward(const Run& r) override {
    const Heads s = heads;
    const Real *A = v(a), *B = v(b);
    Real* Y = v(y);
    each_row(
        "ssm::outer_heads", r, a.B() * a.D(), s.T, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Index d = s.H * s.m, n_ = row / d, h = row % d / s.m, i = row % s.m;
          for (Index j = 0; j < s.m; ++j) Y[s.row(n_, i, j, h) + t] = A[row * s.T + t] * B[(row - i + j) * s.T + t];
        });
  }
  void backward(const Run& r) override {
    const Heads s = heads;
    const Real *A = v(a), *B = v(b), *dY = d(y);
    const Grad dA = g(a), dB = g(b);
    each_row(
        "ssm::outer_heads_backward", r, a.B() * a.D(), s.T, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Index d = s.H * s.m, n_ = row / d, h = row % d / s.m, i = row % s.m;
          Real to_a = 0, to_b = 0;
          for (Index j = 0; j < s.m; ++j) {
            const Index other = (row - i + j) * s.T + t;
            to_a += dY[s.row(n_, i, j, h) + t] * B[other];
            to_b += dY[s.row(n_, j, i, h) + t] * A[other];
          }
          dA(row * s.T + t, to_a);
          dB(row * s.T + t, to_b);
        });
  }
  Cost cost() const override {
    const double all = static_cast<double>(y.size()), in_ = static_cast<double>(2 * a.size()), real = sizeof(Real);
    return {{all, 0, real * (all + in_)}, {4 * all, 0, real * (all + 2 * in_)}};
  }
};

struct Contract final : Op {
  Tensor q, x, y;
  Heads heads;
  Contract(Net& net, Tensor q_, Tensor x_, Index m) : Op(net), q(in(q_, save)), x(in(x_, save)), heads{q_.D() / m, m, q_.T()} {
    if (q.order != Order::BDT || x.order != Order::BDT || x.size() != m * q.size()) throw std::logic_error("contract_heads: shapes");
    y = out(q, drop);
  }
  const char* name() const override { return "contract_heads"; }

  void forward(const Run& r) override {
    const Heads s = heads;
    const Real *Q = v(q), *X = v(x);
    Real* Y = v(y);
    each_row(
        "ssm::contract_heads", r, q.B() * q.D(), s.T, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Index d = s.H * s.m, n_ = row / d, h = row % d / s.m, j = row % s.m;
          Real sum = 0;
          for (Index i = 0; i < s.m; ++i) sum += Q[(row - j + i) * s.T + t] * X[s.row(n_, i, j, h) + t];
          Y[row * s.T + t] = sum;
        });
  }
  void backward(const Run& r) override {
    const Heads s = heads;
    const Real *Q = v(q), *X = v(x), *dY = d(y);
    const Grad dQ = g(q), dX = g(x);
    each_row(
        "ssm::contract_heads_backward", r, q.B() * q.D(), s.T, KOKKOS_LAMBDA(const Index row, const Index t) {
          const Index d = s.H * s.m, n_ = row / d, h = row % d / s.m, i = row % s.m;
          Real to_q = 0;
          for (Index j = 0; j < s.m; ++j) {
            const Index at = s.row(n_, i, j, h) + t;
            const Real dy = dY[(row - i + j) * s.T + t];
            to_q += dy * X[at];
            dX(at, dy * Q[row * s.T + t]);
          }
          dQ(row * s.T + t, to_q);
        });
  }
  Cost cost() const override {
    const double all = static_cast<double>(x.size()), few = static_cast<double>(2 * q.size()), real = sizeof(Real);
    return {{2 * all, 0, real * (all + few)}, {3 * all, 0, real * (2 * all + 2 * few)}};
  }
};

}  // namespace ssm::channels_op

namespace ssm {

std::vector<Tensor> split_channels(Net& n, Tensor x, const std::vector<Index>& sizes) {
  return n.push(std::make_unique<channels_op::Split>(n, x, sizes))->parts;
}
Tensor repeat_channels(Net& n, Tensor x, Index count) { return count == 1 ? x : n.add<channels_op::Repeat>(x, count); }
Tensor outer_heads(Net& n, Tensor a, Tensor b, Index m) { return m == 1 ? multiply(n, a, b) : n.add<channels_op::Outer>(a, b, m); }
Tensor contract_heads(Net& n, Tensor q, Tensor y, Index m) { return m == 1 ? multiply(n, q, y) : n.add<channels_op::Contract>(q, y, m); }

}  // namespace ssm
