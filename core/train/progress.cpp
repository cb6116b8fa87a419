#include "train/progress.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace ssm {

namespace {

std::string format(const char* pattern, double value, const char* unit) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, pattern, value, unit);
  return buffer;
}

}  // namespace

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "--:--";
  const long s = std::lround(seconds);
  char buffer[48];
  if (s >= 3600) std::snprintf(buffer, sizeof buffer, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else std::snprintf(buffer, sizeof buffer, "%02ld:%02ld", s / 60, s % 60);
  return buffer;
}

std::string count_text(double value) {
  for (const auto& [size, unit] : {std::pair(1e9, "G"), std::pair(1e6, "M"), std::pair(1e3, "k")})
    if (value >= size) return format("%.3g%s", value / size, unit);
  return format("%.3g%s", value, "");
}

std::string bytes_text(double bytes) {
  for (const auto& [size, unit] : {std::pair(1073741824.0, "GiB"), std::pair(1048576.0, "MiB"), std::pair(1024.0, "KiB")})
    if (bytes >= size) return format("%.1f %s", bytes / size, unit);
  return format("%.0f %s", bytes, "B");
}

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}
Progress::~Progress() {
  if (open_) std::fputc('\n', stderr);
}

void Progress::show(Index step, Index steps, double loss, double rate, double left, const std::string& extra) {
  const auto now = std::chrono::steady_clock::now();
  if (quiet_ || now - last_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))) return;
  last_ = now;
  std::fprintf(stderr, "%sstep %lld/%lld  loss %.4f  %s  %s tok/s  %s left%s", terminal_ ? "\r" : "", static_cast<long long>(step),
               static_cast<long long>(steps), loss, extra.c_str(), count_text(rate).c_str(), duration_text(left).c_str(),
               terminal_ ? "\033[K" : "\n");
  std::fflush(stderr);
  open_ = terminal_;
}

void Progress::say(const std::string& line) {
  if (quiet_) return;
  std::fprintf(stderr, "%s%s\n", open_ ? "\r\033[K" : "", line.c_str());
  open_ = false;
}

}  // namespace ssm
