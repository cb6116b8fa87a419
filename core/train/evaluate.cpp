#include "train/evaluate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <numeric>

namespace ssm {

namespace {

struct Tally {
  double sum = 0;
  Index count = 0;
  void add(double value) { sum += value, ++count; }
  double mean() const { return count ? sum / static_cast<double>(count) : 0; }
};

// How often each label was right and was predicted: what needs no input at all.
struct Guesses {
  std::vector<double> labels, predictions;
  double all = 0;
  void add(std::int32_t label, double prediction) {
    ++labels.at(static_cast<std::size_t>(label)), ++predictions.at(static_cast<std::size_t>(prediction)), ++all;
  }
  // Accuracy of the most frequent label throughout.
  double majority() const { return *std::max_element(labels.begin(), labels.end()) / all; }
  // Accuracy to expect of these predictions where the labels are permuted at random.
  double permuted() const { return std::inner_product(labels.begin(), labels.end(), predictions.begin(), 0.) / (all * all); }
};

std::vector<Real> read(const Net& net, Tensor t) {
  std::vector<Real> out(static_cast<std::size_t>(t.size()));
  copy_out(out.data(), net.value(t), static_cast<Index>(out.size() * sizeof(Real)));
  return out;
}

}  // namespace

Score evaluate(ModelNet& net, const Run& train_run, const Task& task, const TaskInfo& info, Split split, Index examples) {
  const auto start = std::chrono::steady_clock::now();
  const Run r{train_run.exec, Mode::evaluate, nullptr};
  if (const Index size = task.size(split); size > 0) examples = std::min(examples, size);
  net.net.prepare(r);

  Tally loss, metric, sequences;
  std::map<std::string, Tally> slices;
  const bool real = info.target == Target::regression || info.target == Target::series, accuracy = info.metric == "accuracy" && !real;
  Guesses guesses;
  if (accuracy) guesses.labels.resize(static_cast<std::size_t>(info.classes)), guesses.predictions = guesses.labels;
  HostBatch batch;
  std::vector<Index> indices(static_cast<std::size_t>(net.examples));
  const std::size_t axes = info.slices.size(), classes = static_cast<std::size_t>(info.classes);
  for (Index first = 0; first < examples; first += net.examples) {
    for (Index b = 0; b < net.examples; ++b) indices[static_cast<std::size_t>(b)] = std::min(first + b, examples - 1);
    fill(task, info, split, indices, net.T, batch);
    net.load(r, batch);
    net.net.forward(r);
    const std::vector<Real> losses = read(net.net, net.loss.loss), predictions = read(net.net, net.loss.prediction);
    const std::size_t labels = losses.size() / static_cast<std::size_t>(net.examples);
    for (Index b = 0; b < net.examples && first + b < examples; ++b) {
      Tally example;
      for (std::size_t k = 0; k < labels; ++k) {
        const std::size_t i = static_cast<std::size_t>(b) * labels + k;
        if (real ? std::isnan(batch.values[i * classes]) : batch.targets[i] < 0) continue;
        const double l = static_cast<double>(losses[i]), prediction = static_cast<double>(predictions[i]);
        const double score = info.metric == "bits" ? l / std::numbers::ln2 : real ? prediction : double(prediction == batch.targets[i]);
        loss.add(l);
        if (accuracy) guesses.add(batch.targets[i], prediction);
        example.add(score);
        if (!batch.marks.empty() && batch.marks[i] >= 0)
          slices[info.marks.name + "=" + info.marks.labels.at(static_cast<std::size_t>(batch.marks[i]))].add(score);
      }
      metric.sum += example.sum, metric.count += example.count;
      sequences.add(example.sum == static_cast<double>(example.count));
      for (std::size_t a = 0; a < axes; ++a) {
        const auto label = static_cast<std::size_t>(batch.slices[static_cast<std::size_t>(b) * axes + a]);
        Tally& slice = slices[info.slices[a].name + "=" + info.slices[a].labels.at(label)];
        slice.sum += example.sum, slice.count += example.count;
      }
    }
  }
  Score score{examples, metric.count, loss.mean(), metric.mean(), {}, 0};
  for (const auto& [name, tally] : slices) score.slices[name] = tally.mean();
  if (info.target == Target::positions) score.slices["sequence"] = sequences.mean();
  if (guesses.all > 0) {
    score.slices["majority"] = guesses.majority(), score.slices["permuted"] = guesses.permuted();
    for (const Reference& reference : info.references)
      if (reference.kind == "chance") score.slices["scaled"] = (score.metric - reference.value) / (1 - reference.value);
  }
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return score;
}

}  // namespace ssm
