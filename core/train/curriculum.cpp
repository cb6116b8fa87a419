#include "train/curriculum.hpp"

#include <algorithm>
#include <cmath>

#include "error.hpp"

namespace ssm {

Curriculum curriculum_of(const Config& config, const TaskInfo& info) {
  const TrainSettings& train = config.train;
  if (train.curriculum == 0) return {};
  const auto share = "train.curriculum = " + number_text(train.curriculum) + ": ";
  if (train.curriculum < 1 && train.seconds > 0)
    throw BadInput(share + "a fraction of steps whose number train.seconds decides later; allowed are whole steps");

  constexpr Index few = 32, many = 1024;  // a task of one length shows it at once, and may be slow
  const Index size = config.task->size(Split::train), sample = size ? std::min(size, many) : many;
  std::vector<Index> lengths;
  Example e;
  for (Index i = 0; i < sample; ++i) {
    config.task->example(Split::train, i, e);
    lengths.push_back(positions(info, e));
    if (i + 1 == std::min(few, sample) && std::count(lengths.begin(), lengths.end(), lengths[0]) == i + 1)
      throw BadInput(share + "examples of " + config.task_name + " are all " + std::to_string(lengths[0]) +
                     " long by these settings; it needs several lengths");
  }
  std::sort(lengths.begin(), lengths.end());
  const Index from = train.curriculum_from ? train.curriculum_from : lengths[lengths.size() / 8];
  const auto start = "train.curriculum_from = " + std::to_string(from) + ": ";
  if (from > info.max_length)
    throw BadInput(start + "examples of " + config.task_name + " are up to " + std::to_string(info.max_length) + " long");
  const auto short_enough = std::upper_bound(lengths.begin(), lengths.end(), from) - lengths.begin();
  if (few * short_enough < sample)
    throw BadInput(start + std::to_string(short_enough) + " of the first " + std::to_string(sample) + " training examples of " +
                   config.task_name + " are not longer, less than one of " + std::to_string(few) + "; an eighth are up to " +
                   std::to_string(lengths[lengths.size() / 8]));
  const double steps = train.curriculum < 1 ? std::round(train.curriculum * train.steps) : train.curriculum;
  return {from, info.max_length, static_cast<Index>(steps)};
}

}  // namespace ssm
