// progress.hpp - where a run stands, for people: one line that rewrites itself on a terminal, a plain line now and then elsewhere.
#pragma once
#include <chrono>
#include <string>

#include "real.hpp"

namespace ssm {

class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();
  // `extra` follows the loss ("validation 0.412").
  void show(Index step, Index steps, double loss, double tokens_per_second, double seconds_left, const std::string& extra);
  // A line that stays.
  void say(const std::string& line);

 private:
  bool quiet_, terminal_, open_ = false;
  std::chrono::steady_clock::time_point last_{};
};

std::string duration_text(double seconds);  // "1:02:03", "04:05"
std::string count_text(double value);       // "12.3k"
std::string bytes_text(double bytes);       // "12.3 MiB"

}  // namespace ssm
