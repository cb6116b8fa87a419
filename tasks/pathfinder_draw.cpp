#include "pathfinder_draw.hpp"

#include <algorithm>
#include <cmath>

#include "raster.hpp"

namespace ssm::pathfinder {

namespace {

constexpr double pi = 3.141592653589793238463, degree = pi / 180;
constexpr int scale = 2;  // antialiasing

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }
int below(Rng& rng, int n) { return static_cast<int>(rng.below(static_cast<std::uint32_t>(n))); }

// The whole pixel reached from c: rounded up, with the original's half-pixel drift.
Point shift(Point c, double angle, double distance) {
  return {static_cast<int>(std::ceil(c.y + distance * std::sin(angle))), static_cast<int>(std::ceil(c.x + distance * std::cos(angle)))};
}

double wrapped(double angle) { return std::abs(std::remainder(angle, 2 * pi)); }

std::vector<float> reduced(const Raster& fine, int side) {
  const Raster small = lanczos(fine, side, side);
  std::vector<float> out;
  for (const std::uint8_t v : small.pixels) out.push_back(static_cast<float>(v) / 255.f);
  return out;
}

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

// The occupancy mask, with a rim so that stamps and discs need no bounds checks.
struct Painter::Canvas {
  int size, rim;
  std::vector<float> m;
  float* row(int y) { return &m[at((y + rim) * (size + 2 * rim) + rim)]; }
  const float* row(int y) const { return &m[at((y + rim) * (size + 2 * rim) + rim)]; }
};

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
  s.mask = reduced(fine, side);
  const int window =
      level_.length + to.margin;  // the original's footprint is a square of 2 window + 1, the paddle one pixel off its centre
  for (int y = -window - 1; y < window; ++y)
    for (int x = -window - 1; x < window; ++x)
      if (y + to.reach >= 0 && x + to.reach >= 0 && s.mask[at((y + to.reach) * side + x + to.reach)] >= 1)
        s.solid.push_back({y + 1, x + 1});
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
    std::vector<Point> free;
    for (int y = low; y < high; ++y)
      for (int x = low; x < high; ++x)
        if (const auto& solid = out.stamps[at(out.seed_stamp.back())].solid; std::all_of(
                solid.begin(), solid.end(), [&](Point o) { return y + o.y >= low && y + o.y < high && x + o.x >= low && x + o.x < high; }))
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
  for (int y = -margin; y <= margin; ++y)
    for (int x = -margin; x <= margin; ++x)
      if (y * y + x * x <= margin * margin) out.disc.push_back({y, x});
  return out;
}

bool Painter::seed(const Margin& m, Point tail, int d, Snake& out) const {
  const double orientation = d * degree;
  const Point head = shift(tail, orientation, level_.length), pivot = shift(head, orientation + pi, level_.length + m.margin);
  if (!inside(head) || !inside(pivot) || !inside(tail)) return false;
  out.assign(1, {m.seed_stamp[at(d + 180)], tail, head, pivot, orientation});
  return true;
}

bool Painter::first_two(const Margin& m, Rng& rng, Snake& a, Snake& b) const {
  const auto three_times = [&](auto&& attempt) { return attempt() || attempt() || attempt(); };
  bool room = true;  // an orientation that fits nowhere is no attempt more: the pair has failed
  const auto first = [&] {
    const int d = below(rng, 360) - 180;
    const std::vector<Point>& free = m.free[at(d + 180)];
    room = room && !free.empty();
    return room && seed(m, free[at(below(rng, static_cast<int>(free.size())))], d, a);
  };
  const auto second = [&] {
    const int d = below(rng, 360) - 180, direction = below(rng, 360);
    const double distance = level_.seed_distance;
    const Point tail = {static_cast<int>(std::lround(a[0].at.y + distance * std::sin(direction * degree))),
                        static_cast<int>(std::lround(a[0].at.x + distance * std::cos(direction * degree)))};
    return seed(m, tail, d, b);
  };
  return three_times(first) && three_times(second);
}

void Painter::add_mask(const Margin& m, Canvas& mask, const Paddle& p) const {
  const float* from = m.stamps[at(p.stamp)].mask.data();
  for (int y = -m.reach; y <= m.reach; ++y) {
    float* to = mask.row(p.at.y + y) + p.at.x - m.reach;
    for (int x = 0; x <= 2 * m.reach; ++x, ++from) to[x] = std::max(to[x], *from);
  }
}

// One more paddle. The mask gets the paddle before it, so that a snake may touch its own last joint.
bool Painter::extend(const Margin& m, Rng& rng, Canvas& mask, Snake& snake) const {
  const Paddle& last = snake.back();
  const Point pivot = shift(last.pivot, last.orientation, level_.length + 2 * m.margin);
  double weights[128], total = 0;
  std::size_t n = 0;
  for (const Candidate& c : m.candidates) {
    const Point head = {pivot.y + c.offset.y, pivot.x + c.offset.x};
    const double turn = level_.bend * wrapped(c.orientation - last.orientation);
    double weight = 0;
    if (turn < pi / 2 && inside(head)) {
      float occupied = 0;
      for (const Point o : m.disc) occupied = std::max(occupied, mask.row(head.y + o.y)[head.x + o.x]);
      weight = std::cos(turn) * std::cos(turn) * (1 - static_cast<double>(occupied));
    }
    weights[n++] = total += std::max(weight, 0.0);
  }
  if (total < 1e-4) return false;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const double u = rng.uniform() * total;
    const Candidate& c = m.candidates[at(std::upper_bound(weights, weights + n - 1, u) - weights)];
    const Paddle next = {
        c.stamp, {pivot.y + c.offset.y, pivot.x + c.offset.x}, {pivot.y + c.offset.y, pivot.x + c.offset.x}, pivot, c.orientation};
    const float* from = m.stamps[at(next.stamp)].mask.data();
    float most = 0;
    for (int y = -m.reach; y <= m.reach; ++y) {
      const int row = next.at.y + y;
      for (int x = -m.reach; x <= m.reach; ++x, ++from)
        if (inside({row, next.at.x + x})) most = std::max(most, mask.row(row)[next.at.x + x] + *from);
    }
    if (most >= 1.8f) continue;
    add_mask(m, mask, last);
    snake.push_back(next);
    return true;
  }
  return false;
}

// Where a snake changed the mask: what was there before is put back, so that an attempt costs no copy of the image.
void Painter::copy_squares(const Margin& m, const Snake& snake, const Canvas& from, Canvas& to) const {
  for (const Paddle& p : snake)
    for (int y = -m.reach; y <= m.reach; ++y)
      std::copy_n(from.row(p.at.y + y) + p.at.x - m.reach, 2 * m.reach + 1, to.row(p.at.y + y) + p.at.x - m.reach);
}

// The mask is empty before, and again after a failure.
bool Painter::targets(const Margin& m, Rng& rng, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const {
  if (!first_two(m, rng, snakes[0], snakes[1])) return false;
  int retries = fast_ ? 20 * level_.paddles : 0;
  while (static_cast<int>(snakes[1].size()) < level_.paddles) {
    Snake& next = snakes[snakes[0].size() > snakes[1].size()];
    if (extend(m, rng, mask, next)) continue;
    for (const Snake& s : snakes) copy_squares(m, s, empty, mask);
    if (retries-- <= 0) return false;
    for (Snake& s : snakes)
      for (int drop = 0; drop < 2 && s.size() > 1; ++drop) s.pop_back();
    while (snakes[0].size() > snakes[1].size()) snakes[0].pop_back();
    for (const Snake& s : snakes)
      for (std::size_t i = 0; i + 1 < s.size(); ++i) add_mask(m, mask, s[i]);
  }
  return true;
}

// A uniform pixel around which the footprint touches nothing: by trial, and if that is rare by listing them.
bool Painter::free_pixel(const Canvas& mask, const std::vector<Point>& solid, Rng& rng, Point& out) const {
  constexpr float blocked = .3f;
  constexpr int trials = 100;
  const int inner = level_.size - 2;
  const auto is_free = [&](Point p) {
    return std::all_of(solid.begin(), solid.end(), [&](Point o) {
      return inside({p.y + o.y, p.x + o.x}) && mask.row(p.y + o.y)[p.x + o.x] <= blocked;
    });
  };
  for (int i = 0; i < trials; ++i)
    if (out = {1 + below(rng, inner), 1 + below(rng, inner)}; is_free(out)) return true;
  std::vector<Point> all;
  for (int y = 1; y <= inner; ++y)
    for (int x = 1; x <= inner; ++x)
      if (is_free({y, x})) all.push_back({y, x});
  if (all.empty()) return false;
  out = all[at(below(rng, static_cast<int>(all.size())))];
  return true;
}

bool Painter::distractor(const Margin& m, Rng& rng, Canvas& mask, Snake& out) const {
  out.clear();
  for (int seeds = 0; seeds < 3 && out.empty(); ++seeds) {
    const int d = below(rng, 360) - 180;
    Point tail;
    if (!free_pixel(mask, m.stamps[at(m.seed_stamp[at(d + 180)])].solid, rng, tail)) return false;
    seed(m, tail, d, out);
  }
  if (out.empty()) return false;
  while (static_cast<int>(out.size()) < level_.distractor_paddles)
    if (!extend(m, rng, mask, out)) return false;
  add_mask(m, mask, out.back());
  return true;
}

void Painter::render(const Margin& m, const std::vector<Snake>& snakes, Point origin, Point terminal, std::vector<float>& out) const {
  const int N = level_.size;
  out.assign(at(N * N), 0);
  const auto paste = [&](const std::vector<float>& from, int reach, Point centre, float contrast) {
    for (int y = -reach; y <= reach; ++y)
      for (int x = -reach; x <= reach; ++x)
        if (const Point p = {centre.y + y, centre.x + x}; inside(p))
          out[at(p.y * N + p.x)] = std::max(out[at(p.y * N + p.x)], contrast * from[at((y + reach) * (2 * reach + 1) + x + reach)]);
  };
  for (std::size_t s = 0; s < snakes.size(); ++s)
    for (const Paddle& p : snakes[s])
      paste(m.stamps[at(p.stamp)].image, m.reach, p.at,
            static_cast<float>(s < 2 ? level_.snake_contrast * level_.paddle_contrast : level_.snake_contrast));
  for (const Point p : {origin, terminal}) paste(disc_, disc_reach_, p, 1);
  const auto [least, most] = std::minmax_element(out.begin(), out.end());
  const float low = *least, range = *most - *least;
  for (float& v : out) v = std::floor((v - low) / range * 255 + .4999f);
}

Scene Painter::draw(Rng& rng) const {
  const Margin& m = margins_[at(below(rng, static_cast<int>(margins_.size())))];
  const int N = level_.size, rim = level_.length + 2 * m.reach + 8;
  Canvas bordered{N, rim, std::vector<float>(at((N + 2 * rim) * (N + 2 * rim)), 0)};
  for (int y = 0; y < N; ++y)
    for (int x = 0; x < N; ++x)
      if (std::min({y, x, N - 1 - y, N - 1 - x}) < level_.padding) bordered.row(y)[x] = 1;
  Scene out{};
  std::vector<Snake> snakes;
  Snake pair[2];
  Canvas mask = bordered;
  do {
    ++out.attempts;
  } while (!targets(m, rng, bordered, mask, pair));
  snakes.assign(std::begin(pair), std::end(pair));
  add_mask(m, mask, pair[1].back());  // not the newest paddle of the first snake: so in the original
  Canvas saved = mask;
  for (int d = 0; d < level_.distractors; ++d)
    for (int attempt = 0; attempt < 5; ++attempt) {
      Snake snake;
      const bool complete = distractor(m, rng, mask, snake);
      copy_squares(m, snake, complete ? mask : saved, complete ? saved : mask);
      if (!complete) continue;
      snakes.push_back(snake);
      break;
    }
  out.distractors = static_cast<int>(snakes.size()) - 2;
  out.connected = below(rng, 2) == 1;
  const std::size_t from = at(below(rng, 2)), to = out.connected ? from : 1 - from;
  out.origin = snakes[from][0].at, out.terminal = snakes[to].back().head;
  render(m, snakes, out.origin, out.terminal, out.pixels);
  return out;
}

}  // namespace ssm::pathfinder
