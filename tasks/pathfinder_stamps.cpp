// The stamps that Pathfinder's images are made of, and what follows from them before the first image: rooms, candidates, turns.
#include <algorithm>
#include <cmath>

#include "pathfinder_draw.hpp"
#include "raster.hpp"

namespace ssm::pathfinder {

namespace {

constexpr double pi = 3.141592653589793238463;
constexpr int scale = 2;  // antialiasing

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }

double wrapped(double angle) { return std::abs(std::remainder(angle, 2 * pi)); }

std::vector<float> reduced(const Raster& fine, int side) {
  const Raster small = lanczos(fine, side, side);
  std::vector<float> out;
  for (const std::uint8_t v : small.pixels) out.push_back(static_cast<float>(v) / 255.f);
  return out;
}

// A new paddle's mask and the occupancy mask may add up to less than 1.8, on the scale 0..255 to 458.
constexpr int most_overlap = 458;

void dilate(Raster& r, int radius) {
  const Raster from = r;
  for (int y = 0; y < r.height; ++y)
    for (int x = 0; x < r.width; ++x)
      for (int dy = -radius; dy <= radius; ++dy)
        for (int dx = -radius; dx <= radius; ++dx)
          if (dy * dy + dx * dx <= radius * radius && y + dy >= 0 && x + dx >= 0 && y + dy < r.height && x + dx < r.width &&
              from(x + dx, y + dy))
            r(x, y) = 255;
}

}  // namespace

Level level(int size, int paddles) {
  const int d = paddles / 3;  // the published parameters divide whole numbers: 14 / 3 = 4, 22 / 4 = 5, 35 / 4 = 8, 30 / 4 = 7
  if (size == 32) return {32, paddles, 2, .5, {1}, 1, 7, 1.0, 1.5, d, 5, 2, .75};
  if (size == 64) return {64, paddles, 5, 1, {1}, 1, 12, 1.8, 2.5, d, 5, .8, 1};
  if (size == 128) return {128, paddles, 5, 1.5, {2, 3}, 1, 20, 1.8, 3, d, 8, .9, 1};
  return {256, paddles, 5, 2, {3}, 22, 27, 1.8, 5, d, 7, 1, 1};
}

Painter::Painter(const Level& l, bool fast) : level_(l), fast_(fast) {
  for (const int margin : l.margins) margins_.push_back(prepare(margin));
  disc_reach_ = static_cast<int>(std::ceil(l.disc)) + 3;
  const int side = 2 * disc_reach_ + 1;
  Raster fine(side * scale, side * scale);
  const double radius = l.disc * scale;
  for (int y = 0; y < fine.height; ++y)
    for (int x = 0; x < fine.width; ++x) {
      const int dy = y - disc_reach_ * scale, dx = x - disc_reach_ * scale;
      if (dy * dy + dx * dx <= radius * radius) fine(x, y) = 255;
    }
  disc_ = reduced(fine, side);
}

int Painter::stamp(Margin& to, std::map<std::pair<int, int>, int>& known, double orientation) const {
  const int centre = to.reach * scale, side = 2 * to.reach + 1;
  const Point end = shift({centre, centre}, orientation, level_.length * scale);
  const auto [found, is_new] = known.emplace(std::pair{end.y, end.x}, static_cast<int>(to.stamps.size()));
  if (!is_new) return found->second;
  Raster fine(2 * centre + 1, 2 * centre + 1);
  draw_line(fine, centre, centre, end.x, end.y, static_cast<int>(std::lround(level_.thickness * scale)));
  Stamp s;
  s.image = reduced(fine, side);
  dilate(fine, to.margin * scale);
  const Raster mask = lanczos(fine, side, side);
  s.mask.assign(at(side * width), 0), s.overlap.assign(at(side * width), 255);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      s.mask[at(y * width + x)] = mask(x, y);
      s.overlap[at(y * width + x)] = static_cast<std::uint8_t>(std::min(255, most_overlap - mask(x, y)));
    }
  const int window = level_.length + to.margin;  // the footprint is a square of 2 window + 1, the paddle one pixel off its centre
  for (int y = -window - 1; y < window; ++y)
    for (int x = -window - 1; x < window; ++x)
      if (y + to.reach >= 0 && x + to.reach >= 0 && mask(x + to.reach, y + to.reach) == 255) s.solid.push_back({y + 1, x + 1});
  const auto reaches = [&](int sy, int sx) {
    return std::any_of(s.solid.begin(), s.solid.end(), [&](Point o) { return sy * o.y >= 0 && sx * o.x >= 0; });
  };
  s.seeds = reaches(1, 1) && reaches(1, -1) && reaches(-1, 1) && reaches(-1, -1);
  to.stamps.push_back(std::move(s));
  return found->second;
}

Painter::Margin Painter::prepare(int margin) const {
  Margin out;
  out.margin = margin;
  out.reach = level_.length + static_cast<int>(std::ceil(level_.thickness)) + margin;
  std::map<std::pair<int, int>, int> known;
  const int N = level_.size, low = std::max(2 * level_.seed_distance, level_.padding),
            high = std::min(N - 2 * level_.seed_distance, N - level_.padding);
  for (int d = -180; d < 180; ++d) {
    out.seed_stamp.push_back(stamp(out, known, d * degree));
    const Stamp& paddle = out.stamps[at(out.seed_stamp.back())];
    const auto blocked = [&](Point p) { return inside(p) && (std::min(p.y, p.x) < low || std::max(p.y, p.x) >= high); };
    std::vector<Point> free;
    for (int y = 0; y < N && paddle.seeds; ++y)
      for (int x = 0; x < N; ++x)
        if (std::none_of(paddle.solid.begin(), paddle.solid.end(), [&](Point o) { return blocked({y + o.y, x + o.x}); }))
          free.push_back({y, x});
    out.free.push_back(free);
  }
  const double radius = level_.length + margin, step = 1 / radius;
  for (double angle = 0; angle < 2 * pi; angle += step) {
    const Point o = {static_cast<int>(std::floor(radius * std::sin(angle))), static_cast<int>(std::floor(radius * std::cos(angle)))};
    if (std::any_of(out.candidates.begin(), out.candidates.end(), [&](const Candidate& c) { return c.offset == o; })) continue;
    const double orientation = std::atan2(o.y, o.x);
    out.candidates.push_back({o, orientation, stamp(out, known, orientation + pi)});
  }
  const auto turns_after = [&](double orientation) {
    std::vector<Turn> turns;
    for (std::size_t c = 0; c < out.candidates.size(); ++c) {
      const double turn = level_.bend * wrapped(out.candidates[c].orientation - orientation);
      if (turn < pi / 2) turns.push_back({static_cast<int>(c), std::cos(turn) * std::cos(turn)});
    }
    out.turns.push_back(turns);
  };
  for (int d = -180; d < 180; ++d) turns_after(d * degree);
  for (const Candidate& c : out.candidates) turns_after(c.orientation);
  for (int y = -margin; y <= margin; ++y)
    for (int x = -margin; x <= margin; ++x)
      if (y * y + x * x <= margin * margin) out.disc.push_back({y, x});
  return out;
}

}  // namespace ssm::pathfinder
