// op_check.hpp - one generic check for ops and mixers.
//
// In double builds: gradients of every input and parameter against central differences (error as core/README.md defines it), on memory that
// was NaN. In all builds: finite outputs, two runs give the same bits, and `expected` (plain loops) where given.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "probe.hpp"
#include "testing.hpp"

namespace ssm {

struct OpCase : ProbeSpec {
  Arrays values_of_inputs;  // default: test_values
  double input_scale = 1;
  double gradient_tolerance = 1e-6;
  double value_tolerance = kDouble ? 1e-10 : 1e-5;
  bool gradients = true;
  // Plain loops: inputs and parameters (by name) -> y.
  std::function<std::vector<double>(const Arrays&, Params&)> expected;
};

// A case with one input, whose extents are those of the batch.
inline OpCase one_input(Tensor shape) {
  OpCase c;
  c.B = shape.n[0], c.T = shape.rank == 3 ? shape.T() : 1, c.D = shape.rank == 3 ? shape.D() : shape.last();
  c.inputs = {shape};
  return c;
}

// max|g - g_fd| / max|g_fd| per tensor; tensors whose gradient is zero beside `largest` are measured against 1e-4 of it.
inline double gradient_error(const std::vector<double>& g, const std::vector<double>& fd, double largest) {
  double worst = 0, scale = 1e-4 * largest;
  for (std::size_t i = 0; i < g.size(); ++i) {
    if (!std::isfinite(g[i])) return INFINITY;
    worst = std::max(worst, std::abs(g[i] - fd[i]));
    scale = std::max(scale, std::abs(fd[i]));
  }
  return worst == 0 ? 0 : worst / scale;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// df/dh at 0 by fourth-order central differences: the step whose halving changes the result least. A kink (ReLU) nearer than the
// step, or rounding, shows as doubt.
struct Slope {
  double value = 0, doubt = INFINITY;
};
inline Slope slope(const std::function<double(double)>& f, double scale) {
  const auto difference = [&](double h) { return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h); };
  const double rounding = 1e-15 * std::abs(f(0));
  Slope best;
  for (const double h : {1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7}) {
    const double whole = difference(h), half = difference(h / 2), doubt = std::abs(whole - half) + rounding / h;
    if (doubt < best.doubt) best = {half, doubt};
    if (best.doubt < 1e-8 * scale) break;
  }
  return best;
}

// <g, v> against the slope of `loss_at(p + h v)` for five random directions v. Directions that meet a kink are passed over, at most 7 of 12.
inline void check_along_directions(const std::string& what, const std::vector<double>& base, const std::vector<double>& g, double largest,
                                   const std::function<double(const std::vector<double>&)>& loss_at) {
  int done = 0;
  for (int direction = 0; direction < 12 && done < 5; ++direction) {
    const auto v = test_values("direction" + std::to_string(direction), static_cast<Index>(base.size()));
    double scale = 1e-4 * largest;
    for (std::size_t i = 0; i < v.size(); ++i) scale = std::max(scale, std::abs(g[i] * v[i]));
    const Slope fd = slope(
        [&](double h) {
          std::vector<double> moved = base;
          for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += h * v[i];
          return loss_at(moved);
        },
        scale);
    if (fd.doubt > 3e-7 * scale) continue;
    ++done;
    EXPECT_LT(std::abs(dot(g, v) - fd.value) / scale, 1e-6) << "gradient of " << what << " along direction " << direction;
  }
  EXPECT_EQ(done, 5) << "too many kinks to check " << what;
}

inline void check_op(const OpCase& c) {
  Probe probe(test_device().exec(), c);
  Arrays inputs = c.values_of_inputs;
  for (std::size_t k = inputs.size(); k < c.inputs.size(); ++k)
    inputs.push_back(test_values("input" + std::to_string(k), c.inputs[k].size(), c.input_scale));

  const std::vector<double> y = probe.forward(inputs);
  for (const double v : y) ASSERT_TRUE(std::isfinite(v)) << "an output was not written, or is not finite";
  if (c.expected) {
    EXPECT_LT(relative_error(y, c.expected(inputs, probe.params())), c.value_tolerance) << "against plain loops";
  }
  EXPECT_EQ(y, probe.forward(inputs)) << "two runs differ";
  if (c.mode != Mode::train || !c.gradients) return;

  std::vector<double> dy = c.is_loss ? std::vector<double>(y.size(), 1.0) : test_values("dy", static_cast<Index>(y.size()));
  const Arrays dx = probe.backward(dy);
  std::vector<std::string> names;
  Arrays grads;
  for (const ParamInfo& p : probe.params().all())
    if (p.trained) names.push_back(p.name), grads.push_back(probe.params().get_grad(p.name));
  probe.forward(inputs);
  EXPECT_EQ(dx, probe.backward(dy)) << "two backward passes differ";
  if (!kDifferences) return;

  double largest = 0;
  for (const Arrays* list : {&dx, static_cast<const Arrays*>(&grads)})
    for (const auto& g : *list)
      for (const double v : g) largest = std::max(largest, std::abs(v));

  // Two points are enough for most entries; where they do not confirm g, the slope is measured with care before it is believed.
  const auto differences = [&](std::vector<double>& x, const std::vector<double>& g, const std::function<void()>& apply) {
    std::vector<double> fd(x.size());
    double scale = 1e-4 * largest;
    for (const double v : g) scale = std::max(scale, std::abs(v));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double kept = x[i], h = 1e-5;
      const auto at = [&](double step) {
        x[i] = kept + step, apply();
        return dot(probe.forward(inputs), dy);
      };
      fd[i] = (at(h) - at(-h)) / (2 * h);
      if (std::abs(fd[i] - g[i]) > 0.2 * c.gradient_tolerance * scale) fd[i] = slope(at, scale).value;
      x[i] = kept, apply();
    }
    return fd;
  };
  for (std::size_t k = 0; k < inputs.size(); ++k)
    EXPECT_LT(gradient_error(dx[k], differences(inputs[k], dx[k], [] {}), largest), c.gradient_tolerance) << "gradient of input " << k;
  for (std::size_t k = 0; k < names.size(); ++k) {
    std::vector<double> p = probe.params().get(names[k]);
    const auto fd = differences(p, grads[k], [&] { probe.params().set(names[k], p); });
    EXPECT_LT(gradient_error(grads[k], fd, largest), c.gradient_tolerance) << "gradient of " << names[k];
  }
}

}  // namespace ssm
