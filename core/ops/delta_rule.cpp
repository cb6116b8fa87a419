// delta_rule.cpp - a matrix state that corrects what it recalls instead of only adding (DeltaNet), with a decay per head and step where gated.
//
//   S~_t = e^{g_t} S_{t-1}     e_t = v_t - S~_t^T k_t     S_t = S~_t + beta_t k_t e_t^T     y_t = scale S_t^T q_t      S (K,V) per head
//
// backward() recomputes the states at the chunks' starts into scratch, then walks the chunks from the end.
#include "launch.hpp"
#include "ops.hpp"
#include "ops/delta_rule_kernels.hpp"
#include "ops/delta_rule_tiles.hpp"

namespace ssm {
namespace delta_rule_op {

struct Forward {
  Arguments a;
  const Real* beta;

  KOKKOS_FUNCTION void operator()(const Team& team, Index item) const {
    const Place at(a, item);
    TileMemory memory{a.work + item * a.of_item};
    const Tiles m(a, memory);
    const DeltaTiles d(a, memory);
    Real* S = memory.take(a.Kw() * a.Vw());
    team.grid(a.Kw(), a.Vw(), [&](const Index k, const Index c) { S[k * a.Vw() + c] = 0; });
    for (Index t0 = 0; t0 < a.T; t0 += a.C()) {
      const Index n = a.T - t0 < a.C() ? a.T - t0 : a.C();
      load_chunk(team, a, at, beta, t0, n, m, d);
      if (a.scan) {
        delta_scan(team, a, m, d, S, n);
      } else {
        solve_values(team, a, m, d, S);
        chunk_forward(team, a, m, S, n);
      }
      team.sync();
      store_outputs(team, a, at, at.first, t0, n, m);
      team.sync();
    }
  }
};

struct Backward {
  Arguments a;
  const Real *beta, *dy;
  Grad dq, dk, dv, dbeta, dgate;

  KOKKOS_FUNCTION void operator()(const Team& team, Index item) const {
    const Place at(a, item);
    const Index C = a.C(), Kw = a.Kw(), Vw = a.Vw(), h = at.first, heads = a.heads, last = a.chunks() - 1;
    TileMemory memory{a.work + item * a.of_item};
    const Tiles m(a, memory);
    const DeltaTiles d(a, memory);
    const Back g(a, 1, memory);
    Real* start = a.state(at.b, 0, h);
    team.grid(Kw, Vw, [&](const Index k, const Index c) { start[k * Vw + c] = g.G[k * Vw + c] = 0; });
    for (Index chunk = 0; chunk < last; ++chunk) {
      load_chunk(team, a, at, beta, chunk * C, C, m, d);
      const Real* now = a.state(at.b, chunk, h);
      Real* next = a.state(at.b, chunk + 1, h);
      team.grid(Kw, Vw, [&](const Index k, const Index c) { next[k * Vw + c] = now[k * Vw + c]; });
      team.sync();
      if (a.scan) {
        delta_scan(team, a, m, d, next, C);
      } else {
        solve_values(team, a, m, d, next);
        chunk_state(team, a, m, next, C);
      }
      team.sync();
    }
    for (Index chunk = last; chunk >= 0; --chunk) {
      const Index t0 = chunk * C, n = a.T - t0 < C ? a.T - t0 : C, row = (at.b * a.T + t0) * heads + h;
      load_tile(team, dy + row * a.V, heads * a.V, n, a.V, Real(1), C, Vw, g.dO);
      team.grid(C, Kw, [&](const Index i, const Index k) { g.dQ[i * Kw + k] = g.dK[i * Kw + k] = 0; });
      if (!a.scan) team.grid(C, C, [&](const Index i, const Index j) { g.dP[i * C + j] = 0; });
      load_chunk(team, a, at, beta, t0, n, m, d);
      const Real* S = a.state(at.b, chunk, h);
      if (a.scan) delta_scan_backward(team, a, m, g, d, S, g.G, n, dbeta, dgate, row);
      else delta_backward(team, a, m, g, d, S, g.G, n, dbeta, dgate, row);
      team.sync();
      const Index K = a.K, V = a.V;
      team.grid(n, V, [&](const Index i, const Index c) { dv((row + i * heads) * V + c, -d.back[i * Vw + c]); });
      team.grid(n, K, [&](const Index i, const Index k) { dq((row + i * heads) * K + k, a.scale * g.dQ[i * Kw + k]); });
      team.grid(n, K, [&](const Index i, const Index k) { dk((row + i * heads) * K + k, g.dK[i * Kw + k]); });
      team.sync();
    }
  }
};

struct DeltaRule final : Op {
  DeltaRuleInputs i;
  Tensor y, kept;  // kept: states between segments, of tiles alone
  State carried;
  Scratch work, states;
  Arguments shape{};   // extents and options; addresses are filled in at every run
  bool tiled = false;  // the kernels of delta_rule_tiles.hpp

  DeltaRule(Net& net, const DeltaRuleInputs& inputs, Index heads, double scale, const std::string& view) : Op(net), i(inputs) {
    in(i.q, save), in(i.k, save), in(i.v, save);
    if (i.beta.id >= 0) in(i.beta, save);
    if (i.gate.id >= 0) in(i.gate, save);
    Arguments& a = shape;
    a.B = n.B, a.T = n.T, a.heads = a.groups = heads, a.blocks = 1;
    a.K = i.q.last() / heads, a.V = i.v.last() / heads;
    if (a.K * heads != i.q.last() || i.k.last() != i.q.last() || a.V * heads != i.v.last() || (i.beta.id >= 0 && i.beta.last() != heads))
      throw std::logic_error("delta_rule: heads must divide the widths of q, k and v, and beta has one number per head");
    a.kind = i.gate.id < 0 ? Gate::none : Gate::time;
    a.scale = static_cast<Real>(scale);
    a.scan = view == "scan";
    TileMemory memory{nullptr};
    const Tiles tiles(a, memory);
    const DeltaTiles more(a, memory);
    if (n.mode == Mode::train) const Back back(a, 1, memory);
    a.of_item = memory.used + a.Kw() * a.Vw();
    carried = state(heads * a.K * a.V);
    Index room = n.B * heads * a.of_item;
#if defined(SSM_DELTA_RULE_ON_TILES)
    const OnTiles on(a);
    tiled = on.fit && n.mode != Mode::stream;
    if (tiled) room = std::max(on.scratch(a, false), n.mode == Mode::train ? on.scratch(a, true) : 0);
    if (tiled && n.mode == Mode::train) kept = keep(shaped({on.kept()}));
#endif
    if (n.mode != Mode::stream) work = scratch(room);
    if (n.mode == Mode::train && !tiled) states = scratch(n.B * a.chunks() * heads * a.Kw() * a.Vw());
    y = out(i.v, drop);
  }
  const char* name() const override { return "delta_rule"; }
  std::string slow_because() const override {
#if defined(SSM_DELTA_RULE_ON_TILES)
    if (!tiled && !shape.scan && n.mode != Mode::stream)
      return "keys of " + std::to_string(shape.K) + " are wider than " + std::to_string(kWidest);
#endif
    return {};
  }

  Arguments arguments() const {
    Arguments a = shape;
    a.q = v(i.q), a.k = v(i.k), a.v = v(i.v);
    a.gate = i.gate.id < 0 ? nullptr : v(i.gate);
    a.delta = tiled ? beta() : nullptr;  // plain kernels take beta apart
    a.y = v(y), a.work = v(work), a.states = v(states);
    return a;
  }
  const Real* beta() const { return i.beta.id < 0 ? nullptr : v(i.beta); }
  void forward(const Run& r) override {
#if defined(SSM_DELTA_RULE_ON_TILES)
    if (tiled) return OnTiles(shape).forward(r, arguments(), n.mode == Mode::train ? v(kept) : nullptr);
#endif
    launch_teams("ssm::delta_rule", r, n.B * shape.heads, Forward{arguments(), beta()});
  }
  void backward(const Run& r) override {
    const Grad dbeta = i.beta.id < 0 ? Grad{} : g(i.beta), dgate = i.gate.id < 0 ? Grad{} : g(i.gate);
#if defined(SSM_DELTA_RULE_ON_TILES)
    if (tiled) return OnTiles(shape).backward(r, arguments(), d(y), v(kept), {g(i.q), g(i.k), g(i.v), dbeta, dgate, nullptr});
#endif
    launch_teams("ssm::delta_rule_back", r, n.B * shape.heads, Backward{arguments(), beta(), d(y), g(i.q), g(i.k), g(i.v), dbeta, dgate});
  }
  void step(const Run& r) override {
    launch_lanes("ssm::delta_rule_step", r, n.B * shape.heads, shape.V, Step{arguments(), beta(), v(carried)});
  }
  Cost cost() const override {
    const double rows = static_cast<double>(n.B * n.T * shape.heads), K = static_cast<double>(shape.K), V = static_cast<double>(shape.V);
    const double C = shape.scan ? 0 : static_cast<double>(std::min(shape.C(), n.T)), gates = shape.kind == Gate::time ? 1 : 0;
    const double bytes = sizeof(Real) * (2 * K + 2 * V + 1 + gates), saved = sizeof(Real) * K * V / static_cast<double>(shape.C());
    return {{rows * (C * (4 * K + 3 * V) + (shape.scan ? 8 : 6) * K * V), rows * gates, rows * bytes},
            {rows * (C * (14 * K + 9 * V) + (shape.scan ? 30 : 20) * K * V), 2 * rows * gates,
             rows * (2 * bytes - sizeof(Real) * V + 2 * saved)}};
  }
};

}  // namespace delta_rule_op

Tensor delta_rule(Net& n, const DeltaRuleInputs& inputs, Index heads, double scale, const std::string& view) {
  return n.add<delta_rule_op::DeltaRule>(inputs, heads, scale, view);
}

}  // namespace ssm
