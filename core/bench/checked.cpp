#include "bench/checked.hpp"

#include <algorithm>
#include <set>

#include "check.hpp"
#include "error.hpp"

namespace ssm {

namespace {

CheckReport check(const BenchCase& c, const Config& config, Device& device, Record& record) {
  set_up(c, device);
  const CheckReport report = self_check(c.variant, case_knobs(c, config), device.exec());
  const BenchCase r = resolved(c, config, device);
  record.tree().row("/check/variants", {{"variant", r.variant},
                                        {"N", r.N},
                                        {"view", r.view},
                                        {"threads", r.threads},
                                        {"precision", r.precision},
                                        {"reference_err", report.reference_error},
                                        {"streaming_err", report.streaming_error},
                                        {"tolerance", report.tolerance},
                                        {"passed", report.passed}});
  return report;
}

}  // namespace

std::map<std::string, std::exception_ptr> refused_settings(const std::vector<BenchCase>& cases, const Config& config, Device& device,
                                                           Record& record) {
  std::map<std::string, std::exception_ptr> refused;
  std::set<std::string> seen;
  CheckReport worst;
  worst.passed = true;
  for (const BenchCase& c : cases) {
    if (!seen.insert(c.setting()).second) continue;
    try {
      const CheckReport report = check(c, config, device, record);
      if (!report.passed) refused[c.setting()] = std::make_exception_ptr(std::runtime_error(report.text));
      worst.reference_error = std::max(worst.reference_error, report.reference_error);
      worst.streaming_error = std::max(worst.streaming_error, report.streaming_error);
      worst.tolerance = std::max(worst.tolerance, report.tolerance);
      worst.passed = worst.passed && report.passed;
    } catch (const Unsupported&) {
      refused[c.setting()] = std::current_exception();
    } catch (const BadInput&) {
      if (!c.N && c.view.empty()) throw;  // the keys that all cases share
      refused[c.setting()] = std::current_exception();
    }
  }
  record.check(worst.reference_error, worst.streaming_error, worst.tolerance, worst.passed);
  return refused;
}

}  // namespace ssm
