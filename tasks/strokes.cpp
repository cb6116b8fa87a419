// strokes.cpp - a generated stand-in for MNIST: ten digit-like skeletons, bent, drawn with a pen, 28 x 28, pixel by pixel.
//
//   a skeleton of arcs and lines in a unit box; with the jitter J and standard normal n: rotation 0.25 J n, axis scales 1 + 0.12 J n, shear
//   0.2 J n, translation 1.2 J n px, a sine warp of amplitude 0.06 J n in either axis; pen half-width U(1, 1.5) px; noise; clipped to [0, 1]
//
// J = 1 is about as hard as MNIST for simple classifiers; at J = 1.5 linear and template methods fail. Orders as in mnist.
#include "generated.hpp"
#include "pixels.hpp"
#include "strokes_draw.hpp"

namespace ssm::strokes {

namespace {

// Part of an ellipse, angles in turns, y downwards.
Line arc(double cx, double cy, double rx, double ry, double from, double to) {
  Line out;
  for (int i = 0; i <= 12; ++i) {
    const double a = 2 * pi * (from + (to - from) * i / 12);
    out.push_back({cx + rx * std::cos(a), cy + ry * std::sin(a)});
  }
  return out;
}

double distance(const Vec& p, const Vec& a, const Vec& b) {
  const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  const double t = length > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}
}  // namespace

const std::vector<std::vector<Line>>& digits() {
  static const std::vector<std::vector<Line>> all = {
      {arc(.5, .5, .3, .42, 0, 1)},
      {{{.35, .25}, {.55, .08}, {.55, .92}}},
      {arc(.5, .3, .28, .22, .5, 1.1), {{.72, .45}, {.22, .92}, {.8, .92}}},
      {arc(.47, .29, .26, .21, .55, 1.25), arc(.47, .71, .29, .21, -.25, .45)},
      {{{.62, .92}, {.62, .08}, {.18, .62}, {.82, .62}}},
      {{{.75, .08}, {.3, .08}, {.26, .46}}, arc(.48, .66, .28, .26, -.35, .4)},
      {{{.66, .08}, {.36, .4}, {.24, .66}}, arc(.5, .68, .26, .24, 0, 1)},
      {{{.2, .08}, {.8, .08}, {.42, .92}}},
      {arc(.5, .28, .22, .2, 0, 1), arc(.5, .71, .27, .22, 0, 1)},
      {arc(.5, .32, .25, .24, 0, 1), {{.75, .32}, {.7, .65}, {.55, .92}}},
  };
  return all;
}

void draw(const std::vector<Line>& lines, double pen, std::vector<float>& ink) {
  ink.assign(plane, 0);
  for (const Line& line : lines)
    for (std::size_t i = 0; i + 1 < line.size(); ++i) {
      const auto [left, right] = std::minmax(line[i].x, line[i + 1].x);
      const auto [top, bottom] = std::minmax(line[i].y, line[i + 1].y);
      for (int y = std::max(0, int(top - 3)); y <= std::min(side - 1, int(bottom + 3)); ++y)
        for (int x = std::max(0, int(left - 3)); x <= std::min(side - 1, int(right + 3)); ++x) {
          const double value = std::clamp(pen + .5 - distance({double(x), double(y)}, line[i], line[i + 1]), 0.0, 1.0);
          ink[at(y * side + x)] = std::max(ink[at(y * side + x)], static_cast<float>(value));
        }
    }
}

struct Strokes final : GeneratedTask {
  double jitter = 1.5, noise = .1;
  std::string order = "rows";
  std::vector<int> reading;

  Strokes() { train_size = 54000, validation_size = 6000, test_size = 10000; }

  void knobs(Knobs& k) override {
    k("jitter", jitter, {1, 1.5, 2}).range(0, 4).note("how much the skeletons are bent, J");
    k("noise", noise, {.1, .3}).range(0, 1).note("standard deviation of the pixel noise");
    k("order", order, {"rows", "permuted", "reversed-bits"}).note("order in which pixels are read, as in mnist");
    size_knobs(k);
  }
  void check() override { reading = pixel_order(order, plane); }

  TaskInfo info() const override {
    TaskInfo out;
    out.features = 1;
    out.classes = 10;
    out.max_length = plane;
    out.about = "digit-like drawings, pixel by pixel (generated stand-in for MNIST); jitter 1 as hard as MNIST, 1.5 to tell models apart";
    out.references = {{"chance", "uniform guess", .1, "1 / 10"}};
    if (usual()) {
      out.references.push_back({"floor", "nearest neighbour among 2,000 drawings", .6, "300 drawings, +-.11, tests/test_task_images.cpp"});
      out.references.push_back({"floor", "the mean pixel", kMeanPixel, "nearest class mean, 4,000 drawings, +-.03"});
      out.references.push_back({"ceiling", "bends every skeleton onto the ink", kOracle, "a lower bound, 1,000 drawings, +-.02"});
    }
    out.slices = {{"digit", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    Rng rng = keyed_draws(split, index);
    const int label = below(rng, 10);
    double n[9];
    for (double& v : n) v = jitter * rng.normal();
    const double turn = .25 * n[0], c = std::cos(turn), s = std::sin(turn), sx = 1 + .12 * n[1], sy = 1 + .12 * n[2], shear = .2 * n[3];
    const double phase_x = 2 * pi * rng.uniform(), phase_y = 2 * pi * rng.uniform(), pen = 1 + .5 * rng.uniform();
    std::vector<Line> lines = digits()[at(label)];
    for (Line& line : lines)
      for (Vec& p : line) {
        const double wx = p.x - .5 + .06 * n[6] * std::sin(2 * pi * p.y + phase_x),
                     wy = p.y - .5 + .06 * n[7] * std::sin(2 * pi * p.x + phase_y);
        const double x = sx * (wx + shear * wy), y = sy * wy;
        p = {13.5 + 20 * (c * x - s * y) + 1.2 * n[4], 13.5 + 20 * (s * x + c * y) + 1.2 * n[5]};
      }
    static thread_local std::vector<float> ink;
    draw(lines, pen, ink);
    if (noise > 0)
      for (float& v : ink) v = std::clamp(v + static_cast<float>(noise * rng.normal()), 0.f, 1.f);
    out.clear();
    for (const int p : reading) out.features.push_back(ink[at(p)]);
    out.targets = {label}, out.slices = {label};
  }

  std::vector<Statistic> statistics() const override {
    const auto mean = [](const Example& e) { return std::accumulate(e.features.begin(), e.features.end(), 0.0) / plane; };
    std::vector<Statistic> out = {{"digit", 4.5, 0, [](const Example& e) { return double(e.targets[0]); }},
                                  {"mean pixel at noise 0.1 (MNIST .131)", .164, noise == .1 ? .01 : 1, mean}};
    if (!usual()) return out;
    out.push_back({"oracle: bends every skeleton onto the ink", kOracle, .03, [this](const Example& e) {
                     std::vector<float> ink(plane);
                     for (std::size_t i = 0; i < plane; ++i) ink[at(reading[i])] = e.features[i];
                     return double(read(ink, jitter) == e.targets[0]);
                   }});
    out.push_back({"shortcut: the digit of the nearest mean pixel", kMeanPixel, .02, [mean](const Example& e) {
                     // Of 8,000 drawings.
                     static constexpr double means[] = {.181, .111, .177, .173, .163, .178, .167, .134, .202, .166};
                     const auto farther = [x = mean(e)](double a, double b) { return std::abs(a - x) < std::abs(b - x); };
                     return double(std::min_element(means, means + 10, farther) - means == e.targets[0]);
                   }});
    return out;
  }

  std::string show(const Example& e) const override {
    return picture(e.features, side, 1, reading, 0, 1) + "-> " + std::to_string(e.targets[0]);
  }

 private:
  static constexpr double kOracle = .972, kMeanPixel = .27;
  bool usual() const { return jitter == 1.5 && noise == .1; }
};
SSM_TASK(Strokes, "strokes");

}  // namespace ssm::strokes
