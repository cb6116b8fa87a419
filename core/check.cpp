#include "check.hpp"

#include <algorithm>

#include "lib/blas.hpp"
#include "probe.hpp"

namespace ssm {

namespace {

constexpr double kTf32Tolerance = 4e-3;  // products of factors with 10 bits of mantissa: 8 roundings of 2^-11

// The parameters of a probe by local name: what a reference reads.
HostParams local_params(const Params& params) {
  HostParams out;
  for (const ParamInfo& p : params.all()) out[p.name] = params.get(p.name);
  return out;
}

// T steps of one position, gathered into (B,T,D).
std::vector<double> stream(Probe& probe, const std::vector<double>& x, Index B, Index T, Index D) {
  std::vector<double> y(static_cast<std::size_t>(B * T * D));
  probe.prepare();
  probe.reset();
  for (Index t = 0; t < T; ++t) {
    std::vector<double> now(static_cast<std::size_t>(B * D));
    for (Index b = 0; b < B; ++b)
      for (Index d = 0; d < D; ++d) now[static_cast<std::size_t>(b * D + d)] = x[static_cast<std::size_t>((b * T + t) * D + d)];
    const std::vector<double> out = probe.step({now});
    for (Index b = 0; b < B; ++b)
      for (Index d = 0; d < D; ++d) y[static_cast<std::size_t>((b * T + t) * D + d)] = out[static_cast<std::size_t>(b * D + d)];
  }
  return y;
}

}  // namespace

CheckReport self_check(const std::string& name, const VariantKnobs& knobs, Exec& exec, Index B, Index T, Index D) {
  const auto variant = make_variant(name, knobs);
  ProbeSpec spec;
  spec.B = B, spec.T = T, spec.D = D, spec.l_max = std::max<Index>(T, 64);
  spec.mode = Mode::evaluate;
  spec.inputs = {shaped({B, T, D})};
  spec.build = [&](Net& n, const std::vector<Tensor>& in) { return variant->build(n, in[0]); };
  Probe parallel(exec, spec);
  const std::vector<double> x = test_values("x", B * T * D);
  parallel.prepare();
  const std::vector<double> y = parallel.forward({x});

  Case c;
  c.B = B, c.T = T, c.D = D, c.l_max = spec.l_max;
  c.x = x;
  c.lengths.assign(static_cast<std::size_t>(B), static_cast<int>(T));
  c.params = local_params(parallel.params());
  c.y.assign(x.size(), 0.0);
  variant->reference(c);

  CheckReport report;
  report.tolerance = kDouble ? 1e-10 : tf32_products() ? kTf32Tolerance : 1e-5;
  report.reference_error = relative_error(y, c.y);
  if (variant->causal().yes && variant->streams().yes) {
    report.streamed = true;
    spec.mode = Mode::stream, spec.T = 1;
    spec.inputs = {shaped({B, 1, D})};
    Probe one(exec, spec, parallel.shared());
    report.streaming_error = relative_error(stream(one, x, B, T, D), y);
  }
  report.passed = report.reference_error < report.tolerance && report.streaming_error < report.tolerance;
  report.text = report.passed ? "ok"
                              : "does not agree with its reference: error " + number_text(report.reference_error) + ", streaming " +
                                    number_text(report.streaming_error) + ", allowed " + number_text(report.tolerance);
  return report;
}

}  // namespace ssm
