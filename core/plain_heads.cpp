#include "plain_heads.hpp"

#include <algorithm>
#include <cmath>

namespace ssm {

namespace {
std::size_t at(Index i) { return static_cast<std::size_t>(i); }
}  // namespace

void PlainHead::take(const double* k, const double* v, const double* decay, Index stride) {
  for (Index i = 0; i < K; ++i)
    for (Index j = 0; j < V; ++j) S[at(i * V + j)] = decay[i * stride] * S[at(i * V + j)] + k[i] * v[j];
}
void PlainHead::correct(const double* k, const double* v, double decay, double beta) {
  for (Index j = 0; j < V; ++j) {
    double recalled = 0;
    for (Index i = 0; i < K; ++i) recalled += (S[at(i * V + j)] *= decay) * k[i];
    for (Index i = 0; i < K; ++i) S[at(i * V + j)] += beta * k[i] * (v[j] - recalled);
  }
}
void PlainHead::read(const double* q, double scale, double* o) const {
  for (Index j = 0; j < V; ++j) {
    double sum = 0;
    for (Index i = 0; i < K; ++i) sum += q[i] * S[at(i * V + j)];
    o[j] = scale * sum;
  }
}

double plain_silu(double x) { return x / (1 + std::exp(-x)); }
double plain_softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

std::vector<double> plain_short_conv(const std::vector<double>& x, Index T, Index D, const std::vector<double>& W,
                                     const std::vector<double>& b) {
  const Index w = static_cast<Index>(W.size()) / D;
  std::vector<double> y(x.size());
  for (Index t = 0; t < T; ++t)
    for (Index d = 0; d < D; ++d) {
      double sum = b[at(d)];
      for (Index k = 0; k < w; ++k) {
        const Index from = t - (w - 1 - k);
        if (from >= 0) sum += W[at(d * w + k)] * x[at(from * D + d)];
      }
      y[at(t * D + d)] = plain_silu(sum);
    }
  return y;
}

void plain_rms(double* x, Index count, const std::vector<double>& w, double eps) {
  double square = 0;
  for (Index i = 0; i < count; ++i) square += x[i] * x[i];
  const double scale = 1 / std::sqrt(square / static_cast<double>(count) + eps);
  for (Index i = 0; i < count; ++i) x[i] *= scale * w[at(i)];
}

void plain_rotary(double* x, Index K, Index t, bool interleaved) {
  const Index half = K / 2;
  for (Index i = 0; i < half; ++i) {
    const double power = interleaved ? static_cast<double>(i) / static_cast<double>(half > 1 ? half - 1 : 1)
                                     : 2 * static_cast<double>(i) / static_cast<double>(K);
    const double angle = static_cast<double>(t) * std::pow(10000.0, -power), c = std::cos(angle), s = std::sin(angle);
    double &u = x[interleaved ? 2 * i : i], &v = x[interleaved ? 2 * i + 1 : i + half];
    const double turned = u * c - v * s;
    v = v * c + u * s;
    u = turned;
  }
}

std::vector<double> plain_dense(const double* x, Index T, Index in, const std::vector<double>& W) {
  const Index out = static_cast<Index>(W.size()) / in;
  std::vector<double> y(at(T * out));
  for (Index t = 0; t < T; ++t) dense_row(x + t * in, in, W, nullptr, &y[at(t * out)]);
  return y;
}

void plain_output(Case& c, Index b, std::vector<double> o, bool gate) {
  const double* x = c.x.data() + b * c.T * c.D;
  if (gate) {
    const std::vector<double> g = plain_dense(x, c.T, c.D, c.p("g_proj.weight"));
    for (std::size_t i = 0; i < o.size(); ++i) o[i] *= plain_silu(g[i]);
  }
  const std::vector<double> y = plain_dense(o.data(), c.T, static_cast<Index>(o.size()) / c.T, c.p("o_proj.weight"));
  std::copy(y.begin(), y.end(), c.y.begin() + b * c.T * c.D);
}

}  // namespace ssm
