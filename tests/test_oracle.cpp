// test_oracle.cpp - outputs and gradients of every mixer case, and loss and gradients of a model trained for 0, 10, 50 and 100 steps by the
// double build, computed again by this one, on a device that has them with TF32 products, too.
#include "mixer_cases.hpp"
#include "oracle.hpp"
#include "tiny_step.hpp"

namespace ssm {
namespace {

Findings mixers(const std::string& variant) {
  Findings out;
  for (const MixerCase& c : mixer_cases(variant)) {
    Probe probe(test_device().exec(), mixer_spec(variant, c.knobs, c.shape));
    for (const ParamInfo& p : probe.params().all()) probe.params().set(p.name, rounded(probe.params().get(p.name)));
    const Index count = c.shape.B * c.shape.T * c.shape.D;
    const std::string place = "/" + c.label + "/";
    out[place + "y"] = probe.forward({rounded(test_values("oracle x", count))});
    out[place + "dx"] = probe.backward(rounded(test_values("oracle dy", count)))[0];
    for (const ParamInfo& p : probe.params().all())
      if (p.trained) out[place + "d" + p.name] = probe.params().get_grad(p.name);
  }
  return out;
}

// Loss and gradients of the step's batch at its present parameters, under /step_<at>/.
void look(TinyStep& step, int at, Findings& out) {
  const std::string place = "/step_" + std::to_string(at) + "/";
  step.optimizer->begin_step(step.run);
  step.load();
  step.net->net.forward(step.run);
  step.net->net.backward(step.run);
  test_device().fence("test: gradients of a step");
  const StepState state = step.optimizer->read_state();
  out[place + "loss"] = {state.loss_sum / state.valid};
  for (const ParamInfo& p : step.model.params.all())
    if (p.trained) out[place + "d" + p.name] = step.model.params.get_grad(p.name);
}

const std::vector<int> kMilestones = {0, 10, 50, 100};

void write_steps(const std::string& variant) {
  TinyStep step(variant, 0);
  Findings out;
  for (int at = 0; at <= kMilestones.back(); ++at) {
    if (std::find(kMilestones.begin(), kMilestones.end(), at) != kMilestones.end()) {
      for (const ParamInfo& p : step.model.params.all()) {
        const std::vector<double> values = rounded(step.model.params.get(p.name));
        step.model.params.set(p.name, values);
        out["/step_" + std::to_string(at) + "/p/" + p.name] = values;
      }
      look(step, at, out);
    }
    step();
    step.draw();
  }
  write_oracle(oracle_file("steps", variant), out);
}

void compare_steps(const std::string& variant) {
  const Tree oracle = Tree::read(oracle_file("steps", variant));
  TinyStep step(variant, 0);
  Findings out;
  for (int at = 0; at <= kMilestones.back(); ++at) {
    if (std::find(kMilestones.begin(), kMilestones.end(), at) != kMilestones.end()) {
      for (const ParamInfo& p : step.model.params.all())
        step.model.params.set(p.name, oracle.numbers("/step_" + std::to_string(at) + "/p/" + p.name));
      look(step, at, out);
    }
    step.draw();
  }
  compare_with_oracle(variant + ", training step", oracle, out);
}

// The same with TF32 products, where the build has them.
void compare_steps_tf32(const std::string& variant) {
  struct Restore {
    ~Restore() { set_gemm_precision("fp32"); }
  } restore;
  set_gemm_precision("tf32");
  compare_steps(variant);
}

bool has_tf32() {
  try {
    set_gemm_precision("tf32");
    set_gemm_precision("fp32");
    return true;
  } catch (const Unsupported&) {
    return false;
  }
}

const AtStart registered([] {
  for (const std::string& name : VariantRegistry::get().names()) {
    add_test("oracle", name, [=] {
      const std::string file = oracle_file("mixers", name);
      if (is_oracle()) return write_oracle(file, mixers(name));
      if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there: run the tests of the double preset first";
      compare_with_oracle(name + ", mixer", Tree::read(file), mixers(name));
    });
    for (const bool tf32 : {false, true}) {
      if (tf32 && !has_tf32()) continue;
      add_test(tf32 ? "oracle_steps_tf32" : "oracle_steps", name, [=] {
        if (is_oracle()) return write_steps(name);
        const std::string file = oracle_file("steps", name);
        if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there: run the tests of the double preset first";
        tf32 ? compare_steps_tf32(name) : compare_steps(name);
      });
    }
  }
});

}  // namespace
}  // namespace ssm
