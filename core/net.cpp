#include "net.hpp"

#include <limits>

#include "ops.hpp"

namespace ssm {

namespace {

constexpr Index kAlign = 256 / sizeof(Real);
Index padded(Index n) { return (n + kAlign - 1) / kAlign * kAlign; }
constexpr Index kBytes = sizeof(Real);
std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace

Net::Net(Params& p, Mode m, Index b, Index t, Index d, Index longest) : mode(m), B(b), T(t), D(d), l_max(longest), params(p) {}
Net::~Net() = default;

Net::Scope Net::scope(const std::string& name) {
  const std::size_t length = prefix_.size();
  prefix_ += name + '.';
  return {*this, length};
}

Param Net::param(const std::string& local, std::vector<Index> shape, Init init, Group group, bool trained) {
  const std::string name = full(local);
  if (!asked_.insert(name).second) throw std::logic_error("parameter asked for twice: " + name + " (share it with Net::tied)");
  return params.declare(name, std::move(shape), std::move(init), std::move(group), trained);
}

Param Net::tied(const std::string& full_name) const {
  const ParamInfo* info = params.find(full_name);
  if (!info) throw std::logic_error("tied to a parameter nobody declared: " + full_name);
  return {static_cast<int>(info - params.all().data()), info->size};
}

Tensor Net::input(Tensor shape) {
  shape.id = static_cast<int>(values_.size());
  values_.push_back({shape.size(), -1, {0, 0}, {}, true, false});
  grads_.push_back({shape.size()});
  home_.push_back(shape.id);
  producer_.push_back(-1);
  producer_saves_.push_back(false);
  external_grad_.push_back(false);
  has_grad_.push_back(true);
  return shape;
}

void Net::output(Tensor y) { external_grad_[at(y.id)] = true; }

Tensor Net::as(Tensor x, Order order) { return x.order == order ? x : transpose(*this, x); }

bool Net::add_within(Tensor h, Tensor x) {
  const int last = static_cast<int>(ops_.size()) - 1;
  if (last < 0 || producer_[at(h.id)] != last || producer_saves_[at(h.id)] || external_grad_[at(h.id)]) return false;
  if (h.size() != x.size() || h.order != x.order) return false;
  for (const Use& use : uses_)
    if (use.op == last && use.tensor == x.id) return false;
  return ops_[at(last)]->adds(x);
}

// --- what ops declare ---

int Op::place() const { return index < 0 ? static_cast<int>(n.ops_.size()) : index; }

Tensor Op::in(Tensor x, Save keep_value) {
  if (x.id < 0) throw std::logic_error(std::string(name()) + ": input was never made");
  const int self = place();
  for (const Net::Use& use : n.uses_)
    if (use.op == self && use.tensor == x.id) throw std::logic_error(std::string(name()) + " takes one tensor twice: add a copy");
  n.uses_.push_back({self, x.id, keep_value == save, false});
  return x;
}

Tensor Op::out(Tensor shape, Save keep_value) {
  shape = n.input(shape);
  n.values_[at(shape.id)].pinned = false;
  n.producer_[at(shape.id)] = static_cast<int>(n.ops_.size());
  n.producer_saves_[at(shape.id)] = keep_value == save;
  return shape;
}

void Op::passes(Tensor x, Tensor y) {
  if (x.size() != y.size()) throw std::logic_error(std::string(name()) + " passes a gradient on to a tensor of another size");
  n.passes_.push_back({place(), x.id, y.id});
}

Tensor Op::keep(Tensor shape) {
  shape = out(shape, save);
  n.has_grad_[at(shape.id)] = false;
  return shape;
}

Tensor Op::table(Tensor shape) {
  shape = keep(shape);
  n.values_[at(shape.id)].pinned = n.values_[at(shape.id)].lasting = true;
  return shape;
}

Scratch Op::scratch(Index count) {
  const Scratch s{scratch_used, count};
  scratch_used += padded(count);
  n.scratch_size_ = std::max(n.scratch_size_, scratch_used);
  return s;
}

State Op::state(Index per_sequence) {
  const State s{n.state_total_, per_sequence};
  n.state_size_ += per_sequence;
  n.state_total_ += padded(per_sequence * n.B);
  return s;
}

Param Op::param(const std::string& local, std::vector<Index> shape, Init init, Group group) {
  return n.param(local, std::move(shape), std::move(init), std::move(group));
}
Param Op::buffer(const std::string& local, std::vector<Index> shape, Init init) {
  return n.param(local, std::move(shape), std::move(init), no_decay(), false);
}

// --- what ops read while running ---

Real* Op::v(Tensor t) const { return n.value(t); }
const Real* Op::d(Tensor y) const { return n.grad(y); }
Grad Op::g(Tensor x) const {
  for (const Net::Use& use : n.uses_)
    if (use.op == index && use.tensor == x.id) return {n.grad(x), use.adds};
  throw std::logic_error(std::string(name()) + ": gradient of a tensor that is not an input");
}
bool Op::shares(Tensor x, Tensor y) const { return n.home_[at(x.id)] == n.home_[at(y.id)]; }
void Op::pass(const Run& r, Tensor y, Tensor x) const {
  if (!shares(x, y)) copy(r, d(y), g(x), y.size());
}
Real* Op::v(Param p) const { return n.params.value(p); }
Real* Op::d(Param p) const { return n.params.grad(p); }
Real* Op::v(Scratch s) const { return n.scratch_base_ + s.offset; }
Real* Op::v(State s) const { return n.state_base_ + s.offset; }
Real* Net::value(Tensor t) const { return activation_base_ + values_[at(t.id)].offset; }
Real* Net::grad(Tensor t) const { return gradient_base_ + grads_[at(home_[at(t.id)])].offset; }

// --- the plan ---

void Net::recompute_since(std::size_t first) {
  segment_.resize(ops_.size(), -1);
  std::fill(segment_.begin() + static_cast<std::ptrdiff_t>(first), segment_.end(), static_cast<int>(first));
}

// Of the ops [first, last): those with an output that a backward pass among them reads, or another op that runs again.
std::vector<bool> Net::ops_to_repeat(std::size_t first, std::size_t last) const {
  const auto among = [&](int op) { return op >= static_cast<int>(first) && op < static_cast<int>(last); };
  std::vector<bool> needed = producer_saves_, repeat(ops_.size(), false);
  for (const Use& use : uses_)
    if (use.saved && among(use.op)) needed[at(use.tensor)] = true;
  for (std::size_t op = last; op-- > first;) {
    for (std::size_t t = 0; t < values_.size(); ++t)
      if (producer_[t] == static_cast<int>(op) && needed[t] && !values_[t].pinned) repeat[op] = true;
    for (const Use& use : uses_)
      if (repeat[op] && use.op == static_cast<int>(op)) needed[at(use.tensor)] = true;
  }
  return repeat;
}

void Net::plan_way_back() {
  const std::size_t count = ops_.size();
  segment_.resize(count, -1), again_tick_.assign(count, -1), backward_tick_.assign(count, -1);
  const auto go = [&](std::size_t op, bool again) {
    (again ? again_tick_ : backward_tick_)[op] = static_cast<int>(count + way_back_.size());
    way_back_.push_back({static_cast<int>(op), again});
  };
  for (std::size_t last = count; last > 0;) {
    const std::size_t first = segment_[last - 1] < 0 ? last - 1 : at(segment_[last - 1]);
    if (segment_[last - 1] >= 0) {
      const std::vector<bool> repeat = ops_to_repeat(first, last);
      for (std::size_t op = first; op < last; ++op)
        if (repeat[op]) go(op, true);
    }
    for (std::size_t op = last; op-- > first;) go(op, false);
    last = first;
  }
}

void Net::plan_lifetimes() {
  const bool training = mode == Mode::train;
  if (training) plan_way_back();
  const int end = static_cast<int>(ops_.size() + way_back_.size());
  const auto repeated = [&](int op) { return training && op >= 0 && again_tick_[at(op)] >= 0; };
  std::vector<int> last_consumer(values_.size(), -1);
  for (std::size_t t = 0; t < values_.size(); ++t) {
    Slot& value = values_[t];
    const int producer = producer_[t];
    if (external_grad_[t]) value.pinned = true;
    value.life = value.pinned ? Span{0, end} : Span{producer, producer};
    if (value.pinned || !training) continue;
    if (repeated(producer)) value.again = {again_tick_[at(producer)], again_tick_[at(producer)]};
    if (producer_saves_[t]) (repeated(producer) ? value.again : value.life).reach(backward_tick_[at(producer)]);
  }
  for (const Use& use : uses_) {
    const int producer = producer_[at(use.tensor)];
    Slot& value = values_[at(use.tensor)];
    value.life.reach(use.op);
    last_consumer[at(use.tensor)] = std::max(last_consumer[at(use.tensor)], use.op);
    if (!training) continue;
    Span& later = value.again.first >= 0 && segment_[at(producer)] == segment_[at(use.op)] ? value.again : value.life;
    if (repeated(use.op)) later.reach(again_tick_[at(use.op)]);
    if (use.saved) later.reach(backward_tick_[at(use.op)]);
  }
  if (!training) return;
  for (Use& use : uses_) use.adds = external_grad_[at(use.tensor)] || use.op != last_consumer[at(use.tensor)];
  for (std::size_t t = 0; t < grads_.size(); ++t) {
    if (!has_grad_[t]) continue;
    if (external_grad_[t]) {
      grads_[t].life = {0, end}, grads_[t].pinned = true;
    } else if (last_consumer[t] < 0) {
      if (producer_[t] >= 0) throw std::logic_error(std::string("an output of ") + ops_[at(producer_[t])]->name() + " is never used");
    } else {
      grads_[t].life = {backward_tick_[at(last_consumer[t])], producer_[t] < 0 ? end : backward_tick_[at(producer_[t])]};
    }
  }
  share_gradients();
}

// On the way back the op is the first to write the gradient of its input, and nobody outside holds that or the output's.
bool Net::sets_alone(const Pass& pass) const {
  if (external_grad_[at(pass.input)] || external_grad_[at(pass.output)] || !has_grad_[at(pass.input)]) return false;
  return std::any_of(uses_.begin(), uses_.end(),
                     [&](const Use& use) { return use.op == pass.op && use.tensor == pass.input && !use.adds; });
}

// Of two summands: the gradient of `branch` is last read, by its producer, before another op than the sum writes that of `stream` or reads it.
bool Net::ends_before(const Pass& branch, const Pass& stream) const {
  const int producer = producer_[at(branch.input)];
  if (producer < 0) return false;
  for (const Pass& on : passes_)
    if (on.op == producer) return false;
  const auto later = [&](int op) { return op < 0 || backward_tick_[at(op)] > backward_tick_[at(producer)]; };
  for (const Use& use : uses_)
    if (use.op != branch.op && (use.tensor == branch.input || (use.tensor == stream.input && !later(use.op)))) return false;
  return later(producer_[at(stream.input)]);
}

// y = a + b gives its gradient to a and b. One of them may take over the buffer at once, for the gradient of y is not read again; both may
// where that of the branch is done with before that of the stream changes. So the gradient of a residual stream stays in one buffer.
void Net::share_gradients() {
  const auto share = [&](const Pass& pass) {
    Slot &own = grads_[at(pass.input)], &to = grads_[at(home_[at(pass.output)])];
    home_[at(pass.input)] = home_[at(pass.output)];
    to.life = {std::min(to.life.first, own.life.first), std::max(to.life.last, own.life.last)};
    own.life = {};
  };
  for (std::size_t k = passes_.size(); k-- > 0;) {
    const Pass& pass = passes_[k];
    const auto other =
        std::find_if(passes_.begin(), passes_.end(), [&](const Pass& p) { return p.op == pass.op && p.input != pass.input; });
    if (!sets_alone(pass)) continue;
    const bool taken = other != passes_.end() && home_[at(other->input)] == home_[at(pass.output)];
    if (!taken || ends_before(pass, *other) || ends_before(*other, pass)) share(pass);
  }
}

// First fit among the buffers whose ticks overlap, by decreasing size, those of one size by their first tick: these take no more room than
// the most that live at once. Returns the size of the whole.
Index Net::pack(std::vector<Slot*> slots) {
  std::stable_sort(slots.begin(), slots.end(),
                   [](const Slot* a, const Slot* b) { return a->size != b->size ? a->size > b->size : a->life.first < b->life.first; });
  std::vector<Slot*> placed;
  Index total = 0;
  for (Slot* slot : slots) {
    if (slot->life.first < 0) continue;
    std::vector<Slot*> rivals;
    for (Slot* other : placed)
      if (slot->meets(*other)) rivals.push_back(other);
    std::sort(rivals.begin(), rivals.end(), [](const Slot* a, const Slot* b) { return a->offset < b->offset; });
    Index offset = 0;
    for (const Slot* rival : rivals) {
      if (offset + padded(slot->size) <= rival->offset) break;
      offset = std::max(offset, rival->offset + padded(rival->size));
    }
    slot->offset = offset;
    total = std::max(total, offset + padded(slot->size));
    placed.push_back(slot);
  }
  return total;
}

void Net::plan() {
  if (planned_) return;
  plan_lifetimes();
  join_steps();
  std::vector<Slot*> values, grads;
  for (Slot& s : values_) values.push_back(&s);
  for (Slot& s : grads_) grads.push_back(&s);
  for (std::size_t t = 0; t < values_.size(); ++t)
    for (const Slot* s : {&values_[t], &grads_[at(home_[t])]})
      if (s->life.first >= 0) bytes_.without_reuse += padded(s->size) * kBytes;
  bytes_.activations = pack(values) * kBytes;
  bytes_.gradients = pack(grads) * kBytes;
  bytes_.scratch = padded(scratch_size_) * kBytes;
  bytes_.state = mode == Mode::stream ? state_total_ * kBytes : 0;
  planned_ = true;
}

void Net::allocate() {
  plan();
  memory_ = Memory("ssm::net", bytes_.total());
  activation_base_ = memory_.as<Real>();
  gradient_base_ = activation_base_ + bytes_.activations / kBytes;
  scratch_base_ = gradient_base_ + bytes_.gradients / kBytes;
  state_base_ = scratch_base_ + bytes_.scratch / kBytes;
}

// --- running ---

void Net::forward(const Run& r) {
  for (const auto& op : ops_) op->forward(r);
}
void Net::backward(const Run& r) {
  for (const Stop& stop : way_back_)
    if (stop.again) ops_[at(stop.op)]->forward(r);
    else ops_[at(stop.op)]->backward(r);
}
void Net::step(const Run& r) {
  for (const auto& op : ops_)
    if (runs_with_[at(op->index)] == op->index) op->step(r);
}
void Net::advance(const Run& r) {
  for (const auto& op : ops_) op->advance(r);
}
void Net::prepare(const Run& r) {
  for (const auto& op : ops_) op->prepare(r);
}
void Net::reset(const Run& r) { fill(r, state_base_, bytes_.state / kBytes, 0); }

std::string Net::slow_ops() const {
  std::set<std::string> said;
  for (const auto& op : ops_)
    if (const std::string why = op->slow_because(); !why.empty()) said.insert(std::string(op->name()) + ": " + why);
  std::string all;
  for (const std::string& one : said) all += (all.empty() ? "" : "; ") + one;
  return all;
}

void Net::poison() {
  std::vector<Real> nans(static_cast<std::size_t>((bytes_.activations + bytes_.gradients + bytes_.scratch) / kBytes),
                         std::numeric_limits<Real>::quiet_NaN());
  for (const Slot& s : values_)
    if (s.lasting) copy_out(nans.data() + s.offset, activation_base_ + s.offset, s.size * kBytes);
  copy_in(memory_.as<void>(), nans.data(), static_cast<Index>(nans.size()) * kBytes);
}

}  // namespace ssm
