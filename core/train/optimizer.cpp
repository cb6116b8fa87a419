#include "train/optimizer.hpp"

#include <algorithm>
#include <map>

#include "launch.hpp"
#include "ops.hpp"

namespace ssm {

namespace {

constexpr Index kSplits =
    kOnHost ? 256 : 4096;  // pieces of the gradient norm: fixed, so that its bits do not depend on the number of threads
constexpr Index kFew = kOnHost ? kSplits : 64;  // sums of pieces
constexpr double kPi = 3.14159265358979323846;

}  // namespace

Optimizer::Optimizer(Params& params, const TrainSettings& s, const Seeds& seeds, Index history)
    : params_(params),
      settings_(s),
      rows_(history),
      state_("ssm::step_state", sizeof(StepState)),
      history_("ssm::history", history * static_cast<Index>(sizeof(HistoryRow))),
      partial_("ssm::norm", (kSplits + kFew) * Index{8}),
      schedule_("ssm::schedule", sizeof(Schedule)) {
  StepState start{};
  start.seed_dropout = static_cast<std::uint64_t>(seeds.dropout);
  start.lr_scale = 1;
  write_state(start);
  set_total_steps(s.steps);

  std::vector<GroupRow> groups;
  std::map<std::pair<double, double>, std::uint8_t> index;
  std::vector<std::uint8_t> of_block(static_cast<std::size_t>(params.padded_size() / Params::kPad));
  for (const ParamInfo& p : params.all()) {
    const double ratio = !p.trained ? 0 : s.lr > 0 ? std::min(p.group.lr_factor * s.lr, p.group.lr_max) / s.lr : 0;
    const double decay = p.trained && p.group.decay ? s.weight_decay : 0;
    const auto [entry, fresh] = index.emplace(std::pair(ratio, decay), static_cast<std::uint8_t>(groups.size()));
    if (fresh) groups.push_back({ratio, decay});
    if (groups.size() > 255) throw std::logic_error("more than 255 optimiser groups");
    const Index first = p.offset / Params::kPad, last = (p.offset + p.size - 1) / Params::kPad;
    for (Index b = first; b <= last; ++b) of_block[static_cast<std::size_t>(b)] = entry->second;
  }
  groups_ = Memory("ssm::groups", static_cast<Index>(groups.size() * sizeof(GroupRow)));
  copy_in(groups_.as<void>(), groups.data(), groups_.bytes());
  block_group_ = Memory("ssm::groups", static_cast<Index>(of_block.size()));
  copy_in(block_group_.as<void>(), of_block.data(), block_group_.bytes());
}

void Optimizer::set_total_steps(Index steps) {
  const double total = static_cast<double>(steps);
  const double warmup = settings_.warmup < 1 ? settings_.warmup * total : settings_.warmup;
  const Schedule schedule{settings_.lr, settings_.lr_min, warmup, total, settings_.schedule == "cosine" ? 1 : 0};
  copy_in(schedule_.as<void>(), &schedule, sizeof schedule);
}

void Optimizer::set_lr_scale(const Run& r, double scale) {
  StepState* state = this->state();
  launch(
      "ssm::lr_scale", r, 1, KOKKOS_LAMBDA(const Index) { state->lr_scale = scale; });
}

void Optimizer::begin_step(const Run& r) {
  fill(r, params_.grads(), params_.padded_size(), 0);
  StepState* state = this->state();
  launch(
      "ssm::begin_step", r, 1, KOKKOS_LAMBDA(const Index) {
        state->loss_sum = 0;
        state->valid = 0;
        state->micro = 0;
      });
}

void Optimizer::end_micro(const Run& r) {
  StepState* state = this->state();
  launch(
      "ssm::end_micro", r, 1, KOKKOS_LAMBDA(const Index) { state->micro += 1; });
}

void Optimizer::update(const Run& r) {
  StepState* state = this->state();
  const Index n = params_.padded_size(), chunk = (n + kSplits - 1) / kSplits;
  const Real* g = params_.grads();
  double* partial = partial_.as<double>();
  launch(
      "ssm::grad_norm", r, kSplits, KOKKOS_LAMBDA(const Index s) {
        const Index first = kOnHost ? s * chunk : s, step = kOnHost ? 1 : kSplits, last = !kOnHost || first + chunk > n ? n : first + chunk;
        double sum = 0;
        for (Index i = first; i < last; i += step) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
        partial[s] = sum;
      });
  double* few = kOnHost ? partial : partial + kSplits;
  if (!kOnHost)
    launch(
        "ssm::grad_norm", r, kFew, KOKKOS_LAMBDA(const Index k) {
          double sum = 0;
          for (Index s = k; s < kSplits; s += kFew) sum += partial[s];
          few[k] = sum;
        });

  const Schedule* schedule = schedule_.as<Schedule>();
  const double b1 = settings_.beta1, b2 = settings_.beta2, clip = settings_.clip, eps = settings_.eps;
  HistoryRow* history = history_.as<HistoryRow>();
  const Index rows = rows_;
  launch(
      "ssm::step_state", r, 1, KOKKOS_LAMBDA(const Index) {
        double sum = 0;
        for (Index k = 0; k < kFew; ++k) sum += few[k];
        const double valid = state->valid > 0 ? state->valid : 1;
        const double norm = ::sqrt(sum) / valid;
        state->grad_norm = norm;
        state->grad_scale = (clip > 0 && norm > clip ? clip / norm : 1.0) / valid;

        const Schedule s = *schedule;
        const double t = static_cast<double>(state->step);
        double lr = s.lr;
        if (t < s.warmup) lr = s.lr * (t + 1) / (s.warmup + 1);
        else if (s.kind == 1) {
          const double span = s.total > s.warmup ? s.total - s.warmup : 1;
          const double x = (t - s.warmup) / span < 1 ? (t - s.warmup) / span : 1;
          lr = s.lr_min + (s.lr - s.lr_min) * 0.5 * (1 + ::cos(kPi * x));
        }
        state->lr = lr * state->lr_scale;
        state->bias1 = 1 - ::pow(b1, t + 1);
        state->bias2 = 1 - ::pow(b2, t + 1);
        history[state->step % rows] = {t, state->loss_sum / valid, norm, state->lr, state->valid};
      });

  Real *p = params_.values(), *m = params_.moment1(), *v = params_.moment2();
  const GroupRow* groups = groups_.as<GroupRow>();
  const std::uint8_t* group_of = block_group_.as<std::uint8_t>();
  constexpr Index piece = kOnHost ? Params::kPad : 1;  // entries of a work item, all of one group
  launch(
      "ssm::adamw", r, n / piece, KOKKOS_LAMBDA(const Index item) {
        const Index block = item * piece / Params::kPad;
        const GroupRow group = groups[group_of[block]];
        const Real scale = static_cast<Real>(state->grad_scale), lr = static_cast<Real>(state->lr * group.lr_ratio);
        const Real decay = static_cast<Real>(group.decay), c1 = static_cast<Real>(1 / state->bias1),
                   c2 = static_cast<Real>(1 / state->bias2);
        const Real beta1 = static_cast<Real>(b1), beta2 = static_cast<Real>(b2), tiny = static_cast<Real>(eps);
        if (group.lr_ratio == 0) return;
        for (Index i = item * piece; i < (item + 1) * piece; ++i) {
          const Real gi = g[i] * scale;
          m[i] = beta1 * m[i] + (1 - beta1) * gi;
          v[i] = beta2 * v[i] + (1 - beta2) * gi * gi;
          p[i] -= lr * (m[i] * c1 / (Kokkos::sqrt(v[i] * c2) + tiny) + decay * p[i]);
        }
      });
  launch(
      "ssm::next_step", r, 1, KOKKOS_LAMBDA(const Index) { state->step += 1; });
}

std::vector<HistoryRow> Optimizer::read_history(Index from, Index to) const {
  std::vector<HistoryRow> ring(static_cast<std::size_t>(rows_)), out;
  copy_out(ring.data(), history_.as<void>(), history_.bytes());
  for (Index s = from; s < to; ++s) out.push_back(ring[static_cast<std::size_t>(s % rows_)]);
  return out;
}

StepState Optimizer::read_state() const {
  StepState s;
  copy_out(&s, state_.as<void>(), sizeof s);
  return s;
}

void Optimizer::write_state(const StepState& s) { copy_in(state_.as<void>(), &s, sizeof s); }

}  // namespace ssm
