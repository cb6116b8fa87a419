// reconstruct.cpp - the last `window` inputs from the final state alone (S4 repository): what HiPPO's operators are made for.
//
//   features (length, 1): band-limited noise of rms 0.5 minus its first sample;  values (window): its last `window` samples in order
//
// Published as length 4000, window 1000, step 1e-3 s, cut-off 100 Hz (0.2 of Nyquist). NRMSE = sqrt(mse / the mse of predicting 0).
#include <numeric>

#include "band_noise.hpp"
#include "generated.hpp"

namespace ssm::reconstruct {

struct Reconstruct final : GeneratedTask {
  int length = 4000, window = 1000;
  double cutoff = .2;
  BandNoise noise;

  void knobs(Knobs& k) override {
    k("length", length, {1000, 4000}).range(16, 1 << 20).note("samples");
    k("window", window, {100, 1000}).range(1, 1 << 16).note("samples to reconstruct");
    k("cutoff", cutoff, {.05, .2}).range(1e-3, 1).note("highest frequency as a share of Nyquist");
    size_knobs(k);
  }
  void check() override {
    if (window > length) refuse("window", std::to_string(window), "it must not exceed length = " + std::to_string(length));
    noise = BandNoise(length, cutoff);
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.target = Target::regression;
    out.features = 1;
    out.classes = window;
    out.max_length = length;
    out.pooling = "last";
    out.metric = "mse";
    out.about = "the last `window` inputs from the final state (S4 repository); NRMSE = sqrt(mse / chance)";
    out.references = {{"chance", "always 0", predict_zero(), "exact, from the spectrum"},
                      {"floor", "the mean of the input", BandNoise::rms * BandNoise::rms, "rms^2: the mean is minus the first sample"},
                      {"ceiling", "remembers them", 0, "exact"}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    static thread_local std::vector<double> signal;
    Rng rng = keyed_draws(split, index);
    noise.draw(rng, signal);
    out.clear();
    out.features.assign(signal.begin(), signal.end());
    out.values.assign(out.features.end() - window, out.features.end());
  }

  std::vector<Statistic> statistics() const override {
    return {{"shortcut: always 0, squared error", predict_zero(), 0,
             [](const Example& e) {
               double sum = 0;
               for (const float v : e.values) sum += static_cast<double>(v * v) / static_cast<double>(e.values.size());
               return sum;
             }},
            {"shortcut: the mean of the input, squared error", BandNoise::rms * BandNoise::rms, BandNoise::rms * BandNoise::rms / length,
             [this](const Example& e) {
               const double mean = std::accumulate(e.features.begin(), e.features.end(), 0.0) / length;
               double sum = 0;
               for (const float v : e.values) sum += std::pow(static_cast<double>(v) - mean, 2);
               return sum / window;
             }},
            {"oracle: the window itself, squared error", 0, 0, [this](const Example& e) {
               double sum = 0;
               for (std::size_t i = 0; i < e.values.size(); ++i)
                 sum += std::pow(static_cast<double>(e.values[i] - e.features[at(length - window) + i]), 2);
               return sum / window;
             }}};
  }

  std::string show(const Example& e) const override { return curve(e.features) + "\n-> " + curve(e.values); }

 private:
  double predict_zero() const {
    double sum = 0;
    for (int t = length - window; t < length; ++t) sum += BandNoise::mean_square(length, cutoff, t);
    return sum / window;
  }
};
SSM_TASK(Reconstruct, "reconstruct");

}  // namespace ssm::reconstruct
