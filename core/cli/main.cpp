// main.cpp - ssmbench COMMAND ...   Exit codes: 0 done (also: diverged, skipped with a reason), 1 failed, 2 bad input.
#include <cstdio>
#include <exception>

#include "cli/command.hpp"
#include "error.hpp"
#include "lib/blas.hpp"
#include "record/build_info.hpp"

namespace {

int usage(std::FILE* to) {
  std::fprintf(to, "ssmbench - train, time and take apart sequence models\n\nusage: ssmbench COMMAND [options]\n\n");
  for (const auto& [name, command] : ssm::commands()) std::fprintf(to, "  %-10s %s\n", name.c_str(), command.about.c_str());
  std::fprintf(to, "\n`ssmbench COMMAND --help` tells more; `ssmbench --version` what was built from what.\n");
  return to == stderr ? 2 : 0;
}

int version() {
  const ssm::BuildInfo& b = ssm::build_info;
  std::printf("ssmbench %.12s%s, %s, %s %s\n%s\n", b.git_sha, b.git_dirty ? " with uncommitted changes" : "", b.real, b.build_type,
              b.compiler, b.compiler_flags);
  if (*b.backend_flags) std::printf("%s\n", b.backend_flags);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ssm::choose_blas_core(argv);
  const std::string name = argc > 1 ? argv[1] : "";
  if (name.empty()) return usage(stderr);
  if (name == "--help" || name == "-h" || name == "help") return usage(stdout);
  if (name == "--version") return version();
  try {
    const auto found = ssm::commands().find(name);
    if (found == ssm::commands().end()) {
      std::vector<std::string> names;
      for (const auto& [n, c] : ssm::commands()) names.push_back(n);
      ssm::unknown("command", name, names);
    }
    for (int i = 2; i < argc; ++i)
      if (const std::string word = argv[i]; word == "--help" || word == "-h")
        return std::fputs(ssm::help_text(found->second).c_str(), stdout), 0;
    return found->second.run(ssm::parse_arguments(found->second, argc - 1, argv + 1));
  } catch (const ssm::BadInput& e) {
    std::fprintf(stderr, "ssmbench: %s\n", e.what());
    return 2;
  } catch (const ssm::Unsupported& e) {
    std::fprintf(stderr, "ssmbench: unsupported: %s\n", e.what());
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ssmbench: failed: %s\n", e.what());
    return 1;
  }
}
