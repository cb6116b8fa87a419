// s4_kernel.cpp - the convolution kernel of a diagonal-plus-low-rank system A = diag(lambda) - P Q^T (variants.md 4.2, 4.6); Q = P* unless
// it is a parameter.
//
// C holds C~ = (I - A^L)^T C for L = l_max, so that the kernel's spectrum of length L is a sum over modes. With theta_j = 2 pi j / L,
// S = sin(theta/2), K = cos(theta/2), mu = Delta lambda and x = Delta c b:
//
//   g(c,b) = sum_n [ x / (2iS - K mu) + x* / (2iS - K mu*) ]
//   spectrum_j = e^{i theta/2} [ g(C~,B) - K u^T (I + K W)^{-1} v ],  u_r = g(C~,P_r)  v_r = g(Q_r,B)  W_rq = g(Q_r,P_q)
//
// which has no singular point (K = 0 at the Nyquist frequency). SIMD runs over frequencies; nothing of size (H,M,L) exists.
#include <type_traits>

#include "error.hpp"
#include "lib/each.hpp"
#include "lib/fft.hpp"
#include "ops/s4_cauchy.hpp"
#include "s4_transform.hpp"

namespace ssm::s4_kernel_op {

// What differs between single and double arithmetic: the rows of the transform and the kernels.
struct Engine {
  virtual ~Engine() = default;
  virtual Index scratch() const = 0;
  virtual void forward(const Run& r, const SsmView& view, Real* K, Real* memory) = 0;
  virtual void backward(const Run& r, const SsmView& view, const Real* dK, Real* dC, Wide* parts, Real* memory) = 0;
};

template <class R>
std::unique_ptr<RealRows<R>> rows_of(Index rows, Index n) {
  if constexpr (std::is_same_v<R, Real>) return real_rows(rows, n);
  else return wide_rows(rows, n);
}

template <class R, int Ch, int Rank>
struct Cauchy final : Engine {
  Shape s;
  Index T;
  bool training;
  std::unique_ptr<RealRows<R>> rows;

  Cauchy(const Shape& shape, Index length, bool train) : s(shape), T(length), training(train), rows(rows_of<R>(Ch * s.H, s.L)) {}

  // Arrays in scratch: nodes, table, spectrum, time, gamma, what the transforms need.
  Index nodes() const { return 2 * s.padded; }
  Index table() const { return s.H * s.M * (2 + 2 * Sums<Ch, Rank>::count); }
  Index spectrum() const { return Ch * s.H * 2 * s.bins; }
  Index time() const { return Ch * s.H * s.L; }
  Index gamma() const { return training ? s.H * Sums<Ch, Rank>::count * 2 * s.padded : 0; }
  static Index padded(Index n) { return (n + 31) / 32 * 32; }
  Index scratch() const override {
    return (padded(nodes()) + padded(table()) + padded(spectrum()) + padded(time()) + padded(gamma()) + rows->scratch()) *
           static_cast<Index>(sizeof(R) / sizeof(Real));
  }
  struct Places {
    R *nodes, *table, *spectrum, *time, *gamma, *work;
  };
  Places places(Real* memory) const {
    R* p = reinterpret_cast<R*>(memory);
    R* table_ = p + padded(nodes());
    R* spectrum_ = table_ + padded(table());
    R* time_ = spectrum_ + padded(spectrum());
    R* gamma_ = time_ + padded(time());
    return {p, table_, spectrum_, time_, gamma_, gamma_ + padded(gamma())};
  }
  void tabulate(const Run& r, const SsmView& view, const Places& at) const {
    launch("ssm::s4_nodes", r, s.padded, Nodes<R>{at.nodes, s.L, s.padded});
    launch("ssm::s4_table", r, s.H * s.M, Table<R, Ch, Rank>{view, at.table});
  }

  void forward(const Run& r, const SsmView& view, Real* K, Real* memory) override {
    const Places at = places(memory);
    tabulate(r, view, at);
    launch("ssm::s4_kernel", r, s.H * (s.padded / kLanes), Spectrum<R, Ch, Rank>{at.nodes, at.table, at.spectrum, s});
    rows->inverse(r, at.spectrum, at.time, at.work);
    const Index L = s.L, length = T;
    const R* time_ = at.time;
    each_row(
        "ssm::s4_truncate", r, Ch * s.H, length,
        KOKKOS_LAMBDA(const Index row, const Index t) { K[row * length + t] = static_cast<Real>(time_[row * L + t] / static_cast<R>(L)); });
  }
  void backward(const Run& r, const SsmView& view, const Real* dK, Real* dC, Wide* parts, Real* memory) override {
    const Places at = places(memory);
    tabulate(r, view, at);
    const Index L = s.L, length = T;
    R* time_ = at.time;
    each_row(
        "ssm::s4_pad", r, Ch * s.H, L,
        KOKKOS_LAMBDA(const Index row, const Index t) { time_[row * L + t] = t < length ? static_cast<R>(dK[row * length + t]) : R(0); });
    rows->forward(r, at.time, at.spectrum, at.work);
    launch("ssm::s4_gamma", r, s.H * (s.padded / kLanes), Gamma<R, Ch, Rank>{at.nodes, at.table, at.spectrum, at.gamma, s});
    launch("ssm::s4_backward", r, s.H * s.M, ModeSums<R, Ch, Rank>{view, at.nodes, at.table, at.gamma, dC, parts, s});
  }
};

template <class R, int Rank>
std::unique_ptr<Engine> engine_of(const Shape& s, int kernels, Index T, bool train) {
  if (kernels == 2) return std::make_unique<Cauchy<R, 2, Rank>>(s, T, train);
  return std::make_unique<Cauchy<R, 1, Rank>>(s, T, train);
}

struct Kernel final : Op {
  SsmParams p;
  Tensor y, doubled;
  Scratch memory, parts;
  std::unique_ptr<Engine> engine;
  S4Names names;
  Index doublings = 0;

  Kernel(Net& net, const SsmParams& params, Index T)
      : Op(net), p(params), y(out(p.kernels == 2 ? shaped({2, p.H, T}) : shaped({p.H, T}), drop)), names(s4_names(net)) {
    Index L = net.l_max;
    for (; L < T; L *= 2) ++doublings;
    const bool train = n.mode == Mode::train;
    if (doublings && train) {
      throw BadInput("s4 trains on sequences of at most model.l_max = " + std::to_string(net.l_max) + " steps, not " + std::to_string(T) +
                     "; set model.l_max to " + std::to_string(T));
    }
    const Shape s = shape_of(p.H, p.M, L);
    const int kernels = static_cast<int>(p.kernels);
    if (p.rank == 2) engine = engine_of<Wide, 2>(s, kernels, T, train);
    else if (p.wide) engine = engine_of<Wide, 1>(s, kernels, T, train);
    else engine = engine_of<Real, 1>(s, kernels, T, train);
    memory = scratch(engine->scratch());
    if (train) parts = scratch(mode_gradients_scratch(p));
    if (doublings) doubled = Op::table(shaped({p.kernels, p.H, p.M, 2}));
  }
  const char* name() const override { return "s4_kernel"; }

  SsmView view() const {
    SsmView out = view_of(*this, p);
    if (doublings) out.C = v(doubled);
    return out;
  }
  void prepare(const Run&) override {
    if (!doublings) return;
    S4Host host = s4_host(p, names, n.params);
    for (Index k = 0, L = n.l_max; k < doublings; ++k, L *= 2) s4_transform(host, L, S4Map::doubled);
    const std::vector<Real> raw(host.C.begin(), host.C.end());
    copy_in(v(doubled), raw.data(), static_cast<Index>(raw.size() * sizeof(Real)));
  }
  void forward(const Run& r) override { engine->forward(r, view(), v(y), v(memory)); }
  void backward(const Run& r) override {
    Wide* at = reinterpret_cast<Wide*>(v(parts));
    engine->backward(r, view(), d(y), d(p.C), at, v(memory));
    add_mode_gradients(r, *this, p, at);
  }
  Cost cost() const override {
    const double k = static_cast<double>(p.kernels), R = static_cast<double>(p.rank), sums = (k + R) * (1 + R);
    const Index nodes_ = n.l_max / 2 + 1;
    const double points = static_cast<double>(p.H * p.M * nodes_), bytes = sizeof(Real) * static_cast<double>(y.size());
    return {{points * (18 + 8 * sums), 0, bytes}, {points * (18 + 8 * sums + 36 + 16 * sums), 0, bytes}};
  }
};

}  // namespace ssm::s4_kernel_op

namespace ssm {

Tensor s4_kernel(Net& n, const SsmParams& p, Index T) { return n.add<s4_kernel_op::Kernel>(p, T); }

}  // namespace ssm
