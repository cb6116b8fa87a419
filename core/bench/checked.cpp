#include "bench/checked.hpp"

#include <algorithm>

#include "check.hpp"

namespace ssm {

std::map<std::string, std::string> refused_variants(const std::vector<std::string>& names, const Config& config, Device& device,
                                                    Record& record) {
  std::map<std::string, std::string> refused;
  CheckReport worst;
  worst.passed = true;
  for (const std::string& name : names) {
    const CheckReport report = self_check(name, config.variant_knobs, device.exec());
    record.tree().row("/check/variants", {{"variant", name},
                                          {"reference_err", report.reference_error},
                                          {"streaming_err", report.streaming_error},
                                          {"tolerance", report.tolerance},
                                          {"passed", report.passed}});
    if (!report.passed) refused[name] = report.text;
    worst.reference_error = std::max(worst.reference_error, report.reference_error);
    worst.streaming_error = std::max(worst.streaming_error, report.streaming_error);
    worst.tolerance = report.tolerance;
    worst.passed = worst.passed && report.passed;
  }
  record.check(worst.reference_error, worst.streaming_error, worst.tolerance, worst.passed);
  return refused;
}

}  // namespace ssm
