// image.cpp - the Long Range Arena's Image: CIFAR-10 read pixel by pixel, from the binary files of its authors.
//
//   data_dir holds data_batch_1.bin .. data_batch_5.bin and test_batch.bin: 10,000 records of 1 label byte, 1024 red, 1024 green, 1024 blue
//
// Grey is (19595 R + 38470 G + 7471 B + 32768) >> 16 as in Pillow, then standardised with mean 122.6 and deviation 61 as S4 does; colour
// (3 features, another benchmark) with mean 0.5 and deviation 0.25 of [0, 1]. As tokens: grey byte + 1. 45,000 / 5,000 / 10,000 examples.
#include "pixels.hpp"
#include "reading.hpp"
#include "shortcuts.hpp"

namespace ssm::image {

namespace {
constexpr int side = 32, plane = side * side, record = 1 + 3 * plane, records = 10000, held_out = 5000;
constexpr const char* layout = "data_batch_1.bin .. data_batch_5.bin, test_batch.bin of CIFAR-10's binary version";
void check_size(const std::filesystem::path& path, std::uintmax_t bytes) {
  if (bytes == std::uintmax_t{record} * records) return;
  throw BadInput(path.string() + ": has " + std::to_string(bytes) + " bytes, expected 10000 records of 3073 = 30730000");
}
constexpr const char* class_names[] = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
}  // namespace

struct Image final : Task {
  std::string data_dir, color = "grey", input = "values", validation = "random";
  std::vector<std::string> files;  // five of training, one of test
  std::vector<int> order;          // of the 50,000 training records
  double floor = 0;                // once files are open

  void knobs(Knobs& k) override {
    k("data_dir", data_dir, {}).any_text().note("folder with the binary files of CIFAR-10");
    k("color", color, {"grey", "rgb"}).note("grey (Long Range Arena) or three features a pixel");
    k("input", input, {"values", "tokens"}).note("standardised values, or grey bytes to embed");
    k("validation", validation, {"random", "last"})
        .note("5,000 validation images: fixed random ones (S4) or the last 10 % (Long Range Arena)");
  }

  void open(std::uint64_t) override {
    if (input == "tokens" && color == "rgb") throw BadInput("image.input = tokens: needs image.color = grey");
    const std::filesystem::path folder = data_dir;
    files.clear();
    for (const char* file :
         {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"}) {
      const auto path = folder / file;
      if (data_dir.empty() || !std::filesystem::exists(path))
        missing_data("image", data_dir, path.string() + " is not there", layout, "gabor");
      if (std::filesystem::is_regular_file(path)) check_size(path, std::filesystem::file_size(path));
      files.push_back(read_file(path));
      const std::string& bytes = files.back();
      check_size(path, bytes.size());
      for (std::size_t i = 0; i < bytes.size(); i += record)
        if (static_cast<unsigned char>(bytes[i]) > 9)
          throw BadInput(path.string() + ", offset " + std::to_string(i) + ": label " +
                         std::to_string(static_cast<unsigned char>(bytes[i])) + ", allowed is 0 to 9");
    }
    order = shuffled_records(5 * records);
    if (validation == "last") std::sort(order.begin(), order.end());
    floor = nearest_mean(*this, 10);
  }

  Index size(Split split) const override {
    return split == Split::train ? 5 * records - held_out : split == Split::validation ? held_out : records;
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = input == "tokens" ? 257 : 0;
    out.features = input == "tokens" ? 0 : color == "rgb" ? 3 : 1;
    out.classes = 10;
    out.max_length = plane;
    out.about = "CIFAR-10 pixel by pixel (Long Range Arena: Image); needs its files, stand-in: gabor";
    out.references = {{"chance", "uniform guess", .1, "1 / 10"}};
    if (floor > 0) out.references.push_back({"floor", "nearest class mean of the pixels", floor, "measured on these files"});
    if (color == "grey") {
      const std::pair<const char*, double> lra[] = {{"Transformer", .4244}, {"S4-FouT", .891}, {"Mega", .904}};
      for (const auto& [label, value] : lra) out.references.push_back({"published", label, value, "Long Range Arena tables"});
    }
    out.slices = {{"class", {}}};
    out.slices[0].labels.assign(std::begin(class_names), std::end(class_names));
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    const int n = split == Split::test ? 5 * records + static_cast<int>(index)
                                       : order[static_cast<std::size_t>(index + (split == Split::train ? 0 : 5 * records - held_out))];
    const std::string& file = files[static_cast<std::size_t>(n / records)];
    const auto* at = reinterpret_cast<const unsigned char*>(file.data()) + std::ptrdiff_t{n % records} * record;
    out.clear();
    out.targets = {at[0]}, out.slices = {at[0]};
    for (int p = 0; p < plane; ++p) {
      const int rgb[3] = {at[1 + p], at[1 + plane + p], at[1 + 2 * plane + p]};
      const int grey = (19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16;
      if (input == "tokens") out.tokens.push_back(1 + grey);
      else if (color == "grey") out.features.push_back((static_cast<float>(grey) - 122.6f) / 61.f);
      else
        for (const int c : rgb) out.features.push_back((static_cast<float>(c) / 255.f - .5f) / .25f);
    }
  }

  std::string show(const Example& e) const override {
    std::vector<float> values = e.features;
    for (const std::int32_t t : e.tokens) values.push_back((static_cast<float>(t - 1) - 122.6f) / 61.f);
    return picture(values, side, color == "rgb" ? 3 : 1, pixel_order("rows", plane), -2, 2) + "-> " + class_names[e.targets[0]];
  }
};
SSM_TASK(Image, "image");

}  // namespace ssm::image
