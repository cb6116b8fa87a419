// embedding.cpp - the ways a sequence enters a model: token table, learned positions, linear patches of features.
//
// A table's gradient needs no atomics: the positions are cut into a fixed number of runs and the vocabulary into blocks; one work item adds
// the gradients of one run that fall into one block to a partial table of that run, and the partial tables are added in order.
#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/into.hpp"
#include "ops.hpp"

namespace ssm {
namespace embedding_op {

constexpr Index kWide = kOnHost ? 1 << 30 : 1;           // channels of one work item: all of them on a CPU
constexpr Index kRuns = kOnHost ? 64 : 256;              // runs of positions, at most
constexpr Index kPartial = kOnHost ? 1 << 20 : 1 << 22;  // numbers of all partial tables, at most
SSM_FN Index least(Index a, Index b) { return a < b ? a : b; }

// y (B,T,D) = table[token]. Tokens lie in [0, vocab): the readers of tasks check that.
struct Embedding final : Op {
  Tensor y;
  Index words, runs_of_rows, blocks_of_words;
  Param table;
  Scratch parts;

  Embedding(Net& net, Index vocab, Index D, const std::string& name, double deviation) : Op(net), words(vocab) {
    y = out(shaped({n.B, n.T, D}), drop);
    table = param(name + ".weight", {vocab, D}, init::normal(deviation));
    runs_of_rows = least(kRuns, least(kPartial / (vocab * D), (y.rows() + 31) / 32));
    if (runs_of_rows < 1) runs_of_rows = 1;
    blocks_of_words = least(vocab, kRuns / runs_of_rows);
    if (n.mode == Mode::train && runs_of_rows > 1) parts = scratch(runs_of_rows * table.size);
  }
  const char* name() const override { return "embedding"; }

  void forward(const Run& r) override {
    const std::int32_t* token = n.batch.tokens;
    const Real* E = v(table);
    const Index D = y.D();
    each_row_into(
        "ssm::embedding", r, y.rows(), D, D, v(y),
        KOKKOS_LAMBDA(const Index row, const Index c) { return E[static_cast<Index>(token[row]) * D + c]; });
  }

  void backward(const Run& r) override {
    const std::int32_t* token = n.batch.tokens;
    const Real* dY = d(y);
    Real* dE = d(table);
    const bool direct = runs_of_rows == 1;
    Real* part = direct ? dE : v(parts);
    const Index D = y.D(), rows = y.rows(), wide = least(kWide, D), items = D / wide;
    const Index vocab = words, runs = runs_of_rows, blocks = blocks_of_words;
    launch(
        "ssm::embedding_bwd", r, runs * blocks * items, KOKKOS_LAMBDA(const Index i) {
          const Index run = i / (blocks * items), block = i / items % blocks, first = i % items * wide;
          const Index low = vocab * block / blocks, high = vocab * (block + 1) / blocks;
          Real* into = part + run * vocab * D;
          if (!direct)
            for (Index k = low; k < high; ++k)
              for (Index c = first; c < first + wide; ++c) into[k * D + c] = 0;
          for (Index row = rows * run / runs; row < rows * (run + 1) / runs; ++row) {
            const Index k = token[row];
            if (k < low || k >= high) continue;
            for (Index c = first; c < first + wide; ++c) into[k * D + c] += dY[row * D + c];
          }
        });
    if (!direct) plain::add_parts(r, part, runs, vocab * D, vocab * D, 1, dE);
  }

  Cost cost() const override {
    const double numbers = static_cast<double>(y.size()), bytes = sizeof(Real) * numbers + 4.0 * static_cast<double>(y.rows());
    return {{0, 0, sizeof(Real) * numbers + bytes}, {numbers, 0, bytes + 2 * sizeof(Real) * static_cast<double>(table.size)}};
  }
};

// y_t = x_t + table[t]; a stream counts its positions, and stays at the last row beyond the table.
struct Positions final : Op {
  Tensor x, y;
  Index rows_of_table;
  Param table;
  State position;

  Positions(Net& net, Tensor x_, const std::string& name) : Op(net), x(x_), rows_of_table(net.l_max) {
    if (x.T() > rows_of_table)
      throw BadInput("learned positions end at l_max = " + std::to_string(rows_of_table) + ", and a length of " + std::to_string(x.T()) +
                     " was asked for");
    in(x, drop);
    y = out(x, drop);
    table = param(name + ".weight", {rows_of_table, x.D()}, init::normal(0.02));
    position = state(1);
  }
  const char* name() const override { return "positions"; }

  void forward(const Run& r) override { run(r, nullptr); }
  void step(const Run& r) override { run(r, v(position)); }

  void run(const Run& r, Real* at) {
    const Real *X = v(x), *P = v(table);
    const Index B = x.B(), T = x.T(), D = x.D(), last = rows_of_table - 1;
    each_row_into(
        "ssm::positions", r, B * T, D, D, v(y), KOKKOS_LAMBDA(const Index row, const Index c) {
          const Index t = at ? least(static_cast<Index>(at[row]), last) : row - quotient(row, T) * T;
          return X[row * D + c] + P[t * D + c];
        });
    if (at)
      launch(
          "ssm::positions_step", r, B,
          KOKKOS_LAMBDA(const Index b) { at[b] = static_cast<Real>(least(static_cast<Index>(at[b]) + 1, last)); });
  }

  void backward(const Run& r) override {
    const Real* dY = d(y);
    Real* dP = d(table);
    const Grad dx = g(x);
    const Index B = x.B(), T = x.T(), D = x.D(), wide = least(kWide, D), items = D / wide;
    launch(
        "ssm::positions_bwd", r, T * items, KOKKOS_LAMBDA(const Index i) {
          const Index t = i / items, first = (i - t * items) * wide;
          for (Index b = 0; b < B; ++b)
            for (Index c = first; c < first + wide; ++c) {
              const Index k = (b * T + t) * D + c;
              dP[t * D + c] += dY[k];
              dx(k, dY[k]);
            }
        });
  }

  Cost cost() const override {
    const double numbers = static_cast<double>(y.size()), used = static_cast<double>(x.T() * x.D());
    return {{numbers, 0, sizeof(Real) * (2 * numbers + used)}, {numbers, 0, sizeof(Real) * (2 * numbers + 2 * used)}};
  }
};

// y (B,T,D) = patches W^T + b; patch t of a sequence is `size` consecutive rows of features (B, T*size, F), W (D, size*F).
struct Patches final : Op {
  Tensor y;
  Index width;
  Param W, b;
  Scratch parts;

  Patches(Net& net, Index size, Index features, Index D, const std::string& name) : Op(net), width(size * features) {
    y = out(shaped({n.B, n.T, D}), drop);
    W = param(name + ".weight", {D, width}, init::torch_linear(width));
    b = param(name + ".bias", {D}, init::torch_linear(width));
    if (n.mode == Mode::train) parts = scratch(gemm_sum_scratch(D, width, y.rows(), 1));
  }
  const char* name() const override { return "patch_embedding"; }

  void forward(const Run& r) override {
    gemm(r, Gemm{.tb = true,
                 .M = y.rows(),
                 .N = y.D(),
                 .K = width,
                 .A = n.batch.features,
                 .lda = width,
                 .B = v(W),
                 .ldb = width,
                 .C = v(y),
                 .ldc = y.D(),
                 .bias = v(b)});
  }
  void backward(const Run& r) override {
    const Gemm to_W{.ta = true,
                    .M = y.D(),
                    .N = width,
                    .K = y.rows(),
                    .A = d(y),
                    .lda = y.D(),
                    .B = n.batch.features,
                    .ldb = width,
                    .beta = 1,
                    .C = d(W),
                    .ldc = width};
    gemm_sum(r, to_W, d(b), room(parts));
  }
  Cost cost() const override {
    const double R = static_cast<double>(y.rows()), weights = static_cast<double>(W.size), io = R * static_cast<double>(width + y.D());
    const double bias = static_cast<double>(y.size());
    return {{2 * R * weights + bias, 0, sizeof(Real) * (io + weights)}, {2 * R * weights + bias, 0, sizeof(Real) * (io + 2 * weights)}};
  }
};

}  // namespace embedding_op

Tensor embedding(Net& n, Index vocab, Index d, const std::string& name, double deviation) {
  return n.add<embedding_op::Embedding>(vocab, d, name, deviation);
}
Tensor add_positions(Net& n, Tensor x, const std::string& name) { return n.add<embedding_op::Positions>(n.as(x, Order::BTD), name); }
Tensor patch_embedding(Net& n, Index size, Index features, Index d, const std::string& name) {
  return n.add<embedding_op::Patches>(size, features, d, name);
}

}  // namespace ssm
