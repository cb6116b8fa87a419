// pendulum.cpp - where is the pendulum? Noisy pictures at irregular times (continuous recurrent units, S5).
//
//   the bob: angular acceleration 29.43 sin(theta) - 0.1 omega, theta from the upright position, Euler steps of 1e-4 (velocity first),
//   theta_0 uniform, omega_0 = 0; at every stamp of 0.01 omega gets N(0, 0.1^2); 100 stamps, of which 50 are kept
//   features (50, 577): a 24 x 24 picture, 0..1, faded into noise for stretches of time, and the time since the last kept stamp in stamps
//   values (50, 2): sin and cos of theta - pi at every kept stamp
//
// After pendulum_generation.py of Continuous-Recurrent-Units. Time steps are an input channel, and what model.gaps = given takes.
#include "generated.hpp"
#include "pendulum_draw.hpp"
#include "pixels.hpp"

namespace ssm::pendulum {

struct Pendulum final : GeneratedTask {
  bool image_noise = true;

  Pendulum() { train_size = 2000, validation_size = test_size = 1000; }

  void knobs(Knobs& k) override {
    k("image_noise", image_noise).note("pictures fade into noise; off: the noise alone comes from the irregular stamps");
    size_knobs(k);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::series;
    out.features = side * side + 1;
    out.classes = 2;
    out.max_length = kept;
    out.metric = "mse";
    out.time_feature = side * side;
    out.mean_gap = 1.96;
    out.about = "sine and cosine of a pendulum's angle from noisy pictures at irregular times (CRU, S5)";
    out.references = {{"chance", "best constant", .429, "2,000 sequences of an independent program"},
                      {"floor", "the true value of 5 stamps ago", .027, "20,000 sequences of an independent program"},
                      {"ceiling", "a particle filter", oracle(), "knows the law of motion, sees no later picture; 3,000 sequences"}};
    const std::pair<const char*, double> published[] = {{"S5", 3.41},      {"CRU", 4.63}, {"GRU-dt", 5.44}, {"RKN-dt", 5.09},
                                                        {"ODE-RNN", 7.26}, {"RKN", 8.43}, {"GRU", 9.44},    {"mTAND", 65.64}};
    for (const auto& [label, value] : published)
      out.references.push_back({"published", label, value * 1e-3, "S5 paper's table, from memory, not confirmed"});
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    Rng rng = keyed_draws(split, index);
    double theta = 2 * pi * rng.uniform(), omega = 0, fade = rng.uniform();
    const double low = .25 * rng.uniform(), high = .75 + .25 * rng.uniform();
    std::vector<std::int32_t> chosen;
    different(rng, stamps, kept, chosen);
    std::sort(chosen.begin(), chosen.end());
    out.clear();
    std::size_t next = 0;
    for (int s = 0, previous = 0; s < stamps && next < kept; ++s) {
      const double seen = theta - pi + 1e-5 * rng.normal();
      if (chosen[next] == s) {
        const double clear = !image_noise || s < 5 ? 1 : std::clamp((fade - low) / (high - low), 0.0, 1.0);
        photograph(rng, seen, clear, out.features);
        out.features.push_back(static_cast<float>(s - previous));
        out.values.push_back(static_cast<float>(std::sin(theta - pi))), out.values.push_back(static_cast<float>(std::cos(theta - pi)));
        previous = s, ++next;
      }
      fade = std::clamp(fade + .4 * rng.uniform() - .2, 0.0, 1.0);
      swing(theta, omega, substeps);
      omega += kick * rng.normal();
      theta = std::remainder(theta, 2 * pi);
    }
  }

  std::vector<Statistic> statistics() const override {
    const auto value = [](const Example& e, std::size_t k) { return static_cast<double>(e.values[k]); };
    const auto mean = [value](std::size_t first) {
      return [=](const Example& e) {
        double sum = 0;
        for (std::size_t k = first; k < e.values.size(); k += 2) sum += value(e, k) / kept;
        return sum;
      };
    };
    std::vector<Statistic> out = {{"mean of the sine", 0, .005, mean(0)},
                                  {"mean of the cosine", .376, .005, mean(1)},
                                  {"shortcut: the best constant (0, .376), squared error", .429, .002,
                                   [=](const Example& e) {
                                     double sum = 0;
                                     for (std::size_t k = 0; k < e.values.size(); k += 2)
                                       sum += value(e, k) * value(e, k) + (value(e, k + 1) - .376) * (value(e, k + 1) - .376);
                                     return sum / (2 * kept);
                                   }},
                                  {"oracle: a particle filter, squared error", oracle(), .8 * oracle(),
                                   [=](const Example& e) {
                                     const std::vector<double> said = filtered(e);
                                     double sum = 0;
                                     for (std::size_t k = 0; k < said.size(); ++k) sum += std::pow(said[k] - value(e, k), 2);
                                     return sum / (2 * kept);
                                   }},
                                  {"stamps between kept ones", 1.96, .06, [](const Example& e) {
                                     double sum = 0;
                                     for (std::size_t k = 1; k < kept; ++k)
                                       sum += static_cast<double>(e.features[(k + 1) * (side * side + 1) - 1]);
                                     return sum / (kept - 1);
                                   }}};
    for (const auto& [gap, error] : {std::pair{1, .0011}, {2, .0044}, {5, .027}, {10, .108}})
      out.push_back({"shortcut: the true value of " + std::to_string(gap) + " stamps ago, squared error", error, .1 * error,
                     [value, steps = gap](const Example& e) {
                       double sum = 0, n = 0, time = 0;
                       std::vector<double> times;
                       for (std::size_t k = 0; k < kept; ++k)
                         times.push_back(time += static_cast<double>(e.features[(k + 1) * (side * side + 1) - 1]));
                       for (std::size_t a = 0; a < kept; ++a)
                         for (std::size_t b = a + 1; b < kept && times[b] - times[a] <= steps; ++b)
                           if (times[b] - times[a] == steps)
                             for (std::size_t c = 0; c < 2; ++c) sum += std::pow(value(e, 2 * a + c) - value(e, 2 * b + c), 2), n += 1;
                       return sum / n;
                     }});
    return out;
  }

  std::string show(const Example& e) const override {
    std::string out;
    for (std::size_t k = 0; k < 3; ++k) {
      const auto begin = e.features.begin() + std::ptrdiff_t(k * (side * side + 1));
      out += picture({begin, begin + side * side}, side, 1, pixel_order("rows", side * side), 0, 1) + "after " +
             number_text(double(begin[side * side])) + " stamps -> sin " + number_text(double(e.values[2 * k])) + ", cos " +
             number_text(double(e.values[2 * k + 1])) + '\n';
    }
    return out;
  }

 private:
  double oracle() const { return image_noise ? .0013 : .00002; }
  // f image + (1 - f) noise, in steps of 1/255.
  static void photograph(Rng& rng, double angle, double f, std::vector<float>& out) {
    for (const std::uint8_t v : clean_picture(angle)) {
      const double mixed = f < 1 ? f * v + (1 - f) * below(rng, 256) : v;
      out.push_back(static_cast<float>(std::floor(mixed) / 255));
    }
  }
};
SSM_TASK(Pendulum, "pendulum");

}  // namespace ssm::pendulum
