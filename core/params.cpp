#include "params.hpp"

#include <cmath>
#include <memory>

#include "error.hpp"

namespace ssm {

namespace init {

Init constant(double value) {
  return [=](const Draw&, Index) { return value; };
}
Init uniform(double low, double high) {
  return [=](const Draw& draw, Index i) { return draw.uniform(i, low, high); };
}
Init normal(double deviation, double mean) {
  return [=](const Draw& draw, Index i) { return mean + deviation * draw.normal(i); };
}
Init log_uniform(double low, double high) { return uniform(std::log(low), std::log(high)); }
Init torch_linear(Index fan_in) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return uniform(-bound, bound);
}
Init values(std::vector<double> entries) {
  auto shared = std::make_shared<const std::vector<double>>(std::move(entries));
  return [=](const Draw&, Index i) { return shared->at(static_cast<std::size_t>(i)); };
}

}  // namespace init

Param Params::declare(const std::string& name, std::vector<Index> shape, Init init, Group group, bool trained) {
  Index size = 1;
  for (const Index e : shape) size *= e;
  if (const auto found = index_.find(name); found != index_.end()) {
    if (infos_[static_cast<std::size_t>(found->second)].shape != shape)
      throw std::logic_error("parameter " + name + " declared with two shapes");
    return {found->second, size};
  }
  if (committed()) throw std::logic_error("parameter " + name + " declared after the parameters were allocated");
  const int id = static_cast<int>(infos_.size());
  index_[name] = id;
  infos_.push_back({name, std::move(shape), size, padded_, std::move(group), trained, std::move(init)});
  padded_ += (size + kPad - 1) / kPad * kPad;
  return {id, size};
}

void Params::after_init(const std::string& key, std::function<void(HostParams&)> hook) {
  if (hooks_.emplace(key, std::move(hook)).second) hook_order_.push_back(key);
}

void Params::commit(std::uint64_t seed, bool training) {
  if (committed()) return;
  const Index bytes = bytes_values();
  values_ = Memory("ssm::params", std::max<Index>(bytes, 1));
  if (training) {
    grads_ = Memory("ssm::grads", bytes);
    moments_ = Memory("ssm::moments", 2 * bytes);
    fill_bytes(grads_.as<void>(), 0, bytes);
    fill_bytes(moments_.as<void>(), 0, 2 * bytes);
  }
  HostParams host;
  for (const ParamInfo& info : infos_) {
    const Draw draw{seed, hash_name(info.name)};
    std::vector<double>& entries = host[info.name];
    entries.resize(static_cast<std::size_t>(info.size));
    for (Index i = 0; i < info.size; ++i) entries[static_cast<std::size_t>(i)] = info.init(draw, i);
  }
  for (const std::string& key : hook_order_) hooks_[key](host);
  fill_bytes(values_.as<void>(), 0, bytes);
  for (const ParamInfo& info : infos_) set(info.name, host[info.name]);
}

const ParamInfo* Params::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &infos_[static_cast<std::size_t>(found->second)];
}

const ParamInfo& Params::need(const std::string& name) const {
  if (const ParamInfo* info = find(name)) return *info;
  std::vector<std::string> names;
  for (const ParamInfo& info : infos_) names.push_back(info.name);
  throw BadInput("unknown parameter '" + name + "'; nearest '" + nearest(name, names) + "'");
}

Index Params::count() const {
  Index total = 0;
  for (const ParamInfo& info : infos_)
    if (info.trained) total += info.size;
  return total;
}

namespace {

std::vector<double> fetch(const Real* device, Index size) {
  std::vector<Real> raw(static_cast<std::size_t>(size));
  copy_out(raw.data(), device, size * static_cast<Index>(sizeof(Real)));
  return {raw.begin(), raw.end()};
}

}  // namespace

std::vector<double> Params::get(const std::string& name) const {
  const ParamInfo& info = need(name);
  return fetch(values() + info.offset, info.size);
}

std::vector<double> Params::get_grad(const std::string& name) const {
  const ParamInfo& info = need(name);
  return fetch(grads() + info.offset, info.size);
}

void Params::set(const std::string& name, const std::vector<double>& entries) {
  const ParamInfo& info = need(name);
  if (static_cast<Index>(entries.size()) != info.size)
    throw BadInput("parameter " + name + " has " + std::to_string(info.size) + " entries, not " + std::to_string(entries.size()));
  std::vector<Real> raw(entries.size());
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<Real>(entries[i]);
  copy_in(values() + info.offset, raw.data(), info.size * static_cast<Index>(sizeof(Real)));
}

}  // namespace ssm
