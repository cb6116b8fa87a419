// strokes_draw.hpp - the skeletons of strokes, the pen that draws them, and a reader that knows both.
#pragma once
#include <vector>

namespace ssm::strokes {

constexpr int side = 28, plane = side * side;
constexpr double pi = 3.141592653589793238463;

struct Vec {
  double x, y;
};
using Line = std::vector<Vec>;

// The lines of each digit in a unit box, y downwards.
const std::vector<std::vector<Line>>& digits();

// Ink 0..1 of lines in pixels, row by row: 1 up to `pen` - 1/2 from a line, 0 from `pen` + 1/2 on.
void draw(const std::vector<Line>& lines, double pen, std::vector<float>& ink);

// The digit whose skeleton, bent as drawings of this jitter are, explains the ink best: the oracle (strokes_read.cpp).
int read(const std::vector<float>& ink, double jitter);

}  // namespace ssm::strokes
