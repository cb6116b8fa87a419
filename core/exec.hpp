// exec.hpp - the life of the device: starts Kokkos, owns one private instance, says what it is.
#pragma once
#include <memory>
#include <string>

#include "run.hpp"

namespace ssm {

class Device {
 public:
  // threads = 0: what the environment gives. Throws BadInput for a number the machine cannot give.
  explicit Device(int threads = 0);
  ~Device();
  Device(const Device&) = delete;

  Exec& exec() { return *exec_; }
  void fence(const char* why);

  std::string backend, name, driver, runtime;  // "OpenMP", "Intel(R) Xeon(R)", ...
  std::string kokkos_version, kokkos_configuration;
  int threads = 1;

 private:
  std::unique_ptr<Exec> exec_;
};

}  // namespace ssm
