// gabor.cpp - a generated stand-in for the Long Range Arena's Image: which orientation do the strong patches of a noisy picture share?
//
//   32 x 32 grey: 3 Gabor patches of the class's orientation (amplitude 1), 3 of random orientations (amplitude 0.6), white noise
//   orientations k 18 degrees, k = 0..9; window variance 16 px^2; frequency U(0.12, 0.20) per px; phase U(0, 2 pi); centre U(6, 26)^2
//
// Phase and place are random, so that a linear classifier of pixels is at chance. Features (1024, 1), row by row.
#include <complex>

#include "generated.hpp"
#include "pixels.hpp"

namespace ssm::gabor {

namespace {
constexpr int side = 32, classes = 10, patches = 6;
constexpr double pi = 3.141592653589793238463, variance = 16;

// Accuracy of an oriented-energy classifier: a lower bound of the ceiling.
struct Row {
  double noise, energy;
};
constexpr Row measured[] = {{.1, .971}, {.3, .966}, {.6, .935}, {1.0, .885}};

// The class with the most oriented energy: fourth powers of the responses of Gabor filters at five frequencies, every second pixel.
// Windows and waves separate, so that a response is two passes over the image.
int strongest_orientation(const std::vector<float>& image) {
  using Complex = std::complex<float>;
  constexpr int reach = 10, width = 2 * reach + 1, frequencies = 5;
  static const std::vector<Complex> filters = [] {  // (class, frequency, axis, width)
    std::vector<Complex> out;
    for (int c = 0; c < classes; ++c)
      for (int f = 0; f < frequencies; ++f)
        for (const double part : {std::cos(pi * c / classes), std::sin(pi * c / classes)})
          for (int d = -reach; d <= reach; ++d)
            out.emplace_back(std::exp(-d * d / (2 * variance)) * std::polar(1.0, 2 * pi * (.12 + .02 * f) * part * d));
    return out;
  }();
  float best = -1;
  int label = 0;
  for (int c = 0; c < classes; ++c) {
    float energy = 0;
    for (int f = 0; f < frequencies; ++f) {
      const Complex* across = &filters[at(Index{2} * width * (c * frequencies + f))] + reach;
      const Complex* down = across + width;
      for (int cx = 4; cx < 29; cx += 2) {
        Complex rows[side];
        for (int y = 0; y < side; ++y) {
          rows[y] = 0;
          for (int x = std::max(0, cx - reach); x < std::min(side, cx + reach + 1); ++x)
            rows[y] += image[at(side * y + x)] * across[x - cx];
        }
        for (int cy = 4; cy < 29; cy += 2) {
          float re = 0, im = 0;  // in parts: the product of two std::complex looks for NaN
          for (int y = std::max(0, cy - reach); y < std::min(side, cy + reach + 1); ++y) {
            const Complex a = rows[y], b = down[y - cy];
            re += a.real() * b.real() - a.imag() * b.imag(), im += a.real() * b.imag() + a.imag() * b.real();
          }
          const float square = re * re + im * im;
          energy += square * square;
        }
      }
    }
    if (energy > best) best = energy, label = c;
  }
  return label;
}
}  // namespace

struct Gabor final : GeneratedTask {
  double noise = .3;

  Gabor() { train_size = 45000, validation_size = 5000, test_size = 10000; }

  void knobs(Knobs& k) override {
    k("noise", noise, {.1, .3, .6, 1}).range(0, 10).note("standard deviation of the white noise; patches have amplitude 1");
    size_knobs(k);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.features = 1;
    out.classes = classes;
    out.max_length = side * side;
    out.about = "orientation of Gabor patches, pixel by pixel (generated stand-in for the Long Range Arena's Image)";
    out.references = {{"chance", "uniform guess", .1, "1 / 10"},
                      {"floor", "linear in the pixels", .1, "phases are random: no pixel has a class mean"}};
    for (const Row& row : measured)
      if (row.noise == noise)
        out.references.push_back(
            {"ceiling", "oriented energy", row.energy, "a lower bound, measured by an independent program on this recipe"});
    out.slices = {{"class", {}}};
    for (int c = 0; c < classes; ++c) out.slices[0].labels.push_back(std::to_string(18 * c) + " deg");
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    Rng rng = keyed_draws(split, index);
    const int label = below(rng, classes);
    out.clear();
    out.features.assign(side * side, 0);
    for (int p = 0; p < patches; ++p) {
      const bool of_class = p < patches / 2;
      const double angle = pi / classes * (of_class ? label : below(rng, classes)), frequency = .12 + .08 * rng.uniform();
      const double phase = 2 * pi * rng.uniform(), cx = 6 + 20 * rng.uniform(), cy = 6 + 20 * rng.uniform();
      // exp and cos separate: cos(a + b) = cos a cos b - sin a sin b.
      double window[2][side], cosine[2][side], sine[2][side];
      for (int i = 0; i < side; ++i)
        for (int axis = 0; axis < 2; ++axis) {
          const double d = i - (axis ? cy : cx),
                       turn = 2 * pi * frequency * d * (axis ? std::sin(angle) : std::cos(angle)) + (axis ? 0 : phase);
          window[axis][i] = std::exp(-d * d / (2 * variance)) * (axis && !of_class ? .6 : 1);
          cosine[axis][i] = std::cos(turn), sine[axis][i] = std::sin(turn);
        }
      for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x)
          out.features[at(y * side + x)] +=
              static_cast<float>(window[0][x] * window[1][y] * (cosine[0][x] * cosine[1][y] - sine[0][x] * sine[1][y]));
    }
    if (noise > 0)
      for (float& f : out.features) f += static_cast<float>(noise * rng.normal());
    out.targets = {label}, out.slices = {label};
  }

  std::vector<Statistic> statistics() const override {
    const auto mean = [](const Example& e) {
      return std::accumulate(e.features.begin(), e.features.end(), 0.0) / double(e.features.size());
    };
    std::vector<Statistic> out = {{"class", (classes - 1) / 2., 0, [](const Example& e) { return double(e.targets[0]); }},
                                  {"mean pixel", 0, .002, mean},
                                  {"mean square of a pixel", mean_square(), .01,
                                   [](const Example& e) {
                                     double sum = 0;
                                     for (const float f : e.features) sum += static_cast<double>(f * f);
                                     return sum / double(e.features.size());
                                   }},
                                  {"shortcut: the mean pixel, -.02 to .02 in ten classes", .1, .01, [mean](const Example& e) {
                                     return double(std::clamp(static_cast<int>((mean(e) + .02) * 250), 0, 9) == e.targets[0]);
                                   }}};
    for (const Row& row : measured)
      if (row.noise == noise)
        out.push_back({"oracle: oriented energy", row.energy, .04,
                       [](const Example& e) { return double(strongest_orientation(e.features) == e.targets[0]); }});
    return out;
  }

  std::string show(const Example& e) const override {
    return picture(e.features, side, 1, pixel_order("rows", side * side), -1.5, 1.5) + "-> " + std::to_string(18 * e.targets[0]) +
           " degrees";
  }

 private:
  // A patch: half its squared window, whose integral pi v is cut at the edges, averaged over centres; v = 16: the share kept on an axis is
  // the mean over c in (6, 26) of the normal mass of [0, 31] around c with deviation sqrt(v / 2).
  double mean_square() const {
    double kept = 0;
    constexpr int steps = 400;
    for (int i = 0; i < steps; ++i) {
      const double c = 6 + 20 * (i + .5) / steps, scale = 1 / std::sqrt(variance);
      kept += (std::erf((31.5 - c) * scale) + std::erf((c + .5) * scale)) / (2 * steps);
    }
    return (3 + 3 * .36) * .5 * pi * variance * kept * kept / (side * side) + noise * noise;
  }
};
SSM_TASK(Gabor, "gabor");

}  // namespace ssm::gabor
