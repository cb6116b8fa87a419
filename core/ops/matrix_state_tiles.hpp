// matrix_state_tiles.hpp - matrix states on tensor cores: which ones, where their scratch lies, and the order of the kernels.
#pragma once
#include <algorithm>

#include "lib/blas.hpp"
#include "matrix_state_gpu_gates_back.hpp"

#if defined(SSM_MATRIX_STATE_ON_TILES)
namespace ssm::matrix_state_op {

constexpr Index kItemsWanted = 1024;  // blocks that a net should have at least, if its heads can be divided
constexpr Index kWalksWanted = 128;   // blocks that carry states

inline Index most_keys(const Arguments& a) { return a.kind == Gate::channel ? 128 : 256; }
constexpr int kGradientKeys = 128;  // of a block of gradients, where gates are not per channel

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
  t.even = t.whole && even(a.y);
  const Index items = t.items(), state = items * t.Kp * t.Vp, ones = a.normalise ? items * 4 * t.Kp : 0;
  t.G = adjoints, t.Gz = adjoints + state;
  if (!t.channel() && a.K > kGradientKeys) t.shares = t.Gz + ones;
  if (t.channel())
    t.Qs = t.Gz, t.Ks = t.Qs + items * kSteps * t.Kp, t.F = t.Ks + items * kSteps * t.Kp, t.products = t.F + items * kSteps * kSteps;
  Real* free = a.work;
  const auto take = [&](Index count) {
    Real* p = free;
    free += round_up(count, 4);
    return p;
  };
  if (!t.channel()) t.rows = take(items * kRows * kSteps);
  t.totals = take(items * t.Kp), t.S = take(state), t.z = take(ones);
  if (t.channel()) {
    for (Real** p : {&t.Qe, &t.Kd}) *p = take(a.B * a.T * a.heads * a.K);
    t.A = take(items * kSteps * kSteps);
  }
  t.end = free;
  return t;
}
inline Index forward_room(const Chunked& t) { return t.end - t.a.work; }
inline Index back_room(const Chunked& t) {
  const Index shares = t.shares ? t.k_tiles(kGradientKeys) * t.share_width() * t.a.B * t.a.T * t.a.heads : 0;
  const Index inside = t.channel() ? t.items() * (2 * kSteps * t.Kp + kSteps * kSteps + t.Kp) : 0;
  return t.items() * t.Kp * (t.Vp + (t.a.normalise ? 4 : 0)) + shares + inside;
}

// f(passes, width of a tile of keys, at most kWidest): products split into three in float, one where run.gemm allows TF32.
template <int kWidest, class F>
void with_tiles(Index K, const F& f) {
  if constexpr (!kDouble) {
    const auto with_width = [&](auto passes) {
      if (K <= 32) f(passes, std::integral_constant<int, 32>());
      else if (K <= 64) f(passes, std::integral_constant<int, 64>());
      else if (K <= 128 || kWidest == 128) f(passes, std::integral_constant<int, 128>());
      else f(passes, std::integral_constant<int, kWidest>());
    };
    if (tf32_products()) with_width(std::integral_constant<int, 1>());
    else with_width(std::integral_constant<int, 3>());
  }
}

// States, on the way back their adjoints too. Blocks are as wide as leaves enough of them to fill the device.
template <int kPasses, bool kFactors>
void launch_states(const Run& r, const Chunked& t) {
  const auto blocks = [&](Index part) { return (t.dy ? 2 : 1) * t.a.B * t.a.heads * (t.Kp / part) * t.v_tiles(); };
  const auto walk = [&](auto part) {
    using States = StatesBlock<kPasses, decltype(part)::value, kFactors>;
    launch_shared("ssm::matrix_state_states", r, blocks(part), States::kBytes, States{t});
  };
  if (kPasses == 1 && t.Kp % 128 == 0 && blocks(128) >= kWalksWanted) walk(std::integral_constant < int, kPasses == 1 ? 128 : 64 > ());
  else if (t.Kp % 64 == 0 && blocks(64) >= kWalksWanted) walk(std::integral_constant<int, 64>());
  else walk(std::integral_constant<int, 32>());
}
// After the factors of steps.
template <int kPasses>
void launch_states(const Run& r, const Chunked& t) {
  constexpr int kAtOnce = RowsBlock::kThreads / 32;
  launch_shared("ssm::matrix_state_rows", r, (t.items() + kAtOnce - 1) / kAtOnce, 0, RowsBlock{t});
  launch_states<kPasses, true>(r, t);
}
// The same for channel gates, scores first.
template <int kPasses, int D>
void launch_channel_states(const Run& r, const Chunked& t) {
  using Scores = ChannelScoresBlock<kPasses, D>;
  launch_shared("ssm::matrix_state_scores", r, t.items(), Scores::kBytes, Scores{t});
  launch_states<kPasses, false>(r, t);
}

inline void tiled_forward(const Run& r, const Chunked& t) {
  if (t.channel())
    return with_tiles<128>(t.a.K, [&](auto passes, auto width) {
      constexpr int kPasses = decltype(passes)::value, D = decltype(width)::value;
      using Outputs = ChannelOutputsBlock<kPasses, D, false>;
      launch_channel_states<kPasses, D>(r, t);
      launch_shared("ssm::matrix_state", r, t.blocks(), Outputs::kBytes, Outputs{t, Grad{t.a.y, false}});
    });
  with_tiles<256>(t.a.K, [&](auto passes, auto width) {
    using Scalar = OutputsBlock<decltype(passes)::value, decltype(width)::value>;
    launch_states<decltype(passes)::value>(r, t);
    launch_shared("ssm::matrix_state", r, t.blocks(), Scalar::kBytes, Scalar{t});
  });
}

inline void tiled_backward(const Run& r, Chunked t, const Gradients& o) {
  for (const Real* to : {o.dq.p, o.dk.p, o.dv.p, t.channel() ? o.dgate.p : nullptr})
    t.even = t.even && reinterpret_cast<std::uintptr_t>(to) % 8 == 0;
  if (t.channel())
    return with_tiles<128>(t.a.K, [&](auto passes, auto width) {
      constexpr int kPasses = decltype(passes)::value, D = decltype(width)::value;
      using Values = ChannelOutputsBlock<kPasses, D, true>;
      using Through = ChannelThroughBlock<kPasses, D>;
      using Inside = ChannelInsideBlock<kPasses, D>;
      launch_channel_states<kPasses, D>(r, t);
      launch_shared("ssm::matrix_state_values", r, t.blocks(), Values::kBytes, Values{t, o.dv});
      launch_shared("ssm::matrix_state_through", r, t.blocks(), Through::kBytes, Through{t, o});
      launch_shared("ssm::matrix_state_back", r, t.blocks(), Inside::kBytes, Inside{t, o});
    });
  with_tiles<kGradientKeys>(t.a.K, [&](auto passes, auto width) {
    constexpr int kPasses = decltype(passes)::value, D = decltype(width)::value;
    launch_states<kPasses>(r, t);
    const auto gradients = [&](const auto& block) {
      launch_shared("ssm::matrix_state_back", r, t.blocks() * t.k_tiles(D), block.kBytes, block);
    };
    if (t.v_tiles() > 1) gradients(GradientsBlock<kPasses, (D > 64 ? D : 64), true>{t, o});
    else gradients(GradientsBlock<kPasses, D, false>{t, o});
  });
}

}  // namespace ssm::matrix_state_op
#endif
