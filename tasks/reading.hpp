// reading.hpp - files that the user brings: whole files with clear errors, and which of their records are training, validation, test.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "error.hpp"
#include "rng.hpp"
#include "task.hpp"

namespace ssm {

// Throws BadInput: what is missing, the layout that is expected, and the task that needs no files.
[[noreturn]] inline void missing_data(const std::string& task, const std::string& data_dir, const std::string& what,
                                      const std::string& layout, const std::string& stand_in) {
  throw BadInput(task + ".data_dir = '" + data_dir + "': " + what + "; expected there: " + layout + "; generated without files: --task " +
                 stand_in);
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) throw BadInput(path.string() + ": cannot be read");
  std::string out, block(1 << 16, '\0');
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0)
    out.append(block, 0, static_cast<std::size_t>(in.gcount()));
  if (in.bad()) throw BadInput(path.string() + ": reading stopped after " + std::to_string(out.size()) + " bytes");
  return out;
}

// Records 0..n-1 in a fixed random order: the first ones train, the last `held_out` ones validate.
inline std::vector<int> shuffled_records(int n) {
  std::vector<int> order(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  Rng rng(42, hash_name("records"), static_cast<std::uint64_t>(n));
  for (int i = n - 1; i > 0; --i) std::swap(order[static_cast<std::size_t>(i)], order[rng.below(static_cast<std::uint32_t>(i + 1))]);
  return order;
}

}  // namespace ssm
