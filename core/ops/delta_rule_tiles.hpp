// delta_rule_tiles.hpp - the delta rule on tensor cores: which ones, where their scratch lies, and the order of the kernels.
#pragma once
#include <algorithm>

#include "delta_rule_gpu_back.hpp"
#include "lib/blas.hpp"

#if defined(SSM_DELTA_RULE_ON_TILES)
namespace ssm::delta_rule_op {

constexpr Index kWidest = 256;  // wider keys take the plain kernels
// Numbers that the states of a segment may have, if that leaves it kLeastChunks.
constexpr Index kStatesOfSegment = kEmulated ? 1 << 14 : 1 << 24;
constexpr Index kLeastChunks = 4;  // of a segment, but for the last

struct OnTiles {
  bool fit;
  Index Kp, Vp, chunks, each, segments, sequences;  // each: chunks of a segment

  explicit OnTiles(const Arguments& a) : fit(!kDouble && !a.scan && a.K <= kWidest) {
    Kp = a.K <= 64 ? 64 : a.K <= 128 ? 128 : 256, Vp = round_up(a.V, kValues);
    chunks = (a.T + kSteps - 1) / kSteps, sequences = a.B * a.heads;
    each = std::min(chunks, std::max(kLeastChunks, kStatesOfSegment / carry()));
    segments = (chunks + each - 1) / each;
  }
  Index carry() const { return sequences * Kp * Vp; }
  // Numbers that forward() keeps: states at the starts of segments.
  Index kept() const { return std::max<Index>(1, segments - 1) * carry(); }

  struct Buffers {
    Segment s;
    Real *carry, *shares;
    Index count;
  };
  Buffers place(const Arguments& a, bool back) const {
    Buffers b{};
    Segment& s = b.s;
    s.a = a, s.Kp = Kp, s.Vp = Vp, s.count = each;
    const Index items = sequences * each;
    Real* free = a.work;
    const auto take = [&](Index count) {
      Real* p = free;
      free += round_up(count, 4), b.count += round_up(count, 4);
      return p;
    };
    s.rows = take(items * kFactorCount), s.W = take(items * kSteps * Kp), s.e = take(items * kSteps * Vp), s.S = take(items * Kp * Vp);
    b.carry = take(carry());
    if (!back) s.A = take(items * kSquare);
    if (back) s.X = take(items * kSteps * Vp), s.G = take(items * Kp * Vp);
    if (back && a.kind == Gate::time && a.K > 128) b.shares = take((a.K + 127) / 128 * a.B * a.T * a.heads);
    return b;
  }
  Index scratch(const Arguments& a, bool back) const { return place(a, back).count; }

  static bool even(std::initializer_list<const Real*> all) {
    bool yes = true;
    for (const Real* p : all) yes = yes && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
    return yes;
  }
  // f(passes, tile of keys)
  template <class F>
  static void with_tiles(Index K, const F& f) {
    const auto with_keys = [&](auto passes) {
      if (K <= 64) f(passes, std::integral_constant<int, 64>());
      else f(passes, std::integral_constant<int, 128>());
    };
    if (tf32_products()) with_keys(std::integral_constant<int, 1>());
    else with_keys(std::integral_constant<int, 3>());
  }
  template <int kPasses, bool kBack>
  static void walk(const Run& r, const Segment& s, const Real* from, Real* to) {
    const auto with = [&](const auto& block) {
      launch_shared(kBack ? "ssm::delta_rule_adjoints" : "ssm::delta_rule_states", r, s.a.B * s.a.heads * s.slices(), block.kBytes, block);
    };
    if (s.Kp == 64) with(WalkBlock<kPasses, 64, kBack>{s, from, to});
    else if (s.Kp == 128) with(WalkBlock<kPasses, 128, kBack>{s, from, to});
    else with(WalkBlock<kPasses, 256, kBack>{s, from, to});
  }
  template <int kPasses, int D>
  static void states(const Run& r, const Segment& s, const Real* from, Real* to) {
    using Prepare = PrepareBlock<kPasses, D, false>;
    launch_shared("ssm::delta_rule_chunks", r, s.items(), Prepare::kBytes, Prepare{s});
    walk<kPasses, false>(r, s, from, to);
  }
  void choose(Segment& s, Index segment) const { s.first = segment * each, s.count = std::min(each, chunks - s.first); }

  // kept: null where no gradient is wanted.
  void forward(const Run& r, const Arguments& a, Real* kept) const {
    Buffers b = place(a, false);
    Segment& s = b.s;
    s.whole = a.K % 4 == 0 && a.V % 4 == 0 && even({a.q, a.k, a.v}), s.even = s.whole && even({a.y});
    with_tiles(a.K, [&](auto passes, auto tile) {
      constexpr int kPasses = decltype(passes)::value, D = decltype(tile)::value;
      for (Index n = 0; n < segments; ++n) {
        choose(s, n);
        const Real* from = n == 0 ? nullptr : kept ? kept + (n - 1) * carry() : b.carry;
        Real* to = n + 1 == segments ? nullptr : kept ? kept + n * carry() : b.carry;
        states<kPasses, D>(r, s, from, to);
        using Outputs = OutputsBlock<kPasses, D>;
        launch_shared("ssm::delta_rule", r, s.items() * s.v_tiles(), Outputs::kBytes, Outputs{s});
      }
    });
  }

  void backward(const Run& r, const Arguments& a, const Real* dy, const Real* kept, const DeltaGradients& gradients) const {
    Buffers b = place(a, true);
    Segment& s = b.s;
    DeltaGradients o = gradients;
    s.dy = dy, o.shares = b.shares;
    s.whole = a.K % 4 == 0 && a.V % 4 == 0 && even({a.q, a.k, a.v, dy}), s.even = s.whole && even({o.dq.p, o.dk.p, o.dv.p});
    with_tiles(a.K, [&](auto passes, auto tile) {
      constexpr int kPasses = decltype(passes)::value, D = decltype(tile)::value;
      for (Index n = segments - 1; n >= 0; --n) {
        choose(s, n);
        states<kPasses, D>(r, s, n == 0 ? nullptr : kept + (n - 1) * carry(), nullptr);
        using Prepare = PrepareBlock<kPasses, D, true>;
        launch_shared("ssm::delta_rule_chunks_back", r, s.items(), Prepare::kBytes, Prepare{s});
        walk<kPasses, true>(r, s, n + 1 == segments ? nullptr : b.carry, b.carry);
        using Gradients = GradientsBlock<kPasses, D>;
        launch_shared("ssm::delta_rule_back", r, s.items() * s.k_tiles(D), Gradients::kBytes, Gradients{s, o});
      }
    });
    const Index rows = a.B * a.T * a.heads;
    if (o.shares) plain::add_parts(r, o.shares, (a.K + 127) / 128, rows, rows, o.dgate.add ? 1 : 0, o.dgate.p);
  }
};

}  // namespace ssm::delta_rule_op
#endif
