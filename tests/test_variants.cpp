// test_variants.cpp - every check of every registered variant; a new file in variants/ is tested without an edit here.
//
// Defaults: reference and streaming at all lengths, full central differences at a small shape. Every value of every knob alone: reference,
// streaming, gradient along random directions, at T 31. Every view: outputs and gradients equal to the default view's.
#include <cmath>

#include "check.hpp"
#include "mixer_cases.hpp"
#include "op_check.hpp"
#include "starts.hpp"

namespace ssm {
namespace {

OpCase mixer_case(const std::string& name, const VariantKnobs& knobs, Shape s) {
  OpCase c;
  static_cast<ProbeSpec&>(c) = mixer_spec(name, knobs, s);
  return c;
}

void check_reference(const std::string& name, const VariantKnobs& knobs, Shape s) {
  const CheckReport r = self_check(name, knobs, test_device().exec(), s.B, s.T, s.D);
  EXPECT_LT(r.reference_error, r.tolerance) << name << " against its plain loops at T " << s.T;
  if (!r.streamed) return;
  EXPECT_LT(r.streaming_error, r.tolerance) << name << " streamed at T " << s.T;
}

// Directional derivatives: for each tensor, dl(p + h v)/dh against <gradient, v> for five random v. Double builds only.
void check_directions(const OpCase& c) {
  Probe probe(test_device().exec(), c);
  Arrays inputs = {test_values("input0", c.inputs[0].size())};
  const std::vector<double> y = probe.forward(inputs);
  for (const double v : y) ASSERT_TRUE(std::isfinite(v));
  const std::vector<double> dy = test_values("dy", static_cast<Index>(y.size()));
  const Arrays dx = probe.backward(dy);
  if (!kDifferences) return;
  std::vector<std::string> names = {""};
  Arrays grads = {dx[0]};
  for (const ParamInfo& p : probe.params().all())
    if (p.trained) names.push_back(p.name), grads.push_back(probe.params().get_grad(p.name));
  double largest = 0;
  for (const auto& g : grads)
    for (const double v : g) largest = std::max(largest, std::abs(v));
  for (std::size_t k = 0; k < names.size(); ++k) {
    const std::vector<double> base = k ? probe.params().get(names[k]) : inputs[0];
    check_along_directions(k ? names[k] : "x", base, grads[k], largest, [&](const std::vector<double>& moved) {
      if (k) probe.params().set(names[k], moved);
      else inputs[0] = moved;
      return dot(probe.forward(inputs), dy);
    });
    if (k) probe.params().set(names[k], base);
    else inputs[0] = base;
  }
}

// dl/dx_j = 0 for j > i when l reads only y_i.
void check_causality(const std::string& name) {
  const Shape s{2, 33, 4};
  OpCase c = mixer_case(name, {}, s);
  Probe probe(test_device().exec(), c);
  const std::vector<double> y = probe.forward({test_values("input0", s.B * s.T * s.D)});
  for (const Index at : {Index{0}, Index{7}, Index{31}}) {
    std::vector<double> dy(y.size(), 0.0);
    for (Index d = 0; d < s.D; ++d) dy[static_cast<std::size_t>((s.T + at) * s.D + d)] = 1 + 0.1 * static_cast<double>(d);
    probe.forward({test_values("input0", s.B * s.T * s.D)});
    const std::vector<double> dx = probe.backward(dy)[0];
    double past = 0, future = 0, other = 0;
    for (Index b = 0; b < s.B; ++b)
      for (Index t = 0; t < s.T; ++t)
        for (Index d = 0; d < s.D; ++d) {
          double& kind = b != 1 ? other : t > at ? future : past;
          kind = std::max(kind, std::abs(dx[static_cast<std::size_t>((b * s.T + t) * s.D + d)]));
        }
    EXPECT_GT(past, 0) << name << ": y_" << at << " depends on nothing";
    EXPECT_LE(future, past * (kDouble ? 1e-13 : 1e-6)) << name << ": y_" << at << " depends on later inputs";  // FFT rounding only
    EXPECT_LE(other, past * (kDouble ? 1e-13 : 1e-6)) << name << ": sequences of a batch mix";  // two rows may share one complex transform
  }
}

void check_views(const std::string& name, const Knob& view) {
  std::vector<double> y0;
  Arrays g0;
  for (const std::string& value : view.values) {
    Probe probe(test_device().exec(), mixer_case(name, {{name, {{view.name, value}}}}, {3, 31, 6}));
    const std::vector<double> y = probe.forward({test_values("input0", 3 * 31 * 6)});
    Arrays g = probe.backward(test_values("dy", static_cast<Index>(y.size())));
    for (const ParamInfo& p : probe.params().all())
      if (p.trained) g.push_back(probe.params().get_grad(p.name));
    if (y0.empty()) {
      y0 = y, g0 = g;
      continue;
    }
    EXPECT_LT(relative_error(y, y0), kDouble ? 1e-10 : 1e-5) << value << " against " << view.values[0];
    ASSERT_EQ(g.size(), g0.size());
    double largest = 0;
    for (const auto& one : g0)
      for (const double v : one) largest = std::max(largest, std::abs(v));
    for (std::size_t k = 0; k < g.size(); ++k)
      EXPECT_LT(gradient_error(g[k], g0[k], largest), kDouble ? 1e-9 : 2e-4) << value << ", gradient " << k;
  }
}

// Too long for the sanitizers, and a double has digits to spare.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kLong = false;
#else
constexpr bool kLong = !kDouble && !kEmulated;
#endif

// How far 4,096 carried steps drift from the parallel form.
void check_drift(const std::string& name, const VariantKnobs& knobs) {
  const Index T = 4096, D = 4;
  OpCase whole = mixer_case(name, knobs, {1, T, D}), step = mixer_case(name, knobs, {1, 1, D});
  whole.mode = Mode::evaluate, step.mode = Mode::stream, step.l_max = T;
  Probe parallel(test_device().exec(), whole);
  Probe one(test_device().exec(), step, parallel.shared());
  parallel.prepare();
  one.prepare();
  one.reset();
  const std::vector<double> x = test_values("input0", T * D), y = parallel.forward({x});
  std::vector<double> steps;
  for (auto now = x.begin(); now != x.end(); now += D) {
    const std::vector<double> out = one.step({{now, now + D}});
    steps.insert(steps.end(), out.begin(), out.end());
  }
  EXPECT_LT(relative_error(steps, y), 1e-4);
}

// A row that holds several sequences: outputs and gradients are those of each sequence alone.
void check_apart(const std::string& name, const VariantKnobs& knobs) {
  const Index B = 2, T = 150, D = 18, token = 1;
  const std::vector<std::vector<Index>> starts = {{0, 5, 6, 20, 64, 131}, {0, 149}};
  OpCase c = mixer_case(name, knobs, {B, T, D});
  c.tokens.assign(static_cast<std::size_t>(B * T), 0);
  for (std::size_t b = 0; b < 2; ++b)
    for (const Index t : starts[b]) c.tokens[b * T + static_cast<std::size_t>(t)] = t > 0 ? token : 0;
  c.build = [=](Net& n, const std::vector<Tensor>& in) {
    const auto variant = make_variant(name, knobs);
    auto& keeps = dynamic_cast<KeepsApart&>(*variant);
    EXPECT_TRUE(keeps.keeps_apart().yes) << keeps.keeps_apart().reason;
    keeps.starts = sequence_starts(n, token);
    return variant->build(n, in[0]);
  };
  const std::vector<double> x = test_values("input0", B * T * D), dy = test_values("dy", B * T * D);
  Probe packed(test_device().exec(), c);
  Arrays together = {packed.forward({x}), packed.backward(dy)[0]}, alone = {{}, {}};
  for (const ParamInfo& p : packed.params().all())
    if (p.trained) together.push_back(packed.params().get_grad(p.name));
  alone.resize(together.size());
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t k = 0; k < starts[b].size(); ++k) {
      const Index first = starts[b][k], end = k + 1 < starts[b].size() ? starts[b][k + 1] : T;
      const auto cut = [&](const std::vector<double>& from) {
        const auto row = from.begin() + static_cast<Index>(b) * T * D;
        return std::vector<double>(row + first * D, row + end * D);
      };
      OpCase one = mixer_case(name, knobs, {1, end - first, D});
      one.l_max = c.l_max;
      Probe probe(test_device().exec(), one, packed.shared());
      const std::vector<double> y = probe.forward({cut(x)}), dx = probe.backward(cut(dy))[0];
      alone[0].insert(alone[0].end(), y.begin(), y.end());
      alone[1].insert(alone[1].end(), dx.begin(), dx.end());
      std::size_t at = 2;
      for (const ParamInfo& p : probe.params().all()) {
        if (!p.trained) continue;
        const std::vector<double> g = probe.params().get_grad(p.name);
        alone[at].resize(g.size());
        for (std::size_t i = 0; i < g.size(); ++i) alone[at][i] += g[i];
        ++at;
      }
    }
  EXPECT_LT(relative_error(together[0], alone[0]), kDouble ? 1e-12 : 1e-5);
  double largest = 0;
  for (std::size_t k = 1; k < alone.size(); ++k)
    for (const double v : alone[k]) largest = std::max(largest, std::abs(v));
  for (std::size_t k = 1; k < alone.size(); ++k)
    // Floats: mamba2's dD, before a norm, is a sum that cancels to a hundredth of its terms, and is held to these.
    EXPECT_LT(gradient_error(together[k], alone[k], largest * (kDouble ? 1 : 100)), kDouble ? 1e-11 : 2e-4) << "gradient " << k;
}

void register_variant(const std::string& name) {
  const auto variant = VariantRegistry::get().make(name, "variant");
  const VariantKnobs forward = name == "selective_dplr" ? VariantKnobs{{name, {{"delta", "constant"}}}} : VariantKnobs{};
  // hyena keeps inputs, not sums that could drift, and takes 16 seconds for this.
  if (kLong && name != "hyena" && make_variant(name, forward)->streams().yes)
    add_test(name, "stream_of_4096", [=] { check_drift(name, forward); });
  if (dynamic_cast<const KeepsApart*>(variant.get()))
    add_test(name, "sequences_of_a_row_alone", [=] {
      check_apart(name, forward);
      if (name == "gla") check_apart(name, {{name, {{"gate_kind", "constant"}, {"d_conv", "4"}}}});
      if (name == "deltanet") check_apart(name, {{name, {{"gated", "true"}}}});
      if (name == "mamba") check_apart(name, {{name, {{"A_init", "complex"}}}});
      if (name == "mamba") check_apart(name, {{name, {{"inner", "s4d_real"}}}});
    });
  Knobs knobs;
  variant->knobs(knobs);
  add_test(name, "reference_and_streaming", [=] {
    for (const Index T : {1, 2, 3, 31, 32, 33, 1000}) check_reference(name, {}, {2, T, 12});
  });
  add_test(name, "gradient", [=] { check_op(mixer_case(name, {}, {3, 9, 4})); });
  add_test(name, "gradient_at_all_lengths", [=] {
    for (const Index T : {1, 2, 3, 31, 32, 33, 1000}) check_directions(mixer_case(name, {}, {2, T, 4}));
  });
  if (variant->causal().yes) {
    add_test(name, "causality", [=] { check_causality(name); });
  }
  for (const Knob& k : knobs.all()) {
    if (k.is_view) {
      add_test(name, "views_agree_" + k.name, [=] { check_views(name, k); });
      continue;
    }
    if (k.open_text) continue;
    for (const std::string& value : k.values) {
      if (value == k.default_value) continue;
      std::string label = k.name + "_" + value;
      for (char& ch : label)
        if (!std::isalnum(static_cast<unsigned char>(ch))) ch = '_';
      add_test(name, "knob_" + label, [=] {
        const VariantKnobs set = {{name, {{k.name, value}}}};
        check_reference(name, set, {3, 31, 8});
        check_directions(mixer_case(name, set, {3, 31, 8}));
      });
    }
  }
  add_test(name, "cost_is_declared", [=] {
    const auto work = [&](Index B) {
      Params params;
      Net net(params, Mode::train, B, 64, 8, 64);
      net.output(make_variant(name, {})->build(net, net.input(shaped({B, 64, 8}))));
      Work sum;
      for (const auto& op : net.ops()) {
        const Cost c = op->cost();
        EXPECT_GT(c.forward.bytes, 0) << op->name();
        EXPECT_GT(c.backward.bytes, 0) << op->name();
        sum.flops += c.forward.flops, sum.bytes += c.forward.bytes;
      }
      return sum;
    };
    const Work two = work(2), four = work(4), six = work(6);
    EXPECT_NEAR(six.flops - four.flops, four.flops - two.flops, 1e-6 * four.flops) << "work must grow linearly with the batch";
    EXPECT_GE(two.bytes, 2.0 * 2 * 64 * 8 * sizeof(Real)) << "x is read and y written";
  });
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) register_variant(name);
});

}  // namespace
}  // namespace ssm
