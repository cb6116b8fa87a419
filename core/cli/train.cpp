// train.cpp - ssmbench train: one run, one results file.
#include <cstdio>
#include <memory>

#include "check.hpp"
#include "cli/command.hpp"
#include "error.hpp"
#include "lib/blas.hpp"
#include "lib/fft.hpp"
#include "record/provenance.hpp"
#include "train/trainer.hpp"

namespace ssm {

namespace {

int end_run(Record& record, const Outcome& outcome) {
  record.end(outcome.state, outcome.reason);
  std::fprintf(stderr, "%s%s%s  %s\n", outcome.state.c_str(), outcome.reason.empty() ? "" : ": ", outcome.reason.c_str(),
               record.path().c_str());
  return 0;
}

int train(const Arguments& arguments) {
  Config config(arguments.keys);
  config.open_task();
  const std::string id = config.run_id();
  Record record(config.run.out + "/" + id + ".h5", id);
  record.config(config.resolved());
  const TaskInfo info = config.task->info();
  record.references(info.references);
  record.tree().set("/task", "name", config.task_name);
  record.tree().set("/task", "metric", info.metric);

  std::unique_ptr<Device> started;
  try {
    started = std::make_unique<Device>(config.run.threads, config.run.gemm);
  } catch (const Unsupported& e) {
    return end_run(record, {"skipped", e.what()});
  }
  Device& device = *started;
  provenance(record.tree(), arguments.argc, arguments.argv,
             {device.backend, device.name.empty() ? cpu_model() : device.name, device.driver, device.kokkos_version,
              device.kokkos_configuration, blas_name(), fft_name(), config.run.gemm, device.threads});
  record.flush();
  Outcome outcome;
  try {
    if (config.run.check)
      for (const auto& [name, knobs] : config.variant_knobs) {
        const CheckReport report = self_check(name, config.variant_knobs, device.exec());
        record.check(report.reference_error, report.streaming_error, report.tolerance, report.passed);
        if (!report.passed) throw std::runtime_error(name + ": " + report.text);
      }
    Trainer trainer(config, device, record);
    outcome = trainer.run();
  } catch (const Unsupported& e) {
    outcome = {"skipped", e.what()};
  } catch (const std::exception& e) {
    try {
      record.end("failed", e.what());
    } catch (const std::exception& also) {  // a full disk: what is thrown is the first failure
      std::fprintf(stderr, "ssmbench: %s\n", also.what());
    }
    throw;
  }
  return end_run(record, outcome);
}

}  // namespace

static const RegisterCommand registered({"train", "train one model and log everything to HDF5", [](auto&) {}, {}, train});

}  // namespace ssm
