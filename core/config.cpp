#include "config.hpp"

#include <algorithm>
#include <string_view>

#include "error.hpp"
#include "record/cached_task.hpp"

namespace ssm {

namespace {

// Keys younger than the first results, and the values at which they leave the ids of those alone.
constexpr std::pair<std::string_view, std::string_view> younger[] = {
    {"model.reset_token", "-1"}, {"train.curriculum", "0"}, {"train.curriculum_from", "0"}, {"induction.min_length", "0"}};

// Short forms: "depth" -> "model.depth", "seed" -> all three; "view", of all variants in use, is seen to when these are known.
KeyValues expand(const KeyValues& given) {
  KeyValues out;
  for (const auto& [key, value] : given) {
    if (key == "seed")
      for (const char* name : {"seed.init", "seed.data", "seed.dropout"}) out.emplace_back(name, value);
    else if (key == "variant" || key == "depth" || key == "layers") out.emplace_back("model." + key, value);
    else out.emplace_back(key, value);
  }
  return out;
}

const std::string* last(const KeyValues& list, const std::string& key) {
  const std::string* found = nullptr;
  for (const auto& [k, v] : list)
    if (k == key) found = &v;
  return found;
}

std::string hex(std::uint64_t h) {
  std::string out(16, '0');
  for (std::size_t i = 16; i-- > 0; h >>= 4) out[i] = "0123456789abcdef"[h & 15];
  return out;
}

// The key that "view" is short for.
std::string view_of(const std::string& variant, const std::string& wanted) {
  Knobs knobs;
  const auto made = VariantRegistry::get().make(variant, "variant");
  made->knobs(knobs);
  if (!knobs.find("view")) throw BadInput("view = '" + wanted + "': " + variant + " has one way to compute it and no views");
  return variant + ".view";
}

}  // namespace

std::vector<std::string> Config::used_variants() const {
  std::vector<std::string> used = layers;
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  return used;
}

// The sections are declared by their owners; a const Config only reads through the knobs.
void Config::each(const std::function<void(const std::string&, Knobs&)>& visit) const {
  Config& self = const_cast<Config&>(*this);
  const auto section = [&](const std::string& name, auto& owner) {
    Knobs knobs;
    owner.knobs(knobs);
    visit(name, knobs);
  };
  section("model", self.model);
  section("train", self.train);
  section("run", self.run);
  section("seed", self.seed);
  if (task) section(task_name, *task);
  for (const std::string& name : used_variants()) {
    const auto variant = make_variant(name, variant_knobs);
    section(name, *variant);
  }
}

Config::Config(const KeyValues& raw) {
  const KeyValues given = expand(raw);
  if (const std::string* name = last(given, "task")) {
    task_name = *name;
    task = TaskRegistry::get().make(task_name, "task");
  }
  {
    Knobs knobs;
    model.knobs(knobs);
    for (const char* name : {"variant", "depth", "layers"})
      if (const std::string* text = last(given, std::string("model.") + name)) knobs.find(name)->set(*text, std::string("model.") + name);
  }
  if (model.layers.empty()) {
    if (!VariantRegistry::get().has(model.variant)) unknown("variant", model.variant, VariantRegistry::get().names());
    layers.assign(static_cast<std::size_t>(model.depth), model.variant);
  } else {
    layers = parse_layers(model.layers);
  }

  std::map<std::string, std::string> values;
  for (const auto& [key, value] : given) {
    if (key == "view")
      for (const std::string& name : used_variants()) values[view_of(name, value)] = value;
    else if (key != "task") values[key] = value;
  }
  std::vector<std::string> known = {"task", "variant", "depth", "layers", "seed", "view"};
  std::vector<std::string> used;
  each([&](const std::string& section, Knobs& knobs) {
    for (Knob& k : knobs.all()) {
      const std::string key = section + "." + k.name;
      known.push_back(key);
      const auto found = values.find(key);
      if (found != values.end()) {
        k.set(found->second, key);
        used.push_back(key);
      }
    }
    if (std::find(layers.begin(), layers.end(), section) != layers.end())
      for (const Knob& k : knobs.all()) variant_knobs[section][k.name] = k.get();
  });
  for (const std::string& key : used) values.erase(key);
  if (values.empty()) return;
  const std::string& key = values.begin()->first;
  const std::string section = key.substr(0, key.find('.'));
  if (TaskRegistry::get().has(section) && section != task_name)
    throw BadInput("key '" + key + "': " + (task ? "the task is '" + task_name + "'" : std::string("no task was given")) + ", not '" +
                   section + "'");
  if (VariantRegistry::get().has(section) && !variant_knobs.count(section))
    throw BadInput("key '" + key + "': no layer is '" + section + "'; the variants in use are " + join(used_variants()));
  unknown("key", key, known);
}

void Config::open_task() {
  if (!task) throw BadInput("no task was given: --task NAME, one of " + join(TaskRegistry::get().names()));
  const auto data_seed = static_cast<std::uint64_t>(seed.data);
  task->open(data_seed);
  if (!run.cache.empty()) task = cached(std::move(task), run.cache, resolved(), data_seed);
}

std::map<std::string, std::string> Config::resolved() const {
  std::map<std::string, std::string> out;
  if (task) out["task"] = task_name;
  for (const Key& key : keys()) out[key.name] = key.value;
  return out;
}

std::vector<Config::Key> Config::keys() const {
  std::vector<Key> out;
  each([&](const std::string& section, Knobs& knobs) {
    for (const Knob& k : knobs.all()) out.push_back({section + "." + k.name, k.get(), k});
  });
  return out;
}

std::string Config::run_id() const {
  std::string canonical;
  for (const auto& [key, value] : resolved()) {
    if (std::find(std::begin(younger), std::end(younger), std::pair<std::string_view, std::string_view>(key, value)) != std::end(younger))
      continue;
    if (key.rfind("run.", 0) != 0 || key == "run.gemm") canonical += key + '=' + value + '\n';
  }
  return hex(mix(hash_name(canonical)));
}

}  // namespace ssm
