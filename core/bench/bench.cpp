#include "bench/bench.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <limits>
#include <map>
#include <sstream>

#include "bench/ceilings.hpp"
#include "bench/checked.hpp"
#include "bench/timer.hpp"
#include "energy.hpp"
#include "error.hpp"
#include "lib/blas.hpp"
#include "watch.hpp"

namespace ssm {

namespace {

// Seconds of one sample: shorter calls are timed in groups. Of steps so many that they follow each other as in a run, where the host is
// busy with the next one while the device works.
constexpr double kShortest = 2e-4, kShortestSteps = 2e-2;

struct Silent final : benchmark::BenchmarkReporter {
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

// What one case left behind.
struct Outcome {
  std::string state = "skipped", reason = "left out by the benchmark filter";
  std::string path;                                    // "graph of 312 nodes", "eager: <why>"
  std::map<std::string, std::vector<double>> seconds;  // by part
  std::map<std::string, Work> part_work;
  double first_call = 0;
  double joules = std::numeric_limits<double>::quiet_NaN();  // of one pass
  Index calls = 1, warmup = 0, high_water = 0, planned = 0, tokens = 0;
  Work work;
  bool ran = false;
};

class Bench {
 public:
  Bench(const BenchOptions& options, Device& device, Record& record)
      : options_(options),
        device_(device),
        record_(record),
        config_(bench_config(options)),
        cases_(bench_cases(options)),
        outcomes_(cases_.size()),
        energy_(EnergyMeter::of_this_build()) {}

  int run() {
    record_.tree().set("/bench", "validated", options_.check);
    record_.tree().set("/bench", "order_seed", static_cast<Index>(options_.order_seed));
    record_.energy(energy_.source, energy_.reason);
    if (options_.ceilings) ceilings();
    const int threads = device_.threads;
    if (options_.check) refused_ = refused_settings(cases_, config_, device_, record_);
    for (std::size_t i = 0; i < cases_.size(); ++i)
      benchmark::RegisterBenchmark(cases_[i].name().c_str(), [this, i](benchmark::State& state) { guarded(state, i); })
          ->UseManualTime()
          ->Iterations(options_.samples)
          ->Unit(benchmark::kMillisecond);
    google();
    benchmark::ClearRegisteredBenchmarks();
    if (device_.threads != threads) use_threads(device_, threads);
    set_gemm_precision(config_.run.gemm);
    int failed = 0;
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      if (!outcomes_[i].ran) write(i);
      failed += outcomes_[i].state == "failed";
    }
    return failed;
  }

 private:
  void ceilings() {
    for (const Ceiling& c : measure_ceilings(device_)) {
      const std::string path = "ceiling_" + c.name;
      record_.timing(path, {c.seconds, device_.timing_method, 1, c.seconds.front()});
      record_.tree().set("/timing/" + path, "work", c.work);
      record_.tree().set("/timing/" + path, "work_units", c.unit);
    }
  }

  void google() {
    std::vector<std::string> words = {"ssmbench"};
    words.insert(words.end(), options_.benchmark_flags.begin(), options_.benchmark_flags.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    int argc = static_cast<int>(argv.size());
    benchmark::Initialize(&argc, argv.data());
    if (argc > 1) throw BadInput(std::string("Google Benchmark does not know the flag '") + argv[1] + "'");
    Silent silent;
    if (options_.quiet) benchmark::RunSpecifiedBenchmarks(&silent);
    else benchmark::RunSpecifiedBenchmarks();
  }

  // One case, whatever happens to it: it is on disk before the next one starts. Its repetitions add their samples.
  void guarded(benchmark::State& state, std::size_t i) {
    Outcome& out = outcomes_[i];
    const auto earlier = std::move(out.seconds);
    out = Outcome{};
    out.seconds = earlier;
    out.state = "ok", out.reason = "", out.ran = true;
    const auto stop = [&](const char* how, const std::exception& e) {
      out.state = how, out.reason = e.what();
      out.seconds.clear();
      state.SkipWithError(e.what());
    };
    try {
      if (const auto why = refused_.find(cases_[i].setting()); why != refused_.end()) std::rethrow_exception(why->second);
      measure(state, cases_[i], out);
    } catch (const Unsupported& e) {
      stop("skipped", e);
    } catch (const BadInput& e) {
      stop("skipped", e);
    } catch (const std::exception& e) {
      stop("failed", e);
    }
    write(i);
    record_.flush();
  }

  void measure(benchmark::State& state, const BenchCase& c, Outcome& out) {
    set_up(c, device_);
    const Index before = watched().bytes;
    reset_peak();
    const std::unique_ptr<Rig> rig = make_rig(c, config_, device_);
    out.tokens = rig->tokens, out.planned = rig->planned_bytes, out.work = rig->work, out.part_work = rig->part_work();
    Run r{device_.exec(), c.mode == "decode" ? Mode::stream : c.mode == "forward" ? Mode::evaluate : Mode::train, rig->state};

    out.first_call = seconds_of(device_, [&] { rig->call(r); });
    double usual = seconds_of(device_, [&] { rig->call(r); });
    for (out.warmup = 2; out.warmup < 5; ++out.warmup) usual = std::min(usual, seconds_of(device_, [&] { rig->call(r); }));
    const double shortest = c.level == "step" ? kShortestSteps : kShortest;
    out.calls = c.level == "op" ? 1 : std::max<Index>(1, static_cast<Index>(shortest / std::max(usual, 1e-9)));

    for ([[maybe_unused]] auto _ : state) {
      double pass = 0;
      rig->parts(r, [&](const std::string& part, const std::function<void()>& launch) {
        const double one = seconds_of(device_,
                                      [&] {
                                        for (Index k = 0; k < out.calls; ++k) launch();
                                      }) /
                           static_cast<double>(out.calls);
        out.seconds[part].push_back(one);
        pass += one;
      });
      state.SetIterationTime(pass);
    }
    if (energy_.readable() && c.level != "op") out.joules = joules_of(*rig, r, usual);
    out.high_water = watched().peak - before, out.path = rig->path();
    if (!rig->slow.empty()) out.path += "; plain kernels: " + rig->slow;
    for (const auto& [part, samples] : out.seconds)
      if (c.level != "op" && quartiles(samples).unstable()) out.state = "unstable", out.reason = spread(samples);
    if (out.state == "unstable") state.SetLabel("UNSTABLE: " + out.reason);
    state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(out.tokens), benchmark::Counter::kIsIterationInvariantRate);
    state.counters["MiB"] = static_cast<double>(out.high_water) / 1048576.0;
  }

  // Joules of one pass: passes one after another for so long that the steps of the counter hardly show.
  double joules_of(Rig& rig, Run& r, double seconds) {
    const auto passes = static_cast<Index>(std::ceil(energy_.least_seconds / std::max(seconds, 1e-9)));
    device_.fence("ssm::energy: start");
    const double before = energy_.joules();
    for (Index k = 0; k < passes; ++k) rig.call(r);
    device_.fence("ssm::energy: end");
    return (energy_.joules() - before) / static_cast<double>(passes);
  }

  static std::string spread(const std::vector<double>& samples) {
    const Quartiles q = quartiles(samples);
    std::ostringstream text;
    text.precision(3);
    text << "half of the samples lie between " << 1e3 * q.low << " and " << 1e3 * q.high << " ms";
    return text.str();
  }

  // A case that has a row and ran again: the table is made anew.
  void write(std::size_t i) {
    if (std::find(written_.begin(), written_.end(), i) == written_.end()) {
      written_.push_back(i);
      row(i);
    } else {
      std::vector<std::string> columns;
      for (const auto& [path, column] : record_.tree().arrays())
        if (path.rfind("/bench/", 0) == 0) columns.push_back(path);
      for (const std::string& path : columns) record_.tree().erase(path);
      for (const std::size_t k : written_) row(k);
    }
    raw_samples(i);
  }

  void row(std::size_t i) {
    const BenchCase c = resolved(cases_[i], config_, device_);
    const Outcome& out = outcomes_[i];
    record_.tree().row("/bench", {{"order", i},
                                  {"case", cases_[i].name()},
                                  {"level", c.level},
                                  {"variant", c.variant},
                                  {"mode", c.mode},
                                  {"B", c.B},
                                  {"T", c.T},
                                  {"D", c.D},
                                  {"N", c.N},
                                  {"view", c.view},
                                  {"threads", c.threads},
                                  {"precision", c.precision},
                                  {"device", c.device},
                                  {"depth", c.level == "step" ? config_.model.depth : 1},
                                  {"tokens", out.tokens},
                                  {"flops", out.work.flops},
                                  {"exps", out.work.exps},
                                  {"bytes", out.work.bytes, "B"},
                                  {"planned", out.planned, "B"},
                                  {"high_water", out.high_water, "B"},
                                  {"joules", out.joules, "J"},
                                  {"path", out.path},
                                  {"state", out.state},
                                  {"reason", out.reason}});
  }

  void raw_samples(std::size_t i) {
    const BenchCase c = resolved(cases_[i], config_, device_);
    const std::string name = cases_[i].name();
    const Outcome& out = outcomes_[i];
    Tree& tree = record_.tree();
    for (const auto& [part, samples] : out.seconds) {
      const std::string phase = name + (part == "all" ? "" : "." + part), path = "/timing/" + phase;
      record_.timing(phase, {samples, device_.timing_method, out.warmup, part == "all" ? out.first_call : 0});
      for (const auto& [key, value] : std::map<std::string, std::string>{
               {"level", c.level}, {"variant", c.variant}, {"mode", c.mode}, {"part", part}, {"view", c.view}, {"precision", c.precision}})
        tree.set(path, key, value);
      for (const auto& [key, value] : std::map<std::string, Index>{
               {"B", c.B}, {"T", c.T}, {"D", c.D}, {"N", c.N}, {"threads", c.threads}, {"calls_per_sample", out.calls}})
        tree.set(path, key, value);
      if (const auto declared = out.part_work.find(part); declared != out.part_work.end()) {
        tree.set(path, "flops", declared->second.flops);
        tree.set(path, "exps", declared->second.exps);
        tree.set(path, "bytes", declared->second.bytes);
      }
    }
  }

  const BenchOptions& options_;
  Device& device_;
  Record& record_;
  Config config_;
  std::vector<BenchCase> cases_;
  std::vector<Outcome> outcomes_;
  std::vector<std::size_t> written_;
  EnergyMeter energy_;
  std::map<std::string, std::exception_ptr> refused_;
};

}  // namespace

int run_bench(const BenchOptions& options, Device& device, Record& record) { return Bench(options, device, record).run(); }

}  // namespace ssm
