// rig.hpp - something that can be timed: a mixer alone, its ops one by one, or a whole training step, on made-up data.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "bench/grid.hpp"
#include "net.hpp"
#include "train/replay.hpp"

namespace ssm {

struct Rig {
  virtual ~Rig() = default;
  virtual void load(Run&) {}        // what precedes a pass outside of the graph
  virtual void launch(Run& r) = 0;  // launches one pass; does not wait
  // One pass as a run would make it: a graph where the backend has them.
  void call(Run& r) {
    load(r);
    replay(r, [&] { launch(r); });
  }
  Replay replay;
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
