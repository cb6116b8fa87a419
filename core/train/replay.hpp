// replay.hpp - a piece of work of fixed shape that is launched again and again: eagerly the first time, so that libraries set themselves up,
// recorded the second time, replayed as one graph from then on. Where that is not possible it stays eager and says why.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "lib/graph.hpp"

namespace ssm {

class Replay {
 public:
  // `wanted` false: always eager.
  explicit Replay(bool wanted = true) : wanted_(wanted) {}

  // `work` must launch the same kernels with the same arguments each time. Exceptions of an eager call pass through.
  void operator()(const Run& r, const std::function<void()>& work);
  // "eager: not asked for", "eager: no graphs on this backend", "eager: <why recording was refused>", "graph of 312 nodes".
  const std::string& path() const { return path_; }
  void stop() { wanted_ = false, graph_.reset(), path_ = "eager: not asked for"; }

 private:
  bool wanted_;
  Index calls_ = 0;
  std::unique_ptr<DeviceGraph> graph_;
  std::string path_ = "eager: not asked for";
};

}  // namespace ssm
