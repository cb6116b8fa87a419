// record.cpp - the tables and states of a results file.
#include "record/record.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <stdexcept>

#include "error.hpp"

namespace ssm {
namespace {

constexpr const char* kHistory[] = {"/train", "/eval"};

}  // namespace

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

Attribute typed(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  const char *first = text.data(), *last = first + text.size();
  const bool numeric = !text.empty() && (std::isdigit(static_cast<unsigned char>(text.back())) || text.back() == '.') &&
                       text.find_first_not_of("+-.0123456789eE") == std::string::npos;
  if (!numeric) return text;
  std::int64_t integer;
  if (const auto r = std::from_chars(first, last, integer); r.ec == std::errc() && r.ptr == last) return integer;
  double real;
  if (text.find_first_of(".eE") != std::string::npos)
    if (const auto r = std::from_chars(first, last, real); r.ec == std::errc() && r.ptr == last) return real;
  return text;
}

Record::Record(std::string path, const std::string& run_id) : path_(std::move(path)) {
  tree_.set("/", "schema", "ssmbench/1");
  tree_.set("/", "run_id", run_id);
  tree_.set("/", "created", utc_now());
  tree_.set("/status", "state", "running");
  tree_.set("/status", "reason", "");
  const auto folder = std::filesystem::path(path_).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) throw std::runtime_error("cannot make the folder '" + folder.string() + "' for '" + path_ + "': " + error.message());
}

void Record::config(const std::map<std::string, std::string>& resolved) {
  tree_.group("/config");
  for (const auto& [key, text] : resolved) tree_.set("/config", key, typed(text));
}

void Record::references(const std::vector<Reference>& references) {
  tree_.erase("/task/references");
  for (const Reference& r : references)
    tree_.row("/task/references", {{"kind", r.kind}, {"label", r.label}, {"value", r.value}, {"source", r.source}});
}

void Record::check(double reference_error, double streaming_error, double tolerance, bool passed) {
  tree_.set("/check", "reference_err", reference_error);
  tree_.set("/check", "streaming_err", streaming_error);
  tree_.set("/check", "tolerance", tolerance);
  tree_.set("/check", "passed", passed);
}

void Record::energy(const std::string& source, const std::string& reason) {
  tree_.set("/energy", "source", source);
  tree_.set("/energy", "reason", reason);
}

void Record::train(const TrainRow& r) {
  std::vector<Cell> cells{{"step", r.step, "steps"},
                          {"tokens_real", r.tokens_real, "tokens"},
                          {"tokens_padded", r.tokens_padded, "tokens"},
                          {"seconds", r.seconds, "s"},
                          {"loss", r.loss},
                          {"grad_norm", r.grad_norm},
                          {"lr", r.lr}};
  if (std::isfinite(r.joules)) cells.emplace_back("joules", r.joules, "J");
  tree_.row("/train", cells);
}

void Record::eval(const EvalRow& r) {
  std::vector<Cell> cells{{"step", r.step, "steps"}, {"tokens_real", r.tokens_real, "tokens"}, {"seconds", r.seconds, "s"},
                          {"split", r.split},        {"examples", r.examples, "examples"},     {"loss", r.loss},
                          {"metric", r.metric}};
  for (const auto& [slice, metric] : r.slices) {
    std::string name = slice;
    std::replace(name.begin(), name.end(), '/', '|');  // a "/" would be a group
    cells.emplace_back(name, metric);
  }
  tree_.row("/eval", cells);
}

void Record::timing(const std::string& phase, const Timing& t) {
  const std::string path = "/timing/" + phase;
  Array samples(t.seconds);
  samples.units("s");
  samples.attributes["method"] = t.method;
  samples.attributes["warmup"] = t.warmup;
  samples.attributes["first_call"] = t.first_call;
  tree_.put(path, std::move(samples));
}

void Record::history_to(Checkpoint& checkpoint) const {
  for (const std::string table : kHistory)
    for (const auto& [path, array] : tree_.arrays())
      if (path.compare(0, table.size() + 1, table + "/") == 0) checkpoint.arrays["history" + path] = array;
}

void Record::history_from(const Checkpoint& checkpoint) {
  for (const std::string table : kHistory) {
    std::vector<std::string> columns;
    for (const auto& [path, array] : tree_.arrays())
      if (path.compare(0, table.size() + 1, table + "/") == 0) columns.push_back(path);
    for (const std::string& path : columns) tree_.erase(path);
    const std::string prefix = "history" + table + "/";
    for (const auto& [name, array] : checkpoint.arrays)
      if (name.compare(0, prefix.size(), prefix) == 0) tree_.put(table + "/" + name.substr(prefix.size()), array);
  }
}

void Record::flush() const { tree_.write(path_); }

void Record::end(const std::string& state, const std::string& reason) {
  const std::vector<std::string> states{"complete", "skipped", "diverged", "failed"};
  if (std::find(states.begin(), states.end(), state) == states.end())
    throw std::logic_error("record: no end state '" + state + "'; allowed: " + join(states));
  tree_.set("/status", "state", state);
  tree_.set("/status", "reason", reason);
  tree_.set("/status", "ended", utc_now());
  tree_.write(path_, true);
}

}  // namespace ssm
