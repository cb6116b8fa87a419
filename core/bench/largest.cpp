#include "bench/largest.hpp"

#include <charconv>
#include <fstream>

#include "bench/checked.hpp"
#include "bench/timer.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "watch.hpp"

namespace ssm {

namespace {

constexpr int kAttempts = 4;

// The number behind `label` in a file, times `unit`; the whole file's for an empty label; -1 without one ("max").
Index number_in(const char* path, const std::string& label, Index unit) {
  std::ifstream file(path);
  std::string word;
  while (!label.empty() && file >> word && word != label) continue;
  Index value = 0;
  return file >> value ? value * unit : -1;
}

struct Trial {
  BenchCase c;
  Index planned = 0, high_water = 0, limit = 0;
  double seconds = 0;
  int attempts = 0;
  std::string state = "ok", reason{};
};

void prove(Trial& one, const Config& config, Device& device) {
  const Index before = watched().bytes;
  reset_peak();
  const auto rig = make_rig(one.c, config, device);
  Run r{device.exec(), Mode::train, rig->state};
  one.seconds = seconds_of(device, [&] { rig->call(r); });
  one.planned = rig->planned_bytes, one.high_water = watched().peak - before;
}

void solve(Trial& one, const Config& config, Device& device) {
  const auto planned = step_planner(one.c, config);
  Index room = one.limit;
  for (;;) {
    ++one.attempts;
    one.c.B = largest_batch(planned, room);
    if (one.c.B == 0)
      throw Unsupported("one example needs " + std::to_string(planned(1)) + " B, the limit is " + std::to_string(one.limit) + " B");
    try {
      prove(one, config, device);
      break;
    } catch (const Unsupported&) {
      throw;
    } catch (const std::exception& e) {
      if (one.attempts == kAttempts) throw;
      one.reason = "B = " + std::to_string(one.c.B) + " fits the plan and did not run: " + e.what();
      room -= one.limit / 16;
    }
  }
  if (one.c.B == kMostExamples) one.reason = "the largest batch that a run may have";
}

}  // namespace

Index largest_batch(const std::function<Index(Index)>& planned, Index limit, Index most) {
  if (planned(1) > limit) return 0;
  Index fits = 1, beyond = 2;
  while (beyond <= most && planned(beyond) <= limit) fits = beyond, beyond *= 2;
  beyond = std::min(beyond, most + 1);
  while (beyond - fits > 1) {
    const Index middle = fits + (beyond - fits) / 2;
    (planned(middle) <= limit ? fits : beyond) = middle;
  }
  return fits;
}

MemoryLimit memory_limit() {
  if (const Index free = free_device_bytes(); free > 0) return {free, "free on the device"};
  Index available = number_in("/proc/meminfo", "MemAvailable:", 1024);
  const Index most = number_in("/sys/fs/cgroup/memory.max", "", 1), used = number_in("/sys/fs/cgroup/memory.current", "", 1);
  const bool grouped = most > 0 && used >= 0 && most - used < available;
  if (grouped) available = most - used;
  if (available <= 0) throw Unsupported("this system does not say how much memory is available: give --memory-limit");
  return {available / 10 * 9, grouped ? "nine tenths of what the control group leaves" : "nine tenths of what the system has available"};
}

Index parse_bytes(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const auto power = unit.empty() ? std::string::npos : std::string("KMGT").find(unit);
  if (error != std::errc() || !(value > 0) || unit.size() > 1 || (!unit.empty() && power == std::string::npos))
    throw BadInput("--memory-limit " + text + ": allowed is a number above 0, with K, M, G or T behind it");
  if (!unit.empty())
    for (std::size_t i = 0; i <= power; ++i) value *= 1024;
  if (value > 9e18) throw BadInput("--memory-limit " + text + ": more than can be counted");
  return static_cast<Index>(value);
}

int run_largest(const BenchOptions& options, Index limit, Device& device, Record& record) {
  BenchOptions o = options;
  o.levels = {"step"}, o.B = {1};
  const Config config = bench_config(o);
  const auto cases = bench_cases(o);
  std::map<std::string, std::exception_ptr> refused;
  if (o.check) refused = refused_settings(cases, config, device, record);
  int failed = 0;
  for (const BenchCase& c : cases) {
    Trial one{c};
    std::string source = "--memory-limit";
    const auto stop = [&](const char* state, const std::exception& e) { one.state = state, one.reason = e.what(), one.c.B = 0; };
    try {
      one.limit = limit;
      if (limit == 0) {
        const MemoryLimit found = memory_limit();
        one.limit = found.bytes, source = found.source;
      }
      if (const auto why = refused.find(c.setting()); why != refused.end()) std::rethrow_exception(why->second);
      solve(one, config, device);
    } catch (const Unsupported& e) {
      stop("skipped", e);
    } catch (const BadInput& e) {
      stop("skipped", e);
    } catch (const std::exception& e) {
      stop("failed", e);
      ++failed;
    }
    const BenchCase r = resolved(c, config, device);
    record.tree().row("/largest_batch", {{"variant", c.variant},
                                         {"T", c.T},
                                         {"D", c.D},
                                         {"N", r.N},
                                         {"view", r.view},
                                         {"depth", config.model.depth},
                                         {"B", one.c.B},
                                         {"planned", one.planned, "B"},
                                         {"high_water", one.high_water, "B"},
                                         {"limit", one.limit, "B"},
                                         {"limit_source", source},
                                         {"seconds", one.seconds, "s"},
                                         {"attempts", one.attempts},
                                         {"state", one.state},
                                         {"reason", one.reason}});
    record.flush();
  }
  return failed;
}

}  // namespace ssm
