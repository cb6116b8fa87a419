// params.hpp - all parameters of a model: one block of values, one of gradients, two of moments; shared by every net of the model.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "memory.hpp"
#include "rng.hpp"
#include "tensor.hpp"

namespace ssm {

// Optimiser group of a parameter: its learning rate is min(lr_factor * lr, lr_max), its decay weight_decay or none.
struct Group {
  std::string name = "main";
  double lr_factor = 1, lr_max = 1e30;
  bool decay = true;
};
inline Group no_decay() { return {"no_decay", 1, 1e30, false}; }
// The small learning rate of state-space parameters (delta, A, B, P): at most 1e-3, never decayed.
inline Group ssm_group() { return {"ssm", 1, 1e-3, false}; }

// Entry i of a parameter, from the counter-based draws of (seed, full name).
using Init = std::function<double(const Draw&, Index)>;
namespace init {
Init constant(double value);
Init uniform(double low, double high);
Init normal(double deviation, double mean = 0);
Init log_uniform(double low, double high);  // log of a value whose logarithm is uniform: x = log(low..high)
Init torch_linear(Index fan_in);            // U(-1/sqrt(fan_in), 1/sqrt(fan_in)), weight and bias alike
Init values(std::vector<double> entries);   // given numbers
}  // namespace init

struct ParamInfo {
  std::string name;  // full: "layers.0.mixer.in_proj.weight"
  std::vector<Index> shape;
  Index size = 0, offset = 0;
  Group group;
  bool trained = true;  // false: a buffer (batch-norm statistics, kernel length), saved but never optimised
  Init init;
};

// Host copies of all values in double, by full name: what an after-init hook may read and rewrite.
using HostParams = std::map<std::string, std::vector<double>>;

class Params {
 public:
  static constexpr Index kPad = 64;  // every parameter starts at a multiple: one group per block of 64 entries

  // First call declares; later calls (nets of other shapes) return the same handle. std::logic_error when shapes differ.
  Param declare(const std::string& name, std::vector<Index> shape, Init init, Group group, bool trained);
  void after_init(const std::string& key, std::function<void(HostParams&)> hook);
  bool committed() const { return static_cast<bool>(values_); }
  // Allocates (values only, or with gradients and moments) and draws every initial value from `seed`.
  void commit(std::uint64_t seed, bool training);

  const std::vector<ParamInfo>& all() const { return infos_; }
  const ParamInfo* find(const std::string& name) const;
  Index padded_size() const { return padded_; }
  Index count() const;  // trained numbers

  Real* value(Param p) const { return values_.as<Real>() + infos_[static_cast<std::size_t>(p.id)].offset; }
  Real* grad(Param p) const { return grads_.as<Real>() + infos_[static_cast<std::size_t>(p.id)].offset; }
  Real* values() const { return values_.as<Real>(); }
  Real* grads() const { return grads_.as<Real>(); }
  Real* moment1() const { return moments_.as<Real>(); }
  Real* moment2() const { return moments_.as<Real>() + padded_; }

  // Copies through the host; throw BadInput naming the parameter when it is unknown or has another size.
  std::vector<double> get(const std::string& name) const;
  std::vector<double> get_grad(const std::string& name) const;
  void set(const std::string& name, const std::vector<double>& entries);

  Index bytes_values() const { return padded_ * static_cast<Index>(sizeof(Real)); }

 private:
  const ParamInfo& need(const std::string& name) const;
  std::vector<ParamInfo> infos_;
  std::map<std::string, int> index_;
  std::map<std::string, std::function<void(HostParams&)>> hooks_;
  std::vector<std::string> hook_order_;
  Index padded_ = 0;
  Memory values_, grads_, moments_;
};

}  // namespace ssm
