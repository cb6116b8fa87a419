# Writes ${out}, which defines ssm::build_info; called at every build.
execute_process(COMMAND git -C ${source} rev-parse HEAD OUTPUT_VARIABLE sha OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND git -C ${source} status --porcelain OUTPUT_VARIABLE changes ERROR_QUIET)
if(sha STREQUAL "")
  set(sha unknown)
endif()
set(dirty false)
if(changes)
  set(dirty true)
endif()
file(CONFIGURE OUTPUT ${out} @ONLY CONTENT [[
#include "record/build_info.hpp"
const ssm::BuildInfo ssm::build_info{"@sha@", "@compiler@", "@flags@", "@build_type@", "@real@", "@backend_flags@", @dirty@};
]])
