// test_replay.cpp - training steps replayed as a device graph end with the bits of eager ones, for every variant; where there are
// no graphs the path says so.
#include <cstring>

#include "launch.hpp"
#include "tiny_step.hpp"
#include "train/replay.hpp"
#include "watch.hpp"

namespace ssm {
namespace {

struct End {
  std::vector<Real> params;
  double loss = 0;
  std::string path;
  Index allocations = 0, fences = 0;  // in the steps after the first three
};

constexpr bool kGraphs = !kOnHost && !kEmulated;

End run_steps(const std::string& variant, bool graph) {
  TinyStep step(variant);
  Replay replay(graph);
  End end;
  Watched before;
  const int steps = kGraphs ? 200 : 20;
  for (int i = 0; i < steps; ++i) {
    if (i == 3) before = watched();
    step.load();
    replay(step.run, [&] { step.work(); });
    step.draw();
  }
  end.allocations = watched().allocations - before.allocations, end.fences = watched().fences - before.fences;
  test_device().fence("test: end of the steps");
  end.params.resize(static_cast<std::size_t>(step.model.params.padded_size()));
  copy_out(end.params.data(), step.model.params.values(), static_cast<Index>(end.params.size() * sizeof(Real)));
  end.loss = step.optimizer->read_history(steps - 1, steps).front().loss;
  end.path = replay.path();
  return end;
}

void register_variant(const std::string& name) {
  add_test("replay", name, [=] {
    const End eager = run_steps(name, false), replayed = run_steps(name, true);
    EXPECT_EQ(eager.path, "eager: not asked for");
    if (!kGraphs) EXPECT_EQ(replayed.path, "eager: no graphs on this backend");
    else EXPECT_EQ(replayed.path.rfind("graph of ", 0), 0u) << replayed.path;
    EXPECT_TRUE(std::isfinite(eager.loss));
    EXPECT_EQ(std::memcmp(eager.params.data(), replayed.params.data(), eager.params.size() * sizeof(Real)), 0);
    EXPECT_EQ(eager.loss, replayed.loss);
    EXPECT_EQ(replayed.allocations, 0);
    EXPECT_EQ(replayed.fences, 0);
  });
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) register_variant(name);
});

}  // namespace
}  // namespace ssm
