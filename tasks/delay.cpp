// delay.cpp - repeat a signal `lag` samples later (S4 repository): what a state space initialised as a delay line does untrained.
//
//   features (length, 1): band-limited noise of rms 0.5 minus its first sample;  values (length, 1): the input of `lag` ago, 0 before
//
// Published as length 4000, lag 1000, step 2.5e-4 s, cut-off 1000 Hz (half of Nyquist). NRMSE = sqrt(mse / the mse of predicting 0).
#include <numeric>

#include "band_noise.hpp"
#include "generated.hpp"

namespace ssm::delay {

struct Delay final : GeneratedTask {
  int length = 4000, lag = 1000;
  double cutoff = .5;
  BandNoise noise;

  void knobs(Knobs& k) override {
    k("length", length, {1000, 4000}).range(16, 1 << 20).note("samples");
    k("lag", lag, {100, 1000}).range(1, 1 << 20).note("delay in samples");
    k("cutoff", cutoff, {.1, .5}).range(1e-3, 1).note("highest frequency as a share of Nyquist");
    size_knobs(k);
  }
  void check() override {
    if (lag >= length) refuse("lag", std::to_string(lag), "it must be below length = " + std::to_string(length));
    noise = BandNoise(length, cutoff);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::series;
    out.features = out.classes = 1;
    out.max_length = length;
    out.metric = "mse";
    out.about = "the input of `lag` samples ago at every position (S4 repository); NRMSE = sqrt(mse / chance)";
    out.references = {{"chance", "always 0", predict_zero(), "exact, from the spectrum"},
                      {"floor", "the mean of the input from lag on", predict_mean(), "rms^2: the mean is minus the first sample"},
                      {"ceiling", "a delay line", 0, "exact"}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    static thread_local std::vector<double> signal;
    Rng rng = keyed_draws(split, index);
    noise.draw(rng, signal);
    out.clear();
    out.features.assign(signal.begin(), signal.end());
    out.values.assign(at(lag), 0);
    out.values.insert(out.values.end(), out.features.begin(), out.features.end() - lag);
  }

  std::vector<Statistic> statistics() const override {
    const auto mean_square = [](const std::vector<float>& x) {
      double sum = 0;
      for (const float v : x) sum += static_cast<double>(v * v) / static_cast<double>(x.size());
      return sum;
    };
    return {{"shortcut: always 0, squared error", predict_zero(), 0, [=](const Example& e) { return mean_square(e.values); }},
            {"shortcut: the mean of the input from lag on, squared error", predict_mean(), predict_mean() / length,
             [this](const Example& e) {
               const double mean = std::accumulate(e.features.begin(), e.features.end(), 0.0) / length;
               double sum = 0;
               for (std::size_t t = at(lag); t < e.values.size(); ++t) sum += std::pow(static_cast<double>(e.values[t]) - mean, 2);
               return sum / length;
             }},
            {"mean square of the input, 2 rms^2", .5, .5 / length, [=](const Example& e) { return mean_square(e.features); }},
            {"oracle: a delay line, squared error", 0, 0, [this](const Example& e) {
               double sum = 0;
               for (std::size_t t = 0; t < e.values.size(); ++t) {
                 const double x = t < at(lag) ? 0 : static_cast<double>(e.features[t - at(lag)]),
                              error = x - static_cast<double>(e.values[t]);
                 sum += error * error;
               }
               return sum;
             }}};
  }

  std::string show(const Example& e) const override { return curve(e.features) + "\n-> " + curve(e.values); }

 private:
  double predict_mean() const { return BandNoise::rms * BandNoise::rms * (length - lag) / length; }
  double predict_zero() const {
    double sum = 0;
    for (int t = 0; t < length - lag; ++t) sum += BandNoise::mean_square(length, cutoff, t);
    return sum / length;
  }
};
SSM_TASK(Delay, "delay");

}  // namespace ssm::delay
