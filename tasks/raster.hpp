// raster.hpp - the little of an image library that the drawn tasks need: thick lines, discs, and Lanczos reduction as Pillow does them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ssm {

// Grey values 0..255, row-major.
struct Raster {
  int width = 0, height = 0;
  std::vector<std::uint8_t> pixels;
  Raster(int w, int h) : width(w), height(h), pixels(static_cast<std::size_t>(w) * static_cast<std::size_t>(h)) {}
  std::uint8_t& operator()(int x, int y) {
    return pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)];
  }
  std::uint8_t operator()(int x, int y) const { return const_cast<Raster&>(*this)(x, y); }
};

// A line of integer end points: Bresenham for width 1, else the rectangle of that width with its corners at whole pixels.
inline void draw_line(Raster& to, int x0, int y0, int x1, int y1, int width) {
  const int dx = x1 - x0, dy = y1 - y0;
  const auto set = [&](int x, int y) {
    if (x >= 0 && y >= 0 && x < to.width && y < to.height) to(x, y) = 255;
  };
  if (width <= 1 || (dx == 0 && dy == 0)) {
    const int steps_x = std::abs(dx), steps_y = std::abs(dy), sx = dx < 0 ? -1 : 1, sy = dy < 0 ? -1 : 1;
    const int most = std::max(steps_x, steps_y), least = std::min(steps_x, steps_y);
    for (int x = x0, y = y0, step = 0, error = 2 * least - most; step <= most; ++step, error += 2 * least) {
      set(x, y);
      const bool both = error >= 0;  // a pixel halfway goes sideways
      if (both) error -= 2 * most;
      if (both || steps_x > steps_y) x += sx;
      if (both || steps_x <= steps_y) y += sy;
    }
    return;
  }
  const double length = std::hypot(dx, dy), half = (width - 1) / 2.0;
  const double less = std::ceil(half - .5) / length, more = std::floor(half + .5) / length;  // the two sides of an even width differ
  const auto down = [](double v) { return static_cast<int>(v >= 0 ? std::ceil(v - .5) : std::floor(v + .5)); };
  const auto up = [](double v) { return static_cast<int>(v >= 0 ? std::floor(v + .5) : std::ceil(v - .5)); };
  const int px[4] = {x0 - down(less * dy), x1 - down(less * dy), x1 + down(more * dy), x0 + down(more * dy)};
  const int py[4] = {y0 + up(more * dx), y1 + up(more * dx), y1 - up(less * dx), y0 - up(less * dx)};
  // Every row is filled from the leftmost to the rightmost crossing of an edge, rounded to the nearest pixels.
  for (int y = *std::min_element(py, py + 4); y <= *std::max_element(py, py + 4); ++y) {
    double left = 1e9, right = -1e9;
    for (int i = 0; i < 4; ++i) {
      const int k = (i + 1) % 4;
      if (y < std::min(py[i], py[k]) || y > std::max(py[i], py[k])) continue;
      const double a = px[i], b = px[k];
      const bool level = py[i] == py[k];
      const double crossing = level ? a : a + (b - a) * (y - py[i]) / (py[k] - py[i]);
      left = std::min({left, crossing, level ? b : crossing}), right = std::max({right, crossing, level ? b : crossing});
    }
    for (int x = up(left); x <= down(right); ++x) set(x, y);
  }
}

// Lanczos (a = 3) reduction to w x h: horizontally, then vertically, rounded to 8 bits after each pass.
inline Raster lanczos(const Raster& from, int w, int h) {
  const auto kernel = [](double x) {
    constexpr double pi = 3.141592653589793238463;
    x = std::abs(x);
    if (x < 1e-12) return 1.0;
    return x < 3 ? 3 * std::sin(pi * x) * std::sin(pi * x / 3) / (pi * pi * x * x) : 0.0;
  };
  const auto pass = [&](const Raster& in, int out_size, bool horizontal) {
    const int in_size = horizontal ? in.width : in.height, lines = horizontal ? in.height : in.width;
    Raster out(horizontal ? out_size : in.width, horizontal ? in.height : out_size);
    const double scale = static_cast<double>(in_size) / out_size, stretch = std::max(scale, 1.0);
    std::vector<double> weights;
    for (int o = 0; o < out_size; ++o) {
      const double centre = (o + .5) * scale;
      const int first = std::max(0, static_cast<int>(std::floor(centre - 3 * stretch + .5)));
      const int last = std::min(in_size, static_cast<int>(std::floor(centre + 3 * stretch + .5)));
      weights.clear();
      double sum = 0;
      for (int i = first; i < last; ++i) weights.push_back(kernel((i - centre + .5) / stretch)), sum += weights.back();
      for (double& weight : weights) weight /= sum;
      for (int l = 0; l < lines; ++l) {
        double value = .5;
        for (int i = first; i < last; ++i) value += weights[static_cast<std::size_t>(i - first)] * (horizontal ? in(i, l) : in(l, i));
        (horizontal ? out(o, l) : out(l, o)) = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
      }
    }
    return out;
  };
  return pass(pass(from, w, true), h, false);
}

}  // namespace ssm
