// net.hpp - a static list of coarse ops for one shape (B,T) and mode, walked forwards and backwards, and the one allocation it works in.
//
// During build, ops and tensors only describe themselves. plan() then knows every lifetime, makes one allocation and hands out addresses:
// running allocates nothing. Parameters belong to Params and are shared by all nets of a model.
#pragma once
#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "params.hpp"
#include "run.hpp"
#include "tensor.hpp"

namespace ssm {

class Net;
struct Finish;

// Declared work of one op over the whole net: floating-point operations, transcendental calls, bytes that must move.
struct Work {
  double flops = 0, exps = 0, bytes = 0;
};
struct Cost {
  Work forward, backward;
};

// One coarse operation. The constructor declares inputs, outputs and memory through the functions below; forward() computes outputs from
// inputs; backward() reads the gradients of the outputs and gives a gradient to every input and parameter (parameters: always +=).
struct Op {
  explicit Op(Net& net) : n(net) {}
  virtual ~Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  virtual const char* name() const = 0;
  virtual void forward(const Run&) = 0;
  virtual void backward(const Run&) = 0;
  virtual void step(const Run& r) { forward(r); }  // one position of a stream (T = 1), state carried
  virtual void advance(const Run&) {}              // after a training step: running statistics
  virtual void prepare(const Run&) {}              // before evaluating or streaming: derived copies of parameters
  // Takes x, of the shape of its output, as one more input and adds it to that output; false: this op does not. For Net::add_within, after
  // the constructor.
  virtual bool adds(Tensor) { return false; }
  // --- steps of a stream that one kernel of a GPU computes (Net::join_steps) ---
  // How step() looks at its input h where nothing but h's entries decides when it can run: one at a time, in pairs of the two halves of a row,
  // or one at a time into several outputs.
  enum class Follows { no, entries, pairs, parts };
  virtual Follows follows(Tensor) const { return Follows::no; }
  virtual int finish(Tensor, Finish*) const;  // what there is to do, up to kMostFinishes of blocks of columns; returns how many
  static constexpr int kMostFinishes = 3;
  virtual bool leads(Tensor, Follows) const { return false; }  // step() can end so what it makes of this output
  // Rows of an output that are those of an input, each scaled by one number and every column by a weight: as what makes them, and as what reads
  // them and can do it itself.
  struct ScaledRows {
    Tensor x;
    Param weight;
    double eps = 0;  // of 1 / sqrt(mean x^2 + eps)
  };
  virtual const ScaledRows* scaled() const { return nullptr; }
  virtual bool scales(const ScaledRows&) const { return false; }

  virtual Cost cost() const = 0;
  // Why this op runs plain kernels where the device has faster ones for other sizes; empty: it does not.
  virtual std::string slow_because() const { return {}; }

  Net& n;

  // --- used by constructors ---
  enum Save { drop, save };             // does backward() read this tensor's values?
  Tensor in(Tensor x, Save keep);       // an input; an op takes a tensor at most once (std::logic_error)
  Tensor out(Tensor shape, Save keep);  // an output, with a gradient
  // The gradient of the input x is that of the output y (one size), as it is: the plan may let them share one buffer. backward() calls pass().
  void passes(Tensor x, Tensor y);
  Tensor keep(Tensor shape);        // values from forward() for backward() of the same op; no gradient
  Tensor table(Tensor shape);       // values that live as long as the net (what prepare() writes); no gradient
  Scratch scratch(Index count);     // `count` numbers that live within one call
  State state(Index per_sequence);  // carried by step(); Net::reset zeroes it
  Param param(const std::string& local, std::vector<Index> shape, Init init, Group group = {});
  Param buffer(const std::string& local, std::vector<Index> shape, Init init);

  // --- used while running ---
  Real* v(Tensor t) const;        // values
  const Real* d(Tensor y) const;  // gradient of an own output
  Grad g(Tensor x) const;         // where the gradient of an input goes
  // The gradient of y goes to that of x, declared by passes(): nothing is left to do where they share a buffer.
  void pass(const Run& r, Tensor y, Tensor x) const;
  bool shares(Tensor x, Tensor y) const;
  Real* v(Param p) const;
  Real* d(Param p) const;  // add (+=) to it
  Real* v(Scratch s) const;
  Room room(Scratch s) const { return {v(s), s.size}; }
  Real* v(State s) const;                                                    // (B, size)
  static Index columns(Tensor y) { return y.rank == 3 ? y.D() : y.last(); }  // of one position
  // How step() writes its output y (rows, columns): what the op that follows does, or as it is. Returns how many blocks of columns.
  int ends(Tensor y, Finish* to) const;
  const ScaledRows* rows_of(Tensor x) const;  // x is to be read so; null: as it is

  int index = -1;  // place in the list, from push() on
  Index scratch_used = 0;

 private:
  int place() const;  // the same in a constructor, too
};

// What a batch brings, in device memory at fixed addresses.
struct Batch {
  std::int32_t* tokens = nullptr;   // (rows, T)
  Real* features = nullptr;         // (rows, T, F)
  std::int32_t* lengths = nullptr;  // (rows), each in 1..T
  std::int32_t* targets = nullptr;  // (examples) or (rows, T); -1 = ignored
  Real* values = nullptr;           // (examples, classes)
};

class Net {
 public:
  // D is the model width that variants read; l_max the longest sequence parameters are made for.
  Net(Params& params, Mode mode, Index B, Index T, Index D, Index l_max);
  ~Net();
  Net(const Net&) = delete;

  const Mode mode;
  const Index B, T, D, l_max;
  Params& params;

  // --- building ---
  // Names of parameters declared while the guard lives are prefixed with "<name>.".
  struct Scope {
    Net& net;
    std::size_t length;
    ~Scope() { net.prefix_.resize(length); }
  };
  [[nodiscard]] Scope scope(const std::string& name);
  std::string full(const std::string& local) const { return prefix_ + local; }
  Param param(const std::string& local, std::vector<Index> shape, Init init, Group group = {}, bool trained = true);
  Param tied(const std::string& full_name) const;  // a parameter that another part of the net declared

  Tensor input(Tensor shape);  // filled from outside before forward()
  void output(Tensor y);       // its gradient is given from outside before backward()
  template <class O, class... Args>
  Tensor add(Args&&... args) {
    return push(std::make_unique<O>(*this, std::forward<Args>(args)...))->y;
  }
  template <class O>
  O* push(std::unique_ptr<O> op) {
    O* raw = op.get();
    raw->index = static_cast<int>(ops_.size());
    ops_.push_back(std::move(op));
    return raw;
  }
  // Lets the op that made h add x to it: h is x + h from then on. False where that is not the last op, reads x already, or does not add.
  bool add_within(Tensor h, Tensor x);
  Tensor as(Tensor x, Order order);  // x itself, or a visible transpose
  // Of the ops added since there were `first` of them a training net keeps nothing but their inputs: backward() runs them again, as far as
  // their values are needed, into the same buffers, before it walks back through them. The same bits for less memory and more time.
  void recompute_since(std::size_t first);
  void plan();      // after the last op; Params must be committed before running, not before planning
  void allocate();  // one allocation; needs plan()

  // --- running ---
  void forward(const Run& r);
  void backward(const Run& r);
  void step(const Run& r);
  void reset(const Run& r);
  void advance(const Run& r);
  void prepare(const Run& r);
  void poison();  // fills activations, gradients and scratch with NaN: an unwritten output cannot pass a test

  Batch batch;  // fixed addresses, owned by the net's user

  Real* value(Tensor t) const;
  Real* grad(Tensor t) const;
  const std::vector<std::unique_ptr<Op>>& ops() const { return ops_; }
  std::string slow_ops() const;  // "attention: heads of 256 are wider than 128; ..." of all ops, each once; empty: none

  struct Bytes {
    Index activations = 0, gradients = 0, scratch = 0, state = 0;
    Index without_reuse = 0;  // what activations and gradients would take with one buffer each
    Index total() const { return activations + gradients + scratch + state; }
  };
  const Bytes& bytes() const { return bytes_; }
  Index state_numbers() const { return state_size_; }  // carried numbers per sequence

 private:
  friend struct Op;
  struct Span {  // ticks [first, last]; none: first < 0
    int first = -1, last = -1;
    bool meets(const Span& o) const { return first >= 0 && o.first >= 0 && first <= o.last && o.first <= last; }
    void reach(int tick) { last = std::max(last, tick); }
  };
  struct Slot {  // one buffer: a tensor's values or gradient
    Index size = 0, offset = -1;
    Span life{}, again{};  // again: from being computed a second time on
    bool pinned = false;   // alive throughout
    bool lasting = false;  // a table: poison() leaves it alone
    bool meets(const Slot& o) const { return life.meets(o.life) || life.meets(o.again) || again.meets(o.life) || again.meets(o.again); }
  };
  struct Stop {  // what backward() does on one tick
    int op;
    bool again;  // its forward pass once more
  };
  struct Use {  // op `op` reads tensor `tensor` as its input
    int op, tensor;
    bool saved, adds;
  };
  struct Pass {  // op `op` gives the gradient of its output to that of its input, unchanged
    int op, input, output;
  };
  void plan_way_back();
  std::vector<bool> ops_to_repeat(std::size_t first, std::size_t last) const;
  void plan_lifetimes();
  void join_steps();
  bool joins(int op, Tensor h, Op::Follows how) const;
  void share_gradients();
  bool sets_alone(const Pass& pass) const;
  bool ends_before(const Pass& branch, const Pass& stream) const;
  static Index pack(std::vector<Slot*> slots);

  std::string prefix_;
  std::set<std::string> asked_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<Slot> values_, grads_;
  std::vector<Use> uses_;
  std::vector<Pass> passes_;
  std::vector<int> home_;      // the tensor in whose buffer a tensor's gradient lies; most often itself
  std::vector<int> producer_;  // op that writes a tensor, -1 for inputs
  std::vector<bool> producer_saves_, external_grad_, has_grad_;
  std::vector<int> segment_;  // of an op: the ops it is recomputed with, by the index of their first; -1: kept
  std::vector<Stop> way_back_;
  std::vector<int> again_tick_, backward_tick_;  // by op; op i runs forward on tick i
  std::vector<int> runs_with_;                   // by op of a stream: the op whose step is its own, too; most often itself
  std::vector<int> follower_, scaler_;           // by tensor: the op that ends its producer's step, or that is left to its reader; -1: none
  Index scratch_size_ = 0, state_size_ = 0, state_total_ = 0;
  Bytes bytes_;
  bool planned_ = false;
  Memory memory_;
  Real *activation_base_ = nullptr, *gradient_base_ = nullptr, *scratch_base_ = nullptr, *state_base_ = nullptr;
};

}  // namespace ssm
