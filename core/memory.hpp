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

// Two blocks of page-locked host memory that take turns: while the device reads one, the host fills the other. On a CPU the batch is
// written where it is read, and nothing is copied.
class Staging {
 public:
  Staging() = default;
  explicit Staging(Index bytes);
  ~Staging();
  Staging(Staging&& other) noexcept;
  Staging& operator=(Staging&& other) noexcept;

  // Where to write what shall go to `device`; waits until the copy before the last has left its block.
  char* next(void* device);
  // Copies it in the order of the run's stream, without waiting.
  void send(Exec& exec, void* device);

 private:
  void *blocks_[2] = {nullptr, nullptr}, *sent_[2] = {nullptr, nullptr};  // memory, events
  Index bytes_ = 0;
  int turn_ = 0;
};

// Bytes that may still be allocated on the device; 0 when the backend cannot say.
Index free_device_bytes();

}  // namespace ssm
