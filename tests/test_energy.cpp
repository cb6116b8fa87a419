// test_energy.cpp - energy counters: a made-up powercap folder, a made-up NVML, and the reason where there is none.
#include "energy.hpp"

#include <cmath>
#include <map>

#include "record_testing.hpp"

namespace ssm {
namespace {

struct Energy : RecordTest {
  // A zone of the folder with its counter in microjoules.
  void zone(const std::string& folder, const std::string& name, const std::string& counter) const {
    fs::create_directories(dir / folder);
    put_bytes(at(folder + "/name"), name + "\n");
    put_bytes(at(folder + "/energy_uj"), counter + "\n");
    put_bytes(at(folder + "/max_energy_range_uj"), "1000000\n");
  }
};

TEST_F(Energy, RaplSumsThePackagesAndSurvivesAWrap) {
  zone("intel-rapl:0", "package-0", "900000");
  zone("intel-rapl:0:0", "core", "5");
  zone("intel-rapl:1", "package-1", "100");
  EnergyMeter meter = EnergyMeter::rapl(dir);
  ASSERT_TRUE(meter.readable()) << meter.reason;
  expect_contains(meter.source, {"package-0", "package-1"});
  EXPECT_EQ(meter.joules(), 0);
  zone("intel-rapl:0", "package-0", "950000");
  zone("intel-rapl:0:0", "core", "999");
  EXPECT_DOUBLE_EQ(meter.joules(), 0.05);
  zone("intel-rapl:0", "package-0", "50000");
  zone("intel-rapl:1", "package-1", "200100");
  EXPECT_DOUBLE_EQ(meter.joules(), 0.15 + 0.2);
  fs::remove(dir / "intel-rapl:1" / "energy_uj");
  EXPECT_TRUE(std::isnan(meter.joules()));
}

TEST_F(Energy, RaplSaysWhyThereIsNone) {
  EXPECT_TRUE(std::isnan(EnergyMeter::rapl(dir).joules()));
  expect_contains(EnergyMeter::rapl(dir).reason, {dir, "no package zone"});
  expect_contains(EnergyMeter::rapl(at("none")).reason, {at("none"), "No such file"});
  zone("intel-rapl:0", "package-0", "1");
  fs::remove(dir / "intel-rapl:0" / "energy_uj");
  fs::create_directory(dir / "intel-rapl:0" / "energy_uj");  // for root every file is readable
  expect_contains(EnergyMeter::rapl(dir).reason, {"intel-rapl:0/energy_uj", "cannot be read"});
}

// A driver as NVML's functions see it.
int status = 0;
unsigned long long millijoules = 0;
std::string asked_for;
int start() { return 0; }
int find(const char* bus, void** device) { return asked_for = bus, *device = &status, 0; }
int total(void*, unsigned long long* out) { return *out = millijoules, status; }
const char* text(int) { return "Not Supported"; }

void* symbol(const char* name) {
  const std::map<std::string, void*> known = {{"nvmlInit_v2", reinterpret_cast<void*>(start)},
                                              {"nvmlDeviceGetHandleByPciBusId_v2", reinterpret_cast<void*>(find)},
                                              {"nvmlDeviceGetTotalEnergyConsumption", reinterpret_cast<void*>(total)},
                                              {"nvmlErrorString", reinterpret_cast<void*>(text)}};
  return known.at(name);
}

TEST(Nvml, CountsFromWhenItWasMade) {
  status = 0, millijoules = 5000;
  EnergyMeter meter = EnergyMeter::nvml(symbol, "0000:19:00.0");
  ASSERT_TRUE(meter.readable()) << meter.reason;
  EXPECT_EQ(asked_for, "0000:19:00.0");
  millijoules = 7500;
  EXPECT_DOUBLE_EQ(meter.joules(), 2.5);
  status = 3;
  EXPECT_TRUE(std::isnan(meter.joules()));
  expect_contains(EnergyMeter::nvml(symbol, "").reason, {"NVML", "total energy", "Not Supported"});
  expect_contains(EnergyMeter::nvml([](const char*) -> void* { return nullptr; }, "").reason, {"libnvidia-ml.so.1"});
}

TEST(Nvml, ThisBuildHasASourceOrAReason) {
  const EnergyMeter meter = EnergyMeter::of_this_build();
  EXPECT_NE(meter.source.empty(), meter.reason.empty());
  EXPECT_EQ(meter.readable(), meter.reason.empty());
}

}  // namespace
}  // namespace ssm
