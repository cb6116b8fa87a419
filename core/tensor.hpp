// tensor.hpp - handles. A tensor carries its extents and its order; where its numbers lie is decided by the plan (plan.hpp).
#pragma once
#include <initializer_list>
#include <stdexcept>

#include "real.hpp"

namespace ssm {

// Order of a sequence tensor: channel fastest, or time fastest.
enum class Order { BTD, BDT };

// An activation: up to 4 extents, row-major, last fastest. A complex tensor has a trailing extent of 2 (re, im).
struct Tensor {
  int id = -1;
  int rank = 0;
  Index n[4] = {1, 1, 1, 1};
  Order order = Order::BTD;

  Index size() const { return n[0] * n[1] * n[2] * n[3]; }
  Index last() const { return n[rank - 1]; }
  Index rows() const { return size() / last(); }
  // Extents of a rank 3 sequence tensor, whatever its order.
  Index B() const { return n[0]; }
  Index T() const { return order == Order::BTD ? n[1] : n[2]; }
  Index D() const { return order == Order::BTD ? n[2] : n[1]; }
};

inline Tensor shaped(std::initializer_list<Index> extents, Order order = Order::BTD) {
  if (extents.size() > 4) throw std::logic_error("a tensor has at most 4 extents");
  Tensor t;
  t.order = order;
  for (const Index e : extents) t.n[t.rank++] = e;
  return t;
}

struct Param {  // a parameter or a buffer of Params
  int id = -1;
  Index size = 0;
};

struct State {  // what an op carries from step to step of a stream: `size` numbers per sequence, zeroed by reset
  Index offset = -1, size = 0;
};

struct Scratch {  // memory that lives within one call of one op
  Index offset = -1, size = 0;
};

// The same with its address: what a function is lent.
struct Room {
  Real* p = nullptr;
  Index size = 0;
};

// Where a gradient goes. The first writer of a backward pass sets, later ones add: no zeroing pass is needed.
struct Grad {
  Real* p = nullptr;
  bool add = false;
  SSM_FN void operator()(Index i, Real value) const {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    p[i] = add ? p[i] + value : value;
#else
    const Real old = p[i];  // read in any case and selected: a conditional load would keep loops from becoming SIMD
    p[i] = add ? old + value : value;
#endif
  }
};

}  // namespace ssm
