// pendulum_draw.hpp - what the generator of pendulum and its oracle share: the law of motion and the clean picture.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "raster.hpp"
#include "task.hpp"

namespace ssm::pendulum {

inline constexpr int stamps = 100, kept = 50, side = 24, canvas = 128, substeps = 100;
inline constexpr double pi = 3.141592653589793238463, kick = .1;  // kick: deviation of what omega gets at every stamp

// One stamp of 0.01 s in `steps` Euler steps, velocity first; theta from the upright position.
inline void swing(double& theta, double& omega, int steps) {
  const double dt = .01 / steps;
  for (int i = 0; i < steps; ++i) {
    omega += dt * (29.43 * std::sin(theta) - .1 * omega);
    theta += dt * omega;
  }
}

// (side, side) bytes: the bob at `angle` = theta - pi.
inline std::vector<std::uint8_t> clean_picture(double angle) {
  Raster fine(canvas, canvas);
  constexpr int middle = canvas / 2;
  draw_line(fine, middle, middle, static_cast<int>(middle + 55 * std::sin(angle)), static_cast<int>(middle + 55 * std::cos(angle)), 8);
  return lanczos(fine, side, side).pixels;
}

// Sine and cosine of theta - pi at every kept stamp, (kept, 2), from the pictures and times alone: pendulum_filter.cpp.
std::vector<double> filtered(const Example& e);

}  // namespace ssm::pendulum
