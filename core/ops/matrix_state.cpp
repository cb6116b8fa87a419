// matrix_state.cpp - a state of K x V numbers per head that decays and takes in outer products: linear attention, RetNet, GLA, SSD (Mamba-2).
//
//   S_t = diag(e^{g_t}) S_{t-1} + delta_t k_t v_t^T      o_t = scale S_t^T q_t      y_t = o_t [/ (scale q_t . z_t + 1e-10)] + D v_t
//
// z_t, the sum of keys, is the state of one more column of values that are all 1. Gates g: none, constant per head, per head and step, per
// channel and step. One work item walks the chunks of one sequence with the heads that share its queries and keys; it owns all it writes.
// backward() recomputes the states at the chunks' starts into scratch, then walks the chunks from the end.
#include "launch.hpp"
#include "lib/into.hpp"
#include "lib/reduce.hpp"
#include "ops.hpp"
#include "ops/matrix_state_chunked.hpp"
#include "ops/matrix_state_gpu_step.hpp"
#include "ops/matrix_state_scan.hpp"
#if defined(SSM_CUDA_CODE)
#include "ops/matrix_state_tiles.hpp"
#endif

namespace ssm {
namespace matrix_state_op {

// Work items that a net should have at least, if its heads can be divided.
constexpr Index kItems = kOnHost ? 8 : 256;

struct Forward {
  Arguments a;

  KOKKOS_FUNCTION void operator()(const Team& team, Index item) const {
    const Place at(a, item);
    const Index state = a.Kw() * a.Vw(), C = a.C();
    TileMemory memory{a.work + item * a.of_item};
    const Tiles m(a, memory);
    Real* S = memory.take((at.last - at.first) * state);
    team.grid(at.last - at.first, state, [&](const Index h, const Index i) { S[h * state + i] = 0; });
    for (Index t0 = 0; t0 < a.T; t0 += C) {
      const Index n = a.T - t0 < C ? a.T - t0 : C;
      load_queries(team, a, at, t0, n, m);
      team.sync();
      if (!a.scan) raw_scores(team, a, m);
      for (Index h = at.first; h < at.last; ++h) {
        load_values(team, a, at, h, t0, n, m);
        load_decays(team, a, at, h, t0, n, m);
        team.sync();
        if (a.scan) {
          scan_forward(team, a, m, S + (h - at.first) * state, n);
        } else {
          cumulate_decays(team, a, m);
          scores(team, a, m);
          team.sync();
          chunk_forward(team, a, m, S + (h - at.first) * state, n);
        }
        team.sync();
        store_outputs(team, a, at, h, t0, n, m);
        team.sync();
      }
    }
  }
};

struct Backward {
  Arguments a;
  Gradients o;

  KOKKOS_FUNCTION void operator()(const Team& team, Index item) const {
    const Place at(a, item);
    const Index heads = at.last - at.first, state = a.Kw() * a.Vw(), C = a.C(), Kw = a.Kw();
    TileMemory memory{a.work + item * a.of_item};
    const Tiles m(a, memory);
    const Back g(a, heads, memory);
    states(team, at, m);
    team.grid(heads, state, [&](const Index h, const Index i) { g.G[h * state + i] = 0; });
    team.grid(heads, 1, [&](const Index h, const Index) { g.skip[h] = 0; });
    for (Index chunk = a.chunks() - 1; chunk >= 0; --chunk) {
      const Index t0 = chunk * C, n = a.T - t0 < C ? a.T - t0 : C;
      load_queries(team, a, at, t0, n, m);
      team.grid(C, Kw, [&](const Index i, const Index k) { g.dQ[i * Kw + k] = g.dK[i * Kw + k] = 0; });
      if (!a.scan) team.grid(C, C, [&](const Index i, const Index j) { g.dP[i * C + j] = 0; });
      team.sync();
      if (!a.scan) raw_scores(team, a, m);
      for (Index h = at.first; h < at.last; ++h) {
        load_values(team, a, at, h, t0, n, m);
        load_decays(team, a, at, h, t0, n, m);
        load_outputs(team, at, h, t0, n, m, g);
        team.sync();
        const Index row = (at.b * a.T + t0) * a.heads + h, gate_at = a.kind == Gate::channel ? row * a.K : row;
        Real* G = g.G + (h - at.first) * state;
        if (a.scan) {
          scan_backward(team, a, m, g, a.state(at.b, chunk, h), G, n, o.dgate, gate_at);
        } else {
          cumulate_decays(team, a, m);
          scores(team, a, m);
          team.sync();
          chunk_backward(team, a, m, g, a.state(at.b, chunk, h), G, n);
          gate_gradient(team, a, m, g, n, o.dgate, gate_at);
          chunk_carry(team, a, m, g, G, n);
        }
        team.sync();
        store_values(team, at, h, t0, n, g);
        team.sync();
      }
      if (!a.scan) shared_gradients(team, a, m, g, n);
      store_queries(team, at, t0, n, g);
      team.sync();
    }
    if (a.skip) team.grid(heads, 1, [&](const Index h, const Index) { o.skip_parts[at.b * a.heads + at.first + h] = g.skip[h]; });
  }

  // The state at the start of every chunk.
  KOKKOS_FUNCTION void states(const Team& team, const Place& at, const Tiles& m) const {
    const Index state = a.Kw() * a.Vw(), C = a.C(), last = a.chunks() - 1;
    for (Index h = at.first; h < at.last; ++h) {
      Real* S = a.state(at.b, 0, h);
      team.grid(1, state, [&](const Index, const Index i) { S[i] = 0; });
    }
    for (Index chunk = 0; chunk < last; ++chunk) {
      load_queries(team, a, at, chunk * C, C, m);
      for (Index h = at.first; h < at.last; ++h) {
        load_values(team, a, at, h, chunk * C, C, m);
        load_decays(team, a, at, h, chunk * C, C, m);
        team.sync();
        const Real* now = a.state(at.b, chunk, h);
        Real* next = a.state(at.b, chunk + 1, h);
        if (a.scan) {
          team.grid(1, state, [&](const Index, const Index i) { next[i] = now[i]; });
          team.sync();
          scan_forward(team, a, m, next, C);
        } else {
          chunk_advance(team, a, m, now, next, C);
        }
        team.sync();
      }
    }
  }

  // g.dO: the gradient of the state's output, before the division; g.X, g.skip where they are needed.
  KOKKOS_FUNCTION void load_outputs(const Team& team, const Place& at, Index h, Index t0, Index n, const Tiles& m, const Back& g) const {
    const Index ld = a.heads * a.V, row = at.b * a.T + t0, from = row * ld + h * a.V, Vw = a.Vw(), V = a.V, heads = a.heads;
    load_tile(team, o.dy + from, ld, n, V, Real(1), a.C(), Vw, g.dO);
    if (a.delta || a.skip) load_tile(team, a.v + from, ld, n, V, Real(1), a.C(), Vw, g.X);
    if (a.normalise) load_tile(team, a.y + from, ld, n, V, Real(1), a.C(), Vw, m.O);
    team.sync();
    if (a.skip)
      team.once([&] {
        for (Index i = 0; i < n; ++i) g.skip[h - at.first] += dot(Vw, g.dO + i * Vw, g.X + i * Vw);
      });
    if (!a.normalise) return;
    const Real *den = a.den + row * heads + h, skip = a.skip ? a.skip[h] : Real(0);
    team.grid(n, 1, [&](const Index i, const Index) {
      const Real skipped = a.skip ? skip * dot(Vw, g.dO + i * Vw, g.X + i * Vw) : Real(0);
      const Real along = dot(Vw, g.dO + i * Vw, m.O + i * Vw) - skipped, per = 1 / den[i * heads];
      for (Index c = 0; c < V; ++c) g.dO[i * Vw + c] *= per;
      g.dO[i * Vw + V] = -along * per;
    });
  }

  KOKKOS_FUNCTION void store_values(const Team& team, const Place& at, Index h, Index t0, Index n, const Back& g) const {
    const Index ld = a.heads * a.V, row = at.b * a.T + t0, to = row * ld + h * a.V, Vw = a.Vw(), heads = a.heads;
    const Real *delta = a.delta ? a.delta + row * heads + h : nullptr, skip = a.skip ? a.skip[h] : Real(0);
    const Real* dy = o.dy + to;  // not g.dO: what is skipped was never divided by the normaliser
    const Grad dv = o.dv, ddelta = o.ddelta;
    team.grid(n, a.V, [&](const Index i, const Index c) {
      dv(to + i * ld + c, (delta ? delta[i * heads] : Real(1)) * g.dV[i * Vw + c] + skip * dy[i * ld + c]);
    });
    if (delta) team.grid(n, 1, [&](const Index i, const Index) { ddelta((row + i) * heads + h, dot(Vw, g.X + i * Vw, g.dV + i * Vw)); });
  }

  KOKKOS_FUNCTION void store_queries(const Team& team, const Place& at, Index t0, Index n, const Back& g) const {
    const Index ld = a.groups * a.K, Kw = a.Kw(), to = (at.b * a.T + t0) * ld + at.group * a.K, part = at.block * a.B * a.T * ld;
    const Grad dq = o.q_parts ? Grad{o.q_parts + part, false} : o.dq, dk = o.k_parts ? Grad{o.k_parts + part, false} : o.dk;
    const Real scale = a.scale;
    team.grid(n, a.K, [&](const Index i, const Index k) { dq(to + i * ld + k, scale * g.dQ[i * Kw + k]); });
    team.grid(n, a.K, [&](const Index i, const Index k) { dk(to + i * ld + k, g.dK[i * Kw + k]); });
  }
};

struct MatrixState final : Op {
  MatrixStateInputs i;
  Tensor den, y;
  Param skip;
  State carried;
  Scratch work, states, parts, skips, sums, outputs;
  Arguments shape{};   // extents and options; addresses are filled in at every run
  bool tiled = false;  // the kernels of matrix_state_tiles.hpp

  MatrixState(Net& net, const MatrixStateInputs& inputs, const MatrixStateOptions& o) : Op(net), i(inputs) {
    in(i.q, save), in(i.k, save), in(i.v, save);
    if (i.gate.id >= 0) in(i.gate, save);
    if (i.delta.id >= 0) in(i.delta, save);
    describe(o);
    Index room = n.B * shape.groups * shape.blocks * shape.of_item, states_room = n.B * shape.chunks() * o.heads * shape.Kw() * shape.Vw();
#if defined(SSM_MATRIX_STATE_ON_TILES)
    tiled = n.mode != Mode::stream && takes_tiles(shape, i.delta.id >= 0);
    if (tiled) {
      shape.blocks = cut_heads(shape);
      room = forward_room(chunked(shape, nullptr, nullptr)), states_room = back_room(chunked(shape, nullptr, nullptr));
    }
#endif
    carried = state(o.heads * shape.K * shape.columns());
    if (o.skip) skip = param("D", {o.heads}, init::constant(1), no_decay());
    if (n.mode == Mode::stream) outputs = scratch(n.B * o.heads * shape.columns());
    else work = scratch(room);
    if (n.mode == Mode::train) {
      states = scratch(states_room);
      if (shape.blocks > 1) parts = scratch(2 * shape.blocks * i.q.size());
      if (o.skip) skips = scratch(skip_parts() * o.heads), sums = scratch(sum_columns_scratch(skip_parts(), o.heads));
      if (o.normalise) den = keep(shaped({n.B, n.T, o.heads}));
    }
    y = out(shaped({n.B, n.T, i.v.last()}), o.normalise ? save : drop);
  }

  void describe(const MatrixStateOptions& o) {
    Arguments& a = shape;
    a.B = n.B, a.T = n.T, a.heads = o.heads, a.groups = o.groups ? o.groups : o.heads;
    a.K = i.q.last() / a.groups, a.V = i.v.last() / a.heads;
    if (a.K * a.groups != i.q.last() || i.k.last() != i.q.last() || a.V * a.heads != i.v.last() || a.heads % a.groups)
      throw std::logic_error("matrix_state: groups must divide the widths of q and k, heads the width of v, groups the heads");
    if (i.gate.id < 0) a.kind = o.decay_first > 0 ? Gate::head : Gate::none;
    else if (i.gate.last() == a.heads) a.kind = Gate::time;
    else if (i.gate.last() == a.heads * a.K && a.heads == a.groups) a.kind = Gate::channel;
    else throw std::logic_error("matrix_state: one gate per head, or per head and key channel where no heads share keys");
    a.scale = static_cast<Real>(o.scale);
    a.decay_first = o.decay_first, a.decay_step = o.decay_step;
    a.normalise = o.normalise;
    a.scan = o.view == "scan";
    a.blocks = std::min(a.heads / a.groups, (kItems + n.B * a.groups - 1) / (n.B * a.groups));
    const Index of_group = a.heads / a.groups, heads = (of_group + a.blocks - 1) / a.blocks;
    TileMemory memory{nullptr};
    const Tiles tiles(a, memory);
    if (n.mode == Mode::train) const Back back(a, heads, memory);
    else memory.take(heads * a.Kw() * a.Vw());
    a.of_item = std::max(memory.used, heads * a.Kw() * a.Vw());
  }
  const char* name() const override { return "matrix_state"; }
  std::string slow_because() const override {
#if defined(SSM_MATRIX_STATE_ON_TILES)
    if (!tiled && !shape.scan && n.mode != Mode::stream) {
      const Index most = most_keys(shape);
      if (shape.K > most) return "keys of " + std::to_string(shape.K) + " are wider than " + std::to_string(most);
      return "gates per channel with a step size or a normaliser";
    }
#endif
    return {};
  }

  Arguments arguments() const {
    Arguments a = shape;
    a.q = v(i.q), a.k = v(i.k), a.v = v(i.v);
    a.gate = i.gate.id < 0 ? nullptr : v(i.gate);
    a.delta = i.delta.id < 0 ? nullptr : v(i.delta);
    a.skip = skip.id < 0 ? nullptr : v(skip);
    a.y = v(y);
    a.den = den.id < 0 ? nullptr : v(den);
    a.work = v(work);
    a.states = v(states);
    return a;
  }
  Index items() const { return n.B * shape.groups * shape.blocks; }
  // Sums of every head that D's gradient is made of.
  Index skip_parts() const { return tiled ? n.B * shape.chunks() : n.B; }

  void forward(const Run& r) override {
#if defined(SSM_MATRIX_STATE_ON_TILES)
    if (tiled) return tiled_forward(r, chunked(arguments(), nullptr, nullptr));
#endif
    launch_teams("ssm::matrix_state", r, items(), Forward{arguments()});
  }

  void backward(const Run& r) override {
    Gradients o{};
    o.dy = d(y);
    o.dq = g(i.q), o.dk = g(i.k), o.dv = g(i.v);
    if (i.gate.id >= 0) o.dgate = g(i.gate);
    if (i.delta.id >= 0) o.ddelta = g(i.delta);
    const Index count = i.q.size(), blocks = shape.blocks;
    if (blocks > 1) o.q_parts = v(parts), o.k_parts = v(parts) + blocks * count;
    o.skip_parts = v(skips);
#if defined(SSM_MATRIX_STATE_ON_TILES)
    if (tiled) {
      const Chunked t = chunked(arguments(), o.dy, v(states));
      tiled_backward(r, t, o);
      if (t.shares) {
        const Index tiles = t.k_tiles(kGradientKeys), rows = n.B * n.T * shape.heads, apart = t.share_width() * rows;
        sum_parts(r, t.shares, apart, tiles, shape.V * rows, o.dv);
        if (shape.kind == Gate::time) sum_parts(r, t.shares + shape.V * rows, apart, tiles, rows, o.dgate);
        if (i.delta.id >= 0) sum_parts(r, t.shares + (shape.V + 1) * rows, apart, tiles, rows, o.ddelta);
      }
    }
#endif
    if (!tiled) launch_teams("ssm::matrix_state_back", r, items(), Backward{arguments(), o});
    if (blocks > 1) sum_parts(r, o.q_parts, count, blocks, count, o.dq), sum_parts(r, o.k_parts, count, blocks, count, o.dk);
    if (skip.id >= 0) {
      const Real* from = o.skip_parts;
      const Index heads = shape.heads;
      sum_columns(
          "ssm::matrix_state_skip", r, skip_parts(), heads, v(sums),
          KOKKOS_LAMBDA(const Index row, const Index h) { return from[row * heads + h]; }, Grad{d(skip), true});
    }
  }
  // `count` entries of parts that start `apart` entries apart.
  static void sum_parts(const Run& r, const Real* from, Index apart, Index parts, Index count, Grad to) {
    each_into(
        "ssm::matrix_state_sum", r, count, to, KOKKOS_LAMBDA(const Index k) {
          Real sum = from[k];
          for (Index part = 1; part < parts; ++part) sum += from[part * apart + k];
          return sum;
        });
  }

#if defined(SSM_GPU_CODE)
  bool leads(Tensor, Follows how) const override { return takes_step(shape) && how == Follows::entries; }
#endif
  void step(const Run& r) override {
    const Arguments a = arguments();
#if defined(SSM_GPU_CODE)
    if (takes_step(a)) {
      Finish to;
      ends(y, &to);
      return step_on_gpu(r, a, to, v(carried));
    }
#endif
    const Real* o = v(outputs);
    launch_lanes("ssm::matrix_state_step", r, a.B * a.heads, a.columns(), Step{a, v(carried), v(outputs)});
    each_row(
        "ssm::matrix_state_out", r, a.B * a.heads, a.V, KOKKOS_LAMBDA(const Index row, const Index c) {
          const Real *from = o + row * a.columns(), skipped = a.skip ? a.skip[row % a.heads] * a.v[row * a.V + c] : Real(0);
          a.y[row * a.V + c] = (a.normalise ? from[c] / (from[a.V] + kNormaliser) : from[c]) + skipped;
        });
  }

  Cost cost() const override {
    const double places = static_cast<double>(n.B * n.T), H = static_cast<double>(shape.heads), G = static_cast<double>(shape.groups);
    const double K = static_cast<double>(shape.K), V = static_cast<double>(shape.V), C = static_cast<double>(std::min(shape.C(), n.T));
    const double gates = shape.kind == Gate::time ? H : shape.kind == Gate::channel ? H * K : 0, inside = shape.scan ? 0 : C;
    const double scores = shape.kind == Gate::channel ? 3 * H * inside * K : 2 * G * inside * K + 2 * H * inside;
    const double rows = 2 * G * K + 2 * H * V + gates + (i.delta.id >= 0 ? H : 0), real = sizeof(Real);
    const double saved = H * K * V / static_cast<double>(shape.C());
    const double forward = scores + 2 * H * inside * V + (shape.scan ? 5 : 4) * H * K * V;
    const double backward = 3 * scores + 4 * H * inside * V + (shape.scan ? 16 : 12) * H * K * V;
    return {{places * forward, places * gates, places * real * rows},
            {places * backward, 2 * places * gates, places * real * (2 * rows - H * V + 2 * saved)}};
  }
};

}  // namespace matrix_state_op

Tensor matrix_state(Net& n, const MatrixStateInputs& inputs, const MatrixStateOptions& options) {
  return n.add<matrix_state_op::MatrixState>(inputs, options);
}

}  // namespace ssm
