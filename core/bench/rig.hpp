// rig.hpp - something that can be timed: a mixer alone, its ops one by one, or the whole step of a training run.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "bench/grid.hpp"
#include "net.hpp"

namespace ssm {

struct Rig {
  virtual ~Rig() = default;
  // Launches one pass as a run would make it, as a graph where the backend has them; does not wait.
  virtual void call(Run& r) = 0;
  virtual std::string path() const = 0;  // how: "graph of 312 nodes", "eager: <why>"; of a step also who makes its batch
  // Launches one pass part by part; around(name, launch) decides when each is launched. Rigs of one part have one.
  using Around = std::function<void(const std::string& part, const std::function<void()>& launch)>;
  virtual void parts(Run& r, const Around& around) {
    around("all", [&] { call(r); });
  }
  virtual std::map<std::string, Work> part_work() const { return {}; }  // declared, for one call of each part
  StepState* state = nullptr;
  Index tokens = 0;         // positions one pass covers
  Index planned_bytes = 0;  // parameters and everything the net allocates
  Work work;                // declared by the ops, for one pass
  std::string slow;         // Net::slow_ops()
};

// Throws Unsupported with the reason when the case cannot run here (does not stream, does not fit), BadInput for keys that do not fit.
std::unique_ptr<Rig> make_rig(const BenchCase& c, const Config& config, Device& device);

// Bytes that the training step of a case plans for, by B. Of the case's own B nothing is read; no net is allocated.
std::function<Index(Index B)> step_planner(const BenchCase& c, const Config& config);

}  // namespace ssm
