#include "stream_state.hpp"

namespace ssm {

StreamState stream_state(const ModelConfig& config, const TaskInfo& task, const VariantKnobs& knobs) {
  Model model(config, task, knobs);
  if (const Answer a = model.streams(); !a.yes) return {-1, "does not stream: " + a.reason};
  const auto bytes_of = [](Model& m) { return m.make(Mode::stream, 1, 1)->net.state_numbers() * static_cast<Index>(sizeof(Real)); };
  const Index bytes = bytes_of(model);
  ModelConfig longer = model.config;  // with the l_max that the model found
  longer.l_max *= 2;
  Model other(longer, task, knobs);
  const bool constant = bytes_of(other) == bytes;
  return {bytes, constant ? "constant" : "grows: of model.l_max = " + std::to_string(model.config.l_max) + " positions"};
}

}  // namespace ssm
