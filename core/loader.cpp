#include "loader.hpp"

#include <ctime>

#include <algorithm>
#include <chrono>
#include <limits>

namespace ssm {

namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Copies one sequence into row `row` of the batch; the rest of the row keeps its zeros.
template <class T>
void place(const std::vector<T>& from, std::vector<T>& to, Index row, Index width) {
  std::copy(from.begin(), from.end(), to.begin() + row * width);
}

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

Index positions(const TaskInfo& info, const Example& e) {
  return static_cast<Index>(info.features ? e.features.size() / at(info.features) : std::max(e.tokens.size(), e.second.size()));
}

void fill(const Task& task, const TaskInfo& info, Split split, std::span<const Index> indices, Index T, HostBatch& out) {
  const bool pairs = info.target == Target::pairs, positions = info.target == Target::positions;
  const bool series = info.target == Target::series, real = series || info.target == Target::regression;
  const Index B = static_cast<Index>(indices.size()), F = info.features;
  out.B = B, out.T = T, out.rows = pairs ? 2 * B : B;
  out.tokens.assign(F == 0 ? at(out.rows * T) : 0, 0);
  out.features.assign(at(out.rows * T * F), 0);
  out.lengths.resize(at(out.rows));
  out.targets.assign(real ? 0 : positions ? at(out.rows * T) : at(B), -1);
  out.values.assign(real ? at((series ? B * T : B) * info.classes) : 0, std::numeric_limits<float>::quiet_NaN());
  out.marks.assign(info.marks.labels.empty() ? 0 : at(out.rows * T), -1);
  out.slices.resize(at(B) * info.slices.size());
  out.indices.assign(indices.begin(), indices.end());
  out.tokens_real = 0, out.tokens_padded = out.rows * T;

  const auto sequence = [&](Index length, Index row) {
    if (length > T)
      throw BadInput("task " + task.name + ": an example has " + std::to_string(length) + " positions, more than T = " + std::to_string(T) +
                     "; the longest of these settings has " + std::to_string(info.max_length));
    out.lengths[at(row)] = static_cast<std::int32_t>(length);
    out.tokens_real += length;
  };
  Example& e = out.example;
  for (Index b = 0; b < B; ++b) {
    const Index row = pairs ? 2 * b : b;
    task.example(split, indices[at(b)], e);
    sequence(F == 0 ? static_cast<Index>(e.tokens.size()) : static_cast<Index>(e.features.size()) / F, row);
    place(e.tokens, out.tokens, row, T);
    place(e.features, out.features, row, T * F);
    if (pairs) {
      sequence(static_cast<Index>(e.second.size()), row + 1);
      place(e.second, out.tokens, row + 1, T);
    }
    place(e.targets, out.targets, b, positions ? T : 1);
    place(e.values, out.values, b, series ? T * info.classes : info.classes);
    place(e.marks, out.marks, b, T);
    place(e.slices, out.slices, b, static_cast<Index>(info.slices.size()));
  }
}

void fill(const Task& task, Split split, std::span<const Index> indices, Index T, HostBatch& out) {
  fill(task, task.info(), split, indices, T, out);
}

Prefetcher::Prefetcher(Make make, Index first, int threads, int ahead)
    : make_(std::move(make)), slots_(at(std::max(ahead, 1)) + 1), claimed_(first), handed_(first), freed_(first) {
  for (int i = 0; i < std::max(threads, 1); ++i) threads_.emplace_back([this] { produce(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  room_.notify_all();
}

double Prefetcher::producer_seconds() const {
  const std::lock_guard lock(mutex_);
  return producer_seconds_;
}

void Prefetcher::produce() {
  double counted = 0;
  for (;;) {
    Index batch;
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] { return stop_ || claimed_ < freed_ + static_cast<Index>(slots_.size()); });
      if (stop_) return;
      batch = claimed_++;
    }
    Slot& s = slot(batch);
    s.error = nullptr;
    try {
      make_(batch, s.batch);
    } catch (...) {
      s.error = std::current_exception();
    }
    const double now = thread_seconds();
    {
      const std::lock_guard lock(mutex_);
      producer_seconds_ += now - counted;
      s.ready = true;
    }
    counted = now;
    made_.notify_one();
  }
}

const HostBatch& Prefetcher::next() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  if (handed_ > freed_) {
    slot(freed_).ready = false;
    ++freed_;
    room_.notify_one();
  }
  Slot& s = slot(handed_);
  made_.wait(lock, [&] { return s.ready; });
  ++handed_;
  wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (s.error) std::rethrow_exception(s.error);
  return s.batch;
}

Prefetcher::Make training_batches(const Task& task, std::uint64_t seed, Index B, Index T, Index accumulate, const Curriculum& lengths) {
  return
      [&task, info = task.info(), stream = Stream(task.size(Split::train), seed), B, T, accumulate, lengths](Index batch, HostBatch& out) {
        static thread_local std::vector<Index> indices;
        indices.resize(at(B));
        const Index longest = lengths.longest(batch / accumulate);
        const auto fits = [&](Index index) {
          if (longest >= info.max_length) return true;
          task.example(Split::train, index, out.example);
          return positions(info, out.example) <= longest;
        };
        for (Index b = 0; b < B; ++b) {
          Index k = 0;
          do indices[at(b)] = stream.candidate(batch * B + b, k);
          while (!fits(indices[at(b)]) && ++k < Stream::candidates);
        }
        fill(task, info, Split::train, indices, T, out);
      };
}

}  // namespace ssm
