// recipe.hpp - examples that one function writes on the host and on a device alike, and batches of them that a kernel makes.
//
// A recipe is a small struct of numbers with
//   template <class P> SSM_FN void operator()(std::uint64_t index, P& page) const;
// that writes example `index` into the memory of a page from Philox counters alone: integer arithmetic, single roundings (a product and a
// sum may be contracted on one side only), no library functions. The host form of its task calls the same function.
#pragma once
#include <memory>
#include <vector>

#include "loader.hpp"
#include "net.hpp"

namespace ssm {

// Where one example goes. Number is float in an Example and Real in the batch of a step; what the task does not have, and marks and slices
// in a training step, is null.
template <class Number>
struct Page {
  using Value = Number;
  std::int32_t *tokens = nullptr, *targets = nullptr, *marks = nullptr, *slices = nullptr;
  Number *features = nullptr, *values = nullptr;
  char* scratch = nullptr;  // Layout::scratch bytes, 8-byte aligned, that hold anything
  Index length = 0;         // positions written: the recipe sets it, and writes every token, target and mark of them
};

// How much a page needs room for.
struct Layout {
  Index length;            // most positions
  bool positions = false;  // a target per position, else one
  int features = 0;        // real inputs per position; 0: tokens
  int values = 0;          // real targets per sequence; 0: integer ones
  bool marks = false;
  int slices = 0;
  Index scratch = 0;
};

// What a training step needs to make its own batches: position (step * accumulate + micro) * B + b of the stream, in row b, or the first
// candidate for it that is as short as the step wants.
struct BatchPlan {
  Batch slots;
  Index B = 0, T = 0, accumulate = 1, patch = 1;
  Index history = 1;  // steps whose token counts are kept
  Stream stream{0, 0};
  Curriculum lengths{};
};

// Fills the slots on the run's stream, without host, allocation or fence. The step is read on the device, so that a graph can hold it.
struct BatchMaker {
  virtual ~BatchMaker() = default;
  virtual void make(const Run& r) = 0;
  // Sum of lengths of each of the steps [from, to), among the last BatchPlan::history ones. Waits for the device.
  virtual std::vector<Index> read_tokens(Index from, Index to) const = 0;
  virtual Index bytes() const = 0;
};

}  // namespace ssm
