// provenance.cpp - build, machine and program of a results file.
#include "record/provenance.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

#include "record/build_info.hpp"
#include "record/record.hpp"

namespace ssm {
namespace {

// A shell word: quoted when it holds anything but plain characters, so that the line can be run again.
std::string quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0)
      if (const auto colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  utsname host;
  return uname(&host) == 0 ? host.machine : "unknown";
}

std::int64_t memory_bytes() { return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

void provenance(Tree& tree, int argc, const char* const* argv, const Runtime& runtime) {
  std::string line;
  for (int i = 0; i < argc; ++i) line += (i ? " " : "") + quoted(argv[i]);
  utsname host{};
  uname(&host);
  Attributes& meta = tree.attributes("/meta");
  const auto text = [&](const char* name, const std::string& value) { meta[name] = value; };
  text("git_sha", build_info.git_sha);
  meta["git_dirty"] = build_info.git_dirty;
  text("compiler", build_info.compiler);
  text("compiler_flags", build_info.compiler_flags);
  text("backend_flags", build_info.backend_flags);
  text("build_type", build_info.build_type);
  text("real", build_info.real);
  text("argv", line);
  text("hostname", host.nodename);
  text("kernel", std::string(host.sysname) + " " + host.release);
  text("cpu", cpu_model());
  meta["cpus_online"] = static_cast<std::int64_t>(sysconf(_SC_NPROCESSORS_ONLN));
  meta["memory_bytes"] = memory_bytes();
  meta["threads"] = static_cast<std::int64_t>(runtime.threads);
  text("backend", runtime.backend);
  text("device", runtime.device);
  text("driver", runtime.driver);
  text("kokkos_version", runtime.kokkos_version);
  text("kokkos_configuration", runtime.kokkos_configuration);
  text("blas", runtime.blas);
  text("fft", runtime.fft);
  text("gemm_precision", runtime.gemm_precision);
  text("started", utc_now());
}

}  // namespace ssm
