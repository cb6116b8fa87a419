// loader.hpp - examples become padded host batches: which examples (Stream), their layout (HostBatch), made ahead of time (Prefetcher).
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "rng.hpp"
#include "task.hpp"

namespace ssm {

// B examples padded to T. rows = B, or 2B for pairs: rows 2i and 2i+1 belong together.
struct HostBatch {
  Index B = 0, T = 0, rows = 0;
  std::vector<std::int32_t> tokens;   // (rows, T), 0 = padding; empty when the input is features
  std::vector<float> features;        // (rows, T, TaskInfo::features)
  std::vector<std::int32_t> lengths;  // (rows)
  std::vector<std::int32_t> targets;  // (B) for classes and pairs, (rows, T) for positions with -1 = ignored
  std::vector<float> values;          // (B, TaskInfo::classes) for regression, (rows, T, TaskInfo::classes) for series, NaN = ignored
  std::vector<std::int32_t> marks;    // (rows, T) for tasks with TaskInfo::marks, -1 = none
  std::vector<std::int32_t> slices;   // (B, axes of TaskInfo::slices)
  std::vector<Index> indices;         // (B)
  Index tokens_real = 0, tokens_padded = 0;  // sum of lengths, rows * T
  Example example;                           // working space, kept so that refilling a batch allocates nothing
};

// Fills `out` with the examples `indices` of `split`. Throws BadInput when one is longer than T. `info` is task.info(): asking for it
// once saves building its texts for every batch.
void fill(const Task& task, const TaskInfo& info, Split split, std::span<const Index> indices, Index T, HostBatch& out);
void fill(const Task& task, Split split, std::span<const Index> indices, Index T, HostBatch& out);
// Length of an example; of a pair the longer one.
Index positions(const TaskInfo& info, const Example& e);

// The endless order of training examples. A set of `size` examples is passed again and again, each time in another order, which is a
// keyed permutation (a Feistel network that walks cycles until it is back in range), so resuming needs the position only.
class Stream {
 public:
  Stream(Index size, std::uint64_t seed) : size_(size), seed_(seed) {
    while (half_ < 31 && Index{1} << 2 * half_ < size) ++half_;
  }
  // The example at position p; p itself when the set is endless (size 0).
  SSM_FN Index operator[](Index p) const { return size_ == 0 ? p : permuted(p % size_, p / size_); }
  Index epoch(Index p) const { return size_ == 0 ? 0 : p / size_; }
  // What may stand at position p instead of its own example (k = 0): what stands there k passes later, or of an endless set an example
  // that no position has.
  SSM_FN Index candidate(Index p, Index k) const { return size_ == 0 ? p + (k << 40) : (*this)[p + k * size_]; }
  static constexpr Index candidates = 4096;  // of a position, k below this

 private:
  SSM_FN Index permuted(Index i, Index epoch) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_) - 1;
    const std::uint64_t key = mix(seed_ ^ mix(static_cast<std::uint64_t>(epoch) + 1));
    std::uint64_t x = static_cast<std::uint64_t>(i);
    do {
      std::uint64_t left = x >> half_, right = x & mask;
      for (std::uint64_t round = 0; round < 6; ++round) {
        const std::uint64_t next = left ^ (mix(right + mix(key + round)) & mask);
        left = right, right = next;
      }
      x = left << half_ | right;
    } while (x >= static_cast<std::uint64_t>(size_));
    return static_cast<Index>(x);
  }
  Index size_;
  std::uint64_t seed_;
  int half_ = 0;  // bits of half an index
};

// How long the training examples of a step may be: `from` positions at first, `to` from step `over` on. A position whose example is longer
// takes its first candidate that is not, so that the examples of a step are those of the task, given that they are short.
struct Curriculum {
  Index from = 0, to = std::numeric_limits<Index>::max(), over = 0;
  SSM_FN Index longest(Index step) const { return step >= over ? to : from + (to - from) * step / over; }
};

// Background threads that make batches `first`, first+1, ... ahead of the consumer, at most `ahead` at a time. The batches and their
// order do not depend on the number of threads. An exception of a producer is thrown by the next() that would return its batch.
class Prefetcher {
 public:
  using Make = std::function<void(Index batch, HostBatch& out)>;  // called by several threads at once

  Prefetcher(Make make, Index first, int threads, int ahead);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next batch; valid until the next call.
  const HostBatch& next();

  double wait_seconds() const { return wait_seconds_; }  // how long next() waited, in all
  double producer_seconds() const;                       // CPU time of the producers for finished batches, in all

 private:
  struct Slot {
    HostBatch batch;
    std::exception_ptr error;
    bool ready = false;
  };
  void produce();
  Slot& slot(Index batch) { return slots_[static_cast<std::size_t>(batch) % slots_.size()]; }

  Make make_;
  std::vector<Slot> slots_;
  Index claimed_, handed_, freed_;  // next batch to make; next to hand out; batches below this one may be overwritten
  bool stop_ = false;
  double wait_seconds_ = 0, producer_seconds_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable made_, room_;
  std::vector<std::jthread> threads_;
};

// Batch n of training, of step n / accumulate: positions n*B .. n*B+B-1 of the stream.
Prefetcher::Make training_batches(const Task& task, std::uint64_t seed, Index B, Index T, Index accumulate = 1,
                                  const Curriculum& lengths = {});

}  // namespace ssm
