// dplr_scan.cpp - heads of diagonal-plus-low-rank state spaces whose step and gate follow the input; formulas in dplr_scan.hpp.
//
// One position costs O(M) a channel (variants.md 4.5). forward() saves h once per kChunk positions; backward() walks the chunks from the end,
// runs each again, then back through it. Gradients of steps and gates sum over the channels of a head, those of parameters over the batch:
// every group of lanes owns its partial sums, and one ordered pass adds them up.
#include <algorithm>
#include <cmath>

#include "error.hpp"
#include "ops/dplr_scan.hpp"
#include "ops/dplr_scan_gpu_back.hpp"

namespace ssm {
namespace dplr_scan_op {

constexpr double kMoreOfP = 0.1;  // deviation of what columns of P start from that have no given values

struct DplrScan final : Op {
  Tensor u, raw, gate, delta, boundary, y;
  Param A_real, A_imag, P, B, C, D, bias;
  bool trained, train_imag, per_head;
  State h, total;
  Scratch work, ddelta, dgate, heads, channels, dbias;
  Index width, M, R, gates = 1, rank;  // rank: columns of P, 1 for a diagonal A too

  DplrScan(Net& net, const DplrScanInputs& inputs, const DplrScanOptions& o)
      : Op(net),
        u(in(inputs.u, save)),
        trained(o.train_step),
        train_imag(o.train_imag),
        per_head(o.per_head),
        M(static_cast<Index>(o.lambda.size())),
        R(o.heads),
        rank(std::max<Index>(o.rank, 1)) {
    if (o.rank < 0 || o.rank > 2) throw BadInput("rank = " + std::to_string(o.rank) + "; allowed are 0, 1 and 2");
    const Index all = u.D();
    if (R < 1 || all % R) throw BadInput("heads = " + std::to_string(R) + " must divide the " + std::to_string(all) + " channels");
    width = all / R;
    if (inputs.raw.id >= 0) raw = in(inputs.raw, drop);
    if (inputs.gate.id >= 0) gate = in(inputs.gate, save), gates = gate.last() / R;
    declare(o, all);
    delta = keep(shaped({n.B, steps(), R}));
    h = state(2 * M * all);
    if (moving()) total = state(R + 1);
    const bool training = n.mode == Mode::train;
    if (training) boundary = keep(shaped({n.B, chunks(), all, 2 * M}));
    if (!on_lanes()) work = scratch(n.B * all * std::max(forward_work(1, M, rank), training ? backward_work(1, M, rank) : 0));
    if (training) {
      ddelta = scratch(n.B * steps() * groups() * R);
      if (gate.id >= 0) dgate = scratch(n.B * n.T * groups() * R * gates);
      heads = scratch(n.B * groups() * R * head_sums(M, rank));
      channels = scratch(n.B * all * channel_sums(M));
      dbias = scratch(n.B * R);
    }
    y = out(u, drop);
  }
  const char* name() const override { return "dplr_scan"; }
  bool moving() const { return raw.id >= 0 && raw.rank == 3; }
  Index steps() const { return moving() ? n.T : 1; }
  Index chunks() const { return (n.T + kChunk - 1) / kChunk; }
  // Whether dplr_scan_gpu.hpp takes the walks: a warp of the GPU holds the modes of a channel.
  bool on_lanes() const {
#if defined(SSM_DPLR_ON_LANES)
    return M <= kMostModes && rank == 1;
#else
    return false;
#endif
  }
  std::string slow_because() const override {
#if defined(SSM_DPLR_ON_LANES)
    if (rank > 1) return "a correction of rank " + std::to_string(rank) + ": the kernel of a mode a lane takes one column";
    if (!on_lanes()) return std::to_string(M) + " modes are more than the " + std::to_string(kMostModes) + " that a warp holds";
#endif
    return {};
  }
  // Of a head's channels: those of a group leave sums over themselves.
  Index groups() const {
#if defined(SSM_DPLR_ON_LANES)
    if (on_lanes()) return (width * lanes_of(M) + kWarp - 1) / kWarp;
#endif
    return width / kLanes + width % kLanes;
  }

  void declare(const DplrScanOptions& o, Index all) {
    const Index modes = M;
    const auto repeated = [modes](const std::vector<std::complex<double>>& v) -> Init {
      return [=](const Draw&, Index i) {
        const std::complex<double> z = v[static_cast<std::size_t>(i / 2 % modes)];
        return i % 2 ? z.imag() : z.real();
      };
    };
    const auto lambda = o.lambda;
    const auto at = [modes](Index i) { return static_cast<std::size_t>(i % modes); };
    A_real = param(
        "A_real", {R, M}, [=](const Draw&, Index i) { return std::log(-lambda[at(i)].real()); }, ssm_group());
    const Init imag = [=](const Draw&, Index i) { return lambda[at(i)].imag(); };
    if (train_imag) A_imag = param("A_imag", {R, M}, o.A_imag ? o.A_imag : imag, ssm_group());
    else A_imag = buffer("A_imag", {R, M}, imag);
    if (o.rank > 0) declare_P(o);
    const Index owners = per_head ? R : all;
    B = param("B", {owners, M, 2}, repeated(o.B), ssm_group());
    C = param("C", {owners, M, 2}, init::normal(std::sqrt(0.5)));
    D = param("D", {all}, init::normal(1));
    const double low = std::log(std::min(o.dt_min, o.dt_max)), high = std::log(o.dt_max);
    const Init step = [=](const Draw& draw, Index i) {
      const double dt = std::exp(draw.uniform(i, low, high));
      return dt + std::log(-std::expm1(-dt));
    };
    bias = trained ? param("dt_bias", {R}, step, ssm_group()) : buffer("dt_bias", {R}, step);
  }

  void declare_P(const DplrScanOptions& o) {
    const Init column = [given = o.P, R = R, M = M](const Draw& draw, Index i) {
      const Index k = i / 2, from = k / (R * M) * M + k % M;
      if (from >= static_cast<Index>(given.size())) return kMoreOfP * draw.normal(i);
      const std::complex<double> z = given[static_cast<std::size_t>(from)];
      return i % 2 ? z.imag() : z.real();
    };
    P = param("P", rank == 1 ? std::vector<Index>{R, M, 2} : std::vector<Index>{rank, R, M, 2}, column, ssm_group());
  }

  Inputs inputs() const {
    Inputs i{};
    i.u = v(u), i.gate = gate.id < 0 ? nullptr : v(gate), i.delta = v(delta);
    i.A_real = v(A_real), i.A_imag = v(A_imag), i.P = P.id < 0 ? nullptr : v(P), i.B = v(B), i.C = v(C), i.D = v(D);
    i.boundary = boundary.id < 0 ? nullptr : v(boundary), i.work = on_lanes() ? nullptr : v(work);
    i.T = n.T, i.width = width, i.M = M, i.R = R, i.per_mode = gates > 1, i.moving = moving(), i.group_count = groups();
    i.chunks = chunks(), i.per_head = per_head;
    return i;
  }

  // Delta of every position, or one for all; `carried` (B, R+1): sums over positions so far and their number.
  void find_steps(const Run& r, Real* carried) {
    const Index T = steps(), heads_ = R;
    const bool mean = moving();
    const Real *from = raw.id < 0 ? nullptr : v(raw), *shift = v(bias);
    Real* to = v(delta);
    launch(
        "ssm::dplr_steps", r, n.B * R, KOKKOS_LAMBDA(const Index k) {
          const Index b = k / heads_, head = k - b * heads_;
          Real* kept = carried ? carried + b * (heads_ + 1) : nullptr;
          Real sum = kept ? kept[head] : Real(0);
          const Real before = kept ? kept[heads_] : Real(0);
          for (Index t = 0; t < T; ++t) {
            const Index at = (b * T + t) * heads_ + head;
            if (from) sum += from[at];
            to[at] = softplus((mean ? sum / (before + static_cast<Real>(t + 1)) : sum) + shift[head]);
          }
          if (kept) kept[head] = sum;
        });
    if (carried)
      launch(
          "ssm::dplr_count", r, n.B, KOKKOS_LAMBDA(const Index b) { carried[b * (heads_ + 1) + heads_] += static_cast<Real>(T); });
  }

  template <template <int> class Kernel, class... Rest>
  void walk(const char* label, const Run& r, const Rest&... rest) {
    if (rank == 1) launch_lanes(label, r, n.B * R, width, Kernel<1>{inputs(), rest...});
    else launch_lanes(label, r, n.B * R, width, Kernel<2>{inputs(), rest...});
  }
  void scan(const Run& r, Real* states, Real* sums) {
    find_steps(r, sums);
#if defined(SSM_DPLR_ON_LANES)
    if (on_lanes()) return forward_on_lanes(r, inputs(), n.B, v(y), states);
#endif
    walk<Forward>("ssm::dplr_scan", r, v(y), states);
  }
  void forward(const Run& r) override { scan(r, nullptr, nullptr); }
  void step(const Run& r) override { scan(r, v(h), moving() ? v(total) : nullptr); }

  void backward(const Run& r) override {
    Outputs o{};
    o.dy = d(y), o.du = g(u), o.ddelta = v(ddelta), o.heads = v(heads), o.channels = v(channels);
    o.dgate = gate.id < 0 ? nullptr : v(dgate);
#if defined(SSM_DPLR_ON_LANES)
    if (on_lanes()) backward_on_lanes(r, inputs(), n.B, o);
    else
#endif
      walk<Backward>("ssm::dplr_scan_back", r, o);
    step_gradients(r);
    if (gate.id >= 0) gate_gradients(r);
    parameter_gradients(r);
  }

  // softplus'(x) = 1 - exp(-softplus(x)); a mean over 0..t gives 1/(t+1) of its gradient to each of them.
  void step_gradients(const Run& r) {
    const Index T = steps(), heads_ = R, count = groups(), batch = n.B;
    const bool mean = moving(), to_raw = raw.id >= 0;
    const Grad draw = to_raw ? g(raw) : Grad{};
    const Real *part = v(ddelta), *steps_ = v(delta);
    Real *sums = v(dbias), *to_bias = trained ? d(bias) : nullptr;
    launch(
        "ssm::dplr_steps_back", r, batch * R, KOKKOS_LAMBDA(const Index k) {
          const Index b = k / heads_, head = k - b * heads_;
          Real later = 0, all = 0;
          for (Index t = T - 1; t >= 0; --t) {
            const Index at = (b * T + t) * heads_ + head;
            Real sum = 0;
            for (Index j = 0; j < count; ++j) sum += part[((b * T + t) * count + j) * heads_ + head];
            sum *= Real(1) - fast_exp(-steps_[at]);
            all += sum;
            later += mean ? sum / static_cast<Real>(t + 1) : sum;
            if (to_raw) draw(at, later);
          }
          sums[k] = all;
        });
    if (!trained) return;
    launch(
        "ssm::dplr_bias", r, R, KOKKOS_LAMBDA(const Index head) {
          for (Index b = 0; b < batch; ++b) to_bias[head] += sums[b * heads_ + head];
        });
  }

  void gate_gradients(const Run& r) {
    const Index count = groups(), row = R * gates;
    const Real* part = v(dgate);
    const Grad to = g(gate);
    launch(
        "ssm::dplr_gates_back", r, n.B * n.T * row, KOKKOS_LAMBDA(const Index i) {
          const Index place = i / row, k = i - place * row;
          Real sum = 0;
          for (Index j = 0; j < count; ++j) sum += part[(place * count + j) * row + k];
          to(i, sum);
        });
  }

  void parameter_gradients(const Run& r) {
    const Index batch = n.B, count = groups(), heads_ = R, modes = M, all = u.D(), owners = per_head ? R : all, own = all / owners;
    const Index row = head_sums(M, rank), fields = mode_sums(rank);
    const Real *part = v(heads), *part_channels = v(channels), *rates = v(A_real);
    Real *to_re = d(A_real), *to_im = train_imag ? d(A_imag) : nullptr, *to_P = P.id < 0 ? nullptr : d(P), *to_B = d(B), *to_C = d(C),
         *to_D = d(D);
    launch(
        "ssm::dplr_heads", r, R * row, KOKKOS_LAMBDA(const Index i) {
          const Index head = i / row, k = i - head * row, m = head * modes + k / fields, field = k % fields;
          Real sum = 0;
          for (Index j = 0; j < batch * count; ++j) sum += part[(j * heads_ + head) * row + k];
          if (field == 0) to_re[m] -= sum * fast_exp(rates[m]);
          else if (field == 1 && to_im) to_im[m] += sum;
          else if (field > 1 && to_P) to_P[2 * ((field / 2 - 1) * heads_ * modes + m) + field % 2] += sum;
        });
    launch(  // B and C of every owner, then D of every channel
        "ssm::dplr_channels", r, owners * 4 * M + all, KOKKOS_LAMBDA(const Index i) {
          const bool skip = i >= owners * 4 * modes;
          const Index owner = skip ? i - owners * 4 * modes : i / (4 * modes), k = skip ? 4 * modes : i - owner * 4 * modes;
          const Index first = skip ? owner : owner * own, end = skip ? first + 1 : first + own, m = owner * modes + k / 4;
          Real sum = 0;
          for (Index b = 0; b < batch; ++b)
            for (Index c = first; c < end; ++c) sum += part_channels[(b * all + c) * channel_sums(modes) + k];
          if (skip) to_D[owner] += sum;
          else if (k % 4 < 2) to_B[2 * m + k % 4] += sum;
          else to_C[2 * m + k % 4 - 2] += sum;
        });
  }

  Cost cost() const override {
    const double places = static_cast<double>(n.B * n.T), values = static_cast<double>(u.size()), modes = values * static_cast<double>(M);
    const double tables = static_cast<double>(n.B * steps() * R * M), gated = gate.id < 0 ? 0 : places * static_cast<double>(R * gates);
    const double kept = n.mode == Mode::train ? 2 * modes / kChunk : 0;
    const double more = static_cast<double>(rank - 1);
    return {{(40 + 18 * more) * modes + (20 + 20 * more) * tables, static_cast<double>(n.B * steps() * R),
             sizeof(Real) * (2 * values + gated + kept)},
            {(150 + 66 * more) * modes + (40 + 40 * more) * tables, static_cast<double>(n.B * steps() * R),
             sizeof(Real) * (3 * values + 2 * gated + kept)}};
  }
};

}  // namespace dplr_scan_op

Tensor dplr_scan(Net& n, const DplrScanInputs& inputs, const DplrScanOptions& options) {
  return n.add<dplr_scan_op::DplrScan>(inputs, options);
}

}  // namespace ssm
