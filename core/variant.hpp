// variant.hpp - a sequence mixer (B,T,D) -> (B,T,D): one file in variants/, registered by its last line.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "knobs.hpp"
#include "ops.hpp"
#include "registry.hpp"

namespace ssm {

// Yes, or the reason why not.
struct Answer {
  bool yes = true;
  std::string reason;
  static Answer no(std::string why) { return {false, std::move(why)}; }
};

// The residual block a family is published with; model.norm, model.place, model.mlp override it.
struct Block {
  std::string norm = "layer";  // layer, rms, batch, none
  std::string place = "pre";   // pre, post
  double mlp = 0;              // width of an MLP after the mixer as a multiple of D; 0: none
};

// What a plain-loop reference is given: double precision, no padding tricks, no shared code with the kernels.
struct Case {
  Index B = 1, T = 1, D = 1, l_max = 1;
  std::vector<double> x;     // (B,T,D)
  std::vector<int> lengths;  // (B); all T unless said
  std::vector<double> gaps;  // (B,T), as Variant::gaps; empty: 1
  HostParams params;         // by local name: "in_proj.weight"
  std::vector<double> y;     // (B,T,D), to be filled

  const std::vector<double>& p(const std::string& name) const { return params.at(name); }
  double gap(Index b, Index t) const { return gaps.empty() ? 1 : gaps[static_cast<std::size_t>(b * T + t)]; }
};

struct Variant {
  int layer = 0, depth = 1;  // place in the stack and its height, set by the model before build()
  Tensor gaps;               // (B,T): factors of the time step at every position, without a gradient; absent (id -1): 1. Set likewise

  virtual ~Variant() = default;
  virtual std::string about() const = 0;  // one line for `list`
  virtual void knobs(Knobs&) {}
  virtual Tensor build(Net& n, Tensor x) = 0;
  virtual void reference(Case& c) const = 0;
  virtual Answer causal() const { return {}; }
  virtual Answer streams() const { return {}; }
  virtual Answer takes_gaps() const { return Answer::no("it has no time step that could differ between positions"); }
  virtual Block block() const { return {}; }
};

using VariantRegistry = Registry<Variant>;

#define SSM_VARIANT(Type, name)                          \
  [[maybe_unused]] static const bool registered_##Type = \
      ::ssm::VariantRegistry::get().add(name, []() -> std::unique_ptr<::ssm::Variant> { return std::make_unique<Type>(); })

// Plain-loop helpers for references.
// y[o] = sum_i W[o*in + i] x[i] (+ b[o]) for one row.
void dense_row(const double* x, Index in, const std::vector<double>& W, const std::vector<double>* b, double* y);

}  // namespace ssm
