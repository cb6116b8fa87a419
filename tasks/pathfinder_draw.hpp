// pathfinder_draw.hpp - the images of Pathfinder: two snakes of paddles, discs on two of their ends, distractors.
//
// After snakes2.py of drewlinsley/pathfinder with the parameters of the Long Range Arena; coordinates are (row, column) = (y, x), angles
// in radians, row += sin, column += cos. All paddles are one of few pre-rendered stamps, since their ends are whole pixels.
#pragma once
#include <map>
#include <vector>

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

 private:
  // A paddle drawn from the centre of a square of 2 reach + 1 pixels. mask: the paddle and its margin, 0..1.
  struct Stamp {
    std::vector<float> image, mask;
    std::vector<Point> solid;  // where the mask is 1, as a footprint of dilation
  };
  struct Candidate {
    Point offset;        // head - pivot
    double orientation;  // of that offset
    int stamp;           // drawn from the head backwards
  };
  struct Margin {  // all that depends on the margin
    int margin, reach;
    std::vector<Stamp> stamps;
    std::vector<int> seed_stamp;           // by whole degree + 180
    std::vector<std::vector<Point>> free;  // first pixels of the first snake, by whole degree + 180
    std::vector<Candidate> candidates;
    std::vector<Point> disc;  // of radius margin
  };
  struct Paddle {
    int stamp;
    Point at, head, pivot;
    double orientation;
  };
  using Snake = std::vector<Paddle>;
  struct Canvas;

  Margin prepare(int margin) const;
  int stamp(Margin& to, std::map<std::pair<int, int>, int>& known, double orientation) const;
  bool inside(Point p) const { return p.y >= 0 && p.x >= 0 && p.y < level_.size && p.x < level_.size; }
  bool seed(const Margin& m, Point tail, int degree, Snake& out) const;
  bool first_two(const Margin& m, Rng& rng, Snake& a, Snake& b) const;
  bool extend(const Margin& m, Rng& rng, Canvas& mask, Snake& snake) const;
  bool targets(const Margin& m, Rng& rng, const Canvas& empty, Canvas& mask, Snake (&snakes)[2]) const;
  bool free_pixel(const Canvas& mask, const std::vector<Point>& solid, Rng& rng, Point& out) const;
  bool distractor(const Margin& m, Rng& rng, Canvas& mask, Snake& out) const;
  void add_mask(const Margin& m, Canvas& mask, const Paddle& p) const;
  void copy_squares(const Margin& m, const Snake& snake, const Canvas& from, Canvas& to) const;
  void render(const Margin& m, const std::vector<Snake>& snakes, Point origin, Point terminal, std::vector<float>& out) const;

  Level level_;
  bool fast_;
  std::vector<Margin> margins_;
  std::vector<float> disc_;  // square of 2 disc_reach_ + 1
  int disc_reach_;
};

}  // namespace ssm::pathfinder
