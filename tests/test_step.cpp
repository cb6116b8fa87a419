// test_step.cpp - a training step allocates nothing (operator new and Kokkos), waits for nothing, launches on the run's instance with labelled
// kernels, and planned memory is what was allocated; for every variant.
#include <limits>
#include <set>

#include <Kokkos_Core.hpp>

#include "launch.hpp"
#include "tiny_step.hpp"
#include "watch.hpp"

namespace ssm {
namespace {

std::set<std::string> labels;
void kernel_began(const char* label, const std::uint32_t, std::uint64_t*) { labels.insert(label); }

void register_variant(const std::string& name) {
  add_test("step_" + name, "allocates_and_waits_for_nothing", [=] {
    TinyStep step(name);
    step(), step();  // first use may size library workspaces
    const long before_news = news_made();
    const Watched before = watched();
    for (int i = 0; i < 5; ++i) step();
    const Watched after = watched();
    EXPECT_EQ(after.allocations, before.allocations) << "allocations through Kokkos in five steps, the last of " << last_allocation();
    EXPECT_EQ(after.fences, before.fences) << "fences in five steps";
    if (kOnHost) {
      EXPECT_EQ(news_made() - before_news, 0) << "operator new in five steps";  // a GPU's libraries have their own
    }
  });
  add_test("step_" + name, "plan_is_what_is_allocated", [=] {
    const Index before = watched().bytes;
    TinyStep step(name);
    const Index planned = 4 * step.model.params.padded_size() * static_cast<Index>(sizeof(Real)) + step.net->net.bytes().total() +
                          step.net->slot_bytes() + step.optimizer->bytes();
    EXPECT_EQ(watched().bytes - before, planned);
    const Index peak = watched().peak;
    step();
    EXPECT_EQ(watched().peak, peak) << "a step needs more than the plan";
  });
  add_test("step_" + name, "kernels_are_labelled", [=] {
    TinyStep step(name);
    labels.clear();
    Kokkos::Tools::Experimental::set_begin_parallel_for_callback(kernel_began);
    step();
    Kokkos::Tools::Experimental::set_begin_parallel_for_callback(nullptr);
    EXPECT_GT(labels.size(), 10u);
    for (const std::string& label : labels) EXPECT_EQ(label.rfind("ssm::", 0), 0u) << label;
  });
}

#if defined(__SSE2__)
TEST(Device, TinyNumbersAreZeroOnEveryThreadOfACpu) {
  if (!kOnHost) GTEST_SKIP() << "a GPU computes with them at full speed";
  const volatile Real least = std::numeric_limits<Real>::min();
  int kept = 0;
  Kokkos::parallel_reduce(
      Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, 64), [=](int, int& sum) { sum += least * Real(0.5) > 0; }, kept);
  EXPECT_EQ(kept, 0);
}
#endif

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) register_variant(name);
});

}  // namespace
}  // namespace ssm
