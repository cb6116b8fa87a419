// exec.hpp - the life of the device: starts Kokkos, owns one private instance, says what it is.
#pragma once
#include <memory>
#include <string>

#include "run.hpp"

namespace ssm {

class Device {
 public:
  // threads = 0: what the environment gives. Throws BadInput for a number the machine cannot give, Unsupported for a precision of matrix
  // products that it does not have, std::runtime_error where there is no device that this build can run on.
  explicit Device(int threads = 0, const std::string& gemm = "fp32");
  ~Device();
  Device(const Device&) = delete;

  Exec& exec() { return *exec_; }
  void fence(const char* why);

  std::string backend, name, driver, runtime;  // "OpenMP", "Intel(R) Xeon(R)", ...
  std::string kokkos_version, kokkos_configuration;
  int threads = 1;

 private:
  std::unique_ptr<Exec> exec_;
  void* stream_ = nullptr;  // a GPU's: ours alone, so that a step can be captured and waits for nobody
};

}  // namespace ssm
