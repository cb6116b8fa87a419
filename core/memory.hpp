// memory.hpp - one labelled allocation in the memory of the device, and copies between it and the host.
#pragma once
#include <cstddef>
#include <string>

#include "real.hpp"

namespace ssm {

struct Exec;

// Move-only owner of device memory, 256-byte aligned. Label and size are visible to Kokkos Tools.
class Memory {
 public:
  Memory() = default;
  Memory(const std::string& label, Index bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;

  template <class T>
  T* as() const {
    return static_cast<T*>(p_);
  }
  Index bytes() const { return bytes_; }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  void* p_ = nullptr;
  Index bytes_ = 0;
};

// Blocking copies and fills, for set-up, checkpoints and tests; never inside a step.
void copy_in(void* device, const void* host, Index bytes);
void copy_out(void* host, const void* device, Index bytes);
void fill_bytes(void* device, int byte, Index bytes);

// Copies to the device in the order of the run's stream, without waiting: what brings a batch into its slots.
void stream_in(Exec& exec, void* device, const void* host, Index bytes);

// Bytes that may still be allocated on the device; 0 when the backend cannot say.
Index free_device_bytes();

}  // namespace ssm
