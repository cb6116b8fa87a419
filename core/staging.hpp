// staging.hpp - how batches of the host reach the device; in memory.cpp, as all that allocates.
#pragma once
#include "real.hpp"

namespace ssm {

struct Exec;

// Two blocks of page-locked host memory that take turns: while the device reads one, the host fills the other. On a CPU the batch is
// written where it is read, and nothing is copied.
class Staging {
 public:
  Staging() = default;
  explicit Staging(Index bytes);
  ~Staging();  // NOLINT(performance-trivially-destructible): of a GPU it frees its blocks
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

}  // namespace ssm
