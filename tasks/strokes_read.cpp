// The oracle of strokes: bends every skeleton onto the ink and takes the digit whose redrawn skeleton is nearest to the image.
//
// A point p of the unit box is drawn at sum_k c_k f_k(p) with f = 1, x - 1/2, y - 1/2 and the sine and cosine of 2 pi y and 2 pi x: linear
// in the 14 coefficients c, whose means and variances follow from the generator's. EM takes ink as drawn around points of the skeleton, with
// a variance that shrinks from 9 to 1 square pixels: who drew which ink, then least squares with the coefficients' prior.
#include <algorithm>
#include <array>
#include <cmath>

#include "math.hpp"
#include "strokes_draw.hpp"

namespace ssm::strokes {

namespace {

constexpr std::size_t features = 7;
constexpr int rounds = 12;
constexpr double spacing = 2.5;  // of the skeleton's points, in pixels before bending
using Row = std::array<double, features>;

Row feature(const Vec& p) {
  return {1, p.x - .5, p.y - .5, std::sin(2 * pi * p.y), std::cos(2 * pi * p.y), std::sin(2 * pi * p.x), std::cos(2 * pi * p.x)};
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t k = 0; k < features; ++k) sum += a[k] * b[k];
  return sum;
}

// Features of points along each digit.
std::vector<std::vector<Row>> sampled() {
  std::vector<std::vector<Row>> out;
  for (const std::vector<Line>& digit : digits()) {
    out.emplace_back();
    for (const Line& line : digit)
      for (std::size_t i = 0; i + 1 < line.size(); ++i) {
        const Vec a = line[i], b = line[i + 1];
        const int n = std::max(1, static_cast<int>(std::lround(20 * std::hypot(b.x - a.x, b.y - a.y) / spacing)));
        for (int k = 0; k < n; ++k) out.back().push_back(feature({a.x + (k + .5) / n * (b.x - a.x), a.y + (k + .5) / n * (b.y - a.y)}));
      }
  }
  return out;
}

// x of A x = b for a positive definite A.
Row solved(std::array<Row, features> A, Row b) {
  for (std::size_t i = 0; i < features; ++i)
    for (std::size_t k = i + 1; k < features; ++k) {
      const double f = A[k][i] / A[i][i];
      for (std::size_t j = i; j < features; ++j) A[k][j] -= f * A[i][j];
      b[k] -= f * b[i];
    }
  for (std::size_t i = features; i-- > 0;) {
    for (std::size_t j = i + 1; j < features; ++j) b[i] -= A[i][j] * b[j];
    b[i] /= A[i][i];
  }
  return b;
}

struct Ink {
  std::vector<float> x, y, amount;
};

// The coefficients of one axis and their prior.
struct Axis {
  Row mean, variance, c;
  double surprise() const {
    double sum = 0;
    for (std::size_t k = 0; k < features; ++k) sum += (c[k] - mean[k]) * (c[k] - mean[k]) / (2 * variance[k]);
    return sum;
  }
};

void bend(const std::vector<Row>& points, const Ink& ink, Axis (&axes)[2]) {
  const std::size_t M = points.size();
  std::vector<float> px(M), py(M), near(M), weight(M), to_x(M), to_y(M);
  for (int round = 0; round < rounds; ++round) {
    const double variance = std::pow(9, std::max(0., 1 - round / (rounds - 3.)));
    const float rate = static_cast<float>(.5 / variance);
    for (std::size_t m = 0; m < M; ++m) {
      px[m] = static_cast<float>(dot(axes[0].c, points[m])), py[m] = static_cast<float>(dot(axes[1].c, points[m]));
      weight[m] = to_x[m] = to_y[m] = 0;
    }
    for (std::size_t i = 0; i < ink.x.size(); ++i) {
      float sum = .1f * exp_or_zero(-16 * rate) + 1e-9f;  // ink of no point: noise
      for (std::size_t m = 0; m < M; ++m) {
        const float dx = ink.x[i] - px[m], dy = ink.y[i] - py[m];
        near[m] = exp_or_zero(-rate * (dx * dx + dy * dy));
        sum += near[m];
      }
      for (std::size_t m = 0; m < M; ++m) {
        const float share = ink.amount[i] * near[m] / sum;
        weight[m] += share, to_x[m] += share * ink.x[i], to_y[m] += share * ink.y[i];
      }
    }
    for (Axis& axis : axes) {
      const std::vector<float>& to = &axis == &axes[0] ? to_x : to_y;
      std::array<Row, features> A{};
      Row b{};
      for (std::size_t k = 0; k < features; ++k) A[k][k] = 1 / axis.variance[k], b[k] = axis.mean[k] / axis.variance[k];
      const double one = 1 / (3 * variance);  // a pen of three pixels: its ink is no independent evidence
      for (std::size_t m = 0; m < M; ++m)
        for (std::size_t k = 0; k < features; ++k) {
          b[k] += one * points[m][k] * static_cast<double>(to[m]);
          for (std::size_t j = 0; j < features; ++j) A[k][j] += one * static_cast<double>(weight[m]) * points[m][k] * points[m][j];
        }
      axis.c = solved(A, b);
    }
  }
}

double difference(const std::vector<Line>& skeleton, const Axis (&axes)[2], double pen, const std::vector<float>& image) {
  static thread_local std::vector<float> drawn;
  std::vector<Line> lines = skeleton;
  for (Line& line : lines)
    for (Vec& p : line) {
      const Row f = feature(p);
      p = {dot(axes[0].c, f), dot(axes[1].c, f)};
    }
  draw(lines, pen, drawn);
  double sum = 0;
  for (std::size_t i = 0; i < plane; ++i) sum += static_cast<double>((drawn[i] - image[i]) * (drawn[i] - image[i]));
  return sum;
}

}  // namespace

int read(const std::vector<float>& image, double jitter) {
  static const std::vector<std::vector<Row>> points = sampled();
  Ink ink;
  for (int i = 0; i < plane; ++i)
    if (const float v = image[static_cast<std::size_t>(i)]; v > .4f) {
      const int y = i / side;
      ink.x.push_back(static_cast<float>(i - side * y)), ink.y.push_back(static_cast<float>(y)), ink.amount.push_back(v);
    }
  const double J = std::max(jitter, .1), place = 1.2 * J, scale = 20 * .12 * J, warp = 20 * .06 * J / std::sqrt(2.0);
  const double w = warp * warp, turned = .3 * warp * .3 * warp, shear = 20 * .33 * J, rotation = .25 * J;
  double best = 1e30;
  int digit = 0;
  for (int d = 0; d < 10; ++d)
    for (const double turn : {-.27 * J, 0., .27 * J}) {
      const double c = 20 * std::cos(turn), s = 20 * std::sin(turn);
      Axis axes[2] = {{{13.5, c, -s, 0, 0, 0, 0}, {place * place, scale * scale, shear * shear, w, w, turned, turned}, {}},
                      {{13.5, s, c, 0, 0, 0, 0}, {place * place, 400 * rotation * rotation, scale * scale, turned, turned, w, w}, {}}};
      for (Axis& axis : axes) axis.c = axis.mean;
      bend(points[static_cast<std::size_t>(d)], ink, axes);
      const double surprise = axes[0].surprise() + axes[1].surprise() + turn * turn / (2 * rotation * rotation);
      for (const double pen : {1.1, 1.4}) {
        const double cost = difference(digits()[static_cast<std::size_t>(d)], axes, pen, image) + .3 * surprise;
        if (cost < best) best = cost, digit = d;
      }
    }
  return digit;
}

}  // namespace ssm::strokes
