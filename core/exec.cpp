#include "exec.hpp"

#include <sstream>
#include <thread>
#include <unordered_map>

#include "error.hpp"
#include "launch.hpp"
#include "watch.hpp"

namespace ssm {

const std::string& kernel_name(const char* literal) {
  static std::unordered_map<const void*, std::string> names;
  const auto found = names.find(literal);
  return found != names.end() ? found->second : names.emplace(literal, literal).first->second;
}

Device::Device(int wanted) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (wanted < 0 || (cores > 0 && wanted > cores))
    throw BadInput("run.threads = " + std::to_string(wanted) + ": allowed is 0 (all) to " + std::to_string(cores) +
                   ", the cores of this machine");
  Kokkos::InitializationSettings settings;
  settings.set_disable_warnings(true);
  if (wanted > 0) settings.set_num_threads(wanted);
  Kokkos::initialize(settings);
  watch_kokkos();
  exec_ = std::make_unique<Exec>();
  backend = ExecSpace::name();
  threads = kOnHost ? exec_->space.concurrency() : 1;
  kokkos_version = std::to_string(KOKKOS_VERSION / 10000) + '.' + std::to_string(KOKKOS_VERSION / 100 % 100) + '.' +
                   std::to_string(KOKKOS_VERSION % 100);
  std::ostringstream text;
  Kokkos::print_configuration(text, true);
  kokkos_configuration = text.str();
#if defined(KOKKOS_ENABLE_CUDA)
  name = exec_->space.cuda_device_prop().name;
  int number = 0;
  cudaDriverGetVersion(&number);
  driver = std::to_string(number);
  cudaRuntimeGetVersion(&number);
  runtime = std::to_string(number);
#endif
}

Device::~Device() {
  exec_.reset();
  Kokkos::finalize();
}

void Device::fence(const char* why) { exec_->space.fence(why); }

}  // namespace ssm
