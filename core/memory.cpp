#include "memory.hpp"

#include <cstring>
#include <stdexcept>
#include <utility>

#include "lib/gpu.hpp"
#include "staging.hpp"

namespace ssm {

using Space = ExecSpace::memory_space;
using Bytes = Kokkos::View<char*, Space, Kokkos::MemoryUnmanaged>;
using HostBytes = Kokkos::View<char*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
using ConstHostBytes = Kokkos::View<const char*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;

Memory::Memory(const std::string& label, Index bytes) : bytes_(bytes) {
  if (bytes > 0) p_ = Kokkos::kokkos_malloc<Space>(label, static_cast<std::size_t>(bytes));
}
Memory::~Memory() {
  if (p_) Kokkos::kokkos_free<Space>(p_);
}
Memory::Memory(Memory&& other) noexcept : p_(std::exchange(other.p_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(p_, other.p_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void copy_in(void* device, const void* host, Index bytes) {
  const auto n = static_cast<std::size_t>(bytes);
  if (n) Kokkos::deep_copy(Bytes(static_cast<char*>(device), n), ConstHostBytes(static_cast<const char*>(host), n));
}
void copy_out(void* host, const void* device, Index bytes) {
  const auto n = static_cast<std::size_t>(bytes);
  if (n)
    Kokkos::deep_copy(HostBytes(static_cast<char*>(host), n),
                      Kokkos::View<const char*, Space, Kokkos::MemoryUnmanaged>(static_cast<const char*>(device), n));
}
void fill_bytes(void* device, int byte, Index bytes) {
  if (bytes) Kokkos::deep_copy(Bytes(static_cast<char*>(device), static_cast<std::size_t>(bytes)), static_cast<char>(byte));
}

void stream_in([[maybe_unused]] Exec& exec, void* device, const void* host, Index bytes) {
#if defined(SSM_GPU)
  gpu_check(SSM_GPU(MemcpyAsync)(device, host, static_cast<std::size_t>(bytes), SSM_GPU(MemcpyHostToDevice), gpu_stream(exec)),
            "copy to the device");
#else
  std::memcpy(device, host, static_cast<std::size_t>(bytes));
#endif
}

#if defined(SSM_GPU)
Staging::Staging(Index bytes) : bytes_(bytes) {
  for (int k = 0; k < 2; ++k) {
    blocks_[k] = Kokkos::kokkos_malloc<Kokkos::SharedHostPinnedSpace>("ssm::staging", static_cast<std::size_t>(bytes));
    SSM_GPU(Event_t) event = nullptr;
    gpu_check(SSM_GPU(EventCreateWithFlags)(&event, SSM_GPU(EventDisableTiming)), "event");
    sent_[k] = event;
  }
}
Staging::~Staging() {
  for (int k = 0; k < 2; ++k) {
    if (!blocks_[k]) continue;
    (void)SSM_GPU(EventSynchronize)(static_cast<SSM_GPU(Event_t)>(sent_[k]));
    (void)SSM_GPU(EventDestroy)(static_cast<SSM_GPU(Event_t)>(sent_[k]));
    Kokkos::kokkos_free<Kokkos::SharedHostPinnedSpace>(blocks_[k]);
  }
}
char* Staging::next(void*) {
  turn_ = 1 - turn_;
  gpu_check(SSM_GPU(EventSynchronize)(static_cast<SSM_GPU(Event_t)>(sent_[turn_])), "copy of a batch");
  return static_cast<char*>(blocks_[turn_]);
}
void Staging::send(Exec& exec, void* device) {
  stream_in(exec, device, blocks_[turn_], bytes_);
  gpu_check(SSM_GPU(EventRecord)(static_cast<SSM_GPU(Event_t)>(sent_[turn_]), gpu_stream(exec)), "event");
}
#else
Staging::Staging(Index bytes) : bytes_(bytes) {}
Staging::~Staging() = default;
char* Staging::next(void* device) { return static_cast<char*>(device); }
void Staging::send(Exec&, void*) {}
#endif
Staging::Staging(Staging&& other) noexcept { *this = std::move(other); }
Staging& Staging::operator=(Staging&& other) noexcept {
  std::swap(blocks_, other.blocks_), std::swap(sent_, other.sent_);
  std::swap(bytes_, other.bytes_), std::swap(turn_, other.turn_);
  return *this;
}

Index free_device_bytes() {
#if defined(SSM_GPU)
  std::size_t free = 0, total = 0;
  if (SSM_GPU(MemGetInfo)(&free, &total) == SSM_GPU(Success)) return static_cast<Index>(free);
#endif
  return 0;
}

}  // namespace ssm
