// checkpointing.cpp - Trainer::save and restore: everything a run needs to go on as if it had never stopped.
#include <cmath>
#include <filesystem>

#include "error.hpp"
#include "train/trainer.hpp"

namespace ssm {

namespace {

constexpr const char* kKinds[] = {"param/", "moment1/", "moment2/"};

std::vector<Real*> blocks(const Params& p) { return {p.values(), p.moment1(), p.moment2()}; }

}  // namespace

std::string Trainer::checkpoint_path() const { return config_.run.out + "/" + config_.run_id() + ".ckpt.h5"; }

std::vector<std::vector<double>> Trainer::values() const {
  std::vector<std::vector<double>> out;
  for (const ParamInfo& p : model.params.all()) out.push_back(model.params.get(p.name));
  return out;
}

void Trainer::save() const {
  Checkpoint c;
  const auto bases = blocks(model.params);
  for (std::size_t i = 0; i < model.params.all().size(); ++i) {
    const ParamInfo& p = model.params.all()[i];
    std::vector<Real> raw(static_cast<std::size_t>(p.size));
    for (std::size_t k = 0; k < bases.size(); ++k) {
      copy_out(raw.data(), bases[k] + p.offset, p.size * static_cast<Index>(sizeof(Real)));
      c.arrays[kKinds[k] + p.name] = Array(p.shape, raw.data());
    }
    if (!best_values_.empty()) c.arrays["best/" + p.name] = Array(p.shape, best_values_[i].data());
  }
  c.arrays["step_seconds"] = Array(step_seconds_);
  const auto put = [&](const char* name, auto value) { c.attributes[name] = attribute_of(value); };
  put("step", now_.step), put("total", now_.total), put("tokens_real", now_.tokens_real), put("tokens_padded", now_.tokens_padded);
  put("stale", now_.stale), put("seconds", now_.seconds), put("best", now_.best), put("best_loss", now_.best_loss);
  put("lr_scale", now_.lr_scale), put("has_best", now_.has_best), put("joules", now_.joules), put("first_call", first_call_),
      put("last_loss", last_loss_);
  put("l_max", model.config.l_max), put("run_id", config_.run_id());
  for (const auto& [key, value] : config_.resolved()) c.attributes["config:" + key] = value;
  record_.history_to(c);
  c.save(checkpoint_path());
}

bool Trainer::restore() {
  if (!std::filesystem::exists(checkpoint_path())) return false;
  const Checkpoint c = Checkpoint::load(checkpoint_path());
  if (const auto id = c.attribute<std::string>("run_id"); id != config_.run_id())
    throw BadInput(c.file + ": is the checkpoint of run " + id + ", not of " + config_.run_id());
  const auto bases = blocks(model.params);
  for (const ParamInfo& p : model.params.all())
    for (std::size_t k = 0; k < bases.size(); ++k)
      copy_in(bases[k] + p.offset, c.get<Real>(kKinds[k] + p.name, p.shape).data(), p.size * static_cast<Index>(sizeof(Real)));
  const auto whole = [&](const char* name) { return c.attribute<std::int64_t>(name); };
  const auto real = [&](const char* name) { return c.attribute<double>(name); };
  now_ = {whole("step"),
          whole("total"),
          whole("tokens_real"),
          whole("tokens_padded"),
          whole("stale"),
          real("seconds"),
          real("best"),
          real("best_loss"),
          real("lr_scale"),
          c.attribute<bool>("has_best"),
          c.attributes.count("joules") ? real("joules") : NAN};
  first_call_ = real("first_call");
  last_loss_ = real("last_loss");
  best_values_.clear();
  for (const ParamInfo& p : model.params.all())
    if (c.arrays.count("best/" + p.name)) best_values_.push_back(c.get<double>("best/" + p.name, p.shape));
  step_seconds_ = std::get<std::vector<double>>(c.arrays.at("step_seconds").data);
  StepState state = optimizer().read_state();
  state.step = now_.step;
  state.lr_scale = now_.lr_scale;
  optimizer().write_state(state);
  optimizer().set_total_steps(now_.total);
  record_.history_from(c);
  return true;
}

}  // namespace ssm
