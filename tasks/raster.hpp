// raster.hpp - the little of an image library that the drawn tasks need: thick lines, discs, and Lanczos reduction as Pillow does them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
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

// What one output of a Lanczos (a = 3) reduction sums up: inputs from `first` on.
struct LanczosTaps {
  int first;
  std::vector<double> weights;
};
inline std::vector<LanczosTaps> lanczos_taps(int from, int to) {
  const auto kernel = [](double x) {
    constexpr double pi = 3.141592653589793238463;
    x = std::abs(x);
    if (x < 1e-12) return 1.0;
    return x < 3 ? 3 * std::sin(pi * x) * std::sin(pi * x / 3) / (pi * pi * x * x) : 0.0;
  };
  const double scale = static_cast<double>(from) / to, stretch = std::max(scale, 1.0);
  std::vector<LanczosTaps> out;
  for (int o = 0; o < to; ++o) {
    const double centre = (o + .5) * scale;
    const int first = std::max(0, static_cast<int>(std::floor(centre - 3 * stretch + .5)));
    const int last = std::min(from, static_cast<int>(std::floor(centre + 3 * stretch + .5)));
    out.push_back({first, {}});
    double sum = 0;
    for (int i = first; i < last; ++i) out.back().weights.push_back(kernel((i - centre + .5) / stretch)), sum += out.back().weights.back();
    for (double& weight : out.back().weights) weight /= sum;
  }
  return out;
}

// Lanczos reduction to w x h: horizontally, then vertically, rounded to 8 bits after each pass. What is black all around is passed over.
inline Raster lanczos(const Raster& from, int w, int h) {
  struct Span {
    int begin = 1 << 30, end = 0;
    void hold(int i) { begin = std::min(begin, i), end = std::max(end, i + 1); }
  };
  const auto pass = [](const Raster& in, int out_size, bool horizontal) {
    static thread_local std::map<std::pair<int, int>, std::vector<LanczosTaps>> known;
    std::vector<LanczosTaps>& taps = known[{horizontal ? in.width : in.height, out_size}];
    if (taps.empty()) taps = lanczos_taps(horizontal ? in.width : in.height, out_size);
    Span along, across;  // where the image is not black, in the direction of the sums and in the other
    for (int y = 0; y < in.height; ++y)
      for (int x = 0; x < in.width; ++x)
        if (in(x, y)) along.hold(horizontal ? x : y), across.hold(horizontal ? y : x);
    Raster out(horizontal ? out_size : in.width, horizontal ? in.height : out_size);
    for (int o = 0; o < out_size; ++o) {
      const auto& [first, weights] = taps[static_cast<std::size_t>(o)];
      const int begin = std::max(first, along.begin), end = std::min(first + static_cast<int>(weights.size()), along.end);
      for (int l = across.begin; l < across.end; ++l) {
        double value = .5;
        for (int i = begin; i < end; ++i) value += weights[static_cast<std::size_t>(i - first)] * (horizontal ? in(i, l) : in(l, i));
        (horizontal ? out(o, l) : out(l, o)) = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
      }
    }
    return out;
  };
  return pass(pass(from, w, true), h, false);
}

}  // namespace ssm
