// list.cpp - ssmbench list: variants with knobs and views, tasks with keys and reference scores, general keys.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/json.hpp"
#include "record/build_info.hpp"

namespace ssm {

nlohmann::json knob_json(const std::string& name, const Knob& k) {
  static const char* kinds[] = {"integer", "real", "boolean", "text"};
  nlohmann::json j = {{"name", name},
                      {"type", kinds[static_cast<int>(k.kind)]},
                      {"default", k.default_value},
                      {"values", k.values},
                      {"view", k.is_view},
                      {"open", k.open_text},
                      {"help", k.help},
                      {"finding", k.finding}};
  j["lo"] = std::isfinite(k.lo) ? nlohmann::json(k.lo) : nlohmann::json();
  j["hi"] = std::isfinite(k.hi) ? nlohmann::json(k.hi) : nlohmann::json();
  return j;
}

namespace {

template <class Owner>
std::vector<Knob> knobs_of(Owner& owner) {
  Knobs knobs;
  owner.knobs(knobs);
  return knobs.all();
}

nlohmann::json all() {
  nlohmann::json j = {{"git_sha", build_info.git_sha},
                      {"git_dirty", build_info.git_dirty},
                      {"variants", nlohmann::json::array()},
                      {"tasks", nlohmann::json::array()},
                      {"keys", nlohmann::json::array()}};
  for (const std::string& name : VariantRegistry::get().names()) {
    const auto v = VariantRegistry::get().make(name, "variant");
    nlohmann::json knobs = nlohmann::json::array();
    for (const Knob& k : knobs_of(*v)) knobs.push_back(knob_json(k.name, k));
    const Block block = v->block();
    j["variants"].push_back({{"name", name},
                             {"about", v->about()},
                             {"causal", v->causal().yes},
                             {"streams", v->streams().yes},
                             {"block", {{"norm", block.norm}, {"place", block.place}, {"mlp", block.mlp}}},
                             {"knobs", knobs}});
  }
  for (const std::string& name : TaskRegistry::get().names()) {
    const auto t = TaskRegistry::get().make(name, "task");
    nlohmann::json keys = nlohmann::json::array(), references = nlohmann::json::array();
    for (const Knob& k : knobs_of(*t)) keys.push_back(knob_json(k.name, k));
    const TaskInfo info = t->info();
    for (const Reference& r : info.references)
      references.push_back({{"kind", r.kind}, {"label", r.label}, {"value", r.value}, {"source", r.source}});
    j["tasks"].push_back({{"name", name}, {"about", info.about}, {"keys", keys}, {"references", references}});
  }
  for (const KnownKey& key : known_keys()) j["keys"].push_back(knob_json(key.name, key.knob));
  return j;
}

void print_knobs(const std::vector<Knob>& knobs) {
  for (const Knob& k : knobs) {
    std::string values = join(k.values, " ");
    std::printf("    %-14s %-10s %s%s%s\n", k.name.c_str(), k.default_value.c_str(), k.is_view ? "view: " : "", k.help.c_str(),
                values.empty() ? "" : ("  [" + values + "]").c_str());
    if (!k.finding.empty()) std::printf("    %-14s %-10s   %s\n", "", "", k.finding.c_str());
  }
}

int list(const Arguments& arguments) {
  if (arguments.flag("json")) return std::printf("%s\n", all().dump(1).c_str()), 0;
  std::printf("variants (name, knobs with defaults and the values a sweep tries)\n");
  for (const std::string& name : VariantRegistry::get().names()) {
    const auto v = VariantRegistry::get().make(name, "variant");
    std::printf("\n  %s - %s\n", name.c_str(), v->about().c_str());
    print_knobs(knobs_of(*v));
  }
  std::printf("\ntasks\n");
  for (const std::string& name : TaskRegistry::get().names()) {
    const auto t = TaskRegistry::get().make(name, "task");
    const TaskInfo info = t->info();
    std::printf("\n  %s - %s\n", name.c_str(), info.about.c_str());
    print_knobs(knobs_of(*t));
    for (const Reference& r : info.references)
      if (r.kind != "ladder") std::printf("    %-10s %-8.4g %s (%s)\n", r.kind.c_str(), r.value, r.label.c_str(), r.source.c_str());
  }
  return 0;
}

}  // namespace

static const RegisterCommand registered({"list",
                                         "variants, tasks and their keys",
                                         [](auto& o) {
                                           o.add_options()("json", boost::program_options::bool_switch(), "machine-readable");
                                         },
                                         {},
                                         list,
                                         false});

}  // namespace ssm
