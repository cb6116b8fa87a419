// graph.hpp - the only door to device graphs: work that was launched once on the run's stream, to be launched again as a whole.
//
// A CPU has none and gains nothing from one.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "run.hpp"

namespace ssm {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Records what `work` launches; nothing runs. "", or why it cannot be recorded.
  virtual std::string record(const Run& r, const std::function<void()>& work) = 0;
  virtual void launch(const Run& r) = 0;
  virtual Index nodes() const = 0;
};

// Null where the backend has no graphs.
std::unique_ptr<DeviceGraph> device_graph();

}  // namespace ssm
