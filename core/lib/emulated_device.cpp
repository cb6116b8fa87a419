// emulated_device.cpp - fibers of Boost.Context, one scheduler a block: it resumes in turn every thread whose barrier has opened.
#include "lib/emulated_device.hpp"

#include <atomic>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "launch.hpp"

namespace ssm::emulated {

namespace {

struct Barrier {
  int expected = 0, arrived = 0;
  std::uint64_t turn = 0;  // how often it has opened
  void open_if_all() {
    if (expected > 0 && arrived == expected) arrived = 0, ++turn;
  }
};

struct Copy {
  std::byte* to;
  const void* from;
  std::size_t bytes;
  void land() const {
    if (from) std::memcpy(to, from, bytes);
    else std::memset(to, 0, bytes);
  }
};

struct Warp {
  Barrier barrier;
  const char* what = nullptr;
  alignas(16) std::byte slots[2][kWarpSize * kSlot];
};

struct Block {
  static constexpr std::align_val_t kAligned{128};
  Barrier barrier;
  std::vector<Warp> warps;
  std::byte* memory;
  bool any[3] = {};
  bool late;  // asynchronous copies land when they are waited for

  Block(int threads, std::size_t bytes, bool late_)
      : warps(static_cast<std::size_t>((threads + kWarpSize - 1) / kWarpSize)),
        memory(static_cast<std::byte*>(::operator new(bytes, kAligned))),
        late(late_) {
    barrier.expected = threads;
    for (int thread = 0; thread < threads; ++thread) ++warps[static_cast<std::size_t>(thread / kWarpSize)].barrier.expected;
    std::memset(memory, 0xff, bytes);  // NaN as a number, -1 as an index
  }
  Block(const Block&) = delete;
  ~Block() { ::operator delete(memory, kAligned); }
};

struct Thread {
  Block* block;
  Warp* warp;
  int lane;
  boost::context::fiber context, scheduler;
  const Barrier* waits = nullptr;
  std::uint64_t turn = 0, exchanges = 0, questions = 0;
  bool done = false;
  std::vector<Copy> copies;
  std::vector<std::size_t> groups;  // of copies: where each ends

  bool ready() const { return !done && (!waits || waits->turn != turn); }
  void wait(Barrier& barrier) {
    const std::uint64_t now = barrier.turn;
    ++barrier.arrived;
    barrier.open_if_all();
    if (barrier.turn != now) return;
    waits = &barrier, turn = now;
    scheduler = std::move(scheduler).resume();
    waits = nullptr;
  }
  void leave() {
    done = true;
    for (Barrier* barrier : {&block->barrier, &warp->barrier}) --barrier->expected, barrier->open_if_all();
  }
};

thread_local Thread* current = nullptr;

// Runs `count` blocks at once to their end.
void run_blocks(const char* label, Index first, Index count, int threads, std::size_t bytes, const Body& f, unsigned mix) {
  thread_local boost::context::pooled_fixedsize_stack stacks(128 * 1024);
  const bool backwards = mix & 1, late = mix & 2;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Thread>> all;
  std::exception_ptr failed;
  for (Index k = 0; k < count; ++k) {
    blocks.push_back(std::make_unique<Block>(threads, bytes, late));
    Block* block = blocks.back().get();
    for (int number = 0; number < threads; ++number) {
      auto thread = std::make_unique<Thread>();
      thread->block = block, thread->warp = &block->warps[static_cast<std::size_t>(number / kWarpSize)], thread->lane = number % kWarpSize;
      thread->context =
          boost::context::fiber(std::allocator_arg, stacks, [&, block, number, k, own = thread.get()](boost::context::fiber&& scheduler) {
            own->scheduler = std::move(scheduler);
            try {
              f(first + k, number, reinterpret_cast<Real*>(block->memory));
            } catch (const boost::context::detail::forced_unwind&) {
              throw;
            } catch (const std::exception& e) {
              failed = std::make_exception_ptr(std::logic_error(std::string(label) + ": " + e.what()));
            }
            own->leave();
            return std::move(own->scheduler);
          });
      all.push_back(std::move(thread));
    }
  }
  for (bool left = true; left && !failed;) {
    bool moved = false;
    left = false;
    for (std::size_t i = 0; i < all.size() && !failed; ++i) {
      Thread& thread = *all[backwards ? all.size() - 1 - i : i];
      left = left || !thread.done;
      if (!thread.ready()) continue;
      current = &thread;
      thread.context = std::move(thread.context).resume();
      moved = true;
    }
    if (left && !moved && !failed)
      failed = std::make_exception_ptr(std::logic_error(std::string(label) + ": block " + std::to_string(first) +
                                                        " stands still: its threads wait at different barriers"));
  }
  current = nullptr;
  if (failed) std::rethrow_exception(failed);
}

}  // namespace

void launch(const char* label, const Run& r, Index blocks, int threads, std::size_t bytes, const Body& f, bool together) {
  static std::atomic<unsigned> launches{0};
  const unsigned number = launches++;
  if (bytes > kChipMemory)
    throw std::runtime_error(std::string(label) + ": " + std::to_string(bytes) + " bytes on chip, the emulated device has " +
                             std::to_string(kChipMemory));
  if (together && blocks > kProcessors)
    throw std::runtime_error(std::string(label) + ": " + std::to_string(blocks) + " blocks at once, the emulated device runs " +
                             std::to_string(kProcessors));
  std::exception_ptr failed;
  std::mutex lock;
  const auto guarded = [&](Index first, Index count) {
    try {
      run_blocks(label, first, count, threads, bytes, f, number + static_cast<unsigned>(first));
    } catch (...) {
      const std::lock_guard hold(lock);
      failed = std::current_exception();
    }
  };
  if (together) guarded(0, blocks);
  else ssm::launch(label, r, blocks, [&](const Index block) { guarded(block, 1); });
  if (failed) std::rethrow_exception(failed);
}

void sync_block() { current->wait(current->block->barrier); }

// An answer is cleared when all have come to the next question, and used again after the one behind that.
bool any_of_block(bool x) {
  Block& block = *current->block;
  const std::uint64_t now = current->questions++;
  block.any[now % 3] = block.any[now % 3] || x;
  current->wait(block.barrier);
  block.any[(now + 2) % 3] = false;
  return block.any[now % 3];
}

const std::byte* exchange(const char* what, const void* own, std::size_t bytes, void (*work)(std::byte*)) {
  Thread& me = *current;
  Warp& warp = *me.warp;
  std::byte* slots = warp.slots[me.exchanges++ % 2];
  if (bytes) std::memcpy(slots + static_cast<std::size_t>(me.lane) * kSlot, own, bytes);
  if (warp.barrier.arrived > 0 && warp.what != what && std::strcmp(warp.what, what) != 0)
    throw std::logic_error(std::string("lanes of a warp meet in different exchanges: ") + warp.what + ", " + what);
  warp.what = what;
  if (work && warp.barrier.arrived + 1 == warp.barrier.expected) work(slots);
  me.wait(warp.barrier);
  return slots;
}

namespace {

struct Operands {
  float d[4];
  std::uint32_t a[4], b[2];
};
static_assert(sizeof(Operands) <= kSlot);

// d = (16,8), a (16,8), b (8,8) over the registers of 32 lanes; rounded once a product here, where tensor cores cut the sum.
void multiply_warp(std::byte* slots) {
  const auto of = [&](int lane) { return reinterpret_cast<Operands*>(slots + static_cast<std::size_t>(lane) * kSlot); };
  float a[16][8], b[8][8], d[16][8];
  const auto rounded = [](std::uint32_t x) { return std::bit_cast<float>(x & 0xffffe000u); };
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const Operands& own = *of(lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = rounded(own.a[i]), d[g + i / 2 * 8][2 * t + i % 2] = own.d[i];
    for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = rounded(own.b[i]);
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 8; ++k)
      for (int n = 0; n < 8; ++n) d[row][n] += a[row][k] * b[k][n];
  for (int lane = 0; lane < kWarpSize; ++lane)
    for (int i = 0; i < 4; ++i) of(lane)->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

}  // namespace

void multiply(float* (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  const Operands own{{*d[0], *d[1], *d[2], *d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto* all = exchange("mma", &own, sizeof(own), multiply_warp) + static_cast<std::size_t>(current->lane) * kSlot;
  for (int i = 0; i < 4; ++i) *d[i] = reinterpret_cast<const Operands*>(all)->d[i];
}

int lane() { return current->lane; }
const std::byte* chip_memory() { return current->block->memory; }

void copy(unsigned to, const void* from, std::size_t bytes) {
  if (to % bytes != 0 || reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
    throw std::logic_error("an asynchronous copy of " + std::to_string(bytes) + " bytes from or to an address that is no multiple of them");
  const Copy one{current->block->memory + to, from, bytes};
  if (current->block->late) current->copies.push_back(one);
  else one.land();
}
void end_copies() { current->groups.push_back(current->copies.size()); }
void wait_copies(std::size_t left) {
  std::vector<std::size_t>& groups = current->groups;
  if (groups.size() <= left) return;
  const std::size_t landed = groups.size() - left, count = groups[landed - 1];
  for (std::size_t i = 0; i < count; ++i) current->copies[i].land();
  current->copies.erase(current->copies.begin(), current->copies.begin() + static_cast<std::ptrdiff_t>(count));
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(landed));
  for (std::size_t& end : groups) end -= count;
}

}  // namespace ssm::emulated
