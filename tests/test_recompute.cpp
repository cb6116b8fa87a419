// test_recompute.cpp - layers, and activations of MLPs, computed again in the backward pass: the same bits after some steps as with everything kept, in less memory;
// for every variant, with dropout, MLPs and every norm and place of it.
#include <cstring>

#include "tiny_step.hpp"

namespace ssm {
namespace {

struct End {
  std::vector<Real> params;
  double loss = 0;
  Index activations = 0;
  std::size_t ops = 0;
};

End run_steps(ModelConfig config, const std::string& recompute) {
  TinyStep step(config, recompute);
  for (int i = 0; i < 3; ++i) {
    step.net->net.poison();  // a value that backward() reads and nobody computed again is NaN
    step(), step.draw();
  }
  test_device().fence("test: end of the steps");
  End end;
  end.params.resize(static_cast<std::size_t>(step.model.params.padded_size()));
  copy_out(end.params.data(), step.model.params.values(), static_cast<Index>(end.params.size() * sizeof(Real)));
  end.loss = step.optimizer->read_history(2, 3).front().loss;
  end.activations = step.net->net.bytes().activations, end.ops = step.net->net.ops().size();
  return end;
}

void compare(const ModelConfig& config) {
  const End kept = run_steps(config, "none");
  EXPECT_TRUE(std::isfinite(kept.loss));
  for (const std::string what : {"mlp", "block"}) {
    if (kEmulated && what == "mlp") continue;  // has no kernel that the other has not
    const End again = run_steps(config, what);
    EXPECT_EQ(kept.loss, again.loss) << what;
    EXPECT_EQ(std::memcmp(kept.params.data(), again.params.data(), kept.params.size() * sizeof(Real)), 0) << what;
    if (what == "mlp" && config.mlp <= 0) continue;
    EXPECT_LT(again.activations, kept.activations) << what;
  }
}

void register_variant(const std::string& name) {
  add_test("recompute", name, [=] {
    ModelConfig config = TinyStep::config(name, 0.1);
    config.mlp = 2, config.mask = "full";
    config.depth = 4;
    compare(config);
  });
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) register_variant(name);
  for (const char* norm : {"layer", "rms", "batch"})
    for (const char* place : {"pre", "post"})
      add_test("recompute", std::string(norm) + "_norm_" + place, [=] {
        ModelConfig config = TinyStep::config("cnn", 0.1);
        config.norm = norm, config.place = place, config.bidirectional = "concat", config.tie_dropout = true;
        config.depth = 4;
        compare(config);
      });
});

}  // namespace
}  // namespace ssm
