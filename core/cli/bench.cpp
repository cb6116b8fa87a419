// bench.cpp - ssmbench bench: time ops, mixers or whole training steps, each checked against its reference first.
#include <cstdio>
#include <sstream>
#include <thread>

#include "bench/bench.hpp"
#include "bench/largest.hpp"
#include "cli/command.hpp"
#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/fft.hpp"
#include "record/provenance.hpp"

namespace ssm {

namespace {

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> out;
  std::stringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');)
    if (!word.empty()) out.push_back(word);
  return out;
}

// Of an option without a default: nothing where it is not given.
std::vector<Index> extents(const Arguments& arguments, const char* name) {
  if (!arguments.own.count(name)) return {};
  std::vector<Index> out;
  for (const std::string& word : words(arguments.text(name))) {
    std::size_t used = 0;
    long value = 0;
    try {
      value = std::stol(word, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != word.size() || value < 1)
      throw BadInput("--" + std::string(name) + " " + word + ": allowed are integers of 1 or more, separated by commas");
    out.push_back(value);
  }
  if (out.empty()) throw BadInput("--" + std::string(name) + ": no value");
  return out;
}

// Of the axis, the most that this machine has: what Kokkos starts with.
int most_threads(const BenchOptions& o) {
  Index most = 0;
  for (const Index threads : o.threads)
    if (threads <= static_cast<Index>(std::thread::hardware_concurrency())) most = std::max(most, threads);
  return static_cast<int>(most);
}

// The keys by which train gives a shape, such as those of a --config file, give bench its one B, T and D.
void shape_of_training(const Config& config, const Arguments& arguments, BenchOptions& o) {
  const auto take = [&](const char* name, const char* axis, Index value, std::vector<Index>& extents) {
    for (const auto& [key, text] : o.keys) {
      if (key != name || value == 0) continue;
      if (!arguments.own[axis].defaulted()) throw BadInput("--" + key + " " + text + ": the axis --" + axis + " is given, too");
      extents = {value};
    }
  };
  take("train.batch", "B", config.train.batch, o.B);
  take("train.length", "T", config.train.length, o.T);
  take("model.d_model", "D", config.model.d_model, o.D);
}

int bench(const Arguments& arguments) {
  BenchOptions o;
  for (const auto& [key, value] : arguments.keys) {
    if (key == "variant") o.variants = {value};
    else o.keys.emplace_back(key, value);
  }
  if (const std::string list = arguments.text("variants"); !list.empty()) o.variants = words(list);
  o.levels = words(arguments.text("level"));
  o.modes = words(arguments.text("mode"));
  if (arguments.own.count("mode") && o.modes.empty()) throw BadInput("--mode: no value");
  o.B = extents(arguments, "B");
  o.T = extents(arguments, "T");
  o.D = extents(arguments, "D");
  o.N = extents(arguments, "N");
  o.threads = extents(arguments, "threads");
  o.views = words(arguments.text("view"));
  o.precisions = words(arguments.text("precision"));
  o.devices = words(arguments.text("device"));
  o.order_seed = static_cast<std::uint64_t>(extents(arguments, "order-seed").front());
  o.samples = static_cast<int>(extents(arguments, "samples").front());
  o.check = !arguments.flag("no-check");
  o.ceilings = !arguments.flag("no-ceilings");
  if (arguments.own.count("benchmark")) o.benchmark_flags = arguments.own["benchmark"].as<std::vector<std::string>>();
  const Config config = bench_config(o);
  shape_of_training(config, arguments, o);
  bench_cases(o);
  const bool largest = arguments.flag("largest-batch");
  const std::string given = arguments.text("memory-limit");
  if (!given.empty() && !largest) throw BadInput("--memory-limit " + given + ": is for --largest-batch");
  for (const char* axis : {"B", "level", "mode", "samples", "threads", "precision", "device"})
    if (largest && arguments.own.count(axis) && !arguments.own[axis].defaulted())
      throw BadInput(std::string("--") + axis + ": --largest-batch makes one training step, and finds B; allowed are T, D, N and view");
  for (const auto& [key, value] : o.keys)
    if (largest && key == "train.batch") throw BadInput("--train.batch " + value + ": --largest-batch finds B");
  for (const auto& [key, value] : o.keys)
    if ((key == "run.threads" && !o.threads.empty()) || (key == "run.gemm" && !o.precisions.empty()))
      throw BadInput("--" + key + " " + value + ": the axis " + (key == "run.gemm" ? "--precision" : "--threads") + " is given, too");
  const Index limit = given.empty() ? 0 : parse_bytes(given);

  std::string path = arguments.text("out");
  if (path.empty()) path = config.run.out + "/bench.h5";
  Record record(path, "bench");
  record.config(config.resolved());
  Device device(o.threads.empty() ? config.run.threads : most_threads(o), config.run.gemm);
  provenance(record.tree(), arguments.argc, arguments.argv,
             {device.backend, device.name.empty() ? cpu_model() : device.name, device.driver, device.kokkos_version,
              device.kokkos_configuration, blas_name(), fft_name(), config.run.gemm, device.threads});
  record.flush();
  const int failed = largest ? run_largest(o, limit, device, record) : run_bench(o, device, record);
  record.end(failed ? "failed" : "complete", failed ? std::to_string(failed) + " cases failed" : "");
  std::printf("%s\n", path.c_str());
  return failed ? 1 : 0;
}

void options(boost::program_options::options_description& o) {
  namespace po = boost::program_options;
  const auto text = [](const char* standard) { return po::value<std::string>()->default_value(standard); };
  o.add_options()("variants", po::value<std::string>(), "comma-separated; default: all, or --variant");
  o.add_options()("level", text("mixer"),
                  "of op, mixer, step: of a training run of --task (default: made-up tokens), its batches included");
  o.add_options()("mode", po::value<std::string>(),
                  "of level mixer: forward, forward_backward, decode (default: all); of step: train (default), forward of the whole model");
  o.add_options()("B", text("16"), "batch sizes; where it is not given, train.batch if that is");
  o.add_options()("T", text("1024"), "lengths; likewise train.length");
  o.add_options()("D", text("128"), "widths; likewise model.d_model");
  o.add_options()("N", po::value<std::string>(), "state sizes: d_state of the variants that have one");
  o.add_options()("view", po::value<std::string>(), "ways to compute, as `list` names them: conv,scan; of the variants that have them");
  o.add_options()("threads", po::value<std::string>(), "CPU threads; default: run.threads");
  o.add_options()("precision", po::value<std::string>(), "of fp32, tf32 (matrix products, CUDA), fp64 (preset double); default: run.gemm");
  o.add_options()("device", po::value<std::string>(), "of cpu, cuda, hip; a build has one, cases of others are rows that say so");
  o.add_options()("order-seed", text("1"), "of the shuffled order in which cases run");
  o.add_options()("samples", text("20"), "timed calls of a case");
  o.add_options()("largest-batch", po::bool_switch(), "no timing: the largest batch of a training step that fits, proven by one step");
  o.add_options()("memory-limit", po::value<std::string>(), "of --largest-batch: bytes, or 512M, 20G; default: what is free");
  o.add_options()("out", po::value<std::string>(), "results file; default: <run.out>/bench.h5");
  o.add_options()("no-check", po::bool_switch(), "do not compare with the references first; recorded");
  o.add_options()("no-ceilings", po::bool_switch(), "do not measure copy, GEMM and exponential rates");
  o.add_options()("benchmark", po::value<std::vector<std::string>>(),
                  "a flag for Google Benchmark, e.g. --benchmark=--benchmark_filter=mamba");
}

}  // namespace

static const RegisterCommand registered({"bench", "time ops, mixers or training steps, validated first", options, {}, bench});

}  // namespace ssm
