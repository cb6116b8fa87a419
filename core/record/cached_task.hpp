// cached_task.hpp - examples that are slow to make, kept in files: made once for all runs with the same settings.
//
// A split is kept in parts, one file each (HDF5, written by Tree): <folder>/<task>-<16 hexadecimal digits>-<part>.h5. The digits are a
// hash of the task's settings, the seed, the split and the split's first two examples as this program makes them, so that another
// generator has other files. A part is made when an example of it is first asked for, under a lock: a second process waits and reads it.
// A file that is damaged, or of something else, is named on the terminal and made again. What was read stays in memory, a byte a pixel.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "task.hpp"

namespace ssm {

// The opened `task` behind files in `folder`, which is made when absent; the examples are the same bits. The task itself where there is
// nothing to keep: endless sets, examples that a kernel can make, and tasks that read the user's files (`keys` has <task>.data_dir).
// Throws BadInput when the folder cannot be made.
std::unique_ptr<Task> cached(std::unique_ptr<Task> task, const std::string& folder, const std::map<std::string, std::string>& keys,
                             std::uint64_t seed);

// One example as 32-bit words and back. Whole numbers take the fewest of 1, 2, 4 bytes; real ones 1 where all are k / 255, else 4.
void pack(const Example& e, std::vector<std::int32_t>& words);
void unpack(const std::int32_t* words, Example& e);

}  // namespace ssm
