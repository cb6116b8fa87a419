// team_capture.hpp - what a kernel of teams may carry: their policy takes more of the 512 bytes of launch.hpp's fits() than a range does.
#pragma once
#include <cstddef>

namespace ssm {

template <class F>
constexpr void fits_team() {
  static_assert(sizeof(F) <= 340, "kernel captures too much: pass raw pointers or a struct of them");
}

}  // namespace ssm
