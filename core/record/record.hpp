// record.hpp - the results file of one run, by the schema of results/README.md. Known tables have helpers; any code may add groups and
// columns of its own through tree().
//
//   Record rec("results/smoke/ab12.h5", "ab12");
//   rec.config(resolved);  rec.references(task->info().references);  rec.flush();   // an unwritable folder is found here, before training
//   rec.train({...});  rec.eval({...});  rec.flush();
//   rec.timing("train_step", {samples, "steady_clock", 3, first});
//   rec.end("complete");
//
// /status says "running" until end(). A file that says so and whose process is gone, or without /status, is an interrupted run.
#pragma once
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "record/checkpoint.hpp"
#include "record/tree.hpp"
#include "task.hpp"

namespace ssm {

struct TrainRow {
  Index step;           // optimiser steps done
  Index tokens_real;    // positions inside the sequences, summed since the start
  Index tokens_padded;  // the same with padding
  double seconds;       // training time since the start, evaluation excluded
  double loss, grad_norm, lr;
  double joules = std::numeric_limits<double>::quiet_NaN();  // of training since the start; NaN: not counted
};

struct EvalRow {
  Index step, tokens_real;
  double seconds;
  std::string split;  // "train", "validation", "test"
  Index examples;
  double loss, metric;                   // the metric's name is /task@metric
  std::map<std::string, double> slices;  // "<axis>=<label>" -> metric; absent ones are NaN in the file
};

struct Timing {
  std::vector<double> seconds;  // raw samples
  std::string method;           // clock and what was synchronised
  Index warmup = 0;             // calls before the first sample
  double first_call = 0;        // seconds of the very first call
};

class Record {
 public:
  // Makes the folder of `path` when missing. Writes nothing yet.
  Record(std::string path, const std::string& run_id);

  Tree& tree() { return tree_; }
  const Tree& tree() const { return tree_; }
  const std::string& path() const { return path_; }

  // One attribute per key; texts that are numbers or true/false are stored as such.
  void config(const std::map<std::string, std::string>& resolved);
  void references(const std::vector<Reference>& references);
  void check(double reference_error, double streaming_error, double tolerance, bool passed);
  void energy(const std::string& source, const std::string& reason);  // where joules come from, or why there are none
  void train(const TrainRow& row);
  void eval(const EvalRow& row);
  void timing(const std::string& phase, const Timing& timing);

  // The tables /train and /eval travel in the checkpoint, so that a resumed run's file is the uninterrupted run's file.
  void history_to(Checkpoint& checkpoint) const;
  void history_from(const Checkpoint& checkpoint);

  void flush() const;  // replaces the file, not forced to disk
  // Last write, forced to disk. state: complete, skipped, diverged, failed (anything else is a std::logic_error).
  void end(const std::string& state, const std::string& reason = "");

 private:
  std::string path_;
  Tree tree_;
};

// The typed attribute of a text: "64" -> int64, "1e-3" -> double, "true" -> bool, anything else the text itself.
Attribute typed(const std::string& text);

// "2025-01-31T12:00:00Z"
std::string utc_now();

}  // namespace ssm
