#include "bench/made_up.hpp"

#include "launch.hpp"
#include "recipe.hpp"

namespace ssm {

namespace made_up {

constexpr int kVocab = 32, kClasses = 10, kPiece = 4;

// Tokens first .. first + kPiece - 1 of an example, those below T; no token is padding.
SSM_FN void fill_piece(Index example, Index first, Index T, std::int32_t* tokens) {
  const Bits bits = philox(1, 0, static_cast<std::uint64_t>(example), static_cast<std::uint64_t>(first / kPiece));
  for (int k = 0; k < kPiece; ++k)
    if (first + k < T) tokens[first + k] = 1 + static_cast<std::int32_t>(bits.v[k] % (kVocab - 1));
}

SSM_FN std::int32_t label(Index example) { return static_cast<std::int32_t>(example % kClasses); }

struct MakeBatch {
  BatchPlan plan;
  const StepState* state;
  Index pieces;  // of an example
  SSM_FN void operator()(const Index i) const {
    const Index b = i / pieces, first = (i - b * pieces) * kPiece;
    const Index example = plan.stream[(state->step * plan.accumulate + state->micro) * plan.B + b];
    fill_piece(example, first, plan.T, plan.slots.tokens + b * plan.T);
    if (first) return;
    plan.slots.targets[b] = label(example);
    plan.slots.lengths[b] = static_cast<std::int32_t>(plan.T);
  }
};

struct Batches final : BatchMaker {
  BatchPlan plan;
  explicit Batches(const BatchPlan& plan_) : plan(plan_) {}
  void make(const Run& r) override {
    const Index pieces = (plan.T + kPiece - 1) / kPiece;
    launch("ssm::make_batch", r, plan.B * pieces, MakeBatch{plan, r.state, pieces});
  }
  std::vector<Index> read_tokens(Index from, Index to) const override {
    return std::vector<Index>(static_cast<std::size_t>(to - from), plan.accumulate * plan.B * plan.T);
  }
  Index bytes() const override { return 0; }
};

struct Tokens final : Task {
  Index T;
  explicit Tokens(Index length) : T(length) { name = "made-up tokens"; }
  void open(std::uint64_t) override {}
  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = kVocab;
    out.classes = kClasses;
    out.max_length = static_cast<int>(T);
    return out;
  }
  Index size(Split) const override { return 0; }
  void example(Split, Index index, Example& out) const override {
    out.clear();
    out.tokens.resize(static_cast<std::size_t>(T));
    for (Index first = 0; first < T; first += kPiece) fill_piece(index, first, T, out.tokens.data());
    out.targets = {label(index)};
  }
  std::string host_only() const override { return {}; }
  std::unique_ptr<BatchMaker> batches(const BatchPlan& plan) const override { return std::make_unique<Batches>(plan); }
};

}  // namespace made_up

std::unique_ptr<Task> made_up_tokens(Index T) { return std::make_unique<made_up::Tokens>(T); }

}  // namespace ssm
