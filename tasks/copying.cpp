// copying.cpp - say the data again, at a fixed delay (S4 repository): what a time-invariant system can do; see selective_copying.
//
//   form markers: M data symbols, `length` blanks, M markers; the target at marker m is datum m
//   form lag:     `length` data symbols; the target at position t is the symbol at t - M
#include "recite.hpp"

namespace ssm::copying {

struct Copying final : ReciteTask {
  std::string form = "markers";

  void knobs(Knobs& k) override {
    ReciteTask::knobs(k);
    k("form", form, {"markers", "lag"}).note("data then markers, or a stream that is repeated `tokens` later");
  }
  void check() override {
    lag = form == "lag";
    if (lag && length <= tokens) refuse("length", std::to_string(length), "in the lag form it must be above tokens");
    ReciteTask::check();
  }

  TaskInfo info() const override {
    TaskInfo out = recite_info("say the data symbols again after a fixed delay (S4 repository); a time-invariant system can");
    if (form == "markers") return out;
    out.max_length = length;
    out.references[1] = {"floor", "the newest symbol", 1.0 / symbols, "symbols are independent"};
    return out;
  }

  std::vector<Statistic> statistics() const override {
    if (form == "markers") return ReciteTask::statistics();
    return {{"oracle: the symbol of `tokens` ago", 1, 0,
             [this](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return e.tokens[t - at(tokens)] - data; }); }},
            {"shortcut: the newest symbol", 1.0 / symbols, 0,
             [](const Example& e) { return token_accuracy(e, [&](std::size_t t) { return e.tokens[t] - data; }); }}};
  }
};
SSM_TASK(Copying, "copying");

}  // namespace ssm::copying
