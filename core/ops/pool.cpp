// pool.cpp - from a sequence to one vector, and from two vectors to one.
#include "error.hpp"
#include "launch.hpp"
#include "lib/into.hpp"
#include "ops.hpp"

namespace ssm::pool_op {

struct Pool final : Op {
  enum class Kind { mean, last, first };
  Kind kind;
  bool full;  // ignores lengths
  Tensor x, y;
  Index splits;
  Scratch parts;
  State kept;  // mean: running mean (D) and count; first: the first row (D) and whether it is there

  Pool(Net& net, Tensor x_, Kind kind_, bool full_)
      : Op(net), kind(kind_), full(full_), x(in(x_, drop)), y(out(shaped({x_.B(), x_.D()}), drop)) {
    if (x.rank != 3 || x.order != Order::BTD) throw std::logic_error("pool needs (B,T,D)");
    splits = (x.T() + 63) / 64 < 64 ? (x.T() + 63) / 64 : 64;
    if (kind == Kind::mean) parts = scratch(x.B() * splits * x.D());
    if (kind != Kind::last) kept = state(x.D() + 1);
  }
  const char* name() const override { return "pool"; }
  const std::int32_t* lengths() const { return full ? nullptr : n.batch.lengths; }

  void forward(const Run& r) override {
    const Index T = x.T(), D = x.D();
    const std::int32_t* len = lengths();
    const Real* X = v(x);
    Real* Y = v(y);
    if (kind != Kind::mean) {
      const bool last = kind == Kind::last;
      each_row(
          "ssm::pool", r, x.B(), D, KOKKOS_LAMBDA(const Index b, const Index c) {
            const Index t = last ? (len ? len[b] : T) - 1 : 0;
            Y[b * D + c] = X[(b * T + t) * D + c];
          });
      return;
    }
    Real* part = v(parts);
    launch_lanes("ssm::pool_parts", r, x.B() * splits, D, Parts{X, part, len, T, D, splits});
    const Index count = splits;
    launch(
        "ssm::pool", r, x.B() * D, KOKKOS_LAMBDA(const Index i) {
          const Index b = i / D, c = i - b * D;
          Real sum = 0;
          for (Index k = 0; k < count; ++k) sum += part[(b * count + k) * D + c];
          Y[i] = sum / static_cast<Real>(len ? static_cast<Index>(len[b]) : T);
        });
  }
  // Sum over piece `row % splits` of the valid positions of sequence `row / splits`.
  struct Parts {
    const Real* X;
    Real* part;
    const std::int32_t* len;
    Index T, D, splits;
    template <int W>
    KOKKOS_FUNCTION void run(Index row, Index first) const {
      const Index b = row / splits, k = row - b * splits, length = len ? len[b] : T;
      Real sum[W];
      for (int l = 0; l < W; ++l) sum[l] = 0;
      for (Index t = length * k / splits; t < length * (k + 1) / splits; ++t)
        for (int l = 0; l < W; ++l) sum[l] += X[(b * T + t) * D + first + l];
      for (int l = 0; l < W; ++l) part[row * D + first + l] = sum[l];
    }
  };
  void backward(const Run& r) override {
    const Index T = x.T(), D = x.D();
    const std::int32_t* len = lengths();
    const Real* dY = d(y);
    const Kind what = kind;
    each_row_into(
        "ssm::pool_backward", r, x.B() * T, D, D, g(x), KOKKOS_LAMBDA(const Index row, const Index c) {
          const Index b = quotient(row, T), t = row - b * T, length = len ? len[b] : T;
          const Real weight = what == Kind::mean ? (t < length ? 1 / static_cast<Real>(length) : Real(0))
                                                 : Real(t == (what == Kind::last ? length - 1 : 0));
          return weight * dY[b * D + c];
        });
  }
  void step(const Run& r) override {
    const Index D = x.D();
    const Real* X = v(x);
    Real* Y = v(y);
    if (kind == Kind::last) {
      each(
          "ssm::pool_step", r, y.size(), KOKKOS_LAMBDA(const Index i) { Y[i] = X[i]; });
      return;
    }
    Real* S = v(kept);
    const bool mean = kind == Kind::mean;
    each_row(
        "ssm::pool_step", r, x.B(), D, KOKKOS_LAMBDA(const Index b, const Index c) {
          Real* row = S + b * (D + 1);
          const Real seen = row[D];
          row[c] = mean ? row[c] + (X[b * D + c] - row[c]) / (seen + 1) : seen > 0 ? row[c] : X[b * D + c];
          Y[b * D + c] = row[c];
        });
    launch(
        "ssm::pool_count", r, x.B(), KOKKOS_LAMBDA(const Index b) { S[b * (D + 1) + D] += 1; });
  }
  Cost cost() const override {
    const double real = sizeof(Real), all = static_cast<double>(x.size()), few = static_cast<double>(y.size());
    return {{kind == Kind::mean ? all : 0, 0, real * (kind == Kind::mean ? all + few : 2 * few)}, {all, 0, real * (all + few)}};
  }
};

struct JoinPairs final : Op {
  Tensor x, y;
  JoinPairs(Net& net, Tensor x_) : Op(net), x(in(x_, save)), y(out(shaped({x_.n[0] / 2, 4 * x_.n[1]}), drop)) {
    if (x.rank != 2 || x.n[0] % 2) throw std::logic_error("join_pairs needs (2B,D)");
  }
  const char* name() const override { return "join_pairs"; }

  void forward(const Run& r) override {
    const Index D = x.n[1];
    const Real* X = v(x);
    Real* Y = v(y);
    each_row(
        "ssm::join_pairs", r, y.n[0], D, KOKKOS_LAMBDA(const Index i, const Index c) {
          const Real a = X[2 * i * D + c], b = X[(2 * i + 1) * D + c];
          Real* row = Y + i * 4 * D + c;
          row[0] = a, row[D] = b, row[2 * D] = a - b, row[3 * D] = a * b;
        });
  }
  void backward(const Run& r) override {
    const Index D = x.n[1];
    const Real *X = v(x), *dY = d(y);
    const Grad dX = g(x);
    each_row(
        "ssm::join_pairs_backward", r, y.n[0], D, KOKKOS_LAMBDA(const Index i, const Index c) {
          const Index a = 2 * i * D + c, b = a + D;
          const Real* row = dY + i * 4 * D + c;
          const Real xa = X[a], xb = X[b];
          dX(a, row[0] + row[2 * D] + row[3 * D] * xb);
          dX(b, row[D] - row[2 * D] + row[3 * D] * xa);
        });
  }
  Cost cost() const override {
    const double real = sizeof(Real), all = static_cast<double>(x.size());
    return {{all, 0, 3 * real * all}, {3 * all, 0, 4 * real * all}};
  }
};

}  // namespace ssm::pool_op

namespace ssm {

Tensor pool(Net& n, Tensor x, const std::string& kind) {
  using pool_op::Pool;
  if (kind == "mean") return n.add<Pool>(x, Pool::Kind::mean, false);
  if (kind == "last") return n.add<Pool>(x, Pool::Kind::last, false);
  if (kind == "first") return n.add<Pool>(x, Pool::Kind::first, false);
  if (kind == "mean_full") return n.add<Pool>(x, Pool::Kind::mean, true);
  if (kind == "last_full") return n.add<Pool>(x, Pool::Kind::last, true);
  unknown("pooling", kind, {"mean", "last", "first", "mean_full", "last_full"});
}

Tensor join_pairs(Net& n, Tensor x) { return n.add<pool_op::JoinPairs>(x); }

}  // namespace ssm
