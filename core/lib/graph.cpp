// graph.cpp - CUDA and HIP graphs by stream capture; the two name their calls alike.
#include "lib/graph.hpp"

#include <exception>

#include "lib/gpu.hpp"

namespace ssm {

#if defined(SSM_GPU)
namespace graph {

struct Graph final : DeviceGraph {
  SSM_GPU(Graph_t) graph = nullptr;
  SSM_GPU(GraphExec_t) program = nullptr;

  ~Graph() override {
    if (program) (void)SSM_GPU(GraphExecDestroy)(program);
    if (graph) (void)SSM_GPU(GraphDestroy)(graph);
  }
  std::string record(const Run& r, const std::function<void()>& work) override {
    gpu_check(SSM_GPU(StreamBeginCapture)(gpu_stream(r.exec), SSM_GPU(StreamCaptureModeThreadLocal)), "begin of a graph");
    std::string refused;
    try {
      work();
    } catch (const std::exception& e) {
      refused = e.what();
    }
    const SSM_GPU(Error_t) ended = SSM_GPU(StreamEndCapture)(gpu_stream(r.exec), &graph);
    if (ended != SSM_GPU(Success) && refused.empty()) refused = SSM_GPU(GetErrorString)(ended);
    if (refused.empty()) {
      const SSM_GPU(Error_t) made = SSM_GPU(GraphInstantiateWithFlags)(&program, graph, 0);
      if (made != SSM_GPU(Success)) refused = SSM_GPU(GetErrorString)(made);
    }
    if (!refused.empty()) (void)SSM_GPU(GetLastError)();  // a refused capture leaves its error behind
    return refused;
  }
  void launch(const Run& r) override { gpu_check(SSM_GPU(GraphLaunch)(program, gpu_stream(r.exec)), "launch of a graph"); }
  Index nodes() const override {
    std::size_t count = 0;
    gpu_check(SSM_GPU(GraphGetNodes)(graph, nullptr, &count), "nodes of a graph");
    return static_cast<Index>(count);
  }
};

}  // namespace graph

std::unique_ptr<DeviceGraph> device_graph() { return std::make_unique<graph::Graph>(); }
#else
std::unique_ptr<DeviceGraph> device_graph() { return nullptr; }
#endif

}  // namespace ssm
