// pathfinder_draw.hpp - the images of Pathfinder: two snakes of paddles, discs on two of their ends, distractors.
//
// After snakes2.py of drewlinsley/pathfinder with the parameters of the Long Range Arena; coordinates are (row, column) = (y, x), angles
// in radians, row += sin, column += cos. All paddles are one of few pre-rendered stamps, since their ends are whole pixels.
//
// The first paddle of a snake is put where its footprint, pushed off its centre by one pixel, touches nothing. The original dilates the
// whole mask with that footprint, and where the footprint lies beyond the image altogether the dilation leaves the smallest number of its
// type, which the original then takes for a full mask. So a paddle that points away from a corner has no room anywhere: at 32 pixels 92 %
// of the orientations. Hence the many attempts, and the few distractors.
#pragma once
#include <cmath>
#include <map>
#include <vector>

#include "real.hpp"
#include "rng.hpp"

namespace ssm::pathfinder {

struct Level {
  int size;                    // pixels N of a side
  int paddles;                 // paddles of a target snake
  int length;                  // of a paddle in pixels
  double thickness;            // of a paddle
  std::vector<int> margins;    // one of these is drawn per image
  int padding, seed_distance;  // blocked border; distance of the snakes' first pixels
  double bend;                 // a paddle turns by at most 90 / bend degrees
  double disc;                 // radius of the markers
  int distractor_paddles, distractors;
  double snake_contrast, paddle_contrast;
};

// 32, 64, 128 (Path-X) or 256 with `paddles` per snake (6, 9, 14 are published); distractors have a third of them.
Level level(int size, int paddles);

struct Point {
  int y, x;
  bool operator==(const Point&) const = default;
};

// The whole pixel reached from c: rounded up, with the original's half-pixel drift.
inline Point shift(Point c, double angle, double distance) {
  return {static_cast<int>(std::ceil(c.y + distance * std::sin(angle))), static_cast<int>(std::ceil(c.x + distance * std::cos(angle)))};
}

constexpr double degree = 3.141592653589793238463 / 180;

struct Scene {
  bool connected;
  Point origin, terminal;     // the two discs
  int attempts;               // pairs of snakes that were begun
  int distractors;            // snakes beside the two
  std::vector<float> pixels;  // N * N, stretched to 0..255, whole numbers
};

class Painter {
 public:
  Painter(const Level& level, bool fast);
  // fast: a snake that is stuck loses its last paddle instead of restarting both, which makes snakes a little more curled.
  Scene draw(Rng& rng) const;
  // Whether these N * N pixels, 0..255, show a snake of all paddles from one disc to the other (pathfinder_trace.cpp). Misses none, and
  // takes about one in fifty separate pairs for one: snakes so close that a third could be drawn along both.
  bool traces(const std::vector<float>& pixels) const;
  // In how many places the first paddle of the first snake may begin, at this whole degree (-180..179), with the margin of this index.
  Index first_pixels(std::size_t margin, int whole_degree) const {
    return static_cast<Index>(margins_.at(margin).free.at(static_cast<std::size_t>(whole_degree + 180)).size());
  }

 private:
  // A paddle drawn from the centre of a square of 2 reach + 1 pixels. mask: the paddle and its margin, 0..255, in rows of `width` bytes
  // with zeros behind, so that what is done to a row is a few vector instructions. overlap: the largest values of the occupancy mask that
  // the paddle may lie on, 255 where any may be.
  static constexpr int width = 32;
  struct Stamp {
    std::vector<float> image;
    std::vector<std::uint8_t> mask, overlap;
    std::vector<Point> solid;  // where the mask is 1, as a footprint of dilation
    bool seeds;                // see the head of the file
  };
  struct Candidate {
    Point offset;        // head - pivot
    double orientation;  // of that offset
    int stamp;           // drawn from the head backwards
  };
  struct Turn {
    int candidate;
    double weight;  // of this candidate on a free pixel, after the orientation whose list this stands in
  };
  struct Margin {  // all that depends on the margin
    int margin, reach;
    std::vector<Stamp> stamps;
    std::vector<int> seed_stamp;           // by whole degree + 180
    std::vector<std::vector<Point>> free;  // first pixels of the first snake, by whole degree + 180
    std::vector<Candidate> candidates;
    std::vector<std::vector<Turn>> turns;  // by orientation of the paddle before: whole degree + 180, then 360 + candidate
    std::vector<Point> disc;               // of radius margin
  };
  struct Paddle {
    int stamp;
    Point at, head, pivot;
    double orientation;
    int turns;  // index into Margin::turns
  };
  using Snake = std::vector<Paddle>;
  struct Trail {  // an image that is read
    const std::vector<float>& pixels;
    double one = 0;  // what contrast 1 became when the image was stretched
    Point discs[2] = {};
  };
  struct Canvas;

  Margin prepare(int margin) const;
  int stamp(Margin& to, std::map<std::pair<int, int>, int>& known, double orientation) const;
  bool inside(Point p) const { return p.y >= 0 && p.x >= 0 && p.y < level_.size && p.x < level_.size; }
  bool seed(const Margin& m, Point tail, int degree, Snake& out) const;
  bool first_two(const Margin& m, Rng& rng, Snake& a, Snake& b) const;
  bool overlaps(const Margin& m, const Canvas& mask, const Paddle& p) const;
  bool extend(const Margin& m, Rng& rng, Canvas& mask, Snake& snake) const;
  void drop(const Margin& m, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const;
  bool targets(const Margin& m, Rng& rng, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const;
  bool free_pixel(const Canvas& mask, const Stamp& paddle, Rng& rng, Point& out) const;
  bool distractor(const Margin& m, Rng& rng, Canvas& mask, Snake& out) const;
  void add_mask(const Margin& m, Canvas& mask, const Paddle& p) const;
  void copy_squares(const Margin& m, const Snake& snake, const Canvas& from, Canvas& to) const;
  void render(const Margin& m, const std::vector<Snake>& snakes, Point origin, Point terminal, std::vector<float>& out) const;
  // Whether the image is at least as bright as this square around `centre`.
  bool holds(const Trail& trail, const std::vector<float>& square, int reach, Point centre, double contrast) const;
  bool find_discs(Trail& trail) const;
  bool leads(const Margin& m, const Trail& trail, Point from, Point to) const;

  Level level_;
  bool fast_;
  std::vector<Margin> margins_;
  std::vector<float> disc_;  // square of 2 disc_reach_ + 1
  int disc_reach_;
};

}  // namespace ssm::pathfinder
