#include "plain_filters.hpp"

#include <cmath>

namespace ssm {

namespace {
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
}  // namespace

double plain_hyena_tap(const Case& c, const std::string& scope, Index row, Index t, bool window, double shift) {
  const auto p = [&](const std::string& name) -> const std::vector<double>& { return c.p(scope + "." + name); };
  const std::vector<double>&freq = p("implicit_filter.1.freq"), &all = p("pos_emb.z");
  const Index emb = static_cast<Index>(all.size()) / c.l_max, w = static_cast<Index>(freq.size());
  const double* z = &all[at(t * emb)];
  std::vector<double> s(z, z + emb), next(at(w));
  for (const char* place : {"0", "2", "4"}) {
    const std::string name = std::string("implicit_filter.") + place;
    dense_row(s.data(), static_cast<Index>(s.size()), p(name + ".weight"), &p(name + ".bias"), next.data());
    s = next;
    for (Index j = 0; j < w; ++j) s[at(j)] = std::sin(freq[at(j)] * s[at(j)]);
  }
  double h = 0;
  for (Index j = 0; j < w; ++j) h += p("implicit_filter.6.weight")[at(row * w + j)] * s[at(j)];
  const double decay = std::exp(-p("pos_emb.t")[at(t)] * std::abs(p("modulation.deltas")[at(row)])) + shift;
  return h * (window ? decay : 1) + (t ? 0 : p("bias")[at(row)]);
}

}  // namespace ssm
