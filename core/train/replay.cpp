#include "train/replay.hpp"

namespace ssm {

void Replay::operator()(const Run& r, const std::function<void()>& work) {
  const Index call = calls_++;
  if (call == 1 && wanted_) {
    graph_ = device_graph();
    const std::string refused = graph_ ? graph_->record(r, work) : "no graphs on this backend";
    if (!refused.empty()) graph_.reset();
    path_ = graph_ ? "graph of " + std::to_string(graph_->nodes()) + " nodes" : "eager: " + refused;
  }
  if (graph_) graph_->launch(r);
  else work();
}

}  // namespace ssm
