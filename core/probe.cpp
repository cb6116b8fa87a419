#include "probe.hpp"

#include <cmath>
#include <limits>

namespace ssm {

namespace {

template <class To, class From>
To* upload(std::vector<Memory>& slots, const std::vector<From>& host) {
  if (host.empty()) return nullptr;
  std::vector<To> raw(host.begin(), host.end());
  Memory& slot = slots.emplace_back("ssm::probe", static_cast<Index>(raw.size() * sizeof(To)));
  copy_in(slot.as<void>(), raw.data(), slot.bytes());
  return slot.as<To>();
}

}  // namespace

Probe::Probe(Exec& exec, const ProbeSpec& spec, std::shared_ptr<Params> shared_params)
    : spec_(spec),
      params_(shared_params ? std::move(shared_params) : std::make_shared<Params>()),
      net_(*params_, spec.mode, spec.B, spec.T, spec.D, spec.l_max),
      state_("ssm::step_state", sizeof(StepState)),
      run_{exec, spec.mode, state_.as<StepState>()} {
  for (const Tensor& shape : spec.inputs) inputs_.push_back(net_.input(shape));
  y = spec.build(net_, inputs_);
  if (!spec.is_loss) net_.output(y);
  net_.plan();
  params_->commit(spec.seed, true);
  net_.allocate();

  StepState start{};
  start.seed_dropout = spec.seed;
  start.lr_scale = 1;
  copy_in(state_.as<void>(), &start, sizeof start);
  if (spec_.lengths.empty()) spec_.lengths.assign(static_cast<std::size_t>(spec.B), static_cast<std::int32_t>(spec.T));
  net_.batch.tokens = upload<std::int32_t>(slots_, spec_.tokens);
  net_.batch.features = upload<Real>(slots_, spec_.features);
  net_.batch.lengths = upload<std::int32_t>(slots_, spec_.lengths);
  net_.batch.targets = upload<std::int32_t>(slots_, spec_.targets);
  net_.batch.values = upload<Real>(slots_, spec_.values);
}

void Probe::fill_inputs(const Arrays& inputs) {
  for (std::size_t k = 0; k < inputs_.size(); ++k) {
    const std::vector<Real> raw(inputs.at(k).begin(), inputs.at(k).end());
    if (static_cast<Index>(raw.size()) != inputs_[k].size()) throw std::logic_error("probe: input of the wrong size");
    copy_in(net_.value(inputs_[k]), raw.data(), static_cast<Index>(raw.size() * sizeof(Real)));
  }
}

std::vector<double> Probe::read(Tensor t, const Real* from) const {
  std::vector<Real> raw(static_cast<std::size_t>(t.size()));
  copy_out(raw.data(), from, static_cast<Index>(raw.size() * sizeof(Real)));
  return {raw.begin(), raw.end()};
}

std::vector<double> Probe::forward(const Arrays& inputs) {
  net_.poison();
  fill_inputs(inputs);
  net_.forward(run_);
  return read(y, net_.value(y));
}

Arrays Probe::backward(const std::vector<double>& dy) {
  fill_bytes(params_->grads(), 0, params_->bytes_values());
  if (!spec_.is_loss) {
    const std::vector<Real> raw(dy.begin(), dy.end());
    copy_in(net_.grad(y), raw.data(), static_cast<Index>(raw.size() * sizeof(Real)));
  }
  net_.backward(run_);
  Arrays out;
  for (const Tensor& x : inputs_) out.push_back(read(x, net_.grad(x)));
  return out;
}

void Probe::reset() { net_.reset(run_); }
void Probe::prepare() { net_.prepare(run_); }
void Probe::advance() { net_.advance(run_); }

std::vector<double> Probe::step(const Arrays& inputs) {
  net_.poison();
  fill_inputs(inputs);
  net_.step(run_);
  return read(y, net_.value(y));
}

std::vector<double> test_values(const std::string& name, Index count, double scale) {
  const Draw draw{7, hash_name(name)};
  std::vector<double> out(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] = draw.uniform(i, -scale, scale);
  return out;
}

double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst == 0 ? 0 : worst / std::max(largest, 1e-300);
}

}  // namespace ssm
