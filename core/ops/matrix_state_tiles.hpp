// matrix_state_tiles.hpp - matrix states on tensor cores: which ones, where their scratch lies, and the order of the kernels.
#pragma once
#include <algorithm>

#include "lib/blas.hpp"
#include "matrix_state_gpu_gates_back.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

constexpr Index kItemsWanted = 1024;  // blocks that a net should have at least, if its heads can be divided

inline Index most_keys(const Arguments& a) { return a.kind == Gate::channel ? 64 : 256; }

// Others, double and other GPUs: the kernels of matrix_state.cpp.
inline bool takes_tiles(const Arguments& a, bool delta) {
  return !kDouble && !a.scan && a.K <= most_keys(a) && (a.kind != Gate::channel || (!delta && !a.normalise));
}

// Parts that the heads of a group are cut into.
inline Index cut_heads(const Arguments& a) {
  const Index sets = a.B * a.groups * a.chunks();
  return std::min(a.heads / a.groups, (kItemsWanted + sets - 1) / sets);
}

// Extents and addresses. adjoints: scratch of the way back. Where there is no scratch yet, the addresses count it.
inline Chunked chunked(const Arguments& a, const Real* dy, Real* adjoints) {
  Chunked t{};
  t.a = a, t.dy = dy, t.Kp = round_up(a.K, kKeys), t.Vp = round_up(a.V, kValues);
  const auto even = [](const Real* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  t.whole = a.K % 4 == 0 && a.V % 4 == 0 && even(a.q) && even(a.k) && even(a.v) && even(dy);
  const Index items = t.items(), state = items * t.Kp * t.Vp, ones = a.normalise ? items * 4 * t.Kp : 0;
  t.G = adjoints, t.Gz = adjoints + state;
  Real* free = a.work;
  const auto take = [&](Index count) {
    Real* p = free;
    free += round_up(count, 4);
    return p;
  };
  t.rows = take(items * kRows * kSteps), t.totals = take(items * t.Kp), t.S = take(state), t.z = take(ones);
  if (t.channel()) {
    for (Real** p : {&t.Qe, &t.Kd}) *p = take(a.B * a.T * a.heads * a.K);
    for (Real** p : {&t.step, &t.pre, &t.suf}) *p = take(items * kSteps * a.K);
  }
  t.end = free;
  return t;
}
inline Index forward_room(const Chunked& t) { return t.end - t.a.work; }
inline Index back_room(const Chunked& t) { return t.items() * t.Kp * (t.Vp + (t.a.normalise ? 4 : 0)); }

// f(passes, width of a tile of keys): products split into three in float, one where run.gemm allows TF32.
template <class F>
void with_tiles(Index K, const F& f) {
  if constexpr (!kDouble) {
    const auto with_width = [&](auto passes) {
      if (K <= 32) f(passes, std::integral_constant<int, 32>());
      else f(passes, std::integral_constant<int, 64>());
    };
    if (tf32_products()) with_width(std::integral_constant<int, 1>());
    else with_width(std::integral_constant<int, 3>());
  }
}

// Factors of steps, decays of channels, states; on the way back their adjoints too.
template <int kPasses, int D>
void launch_states(const Run& r, const Chunked& t) {
  constexpr int kAtOnce = RowsBlock::kThreads / 32;
  launch_shared("ssm::matrix_state_rows", r, (t.items() + kAtOnce - 1) / kAtOnce, 0, RowsBlock{t});
  if (t.channel()) launch_shared("ssm::matrix_state_gates", r, t.items(), GatesBlock<D>::kBytes, GatesBlock<D>{t});
  const auto walk = [&](auto part) {
    using States = StatesBlock<kPasses, decltype(part)::value>;
    const Index blocks = t.a.B * t.a.heads * (t.Kp / part) * t.v_tiles();
    launch_shared("ssm::matrix_state_states", r, t.dy ? 2 * blocks : blocks, States::kBytes, States{t});
  };
  const bool many = t.Kp % 64 == 0 && t.a.B * t.a.heads * (t.Kp / 64) * t.v_tiles() >= kItemsWanted / 2;
  if (many) walk(std::integral_constant<int, 64>());
  else walk(std::integral_constant<int, 32>());
}

inline void tiled_forward(const Run& r, const Chunked& t) {
  with_tiles(t.a.K, [&](auto passes, auto width) {
    constexpr int kPasses = decltype(passes)::value, D = decltype(width)::value;
    using Scalar = OutputsBlock<kPasses, D>;
    using Wide = OutputsBlock<kPasses, 128>;
    using Channel = ChannelOutputsBlock<kPasses, D>;
    launch_states<kPasses, D>(r, t);
    if (t.channel()) launch_shared("ssm::matrix_state", r, t.blocks(), Channel::kBytes, Channel{t});
    else if (t.a.K > 64) launch_shared("ssm::matrix_state", r, t.blocks(), Wide::kBytes, Wide{t});
    else launch_shared("ssm::matrix_state", r, t.blocks(), Scalar::kBytes, Scalar{t});
  });
}

inline void tiled_backward(const Run& r, const Chunked& t, const Gradients& o) {
  with_tiles(t.a.K, [&](auto passes, auto width) {
    constexpr int kPasses = decltype(passes)::value, D = decltype(width)::value;
    using Scalar = GradientsBlock<kPasses, D>;
    using Channel = ChannelGradientsBlock<kPasses, D>;
    launch_states<kPasses, D>(r, t);
    if (t.channel()) launch_shared("ssm::matrix_state_back", r, t.blocks(), Channel::kBytes, Channel{t, o});
    else launch_shared("ssm::matrix_state_back", r, t.blocks(), Scalar::kBytes, Scalar{t, o});
  });
}

}  // namespace ssm::matrix_state_op
#endif
