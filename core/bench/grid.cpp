#include "bench/grid.hpp"

#include <thread>

#include "error.hpp"
#include "launch.hpp"
#include "lib/blas.hpp"
#include "lib/gpu.hpp"
#include "rng.hpp"

namespace ssm {

namespace {

#if defined(KOKKOS_ENABLE_CUDA)
constexpr const char* kDevice = "cuda";
#elif defined(KOKKOS_ENABLE_HIP)
constexpr const char* kDevice = "hip";
#else
constexpr const char* kDevice = "cpu";
#endif

bool has(const std::vector<std::string>& list, const std::string& word) { return std::find(list.begin(), list.end(), word) != list.end(); }

void once(const char* what, std::vector<std::string> given) {
  std::sort(given.begin(), given.end());
  if (const auto twice = std::adjacent_find(given.begin(), given.end()); twice != given.end())
    throw BadInput(std::string(what) + " '" + *twice + "' is given twice");
}

void only(const char* what, const std::vector<std::string>& given, const std::vector<std::string>& allowed, bool need = true) {
  if (need && given.empty()) throw BadInput(std::string("no ") + what + " given; allowed is " + join(allowed));
  for (const std::string& word : given)
    if (!has(allowed, word)) unknown(what, word, allowed);
  once(what, given);
}

void counts(const char* what, const std::vector<Index>& given) {
  std::vector<std::string> words;
  for (const Index value : given) {
    if (value < 1) throw BadInput("bench " + std::string(what) + " = " + std::to_string(value) + ": allowed is 1 or more");
    words.push_back(std::to_string(value));
  }
  once(what, words);
}

std::vector<std::string> chosen_variants(const BenchOptions& o) { return o.variants.empty() ? VariantRegistry::get().names() : o.variants; }

std::vector<std::string> views_of(const std::string& variant) {
  const auto made = VariantRegistry::get().make(variant, "variant");
  Knobs knobs;
  made->knobs(knobs);
  const Knob* view = knobs.find("view");
  return view ? view->values : std::vector<std::string>();
}

std::vector<std::string> all_views() {
  std::vector<std::string> out;
  for (const std::string& variant : VariantRegistry::get().names())
    for (const std::string& view : views_of(variant))
      if (!has(out, view)) out.push_back(view);
  return out;
}

std::vector<std::string> modes_of(const std::string& level) {
  if (level == "mixer") return {"forward", "forward_backward", "decode"};
  return level == "op" ? std::vector<std::string>{"forward_backward"} : std::vector<std::string>{"train", "forward"};
}
std::vector<std::string> chosen_modes(const std::string& level, const std::vector<std::string>& given) {
  std::vector<std::string> out;
  for (const std::string& mode : modes_of(level))
    if (given.empty() ? level != "step" || mode == "train" : has(given, mode)) out.push_back(mode);
  return out;
}

// One value that asks for nothing where there is no axis.
template <class T>
std::vector<T> axis(const std::vector<T>& given) {
  return given.empty() ? std::vector<T>(1) : given;
}

std::string own_precision(const Config& config) { return kDouble ? "fp64" : config.run.gemm; }

}  // namespace

std::string BenchCase::name() const {
  std::string out = level + '.' + variant + '.' + mode + ".B" + std::to_string(B) + ".T" + std::to_string(T) + ".D" + std::to_string(D);
  if (N) out += ".N" + std::to_string(N);
  if (!view.empty()) out += '.' + view;
  if (threads) out += ".threads" + std::to_string(threads);
  if (!precision.empty()) out += '.' + precision;
  if (!device.empty()) out += '.' + device;
  return out;
}

std::string BenchCase::setting() const { return BenchCase{"", variant, "", 0, 0, 0, N, threads, view, precision, device}.name(); }

std::vector<BenchCase> bench_cases(const BenchOptions& o) {
  only("variant", chosen_variants(o), VariantRegistry::get().names());
  only("bench level", o.levels, {"op", "mixer", "step"});
  only("view", o.views, all_views(), false);
  only("precision", o.precisions, {"fp32", "tf32", "fp64"}, false);
  only("device", o.devices, {"cpu", "cuda", "hip"}, false);
  if (o.samples < 1) throw BadInput("bench samples = " + std::to_string(o.samples) + ": allowed is 1 or more");
  counts("B", o.B), counts("T", o.T), counts("D", o.D), counts("N", o.N), counts("threads", o.threads);
  std::vector<std::string> allowed;
  for (const std::string& level : o.levels)
    for (const std::string& mode : modes_of(level))
      if (!has(allowed, mode)) allowed.push_back(mode);
  only("bench mode", o.modes, allowed, false);
  std::vector<BenchCase> out;
  for (const std::string& level : o.levels)
    for (const std::string& variant : chosen_variants(o))
      for (const std::string& mode : chosen_modes(level, o.modes))
        for (const Index B : o.B)
          for (const Index T : o.T)
            for (const Index D : o.D) out.push_back({level, variant, mode, B, T, D});
  const auto multiply = [&](const auto& values, const auto& put) {
    std::vector<BenchCase> more;
    for (const BenchCase& c : out)
      for (const auto& value : axis(values)) put(more.emplace_back(c), value);
    out = more;
  };
  multiply(o.N, [](BenchCase& c, Index value) { c.N = value; });
  multiply(o.threads, [](BenchCase& c, Index value) { c.threads = static_cast<int>(value); });
  multiply(o.views, [](BenchCase& c, const std::string& value) { c.view = value; });
  multiply(o.precisions, [](BenchCase& c, const std::string& value) { c.precision = value; });
  multiply(o.devices, [](BenchCase& c, const std::string& value) { c.device = value; });
  const Draw draw{o.order_seed, hash_name("bench order")};
  for (std::size_t i = out.size(); i > 1; --i)
    std::swap(out[i - 1], out[static_cast<std::size_t>(draw.uniform(static_cast<Index>(i), 0, static_cast<double>(i)))]);
  return out;
}

Config bench_config(const BenchOptions& o) {
  only("variant", chosen_variants(o), VariantRegistry::get().names());
  KeyValues keys = o.keys;
  keys.emplace_back("layers", join(chosen_variants(o), ","));
  Config config(keys);
  if (config.task) config.open_task();
  return config;
}

VariantKnobs case_knobs(const BenchCase& c, const Config& config) {
  VariantKnobs all = config.variant_knobs;
  auto& mine = all[c.variant];
  if (c.N) {
    if (!mine.count("d_state")) throw Unsupported("N: " + c.variant + " has no knob d_state");
    mine["d_state"] = std::to_string(c.N);
  }
  if (!c.view.empty()) {
    const std::vector<std::string> views = views_of(c.variant);
    if (!has(views, c.view))
      throw Unsupported("view " + c.view + ": " + c.variant + (views.empty() ? " can be computed in one way only" : " has " + join(views)));
    mine["view"] = c.view;
  }
  make_variant(c.variant, all);
  return all;
}

BenchCase resolved(const BenchCase& c, const Config& config, const Device& device) {
  BenchCase out = c;
  const auto& mine = config.variant_knobs.at(c.variant);
  if (!out.N) out.N = mine.count("d_state") ? std::stol(mine.at("d_state")) : -1;
  if (out.view.empty() && mine.count("view")) out.view = mine.at("view");
  if (!out.threads) out.threads = device.threads;
  if (out.precision.empty()) out.precision = own_precision(config);
  if (out.device.empty()) out.device = kDevice;
  return out;
}

void set_up(const BenchCase& c, Device& device) {
  if (!c.device.empty() && c.device != kDevice)
    throw Unsupported("device " + c.device + ": this build runs on " + kDevice + ", presets for others are openmp, cuda and hip");
  if (c.threads) use_threads(device, c.threads);
  if (c.precision.empty()) return;
  if ((c.precision == "fp64") != kDouble)
    throw Unsupported("precision " + c.precision + ": this build computes in " +
                      (kDouble ? "double" : "float; preset double does in double"));
  set_gemm_precision(c.precision == "fp64" ? "fp32" : c.precision);
}

void use_threads(Device& device, int threads) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const std::string wanted = "threads " + std::to_string(threads) + ": ";
  if (!kOnHost) throw Unsupported(wanted + "they are of a CPU, this build runs on " + kDevice);
  if (cores > 0 && threads > cores) throw Unsupported(wanted + "this machine has " + std::to_string(cores) + " cores");
  if (threads == device.threads) return;
#if defined(KOKKOS_ENABLE_OPENMP) && !defined(SSM_GPU)
  device.exec().space = ExecSpace(threads);
  device.threads = threads;
#else
  throw Unsupported(wanted + "this build runs on one");
#endif
}

}  // namespace ssm
