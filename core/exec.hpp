// exec.hpp - the life of the device: starts Kokkos, owns one private instance, says what it is.
#pragma once
#include <chrono>
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

  // Seconds between the two calls: events on the stream of a GPU, the steady clock around fences on a CPU. `timing_method` says which.
  void start_clock();
  double stop_clock();
  std::string timing_method;

  std::string backend, name, driver, runtime;  // "OpenMP", "Intel(R) Xeon(R)", ...
  std::string kokkos_version, kokkos_configuration;
  int threads = 1;

 private:
  std::unique_ptr<Exec> exec_;
  std::chrono::steady_clock::time_point started_;
  // A GPU's: a stream of our own, so that a step can be captured and waits for nobody, and two events.
  void *stream_ = nullptr, *events_[2] = {nullptr, nullptr};
};

}  // namespace ssm
