// net_join.cpp - which ops of a stream run in one kernel of a GPU. Such a kernel is a microsecond at least, whatever it computes: an op that looks
// at one entry at a time is left to the one before it, a norm of rows to the product after it, where these can.
#include <algorithm>

#include "lib/finish.hpp"
#include "net.hpp"

namespace ssm {

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace

int Op::finish(Tensor, Finish*) const { return 0; }
int Op::ends(Tensor y, Finish* to) const {
  const int follower = n.follower_[at(y.id)];
  if (follower >= 0) return n.ops_[at(follower)]->finish(y, to);
  *to = Finish{};
  to->y = v(y), to->ld = to->count = columns(y);
  return 1;
}
const Op::ScaledRows* Op::rows_of(Tensor x) const {
  const int scaler = n.scaler_[at(x.id)];
  return scaler < 0 ? nullptr : n.ops_[at(scaler)]->scaled();
}

// Op `op` follows the producer of its input h: nobody else reads that, and all else that op reads is there before.
bool Net::joins(int op, Tensor h, Op::Follows how) const {
  const int lead = producer_[at(h.id)];
  if (lead < 0 || runs_with_[at(lead)] != lead || values_[at(h.id)].pinned || external_grad_[at(h.id)]) return false;
  for (const Use& use : uses_) {
    if (use.op != op && use.tensor == h.id) return false;
    const int producer = use.op == op && use.tensor != h.id ? producer_[at(use.tensor)] : -1;
    if (producer >= 0 && runs_with_[at(producer)] >= lead) return false;
  }
  return ops_[at(lead)]->leads(h, how);
}

void Net::join_steps() {
  runs_with_.resize(ops_.size());
  for (std::size_t i = 0; i < ops_.size(); ++i) runs_with_[i] = static_cast<int>(i);
  follower_.assign(values_.size(), -1), scaler_.assign(values_.size(), -1);
  if (mode != Mode::stream) return;
  for (const Use& use : uses_) {
    Tensor h;
    h.id = use.tensor;
    const Op::Follows how = ops_[at(use.op)]->follows(h);
    if (how == Op::Follows::no || runs_with_[at(use.op)] != use.op || !joins(use.op, h, how)) continue;
    follower_[at(h.id)] = use.op;
    runs_with_[at(use.op)] = producer_[at(h.id)];
    values_[at(h.id)].life = {};
    for (std::size_t t = 0; t < values_.size(); ++t)
      if (producer_[t] == use.op && !values_[t].pinned) values_[t].life.first = producer_[at(h.id)];
  }
  for (const Use& use : uses_) {
    const int scaler = producer_[at(use.tensor)];
    if (scaler < 0 || !ops_[at(scaler)]->scaled() || values_[at(use.tensor)].pinned) continue;
    const auto readers = std::count_if(uses_.begin(), uses_.end(), [&](const Use& other) { return other.tensor == use.tensor; });
    if (readers != 1 || !ops_[at(use.op)]->scales(*ops_[at(scaler)]->scaled())) continue;
    scaler_[at(use.tensor)] = scaler;
    runs_with_[at(scaler)] = use.op;
    values_[at(use.tensor)].life = {};
    values_[at(ops_[at(scaler)]->scaled()->x.id)].life.reach(use.op);
  }
}

}  // namespace ssm
