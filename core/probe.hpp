// probe.hpp - any part of a model alone: a small net around a build function, driven with host arrays in double.
//
// Tests, the self-check before a timing, `bench` and `apply` look at ops and mixers through it.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net.hpp"

namespace ssm {

struct ProbeSpec {
  Index B = 2, T = 7, D = 5, l_max = 64;
  Mode mode = Mode::train;
  std::vector<Tensor> inputs;                                     // extents only
  std::function<Tensor(Net&, const std::vector<Tensor>&)> build;  // returns y
  bool is_loss = false;                                           // y is a loss: backward() needs no dy
  std::vector<std::int32_t> tokens, lengths, targets;             // copied into the batch; lengths default to T
  std::vector<double> features, values;
  std::uint64_t seed = 1;
};

using Arrays = std::vector<std::vector<double>>;

class Probe {
 public:
  // `shared`: parameters of another probe of the same build (other T, streaming); null: own ones.
  Probe(Exec& exec, const ProbeSpec& spec, std::shared_ptr<Params> shared = nullptr);

  // Every buffer is NaN before each call: an output that is not written cannot pass.
  std::vector<double> forward(const Arrays& inputs);
  // Gradients of sum(dy * y); of the inputs here, of the parameters in params().
  Arrays backward(const std::vector<double>& dy);
  void reset();                                    // stream mode: start of a sequence
  void prepare();                                  // evaluation and streaming: derived copies
  std::vector<double> step(const Arrays& inputs);  // stream mode, T = 1
  void advance();

  Params& params() { return *params_; }
  std::shared_ptr<Params> shared() const { return params_; }
  Net& net() { return net_; }
  Run& run() { return run_; }
  Tensor y;

 private:
  void fill_inputs(const Arrays& inputs);
  std::vector<double> read(Tensor t, const Real* from) const;
  ProbeSpec spec_;
  std::shared_ptr<Params> params_;
  Net net_;
  std::vector<Tensor> inputs_;
  Memory state_;
  std::vector<Memory> slots_;
  Run run_;
};

// Uniform in [-scale, scale], the same everywhere: entry i of the array called `name`.
std::vector<double> test_values(const std::string& name, Index count, double scale = 1);

// max |a - b| / max |b|; infinity when a or b holds a NaN or the sizes differ.
double relative_error(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace ssm
