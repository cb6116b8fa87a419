#include "train/settings.hpp"

namespace ssm {

void TrainSettings::knobs(Knobs& k) {
  k("steps", steps).range(0, 1e9).note("optimiser steps");
  k("seconds", seconds).range(0, 1e7).note("wall-clock budget: steps becomes what fits, by the measured time of the first steps; 0: none");
  k("batch", batch, {8, 16, 32, 64}).range(1, 1 << 20).note("examples of one micro-batch");
  k("accumulate", accumulate, {1, 2, 4}).range(1, 1 << 16).note("micro-batches of one optimiser step");
  k("length", length).range(0, 1 << 24).note("positions of a batch; 0: the task's longest example");
  k("curriculum", curriculum, {0, 0.5})
      .range(0, 1e9)
      .note("over the first steps (below 1: that fraction of steps) the longest training example grows to the task's; 0: none");
  k("curriculum_from", curriculum_from)
      .range(0, 1 << 24)
      .note("positions of the longest training example of the first step; 0: what an eighth of the examples do not exceed");
  k("lr", lr, {1e-3, 3e-3, 1e-2}).range(0, 10).note("peak learning rate");
  k("lr_min", lr_min).range(0, 10).note("learning rate at the end of the cosine");
  k("warmup", warmup, {0, 0.1}).range(0, 1e9).note("linear warm-up: a fraction of steps when below 1, else steps");
  k("schedule", schedule, {"cosine", "constant", "plateau"}).note("learning rate after the warm-up");
  k("plateau_factor", plateau_factor).range(0.01, 1).note("plateau: factor when the validation loss stays");
  k("plateau_patience", plateau_patience).range(1, 1e6).note("plateau: evaluations without a better loss");
  k("weight_decay", weight_decay, {0, 0.01, 0.05}).range(0, 10).note("decoupled decay of the groups that decay");
  k("beta1", beta1).range(0, 0.99999).note("AdamW");
  k("beta2", beta2).range(0, 0.9999999).note("AdamW");
  k("eps", eps).range(1e-16, 1).note("AdamW");
  k("clip", clip, {0, 1}).range(0, 1e9).note("largest global gradient norm; 0: no clipping");
  k("eval_every", eval_every).range(1, 1e9).note("steps between evaluations on the validation split");
  k("eval_examples", eval_examples).range(1, 1e9).note("validation examples of one evaluation");
  k("test_examples", test_examples).range(0, 1e9).note("test examples at the end; 0: none");
  k("eval_batch", eval_batch).range(0, 1 << 20).note("examples of one evaluation batch; 0: as train.batch");
  k("select", select, {"last", "best"}).note("parameters that are tested: the last, or those with the best validation metric");
}

void RunSettings::knobs(Knobs& k) {
  k("out", out, {}).any_text().note("folder of the results file");
  k("gemm", gemm, {"fp32", "tf32"}).note("precision of matrix products; tf32: ten bits of mantissa on tensor cores, sums in float (CUDA)");
  k("recompute", recompute, {"none", "mlp", "block"})
      .note("what the backward pass computes again instead of keeping it: the activation functions of MLPs, or all of a layer");
  k("graph", graph).note("replay the training step as a device graph, where the backend has graphs");
  k("data", data, {"auto", "host", "device"})
      .note("who makes training batches: threads of the host, or a kernel of the step where the task can");
  k("cache", cache, {})
      .any_text()
      .note("folder of examples made once for all runs: finite sets of host-made tasks (pathfinder, pendulum, ...); empty: none");
  k("threads", threads).range(0, 4096).note("CPU threads; 0: what the environment gives");
  k("loader_threads", loader_threads).range(1, 256).note("threads that make batches ahead of time");
  k("report_every", report_every).range(1, 1e6).note("steps between readings of the loss");
  k("checkpoint_every", checkpoint_every).range(0, 1e9).note("steps between checkpoints; 0: none");
  k("resume", resume).note("continue from this run's checkpoint when there is one");
  k("check", check).note("validate the variants against their references before training");
  k("profile", profile).note("time every kernel after the run, over 10 more steps, into /kernels");
  k("quiet", quiet).note("no progress on the terminal");
}

void Seeds::knobs(Knobs& k) {
  k("init", init).note("initial weights");
  k("data", data).note("training order and generated examples");
  k("dropout", dropout).note("dropout masks");
}

}  // namespace ssm
