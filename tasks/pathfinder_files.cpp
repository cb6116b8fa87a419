#include "pathfinder_files.hpp"

#include <png.h>

#include <sstream>

#include "reading.hpp"

namespace ssm::pathfinder {

Files read_metadata(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> tables;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "metadata"))
    if (entry.path().extension() == ".npy") tables.push_back(entry.path());
  std::sort(tables.begin(), tables.end());
  Files out;
  for (const auto& table : tables) {
    std::istringstream lines(read_file(table));
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.empty() || line == "\r") continue;
      std::istringstream fields(line);
      std::string subfolder, file, index, label;
      if (!(fields >> subfolder >> file >> index >> label) || (label != "0" && label != "1"))
        throw BadInput(table.string() + ", line " + std::to_string(number) +
                       ": expected subfolder, file, number and a label 0 or 1, found '" + line.substr(0, 60) + "'");
      const auto image = folder / subfolder / file;
      std::error_code absent;
      const auto size = std::filesystem::file_size(image, absent);
      if (absent) throw BadInput(table.string() + ", line " + std::to_string(number) + ": " + image.string() + " is not there");
      if (size == 0) continue;
      out.image.push_back(image), out.label.push_back(label == "1");
    }
  }
  if (out.image.size() < 10)
    throw BadInput((folder / "metadata").string() + ": names " + std::to_string(out.image.size()) + " images, at least 10 are needed");
  return out;
}

void read_png(const std::filesystem::path& path, int side, std::vector<float>& out) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto refuse = [&](const std::string& why) {
    png_image_free(&image);
    throw BadInput(path.string() + ": " + why);
  };
  if (!png_image_begin_read_from_file(&image, path.c_str())) refuse(image.message);
  if (static_cast<int>(image.width) != side || static_cast<int>(image.height) != side)
    refuse("is " + std::to_string(image.width) + " x " + std::to_string(image.height) + ", pathfinder.size is " + std::to_string(side));
  image.format = PNG_FORMAT_GRAY;
  std::vector<unsigned char> grey(PNG_IMAGE_SIZE(image));
  if (!png_image_finish_read(&image, nullptr, grey.data(), 0, nullptr)) refuse(image.message);
  out.assign(grey.begin(), grey.end());
}

}  // namespace ssm::pathfinder
