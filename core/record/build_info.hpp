// build_info.hpp - how and from what this program was built; the build writes the definition.
#pragma once

namespace ssm {

struct BuildInfo {
  const char* git_sha;         // full hash of the commit, or "unknown" outside a checkout
  const char* compiler;        // of the host code: "GNU 12.2.0"
  const char* compiler_flags;  // of the host code
  const char* build_type;
  const char* real;           // "float" or "double"
  const char* backend_flags;  // of the device code, or empty
  bool git_dirty;             // uncommitted changes at build time
};

extern const BuildInfo build_info;

}  // namespace ssm
