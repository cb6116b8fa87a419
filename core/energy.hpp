// energy.hpp - joules since the meter was made, from a counter of the machine: NVML's of the GPU in a CUDA build (the library is opened at
// run time), RAPL's of the processor packages on a CPU. A counter knows nothing of processes: what else runs there is counted too.
#pragma once
#include <functional>
#include <string>

namespace ssm {

class EnergyMeter {
 public:
  // The counter of the device that this build runs on; call after the device was started.
  static EnergyMeter of_this_build();
  // The package zones of a powercap folder ("/sys/class/powercap").
  static EnergyMeter rapl(const std::string& folder);
  // `symbol` finds a function of NVML by name (null: not there); `bus` is the PCI address of the GPU.
  static EnergyMeter nvml(const std::function<void*(const char*)>& symbol, const std::string& bus);
  static EnergyMeter none(const std::string& why);

  bool readable() const { return read_ != nullptr; }
  double joules();           // NaN when there is no counter or it stopped answering; call at least every half hour: RAPL's counters wrap
  std::string source;        // "NVML: 00000000:19:00.0, the whole device"; empty when there is none
  std::string reason;        // why there is none
  double least_seconds = 0;  // an interval shorter than this says little: the counter moves in steps

 private:
  std::function<double()> read_;  // joules since some fixed moment
  double start_ = 0;
};

}  // namespace ssm
