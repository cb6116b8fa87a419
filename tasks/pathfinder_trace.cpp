// The oracle of Pathfinder: from the pixels alone, does a snake lead from disc to disc? It knows the stamps and how a snake goes on, and
// takes a paddle to lie wherever the image is nowhere darker than that paddle.
#include <algorithm>
#include <set>
#include <tuple>

#include "pathfinder_draw.hpp"

namespace ssm::pathfinder {

namespace {

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }

}  // namespace

bool Painter::holds(const Trail& trail, const std::vector<float>& square, int reach, Point centre, double contrast) const {
  constexpr double rounding = 1.5;  // of the pixel and of trail.one
  const int N = level_.size, left = std::max(-reach, -centre.x), right = std::min(reach, N - 1 - centre.x);
  for (int y = std::max(-reach, -centre.y); y <= std::min(reach, N - 1 - centre.y); ++y) {
    const float* wanted = &square[at((y + reach) * (2 * reach + 1) + reach)];
    const float* found = &trail.pixels[at((centre.y + y) * N + centre.x)];
    for (int x = left; x <= right; ++x)
      if (static_cast<double>(found[x]) < contrast * trail.one * static_cast<double>(wanted[x]) - rounding) return false;
  }
  return true;
}

// Two places that hold a disc of the same brightness, which is that of their darkest core pixels: the pair with most pixels of just that.
bool Painter::find_discs(Trail& trail) const {
  struct Place {
    Point at;
    int score;
  };
  const int N = level_.size, side = 2 * disc_reach_ + 1;
  std::vector<Point> core;
  for (int i = 0; i < side * side; ++i)
    if (disc_[at(i)] == 1) core.push_back({i / side - disc_reach_, i % side - disc_reach_});
  std::vector<Place> places[256];
  for (int i = 0; i < N * N; ++i) {
    const Point centre = {i / N, i % N};
    std::vector<float> seen;
    for (const Point o : core)
      if (const Point p = {centre.y + o.y, centre.x + o.x}; inside(p)) seen.push_back(trail.pixels[at(p.y * N + p.x)]);
    if (seen.empty()) continue;
    const float least = *std::min_element(seen.begin(), seen.end());
    trail.one = static_cast<double>(least);
    if (least < 100 || !holds(trail, disc_, disc_reach_, centre, 1)) continue;
    places[static_cast<int>(least)].push_back({centre, static_cast<int>(std::count(seen.begin(), seen.end(), least))});
  }
  int best = 0;
  for (int level = 0; level < 256; ++level) {
    std::vector<Place>& found = places[level];
    if (found.size() < 2) continue;
    std::stable_sort(found.begin(), found.end(), [](const Place& a, const Place& b) { return a.score > b.score; });
    if (found[0].score + found[1].score <= best) continue;
    best = found[0].score + found[1].score;
    trail.one = level, trail.discs[0] = found[0].at, trail.discs[1] = found[1].at;
  }
  return best > 0;
}

// Breadth first: all places that the next paddle of a snake from `from` can have, paddle by paddle.
bool Painter::leads(const Margin& m, const Trail& trail, Point from, Point to) const {
  const double contrast = level_.snake_contrast * level_.paddle_contrast;
  const auto holds_paddle = [&](int stamp, Point centre) { return holds(trail, m.stamps[at(stamp)].image, m.reach, centre, contrast); };
  Snake ends, next, first;
  for (int d = -180; d < 180; ++d)
    if (seed(m, from, d, first) && holds_paddle(first[0].stamp, from)) ends.push_back(first[0]);
  for (int n = 1; n < level_.paddles; ++n) {
    std::set<std::tuple<int, int, int>> tried;
    next.clear();
    for (const Paddle& last : ends) {
      const Point pivot = shift(last.pivot, last.orientation, level_.length + 2 * m.margin);
      for (const Turn& turn : m.turns[at(last.turns)]) {
        const Candidate& c = m.candidates[at(turn.candidate)];
        const Point head = {pivot.y + c.offset.y, pivot.x + c.offset.x};
        if (inside(head) && tried.emplace(pivot.y, pivot.x, turn.candidate).second && holds_paddle(c.stamp, head))
          next.push_back({c.stamp, head, head, pivot, c.orientation, 360 + turn.candidate});
      }
    }
    std::swap(ends, next);
  }
  return std::any_of(ends.begin(), ends.end(), [&](const Paddle& last) { return last.head == to; });
}

bool Painter::traces(const std::vector<float>& pixels) const {
  Trail trail{pixels};
  if (!find_discs(trail)) return false;
  const Point a = trail.discs[0], b = trail.discs[1];
  return std::any_of(margins_.begin(), margins_.end(), [&](const Margin& m) { return leads(m, trail, a, b) || leads(m, trail, b, a); });
}

}  // namespace ssm::pathfinder
