// mixer_cases.hpp - the registered variants as probes: every value of every knob and every view alone, at small odd shapes.
#pragma once
#include <string>
#include <vector>

#include "model.hpp"
#include "probe.hpp"
#include "variant.hpp"

namespace ssm {

struct Shape {
  Index B, T, D;
};

inline ProbeSpec mixer_spec(const std::string& name, const VariantKnobs& knobs, Shape s) {
  ProbeSpec spec;
  spec.B = s.B, spec.T = s.T, spec.D = s.D;
  spec.l_max = std::max<Index>(s.T, 16);
  spec.inputs = {shaped({s.B, s.T, s.D})};
  spec.build = [=](Net& n, const std::vector<Tensor>& in) { return make_variant(name, knobs)->build(n, in[0]); };
  return spec;
}

struct MixerCase {
  std::string label;  // "defaults_T31", "d_state_16"
  VariantKnobs knobs;
  Shape shape;
};

inline std::vector<MixerCase> mixer_cases(const std::string& name) {
  std::vector<MixerCase> cases;
  for (const Index T : {1, 2, 3, 31, 32, 33, 1000}) cases.push_back({"defaults_T" + std::to_string(T), {}, {2, T, 12}});
  Knobs knobs;
  const auto variant = VariantRegistry::get().make(name, "variant");
  variant->knobs(knobs);
  for (const Knob& k : knobs.all())
    for (const std::string& value : k.values)
      if (!k.open_text && value != k.default_value) cases.push_back({k.name + "_" + value, {{name, {{k.name, value}}}}, {3, 31, 8}});
  return cases;
}

}  // namespace ssm
