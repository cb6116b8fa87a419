#include "pathfinder_draw.hpp"

#include <algorithm>
#include <cmath>

namespace ssm::pathfinder {

namespace {

constexpr double pi = 3.141592653589793238463;

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }
int below(Rng& rng, int n) { return static_cast<int>(rng.below(static_cast<std::uint32_t>(n))); }

}  // namespace

// The occupancy mask 0..255, with a rim so that stamps and discs need no bounds checks. What stamps leave in the rim is never asked for
// alone: a footprint that reaches there covers the blocked border too.
struct Painter::Canvas {
  int size, rim;
  std::vector<std::uint8_t> m;
  std::uint8_t* row(int y) { return &m[at((y + rim) * (size + 2 * rim) + rim)]; }
  const std::uint8_t* row(int y) const { return &m[at((y + rim) * (size + 2 * rim) + rim)]; }
};

bool Painter::seed(const Margin& m, Point tail, int d, Snake& out) const {
  const double orientation = d * degree;
  const Point head = shift(tail, orientation, level_.length), pivot = shift(head, orientation + pi, level_.length + m.margin);
  if (!inside(head) || !inside(pivot) || !inside(tail)) return false;
  out.assign(1, {m.seed_stamp[at(d + 180)], tail, head, pivot, orientation, d + 180});
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
    const Point tail = {static_cast<int>(std::nearbyint(a[0].at.y + distance * std::sin(direction * degree))),
                        static_cast<int>(std::nearbyint(a[0].at.x + distance * std::cos(direction * degree)))};
    return seed(m, tail, d, b);
  };
  return three_times(first) && three_times(second);
}

void Painter::add_mask(const Margin& m, Canvas& mask, const Paddle& p) const {
  const std::uint8_t* from = m.stamps[at(p.stamp)].mask.data();
  for (int y = -m.reach; y <= m.reach; ++y, from += width) {
    std::uint8_t* to = mask.row(p.at.y + y) + p.at.x - m.reach;
    std::uint8_t row[width];
    for (int x = 0; x < width; ++x) row[x] = std::max(to[x], from[x]);
    std::copy_n(row, width, to);
  }
}

bool Painter::overlaps(const Margin& m, const Canvas& mask, const Paddle& p) const {
  const std::uint8_t* most = m.stamps[at(p.stamp)].overlap.data();
  std::uint8_t found = 0;
  for (int y = -m.reach; y <= m.reach; ++y, most += width) {
    const std::uint8_t* row = mask.row(p.at.y + y) + p.at.x - m.reach;
    for (int x = 0; x < width; ++x) found = static_cast<std::uint8_t>(found | (row[x] > most[x]));
  }
  return found != 0;
}

// One more paddle. The mask gets the paddle before it, so that a snake may touch its own last joint.
bool Painter::extend(const Margin& m, Rng& rng, Canvas& mask, Snake& snake) const {
  const Paddle& last = snake.back();
  const Point pivot = shift(last.pivot, last.orientation, level_.length + 2 * m.margin);
  const std::vector<Turn>& turns = m.turns[at(last.turns)];
  double weights[128], total = 0;
  std::size_t n = 0;
  for (const Turn& turn : turns) {
    const Point offset = m.candidates[at(turn.candidate)].offset, head = {pivot.y + offset.y, pivot.x + offset.x};
    if (inside(head)) {
      int occupied = 0;
      for (const Point o : m.disc) occupied = std::max<int>(occupied, mask.row(head.y + o.y)[head.x + o.x]);
      total += turn.weight * (255 - occupied) / 255;
    }
    weights[n++] = total;
  }
  if (total < 1e-4) return false;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const double u = rng.uniform() * total;
    const int chosen = turns[at(std::upper_bound(weights, weights + n - 1, u) - weights)].candidate;
    const Candidate& c = m.candidates[at(chosen)];
    const Point head = {pivot.y + c.offset.y, pivot.x + c.offset.x};
    const Paddle next = {c.stamp, head, head, pivot, c.orientation, 360 + chosen};
    if (overlaps(m, mask, next)) continue;
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

// Takes the last two paddles of either snake away. The mask holds all but the newest of each: what lay under the dropped ones is put back,
// then the paddles that reach into there.
void Painter::drop(const Margin& m, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const {
  const std::size_t kept = std::max<std::size_t>(std::min(snakes[0].size(), snakes[1].size()), 3) - 2;
  Snake lost;
  for (Snake& s : snakes) {
    lost.insert(lost.end(), s.begin() + static_cast<std::ptrdiff_t>(kept) - 1, s.end());
    s.resize(kept);
  }
  copy_squares(m, lost, empty, mask);
  for (const Snake& s : snakes)
    for (std::size_t i = 0; i + 1 < kept; ++i)
      if (std::any_of(lost.begin(), lost.end(),
                      [&](const Paddle& l) { return std::max(std::abs(l.at.y - s[i].at.y), std::abs(l.at.x - s[i].at.x)) <= 2 * m.reach; }))
        add_mask(m, mask, s[i]);
}

// The mask is empty before, and again after a failure.
bool Painter::targets(const Margin& m, Rng& rng, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const {
  if (!first_two(m, rng, snakes[0], snakes[1])) return false;
  int retries = fast_ ? 2 * level_.paddles : 0;  // more only prolong the lives of snakes that will not fit
  while (static_cast<int>(snakes[1].size()) < level_.paddles) {
    Snake& next = snakes[snakes[0].size() > snakes[1].size()];
    if (extend(m, rng, mask, next)) continue;
    if (retries-- <= 0) {
      for (const Snake& s : snakes) copy_squares(m, s, empty, mask);
      return false;
    }
    drop(m, empty, mask, snakes);
  }
  return true;
}

// A uniform pixel around which the footprint touches nothing: by trial, and if that is rare by listing them.
bool Painter::free_pixel(const Canvas& mask, const Stamp& paddle, Rng& rng, Point& out) const {
  constexpr int blocked = 76;  // .3
  constexpr int trials = 100;
  if (!paddle.seeds) return false;
  const auto is_free = [&](Point p) {
    return std::all_of(paddle.solid.begin(), paddle.solid.end(),
                       [&](Point o) { return mask.row(p.y + o.y)[p.x + o.x] <= blocked; });  // beyond the image nothing is blocked
  };
  for (int i = 0; i < trials; ++i)
    if (out = {below(rng, level_.size), below(rng, level_.size)}; is_free(out)) return true;
  std::vector<Point> all;
  for (int y = 0; y < level_.size; ++y)
    for (int x = 0; x < level_.size; ++x)
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
    if (!free_pixel(mask, m.stamps[at(m.seed_stamp[at(d + 180)])], rng, tail)) return false;
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
    const int left = std::max(-reach, -centre.x), right = std::min(reach, N - 1 - centre.x);
    for (int y = std::max(-reach, -centre.y); y <= std::min(reach, N - 1 - centre.y); ++y) {
      const float* row = &from[at((y + reach) * (2 * reach + 1) + reach)];
      float* to = &out[at((centre.y + y) * N + centre.x)];
      for (int x = left; x <= right; ++x) to[x] = std::max(to[x], contrast * row[x]);
    }
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
  const int N = level_.size, rim = level_.length + 2 * m.reach + width;
  Canvas bordered{N, rim, std::vector<std::uint8_t>(at((N + 2 * rim) * (N + 2 * rim)), 0)};
  for (int y = 0; y < N; ++y)
    for (int x = 0; x < N; ++x)
      if (std::min({y, x, N - 1 - y, N - 1 - x}) < level_.padding) bordered.row(y)[x] = 255;
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
