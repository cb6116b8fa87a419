// mnist.cpp - handwritten digits pixel by pixel, from MNIST's IDX files: sMNIST by rows, psMNIST by a permutation or by reversed bits.
//
//   data_dir holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (unpacked)
//
// Values are pixels / 255. 54,000 / 6,000 / 10,000 examples, the validation ones fixed and random.
#include "pixels.hpp"
#include "reading.hpp"
#include "shortcuts.hpp"

namespace ssm::mnist {

namespace {
constexpr int side = 28, plane = side * side;
constexpr const char* layout =
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (unpacked)";

// The content behind the header: big-endian magic number, then the extents. Throws BadInput with file and offset.
std::string idx(const std::filesystem::path& path, std::uint32_t magic, std::size_t item) {
  const std::string bytes = read_file(path);
  const auto word = [&](std::size_t at) {
    std::uint32_t out = 0;
    for (std::size_t i = at; i < at + 4; ++i) out = out << 8 | static_cast<unsigned char>(bytes[i]);
    return out;
  };
  const std::size_t extents = magic & 0xff, header = 4 + 4 * extents;
  if (bytes.size() < header) throw BadInput(path.string() + ": ends at offset " + std::to_string(bytes.size()) + ", inside the header");
  if (word(0) != magic)
    throw BadInput(path.string() + ", offset 0: magic number " + std::to_string(word(0)) + ", expected " + std::to_string(magic));
  for (std::size_t d = 1; d < extents; ++d)
    if (word(4 + 4 * d) != side) throw BadInput(path.string() + ", offset " + std::to_string(4 + 4 * d) + ": images must be 28 x 28");
  if (bytes.size() != header + word(4) * item)
    throw BadInput(path.string() + ": " + std::to_string(bytes.size()) + " bytes, but the header promises " + std::to_string(word(4)) +
                   " items, " + std::to_string(header + word(4) * item) + " bytes");
  return bytes.substr(header);
}
}  // namespace

struct Mnist final : Task {
  std::string data_dir, order = "rows";
  std::string images[2], labels[2];  // train, test
  std::vector<int> reading, records;
  double floor = 0;  // once files are open

  void knobs(Knobs& k) override {
    k("data_dir", data_dir, {}).any_text().note("folder with MNIST's four IDX files");
    k("order", order, {"rows", "permuted", "reversed-bits"}).note("sMNIST; psMNIST of the older literature; psMNIST as S4's code has it");
  }

  void open(std::uint64_t) override {
    const char* names[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};
    for (std::size_t i = 0; i < 4; ++i) {
      const auto path = std::filesystem::path(data_dir) / names[i];
      if (data_dir.empty() || !std::filesystem::exists(path))
        missing_data("mnist", data_dir, path.string() + " is not there", layout, "strokes");
      if (i < 2) images[i] = idx(path, 0x803, plane);
      else labels[i - 2] = idx(path, 0x801, 1);
      if (i < 2) continue;
      const std::string& l = labels[i - 2];
      if (l.size() * plane != images[i - 2].size() || l.size() < 10)
        throw BadInput(path.string() + ": " + std::to_string(l.size()) + " labels for " + std::to_string(images[i - 2].size() / plane) +
                       " images, at least 10 are needed");
      for (std::size_t k = 0; k < l.size(); ++k)
        if (static_cast<unsigned char>(l[k]) > 9)
          throw BadInput(path.string() + ", offset " + std::to_string(8 + k) + ": label " +
                         std::to_string(static_cast<unsigned char>(l[k])) + ", allowed is 0 to 9");
    }
    reading = pixel_order(order, plane);
    records = shuffled_records(static_cast<int>(labels[0].size()));
    floor = nearest_mean(*this, 10);
  }

  Index size(Split split) const override {
    if (labels[0].empty()) return 0;
    const Index held_out = static_cast<Index>(records.size()) / 10;
    return split == Split::test         ? static_cast<Index>(labels[1].size())
           : split == Split::validation ? held_out
                                        : static_cast<Index>(records.size()) - held_out;
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.features = 1;
    out.classes = 10;
    out.max_length = plane;
    out.about = "MNIST pixel by pixel: sMNIST, psMNIST by permutation or reversed bits; needs its files, stand-in: strokes";
    out.references = {{"chance", "uniform guess", .1, "1 / 10"}};
    if (floor > 0) out.references.push_back({"floor", "nearest class mean of the pixels", floor, "measured on these files"});
    out.slices = {{"digit", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    const std::size_t set = split == Split::test;
    const auto n =
        set ? static_cast<std::size_t>(index)
            : static_cast<std::size_t>(records[static_cast<std::size_t>(index + (split == Split::train ? 0 : size(Split::train)))]);
    out.clear();
    out.targets = {labels[set][n]}, out.slices = out.targets;
    for (const int p : reading)
      out.features.push_back(static_cast<float>(static_cast<unsigned char>(images[set][n * plane + static_cast<std::size_t>(p)])) / 255.f);
  }

  std::string show(const Example& e) const override {
    return picture(e.features, side, 1, reading, 0, 1) + "-> " + std::to_string(e.targets[0]);
  }
};
SSM_TASK(Mnist, "mnist");

}  // namespace ssm::mnist
