#include "energy.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "lib/gpu.hpp"

namespace ssm {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <class T>
bool read_file(const std::filesystem::path& path, T& value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> value);
}

// A counter of microjoules that starts again at `range`.
struct Zone {
  std::filesystem::path counter;
  double range = 0, last = 0, sum = 0;
  double read() {
    double now = 0;
    if (!read_file(counter, now)) return kNone;
    sum += now >= last ? now - last : now + range - last;
    last = now;
    return 1e-6 * sum;
  }
};

#if defined(KOKKOS_ENABLE_CUDA)
EnergyMeter meter_of_device() {
  char bus[32] = "";
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess) bus[0] = '\0';
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  return EnergyMeter::nvml([library](const char* name) { return library ? dlsym(library, name) : nullptr; }, bus);
}
#elif defined(KOKKOS_ENABLE_HIP)
EnergyMeter meter_of_device() { return EnergyMeter::none("no energy counter is known for HIP"); }
#else
EnergyMeter meter_of_device() { return EnergyMeter::rapl("/sys/class/powercap"); }
#endif

}  // namespace

EnergyMeter EnergyMeter::of_this_build() { return meter_of_device(); }

EnergyMeter EnergyMeter::none(const std::string& why) {
  EnergyMeter meter;
  meter.reason = why;
  return meter;
}

EnergyMeter EnergyMeter::rapl(const std::string& folder) {
  std::error_code error;
  std::vector<Zone> zones;
  std::string names;
  std::vector<std::filesystem::path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) entries.push_back(entry.path());
  if (error) return none("RAPL: " + folder + ": " + error.message());
  std::sort(entries.begin(), entries.end());
  for (const auto& entry : entries) {
    std::string name;
    if (!read_file(entry / "name", name) || name.rfind("package-", 0) != 0) continue;
    Zone zone{entry / "energy_uj"};
    if (!read_file(zone.counter, zone.last)) return none("RAPL: " + zone.counter.string() + " cannot be read (root only?)");
    read_file(entry / "max_energy_range_uj", zone.range);
    zones.push_back(zone);
    names += (names.empty() ? "" : ", ") + name;
  }
  if (zones.empty()) return none("RAPL: " + folder + " has no package zone");
  EnergyMeter meter;
  meter.source = "RAPL: " + names + ", whole processors";
  meter.least_seconds = 0.2;
  meter.read_ = [zones]() mutable {
    double sum = 0;
    for (Zone& zone : zones) sum += zone.read();
    return sum;
  };
  meter.start_ = meter.read_();
  return meter;
}

EnergyMeter EnergyMeter::nvml(const std::function<void*(const char*)>& symbol, const std::string& bus) {
  using Device = void*;
  const auto start = reinterpret_cast<int (*)()>(symbol("nvmlInit_v2"));
  const auto find = reinterpret_cast<int (*)(const char*, Device*)>(symbol("nvmlDeviceGetHandleByPciBusId_v2"));
  const auto total = reinterpret_cast<int (*)(Device, unsigned long long*)>(symbol("nvmlDeviceGetTotalEnergyConsumption"));
  const auto text = reinterpret_cast<const char* (*)(int)>(symbol("nvmlErrorString"));
  if (!start || !find || !total || !text) return none("NVML: libnvidia-ml.so.1 is not there, or too old");
  Device device = nullptr;
  unsigned long long millijoules = 0;
  for (const auto& [what, call] : std::vector<std::pair<const char*, std::function<int()>>>{
           {"start", start}, {"device", [&] { return find(bus.c_str(), &device); }}, {"total energy", [&] {
                                                                                        return total(device, &millijoules);
                                                                                      }}})
    if (const int status = call(); status != 0) return none(std::string("NVML: ") + what + ": " + text(status));
  EnergyMeter meter;
  meter.source = "NVML: " + bus + ", the whole device";
  meter.least_seconds = 1;
  meter.read_ = [total, device] {
    unsigned long long now = 0;
    return total(device, &now) == 0 ? 1e-3 * static_cast<double>(now) : kNone;
  };
  meter.start_ = meter.read_();
  return meter;
}

double EnergyMeter::joules() { return read_ ? read_() - start_ : kNone; }

}  // namespace ssm
