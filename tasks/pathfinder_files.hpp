// pathfinder_files.hpp - reads Pathfinder as its original program and the Long Range Arena's archive store it.
//
//   <folder>/metadata/*.npy, in spite of the name text: a line per image: subfolder, file, number, label, ..., separated by blanks
//   <folder>/<subfolder>/<file>: 8-bit PNG
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ssm::pathfinder {

struct Files {
  std::vector<std::filesystem::path> image;
  std::vector<int> label;
};

// All images that the metadata names, in the order of sorted metadata files; empty image files (the archive has one) are left out.
// Throws BadInput with file and line.
Files read_metadata(const std::filesystem::path& folder);

// Grey values 0..255 of a square PNG. Throws BadInput when it is damaged or of another size.
void read_png(const std::filesystem::path& path, int side, std::vector<float>& out);

}  // namespace ssm::pathfinder
