// evaluate.hpp - a model's score on a split, in all and by slice.
#pragma once
#include <map>
#include <string>

#include "model.hpp"

namespace ssm {

struct Score {
  Index examples = 0, labels = 0;
  double loss = 0;                       // mean over labels
  double metric = 0;                     // accuracy over labels, or mean squared error
  std::map<std::string, double> slices;  // "<axis>=<label>"; for per-position tasks also "sequence" = all labels of a sequence right;
                                         // of accuracies "majority" and "permuted": what the most frequent label, and these predictions
                                         // under randomly permuted labels, would score, and "scaled" = (metric - chance) / (1 - chance)
  double seconds = 0;
};

// The first `examples` examples of `split` (all of a smaller split). The net is an evaluation net; parameters are not touched.
Score evaluate(ModelNet& net, const Run& r, const Task& task, const TaskInfo& info, Split split, Index examples);

}  // namespace ssm
