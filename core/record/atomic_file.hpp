// atomic_file.hpp - replaces a file in one step.
#pragma once
#include <cstddef>
#include <string>

namespace ssm {

// Writes the bytes to path + ".tmp" and renames it to path: a reader, and whoever comes after a kill, sees the old file or the new one.
// Two processes that write one path take turns (a lock on the temporary). Any failure (no such folder, read-only, disk full) throws
// std::runtime_error naming the path, leaves the old file as it was and removes the temporary. `durable`: fsync of file and folder.
void write_atomic(const std::string& path, const void* bytes, std::size_t count, bool durable);

}  // namespace ssm
