// The oracle of pendulum: a particle filter that knows the law of motion and how pictures fade, and sees no later picture.
//
// A picture is f clean + (1 - f) noise with noise of mean 127.5 and variance (256^2 - 1) / 12; f is unknown, the same likelihood is
// averaged over eleven values of it. Particles (theta, omega) begin with theta uniform and omega 0 and are resampled at every picture.
#include <algorithm>
#include <array>
#include <numeric>

#include "pendulum_draw.hpp"
#include "rng.hpp"

namespace ssm::pendulum {

namespace {

constexpr int particles = 400, angles = 360, fades = 11, plane = side * side, coarse = 10;
constexpr double jitter = .01;  // of resampled angles, about what an integer end of the drawn line leaves open
constexpr double blur = 30;     // deviation of a pixel from the picture of the nearest of `angles`

struct Picture {
  std::array<float, plane> pixel;
  double sum = 0, squares = 0;
};

const std::vector<Picture>& pictures() {
  static const std::vector<Picture> all = [] {
    std::vector<Picture> out(angles);
    for (int a = 0; a < angles; ++a) {
      const std::vector<std::uint8_t> bytes = clean_picture(2 * pi * a / angles);
      Picture& p = out[static_cast<std::size_t>(a)];
      std::copy(bytes.begin(), bytes.end(), p.pixel.begin());
      for (const double v : bytes) p.sum += v, p.squares += v * v;
    }
    return out;
  }();
  return all;
}

// log p(picture | angle) up to a constant, for each of `angles`.
std::vector<double> log_likelihood(const float* seen) {
  double sum = 0, squares = 0;
  std::array<float, plane> x;
  for (int i = 0; i < plane; ++i) x[static_cast<std::size_t>(i)] = 255 * seen[i];
  for (const double v : x) sum += v, squares += v * v;
  std::vector<double> out;
  for (const Picture& p : pictures()) {
    const double product = std::inner_product(x.begin(), x.end(), p.pixel.begin(), 0.f);
    std::array<double, fades> at_fade;
    for (int k = 0; k < fades; ++k) {
      const double f = static_cast<double>(k) / (fades - 1), c = 127.5 * (1 - f), deviation = std::hypot(blur, (1 - f) * 73.9);
      const double distance = squares - 2 * c * sum + plane * c * c - 2 * f * (product - c * p.sum) + f * f * p.squares;
      at_fade[static_cast<std::size_t>(k)] = -distance / (2 * deviation * deviation) - plane * std::log(deviation);
    }
    const double best = *std::max_element(at_fade.begin(), at_fade.end());
    double all = 0;
    for (const double l : at_fade) all += std::exp(l - best);
    out.push_back(best + std::log(all));
  }
  return out;
}

}  // namespace

std::vector<double> filtered(const Example& e) {
  struct Particle {
    double theta, omega, weight;
  };
  Rng rng(1, hash_name("pendulum/filter"), 0);
  std::vector<Particle> all(particles), chosen;
  for (int i = 0; i < particles; ++i) all[static_cast<std::size_t>(i)] = {2 * pi * i / particles, 0, 1};
  std::vector<double> out;
  for (std::size_t k = 0; k < kept; ++k) {
    const float* seen = &e.features[k * (plane + 1)];
    for (int stamp = static_cast<int>(seen[plane]); stamp > 0; --stamp)
      for (Particle& p : all) swing(p.theta, p.omega, coarse), p.omega += kick * rng.normal();
    const std::vector<double> likelihood = log_likelihood(seen);
    const double best = *std::max_element(likelihood.begin(), likelihood.end());
    double total = 0, sine = 0, cosine = 0;
    for (Particle& p : all) {
      const double turn = (p.theta - pi) * angles / (2 * pi);
      const int a = static_cast<int>(std::lround(turn)) % angles;
      p.weight = std::exp(likelihood[static_cast<std::size_t>(a < 0 ? a + angles : a)] - best) + 1e-100;
      total += p.weight, sine += p.weight * std::sin(p.theta - pi), cosine += p.weight * std::cos(p.theta - pi);
    }
    out.push_back(sine / total), out.push_back(cosine / total);
    chosen.clear();
    double upto = 0, at = total / particles * rng.uniform();
    for (const Particle& p : all)
      for (upto += p.weight; at < upto && chosen.size() < particles; at += total / particles)
        chosen.push_back({p.theta + jitter * rng.normal(), p.omega, 1});
    while (chosen.size() < particles) chosen.push_back(all.back());
    all.swap(chosen);
  }
  return out;
}

}  // namespace ssm::pendulum
