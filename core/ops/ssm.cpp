// ssm.cpp - sums of the gradients of single modes into parameters, in a fixed order.
#include "ops/ssm.hpp"

#include "lib/rows.hpp"

namespace ssm {

Disc disc_of(const std::string& name) {
  if (name == "zoh") return Disc::zoh;
  if (name == "bilinear") return Disc::bilinear;
  if (name == "backward_euler") return Disc::backward_euler;
  if (name == "exp_euler") return Disc::exp_euler;
  if (name == "dss") return Disc::dss;
  throw std::logic_error("no discretisation is called " + name);
}

SsmView view_of(const Op& op, const SsmParams& p) {
  const auto at = [&](Param q) -> const Real* { return q.id >= 0 ? op.v(q) : nullptr; };
  return {at(p.inv_dt),
          at(p.A_real),
          at(p.A_imag),
          at(p.B),
          at(p.C),
          at(p.P),
          at(p.Q),
          p.H,
          p.M,
          p.S,
          static_cast<int>(p.kernels),
          static_cast<int>(p.rank),
          disc_of(p.disc),
          p.softplus,
          p.real,
          p.decay == "exp"    ? Decay::exp
          : p.decay == "relu" ? Decay::relu
                              : Decay::none,
          p.length,
          p.steps};
}

Index mode_gradients_scratch(const SsmParams& p) {
  return p.H * p.M * (kModeGrads + (p.Q.id >= 0 ? 4 : 2) * p.rank) * static_cast<Index>(sizeof(Wide) / sizeof(Real));
}

// What the channels of a set add to the parameters of its modes. Number i = (mode, k); a copy of it must stay small: see lib/team_capture.hpp.
struct ModeSums {
  const Wide* parts;
  Real *dA_real, *dA_imag, *dB, *dP, *dQ;  // null: not trained
  Index H, S, M, width, rank;
  bool real;

  // How many channels share number i, and what the c-th of them adds to it.
  SSM_FN Index sharing(Index i) const { return (H - i / width / M + S - 1) / S; }
  SSM_FN Wide of_channel(Index i, Index c) const {
    const Index mode = i / width, s = mode / M;
    return parts[((s + c * S) * M + mode - s * M) * width + i % width];
  }
  SSM_FN void put(Index i, Wide sum) const {
    const Index mode = i / width, k = i - mode * width;
    const Real g = static_cast<Real>(sum);
    if (k == 0 && dA_real) dA_real[mode] += g;
    if (k == 1 && dA_imag) dA_imag[mode] += g;
    if ((k == 2 || k == 3) && dB && !(real && k == 3)) dB[real ? mode : 2 * mode + k - 2] += g;
    if (k < kModeGrads) return;
    const Index r = (k - kModeGrads) / 2, part = (k - kModeGrads) % 2;
    Real* to = r < rank ? dP : dQ;
    if (to) to[(r % rank * S * M + mode) * 2 + part] += g;
  }
};

void add_mode_gradients(const Run& r, const Op& op, const SsmParams& p, const Wide* parts) {
  const SsmView view = view_of(op, p);
  const Index width = view.grads();
  Real* dinv_dt = op.d(p.inv_dt);
  const ModeSums sums{parts,
                      p.train_decay ? op.d(p.A_real) : nullptr,
                      p.real ? nullptr : op.d(p.A_imag),
                      p.train_B ? op.d(p.B) : nullptr,
                      p.rank && p.train_P ? op.d(p.P) : nullptr,
                      p.Q.id >= 0 ? op.d(p.Q) : nullptr,
                      p.H,
                      p.S,
                      p.M,
                      width,
                      p.rank,
                      p.real};
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
  launch_rows(
      "ssm::mode_gradients", r, p.S * p.M * width, KOKKOS_LAMBDA(const Row& row, const Index i) {
        const Wide sum = row.template sum<Wide>(sums.sharing(i), [&](const Index c) { return sums.of_channel(i, c); });
        row.once([&] { sums.put(i, sum); });
      });
#else
  launch(
      "ssm::mode_gradients", r, p.S * p.M * width, KOKKOS_LAMBDA(const Index i) {
        Wide sum = 0;
        for (Index c = 0; c < sums.sharing(i); ++c) sum += sums.of_channel(i, c);
        sums.put(i, sum);
      });
#endif
  const Index steps = p.steps, sharing = p.M / steps;
  launch(
      "ssm::delta_gradient", r, p.H * steps, KOKKOS_LAMBDA(const Index i) {
        const Index h = i / steps;
        Wide sum = 0;
        for (Index n = 0; n < sharing; ++n) sum += parts[(i * sharing + n) * width + 4];
        dinv_dt[i] += static_cast<Real>(view.delta_slope(h, i - h * steps) * sum);
      });
}

}  // namespace ssm
