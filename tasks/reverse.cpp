// reverse.cpp - say the data backwards (S4 repository): the delay of a datum depends on its place, from 1 to 2 M - 1 plus the blanks.
#include "recite.hpp"

namespace ssm::reverse_task {

struct Reverse final : ReciteTask {
  Reverse() { backwards = true; }
  TaskInfo info() const override { return recite_info("say the data symbols backwards after a stretch of blanks"); }
};
SSM_TASK(Reverse, "reverse");

}  // namespace ssm::reverse_task
