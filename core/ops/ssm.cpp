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
          p.length};
}

Index mode_gradients_scratch(const SsmParams& p) {
  return p.H * p.M * (kModeGrads + 2 * p.rank) * static_cast<Index>(sizeof(Wide) / sizeof(Real));
}

void add_mode_gradients(const Run& r, const Op& op, const SsmParams& p, const Wide* parts) {
  const SsmView view = view_of(op, p);
  const Index width = kModeGrads + 2 * p.rank;
  Real *dA_real = p.train_decay ? op.d(p.A_real) : nullptr, *dA_imag = p.real ? nullptr : op.d(p.A_imag),
       *dB = p.train_B ? op.d(p.B) : nullptr;
  Real *dP = p.rank ? op.d(p.P) : nullptr, *dinv_dt = op.d(p.inv_dt);
  // Channels of the set that mode i / width belongs to, and what the c-th of them adds.
  const auto sharing = KOKKOS_LAMBDA(const Index i) {
    const Index s = i / width / view.M;
    return (view.H - s + view.S - 1) / view.S;
  };
  const auto of_channel = KOKKOS_LAMBDA(const Index i, const Index c) {
    const Index mode = i / width, s = mode / view.M;
    return parts[((s + c * view.S) * view.M + mode - s * view.M) * width + i % width];
  };
  const auto put = KOKKOS_LAMBDA(const Index i, const Wide sum) {
    const Index mode = i / width, k = i - mode * width;
    const Real g = static_cast<Real>(sum);
    if (k == 0 && dA_real) dA_real[mode] += g;
    if (k == 1 && dA_imag) dA_imag[mode] += g;
    if ((k == 2 || k == 3) && dB && !(view.real && k == 3)) dB[view.real ? mode : 2 * mode + k - 2] += g;
    if (k > 4) dP[((k - 5) / 2 * view.S * view.M + mode) * 2 + (k - 5) % 2] += g;
  };
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
  launch_rows(
      "ssm::mode_gradients", r, p.S * p.M * width, KOKKOS_LAMBDA(const Row& row, const Index i) {
        const Wide sum = row.template sum<Wide>(sharing(i), [&](const Index c) { return of_channel(i, c); });
        row.once([&] { put(i, sum); });
      });
#else
  launch(
      "ssm::mode_gradients", r, p.S * p.M * width, KOKKOS_LAMBDA(const Index i) {
        Wide sum = 0;
        for (Index c = 0; c < sharing(i); ++c) sum += of_channel(i, c);
        put(i, sum);
      });
#endif
  launch(
      "ssm::delta_gradient", r, p.H, KOKKOS_LAMBDA(const Index h) {
        Wide sum = 0;
        for (Index n = 0; n < view.M; ++n) sum += parts[(h * view.M + n) * width + 4];
        dinv_dt[h] += static_cast<Real>(view.delta_slope(h) * sum);
      });
}

}  // namespace ssm
