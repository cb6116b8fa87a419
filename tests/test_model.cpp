// test_model.cpp - what only shows in a whole model: pairs of 2B rows, patches, batch norm, padding, other lengths and streaming on shared
// parameters, the bidirectional wrapper; each with every registered variant where it makes sense.
#include <cmath>

#include "error.hpp"
#include "model.hpp"
#include "op_check.hpp"
#include "tiny_task.hpp"

namespace ssm {
namespace {

struct Bench {  // a model with one net, driven by hand
  TinyTask task;
  Model model;
  Memory state;
  Run run;

  Bench(TinyTask t, const ModelConfig& config, const VariantKnobs& knobs = {})
      : task(std::move(t)),
        model(config, task.info(), knobs),
        state("ssm::step_state", sizeof(StepState)),
        run{test_device().exec(), Mode::train, state.as<StepState>()} {
    StepState start{};
    start.lr_scale = 1;
    copy_in(state.as<void>(), &start, sizeof start);
  }
  std::unique_ptr<ModelNet> net(Mode mode, Index B, Index T) {
    auto made = model.make(mode, B, T);
    model.params.commit(3, true);
    made->allocate();
    return made;
  }
  HostBatch batch(Index B, Index T, Index first = 0) {
    std::vector<Index> indices;
    for (Index b = 0; b < B; ++b) indices.push_back(first + b);
    HostBatch out;
    fill(task, Split::train, indices, T, out);
    return out;
  }
  std::vector<double> read(const ModelNet& net, Tensor t) const {
    std::vector<Real> raw(static_cast<std::size_t>(t.size()));
    copy_out(raw.data(), net.net.value(t), static_cast<Index>(raw.size() * sizeof(Real)));
    return {raw.begin(), raw.end()};
  }
  std::vector<double> logits(ModelNet& net, const HostBatch& b) {
    net.net.poison();
    net.load(run, b);
    net.net.forward(run);
    return read(net, net.logits);
  }
  double loss(ModelNet& net, const HostBatch& b) {
    logits(net, b);
    double sum = 0;
    for (const double v : read(net, net.loss.loss)) sum += v;
    return sum;
  }
};

ModelConfig small(const std::string& variant, int depth = 2) {
  ModelConfig c;
  c.variant = variant;
  c.depth = depth;
  c.d_model = 8;
  c.l_max = 96;
  return c;
}

// Gradient of the summed loss along random directions of every parameter, against central differences.
void check_model_gradient(Bench& m, Index B, Index T) {
  auto net = m.net(Mode::train, B, T);
  const HostBatch batch = m.batch(B, T);
  ASSERT_TRUE(std::isfinite(m.loss(*net, batch)));
  fill_bytes(m.model.params.grads(), 0, m.model.params.bytes_values());
  net->net.backward(m.run);
  std::map<std::string, std::vector<double>> grads;
  double largest = 0;
  for (const ParamInfo& p : m.model.params.all()) {
    grads[p.name] = m.model.params.get_grad(p.name);
    for (const double g : grads[p.name]) {
      ASSERT_TRUE(std::isfinite(g)) << p.name;
      largest = std::max(largest, std::abs(g));
    }
  }
  EXPECT_GT(largest, 0);
  if (!kDifferences) return;
  for (const ParamInfo& p : m.model.params.all()) {
    if (!p.trained) continue;
    const std::vector<double> base = m.model.params.get(p.name);
    check_along_directions(p.name, base, grads[p.name], largest, [&](const std::vector<double>& moved) {
      m.model.params.set(p.name, moved);
      return m.loss(*net, batch);
    });
    m.model.params.set(p.name, base);
  }
}

const double kTight = kDouble ? 1e-10 : 1e-5;

void register_variant(const std::string& name) {
  add_test("model_" + name, "classes_gradient", [=] {
    Bench m(TinyTask(Target::classes), small(name));
    check_model_gradient(m, 3, 24);
  });
  add_test("model_" + name, "positions_gradient", [=] {
    Bench m(TinyTask(Target::positions), small(name));
    check_model_gradient(m, 2, 24);
  });
  add_test("model_" + name, "series_gradient", [=] {
    Bench m(TinyTask(Target::series, 3), small(name));
    check_model_gradient(m, 2, 24);
  });
  // A batch of 2B rows: swapping the two sequences of every pair must be the same as swapping the halves of the head's input.
  add_test("model_" + name, "pairs_gradient", [=] {
    Bench m(TinyTask(Target::pairs), small(name));
    check_model_gradient(m, 3, 24);
    auto net = m.net(Mode::evaluate, 3, 24);
    EXPECT_EQ(net->rows, 6);
    const HostBatch all = m.batch(3, 24);
    const auto together = m.logits(*net, all);
    auto single = m.net(Mode::evaluate, 1, 24);
    const auto alone = m.logits(*single, m.batch(1, 24, 2));
    EXPECT_LT(relative_error({together[4], together[5]}, alone), kTight) << "a pair depends on its neighbours";
  });
  add_test("model_" + name, "patches_gradient", [=] {
    ModelConfig c = small(name);
    c.frontend = "patch:4";
    Bench m(TinyTask(Target::classes, 3), c);
    check_model_gradient(m, 2, 24);
  });
  add_test("model_" + name, "batch_norm", [=] {
    ModelConfig c = small(name);
    c.norm = "batch";
    Bench m(TinyTask(Target::classes), c);
    check_model_gradient(m, 3, 24);
    auto net = m.net(Mode::train, 3, 24);
    auto eval = m.net(Mode::evaluate, 3, 24);
    const HostBatch b = m.batch(3, 24);
    const auto before = m.logits(*eval, b);
    EXPECT_EQ(before, m.logits(*eval, b)) << "evaluation moved the running statistics";
    for (int i = 0; i < 200; ++i) {
      m.logits(*net, b);
      net->net.advance(m.run);
    }
    const auto trained = m.logits(*net, b), settled = m.logits(*eval, b);
    EXPECT_NE(before, settled) << "advance() must move the running statistics";
    // Unbiased running variance against biased batch variance: n/(n-1), n = 72.
    EXPECT_LT(relative_error(settled, trained), 0.05) << "running statistics of a constant batch tend to that batch's";
  });
  for (const char* how : {"sum", "concat"})
    add_test("model_" + name, std::string("bidirectional_") + how, [=] {
      ModelConfig c = small(name, 1);
      c.bidirectional = how;
      Bench m(TinyTask(Target::classes), c);
      check_model_gradient(m, 2, 24);
      EXPECT_FALSE(m.model.causal().yes);
    });
  const auto variant = VariantRegistry::get().make(name, "variant");
  if (!variant->causal().yes) return;
  // Right padding must not reach the logits of a causal model; the parameters serve T 24, 48 and 96 alike.
  add_test("model_" + name, "padding_and_longer_nets", [=] {
    Bench m(TinyTask(Target::classes), small(name));
    auto net = m.net(Mode::evaluate, 3, 24);
    net->net.prepare(m.run);
    const auto y = m.logits(*net, m.batch(3, 24));
    for (const Index T : {Index{48}, Index{96}}) {
      auto longer = m.net(Mode::evaluate, 3, T);
      longer->net.prepare(m.run);
      EXPECT_LT(relative_error(m.logits(*longer, m.batch(3, T)), y), kTight) << "padded to " << T;
    }
  });
  if (!variant->streams().yes) return;
  add_test("model_" + name, "streaming", [=] {
    ModelConfig c = small(name);
    Bench m(TinyTask(Target::positions, 0, 24, 24), c);
    auto whole = m.net(Mode::evaluate, 2, 24), one = m.net(Mode::stream, 2, 1);
    const HostBatch b = m.batch(2, 24);
    whole->net.prepare(m.run);
    const auto y = m.logits(*whole, b);
    one->net.prepare(m.run);
    one->net.reset(m.run);
    std::vector<double> steps(y.size());
    const std::size_t C = static_cast<std::size_t>(m.task.made.classes);
    for (std::size_t t = 0; t < 24; ++t) {
      HostBatch now;
      now.B = now.rows = 2, now.T = 1;
      now.tokens = {b.tokens[t], b.tokens[24 + t]};
      now.lengths = {1, 1};
      now.targets = {-1, -1};
      one->load(m.run, now);
      one->net.step(m.run);
      const auto out = m.read(*one, one->logits);
      for (std::size_t k = 0; k < 2; ++k)
        std::copy_n(out.begin() + static_cast<long>(k * C), C, steps.begin() + static_cast<long>((k * 24 + t) * C));
    }
    EXPECT_LT(relative_error(steps, y), kTight);
  });
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) register_variant(name);
  add_test("model", "regression_gradient", [] {
    Bench m(TinyTask(Target::regression, 2), small(VariantRegistry::get().names().front()));
    check_model_gradient(m, 3, 24);
  });
  add_test("model", "hybrid_pattern", [] {
    EXPECT_EQ(parse_layers("mamba*2,attention"), (std::vector<std::string>{"mamba", "mamba", "attention"}));
    EXPECT_THROW(parse_layers("mamba*2,atention"), BadInput);
    EXPECT_THROW(parse_layers("mamba*0"), BadInput);
    ModelConfig c = small("mamba");
    c.layers = "mamba,attention";
    Bench m(TinyTask(Target::classes), c);
    check_model_gradient(m, 2, 24);
  });
  add_test("model", "ends_of_a_range_in_order", [] {
    int ranges = 0;
    for (const std::string& name : VariantRegistry::get().names()) {
      Knobs knobs;
      const auto variant = VariantRegistry::get().make(name, "variant");
      variant->knobs(knobs);
      if (!knobs.find("dt_min")) continue;
      ++ranges;
      EXPECT_NO_THROW(make_variant(name, {{name, {{"dt_min", "0.01"}, {"dt_max", "0.01"}}}}));
      try {
        make_variant(name, {{name, {{"dt_min", "0.02"}, {"dt_max", "0.01"}}}});
        ADD_FAILURE() << name << " accepts dt_min above dt_max";
      } catch (const BadInput& e) {
        EXPECT_EQ(std::string(e.what()), name + ".dt_min = 0.02 is above " + name + ".dt_max = 0.01");
      }
    }
    EXPECT_GT(ranges, 3);
  });
  add_test("model", "planned_reuse_changes_nothing", [] {
    Bench m(TinyTask(Target::classes), small("attention", 4));
    auto net = m.net(Mode::train, 3, 24);
    EXPECT_LT(net->net.bytes().activations + net->net.bytes().gradients, net->net.bytes().without_reuse);
  });
});

}  // namespace
}  // namespace ssm
