// model.hpp - embed -> blocks -> head -> loss around any variants, for any task; one set of parameters, a net per (B,T,mode).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loader.hpp"
#include "net.hpp"
#include "recipe.hpp"
#include "staging.hpp"
#include "task.hpp"
#include "variant.hpp"

namespace ssm {

struct ModelConfig {
  std::string layers;  // "mamba*3,attention"; empty: variant * depth
  std::string variant = "s4d";
  int depth = 4, d_model = 64;
  int l_max = 0;  // longest sequence parameters are made for; 0: the task's
  std::string norm = "auto", place = "auto";
  double mlp = -1;  // width of the MLP over D; -1: the variant's default, 0: none
  std::string mlp_activation = "gelu";
  double dropout = 0;
  bool tie_dropout = false;  // one mask per (sequence, channel), the same at all t
  std::string pooling = "auto";
  std::string mask = "pool-only";    // or "full": padding is zeroed after every block, as well
  std::string frontend = "none";     // for tasks with features: "patch:N", "conv:width/stride"
  std::string bidirectional = "no";  // "sum": f(x) + rev f'(rev x); "concat": W [f(x); rev f'(rev x)]
  int reset_token = -1;              // starts a sequence inside a row, -1: none does
  std::string gaps = "even";         // "given": the task's times between positions multiply the time steps of the mixers
  double embed_deviation = 1;        // token embedding ~ N(0, deviation^2)
  void knobs(Knobs& k);
};

// Values of a variant's knobs by variant name, then knob name.
using VariantKnobs = std::map<std::string, std::map<std::string, std::string>>;

// "mamba*3,attention" -> mamba mamba mamba attention. Throws BadInput naming the piece and the nearest variant.
std::vector<std::string> parse_layers(const std::string& pattern);

// A variant with its knobs set. Throws BadInput for an unknown variant or knob, or a value out of range.
std::unique_ptr<Variant> make_variant(const std::string& name, const VariantKnobs& knobs);

class Model;

// A net of the model for B examples of T positions, with its batch slots in device memory.
class ModelNet {
 public:
  ModelNet(Model& model, Mode mode, Index B, Index T);
  void allocate();
  // Copies a batch into the slots on the run's stream; the batch must have this net's B and T.
  void load(const Run& r, const HostBatch& batch);
  // What a kernel needs to make this net's training batches instead.
  BatchPlan batch_plan() const { return {.slots = net.batch, .B = examples, .T = T, .patch = patch_}; }
  Index slot_bytes() const { return slots_.bytes() ? slots_.bytes() : wanted_slot_bytes_; }

  const Index examples, rows, T;
  Net net;
  Tensor logits;
  Loss loss;

 private:
  Memory slots_;
  Index wanted_slot_bytes_ = 0;
  Index counts_[5] = {};  // bytes of tokens, features, lengths, targets, values
  Index patch_;
  Staging staging_;
};

class Model {
 public:
  Model(const ModelConfig& config, const TaskInfo& task, const VariantKnobs& knobs);

  std::unique_ptr<ModelNet> make(Mode mode, Index examples, Index T) { return std::make_unique<ModelNet>(*this, mode, examples, T); }
  // All of the network up to the logits; pooled per `info.target`.
  Tensor build(Net& n);

  Answer causal() const;
  Answer streams() const;
  Index patch() const { return patch_; }  // positions one model step covers
  const std::vector<std::unique_ptr<Variant>>& variants() const { return variants_; }

  ModelConfig config;
  TaskInfo info;
  std::vector<std::string> layers;
  // Of training nets made from now on, what runs again in backward instead of being kept: "mlp": activations of MLPs; "block": layers.
  std::string recompute = "none";
  Params params;

 private:
  void read_frontend();
  void check_gaps() const;
  void check_resets() const;
  Tensor block(Net& n, Tensor x, std::size_t i);
  Tensor mix(Net& n, Tensor x, std::size_t i);
  Tensor residual(Net& n, Tensor x, const std::string& norm_kind, const std::string& place, const std::string& norm_name,
                  const std::function<Tensor(Tensor)>& f);
  std::vector<std::unique_ptr<Variant>> variants_, reverse_;
  Index patch_ = 1, window_ = 0;  // window_: width of a strided convolution, 0: none
};

}  // namespace ssm
