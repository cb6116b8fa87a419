#include "exec.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <sstream>
#include <thread>
#include <unordered_map>

#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/gpu.hpp"
#include "watch.hpp"

namespace ssm {

const std::string& kernel_name(const char* literal) {
  static std::unordered_map<const void*, std::string> names;
  const auto found = names.find(literal);
  return found != names.end() ? found->second : names.emplace(literal, literal).first->second;
}

namespace {

// One clear line instead of what Kokkos says when there is nothing to run on.
void need_device() {
#if defined(SSM_GPU)
  int count = 0;
  const auto status = SSM_GPU(GetDeviceCount)(&count);
  if (status != SSM_GPU(Success)) throw std::runtime_error(std::string("this build needs a GPU: ") + SSM_GPU(GetErrorString)(status));
  if (count == 0) throw std::runtime_error("this build needs a GPU: none is there");
#if defined(KOKKOS_ENABLE_CUDA)
  constexpr int wanted[] = {__CUDA_ARCH_LIST__};
  int major = 0, minor = 0;
  gpu_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "compute capability");
  gpu_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "compute capability");
  if (100 * major + 10 * minor < wanted[0])
    throw std::runtime_error("this build is for compute capability " + std::to_string(wanted[0] / 100) + "." +
                             std::to_string(wanted[0] / 10 % 10) + " or newer, the device has " + std::to_string(major) + "." +
                             std::to_string(minor));
#endif
#endif
}

// Numbers too small for a whole mantissa count as 0. A loss at the last position alone leaves gradients that fade into them on the way
// back, and processors are slow with them: mamba trained at 0.6 of its speed. Threads made from now on inherit it.
void flush_denormals() {
#if defined(__SSE2__)
  constexpr unsigned kResults = 0x8000, kOperands = 0x0040;
  _mm_setcsr(_mm_getcsr() | kResults | kOperands);
#endif
}

}  // namespace

Device::Device(int wanted, const std::string& gemm) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (wanted < 0 || (cores > 0 && wanted > cores))
    throw BadInput("run.threads = " + std::to_string(wanted) + ": allowed is 0 (all) to " + std::to_string(cores) +
                   ", the cores of this machine");
  timing_method = kOnHost ? "steady_clock, fence before and after each sample" : "device events on the run's stream around each sample";
  set_gemm_precision(gemm);
  flush_denormals();
  need_device();
  Kokkos::InitializationSettings settings;
  settings.set_disable_warnings(true);
  if (wanted > 0) settings.set_num_threads(wanted);
  Kokkos::initialize(settings);
  watch_kokkos();
#if defined(SSM_GPU)
  SSM_GPU(Stream_t) stream = nullptr;
  gpu_check(SSM_GPU(StreamCreateWithFlags)(&stream, SSM_GPU(StreamNonBlocking)), "stream");
  stream_ = stream;
  for (void*& event : events_) {
    SSM_GPU(Event_t) made = nullptr;
    gpu_check(SSM_GPU(EventCreate)(&made), "event");
    event = made;
  }
  exec_.reset(new Exec{ExecSpace(stream)});
#else
  exec_ = std::make_unique<Exec>();
#endif
  backend = ExecSpace::name();
  threads = kOnHost ? exec_->space.concurrency() : 1;
  kokkos_version = std::to_string(KOKKOS_VERSION / 10000) + '.' + std::to_string(KOKKOS_VERSION / 100 % 100) + '.' +
                   std::to_string(KOKKOS_VERSION % 100);
  std::ostringstream text;
  Kokkos::print_configuration(text, true);
  kokkos_configuration = text.str();
#if defined(KOKKOS_ENABLE_CUDA)
  name = exec_->space.cuda_device_prop().name;
#elif defined(KOKKOS_ENABLE_HIP)
  name = exec_->space.hip_device_prop().name;
#endif
  if (kEmulated) name = "emulated device: times mean nothing";
#if defined(SSM_GPU)
  int number = 0;
  if (SSM_GPU(DriverGetVersion)(&number) == SSM_GPU(Success)) driver = std::to_string(number);
  if (SSM_GPU(RuntimeGetVersion)(&number) == SSM_GPU(Success)) runtime = std::to_string(number);
#endif
}

Device::~Device() {
  exec_.reset();
#if defined(SSM_GPU)
  for (void* event : events_)
    if (event) (void)SSM_GPU(EventDestroy)(static_cast<SSM_GPU(Event_t)>(event));
  if (stream_) (void)SSM_GPU(StreamDestroy)(static_cast<SSM_GPU(Stream_t)>(stream_));
#endif
  Kokkos::finalize();
}

void Device::fence(const char* why) { exec_->space.fence(why); }

void Device::start_clock() {
  fence("ssm::clock: start");
#if defined(SSM_GPU)
  gpu_check(SSM_GPU(EventRecord)(static_cast<SSM_GPU(Event_t)>(events_[0]), gpu_stream(*exec_)), "event");
#else
  started_ = std::chrono::steady_clock::now();
#endif
}

double Device::stop_clock() {
#if defined(SSM_GPU)
  const auto last = static_cast<SSM_GPU(Event_t)>(events_[1]);
  gpu_check(SSM_GPU(EventRecord)(last, gpu_stream(*exec_)), "event");
  gpu_check(SSM_GPU(EventSynchronize)(last), "event");
  float milliseconds = 0;
  gpu_check(SSM_GPU(EventElapsedTime)(&milliseconds, static_cast<SSM_GPU(Event_t)>(events_[0]), last), "event");
  return 1e-3 * static_cast<double>(milliseconds);
#else
  fence("ssm::clock: stop");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
#endif
}

}  // namespace ssm
