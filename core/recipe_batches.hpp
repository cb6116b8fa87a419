// recipe_batches.hpp - the kernels that make a batch from a recipe. Files that include it go through the device compiler.
#pragma once
#include <type_traits>

#include "launch.hpp"
#include "memory.hpp"
#include "recipe.hpp"

namespace ssm {

// One example a work item: writes row b and pads it.
template <class Recipe>
struct MakeExample {
  Recipe recipe;
  BatchPlan plan;
  Layout layout;
  const StepState* state;
  Index* lengths;  // (B), in positions of the task
  char* scratch;

  SSM_FN void operator()(const Index b) const {
    const Index T = plan.T, F = layout.features;
    const Index position = (state->step * plan.accumulate + state->micro) * plan.B + b;
    Page<Real> page;
    if (F) page.features = plan.slots.features + b * T * F;
    else page.tokens = plan.slots.tokens + b * T;
    if (layout.values) page.values = plan.slots.values + b * layout.values;
    else page.targets = plan.slots.targets + (layout.positions ? b * T : b);
    page.scratch = scratch + b * layout.scratch;
    const Index longest = plan.lengths.longest(state->step);
    for (Index k = 0; k < Stream::candidates; ++k) {
      recipe(static_cast<std::uint64_t>(plan.stream.candidate(position, k)), page);
      if (page.length <= longest) break;
    }
    for (Index t = page.length; t < T; ++t) {
      if (!F) page.tokens[t] = 0;
      for (Index f = 0; f < F; ++f) page.features[t * F + f] = 0;
      if (layout.positions) page.targets[t] = -1;
    }
    lengths[b] = page.length;
    plan.slots.lengths[b] = static_cast<std::int32_t>((page.length + plan.patch - 1) / plan.patch);
  }
};

struct CountTokens {
  const StepState* state;
  const Index* lengths;
  Index* counts;  // (history)
  Index B, history;
  SSM_FN void operator()(const Index) const {
    Index& count = counts[state->step % history];
    if (state->micro == 0) count = 0;
    for (Index b = 0; b < B; ++b) count += lengths[b];
  }
};

template <class Recipe>
class RecipeBatches final : public BatchMaker {
 public:
  RecipeBatches(const Recipe& recipe, const Layout& layout, const BatchPlan& plan)
      : recipe_(recipe),
        layout_(layout),
        plan_(plan),
        counts_("ssm::batch_tokens", (plan.B + plan.history) * static_cast<Index>(sizeof(Index))),
        scratch_("ssm::batch_scratch", plan.B * layout.scratch) {
    static_assert(std::is_trivially_copyable_v<Recipe>, "a recipe travels to the device as it is");
    const auto upload = [this](auto& table, Index size) {
      const Index bytes = size * static_cast<Index>(sizeof(*table));
      tables_.emplace_back("ssm::batch_table", bytes);
      copy_in(tables_.back().template as<void>(), table, bytes);
      table = tables_.back().template as<std::remove_reference_t<decltype(*table)>>();
    };
    if constexpr (requires { recipe_.tables(upload); }) recipe_.tables(upload);
  }

  void make(const Run& r) override {
    Index *counts = counts_.as<Index>(), *lengths = counts + plan_.history;
    launch("ssm::make_batch", r, plan_.B, MakeExample<Recipe>{recipe_, plan_, layout_, r.state, lengths, scratch_.as<char>()});
    launch("ssm::count_batch", r, 1, CountTokens{r.state, lengths, counts, plan_.B, plan_.history});
  }
  std::vector<Index> read_tokens(Index from, Index to) const override {
    std::vector<Index> all(static_cast<std::size_t>(plan_.history)), out;
    copy_out(all.data(), counts_.as<void>(), plan_.history * static_cast<Index>(sizeof(Index)));
    for (Index s = from; s < to; ++s) out.push_back(all[static_cast<std::size_t>(s % plan_.history)]);
    return out;
  }
  Index bytes() const override {
    Index sum = counts_.bytes() + scratch_.bytes();
    for (const Memory& table : tables_) sum += table.bytes();
    return sum;
  }

 private:
  Recipe recipe_;
  Layout layout_;
  BatchPlan plan_;
  Memory counts_, scratch_;
  std::vector<Memory> tables_;
};

// The host form of a task with a recipe.
template <class Recipe>
void write_example(const Recipe& recipe, const Layout& layout, Index index, Example& out) {
  static thread_local std::vector<std::uint64_t> scratch;
  const auto room = [](auto& part, Index size) {
    part.resize(static_cast<std::size_t>(size));
    return size ? part.data() : nullptr;
  };
  Page<float> page;
  const Index T = layout.length, labels = layout.values ? 0 : layout.positions ? T : 1;
  page.tokens = room(out.tokens, layout.features ? 0 : T), page.features = room(out.features, T * layout.features);
  page.targets = room(out.targets, labels), page.values = room(out.values, layout.values);
  page.marks = room(out.marks, layout.marks ? T : 0), page.slices = room(out.slices, layout.slices);
  out.second.clear();
  if (static_cast<Index>(8 * scratch.size()) < layout.scratch) scratch.resize(static_cast<std::size_t>(layout.scratch + 7) / 8);
  page.scratch = reinterpret_cast<char*>(scratch.data());
  recipe(static_cast<std::uint64_t>(index), page);
  const Index n = page.length;
  if (n == T) return;
  room(out.tokens, layout.features ? 0 : n), room(out.features, n * layout.features), room(out.marks, layout.marks ? n : 0);
  if (layout.positions) room(out.targets, n);
}

}  // namespace ssm
