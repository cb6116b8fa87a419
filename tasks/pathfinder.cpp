// pathfinder.cpp - the Long Range Arena's Pathfinder and Path-X: are the two discs on the ends of one dashed curve? Pixel by pixel.
//
//   features (size^2, 1): the image row by row, 0..1; or the same as bytes to embed (token = byte + 1);  label 1 = connected
//
// The generator follows the published algorithm (pathfinder_draw.hpp). mode = fast retries the last paddles of a stuck snake instead of
// starting both again, which needs far fewer attempts; its snakes are a little more curled, so it is another distribution.
// The image follows from a key, so splits share no image; the discs are part of it. With data_dir the published images are read instead
// (pathfinder_files.hpp), split 80 / 10 / 10 in a fixed random order.
#include <memory>
#include <tuple>

#include "generated.hpp"
#include "pathfinder_draw.hpp"
#include "pathfinder_files.hpp"
#include "pixels.hpp"
#include "reading.hpp"

namespace ssm::pathfinder {

namespace {

// What the original program draws at 14 paddles, on the scale 0..255, of 603 (32), 6 (64) and 69 (128) images; tolerance: 4 standard errors
// of those samples and the rounding of the means.
struct Row {
  int size;
  double mean, deviation, above_0, above_64, tolerance;
};
constexpr Row original[] = {{32, 20.2, 51.1, .342, .126, .02}, {64, 13.3, 41.3, .25, .088, .15}, {128, 8.0, 35.9, .138, .041, .03}};

}  // namespace

struct Pathfinder final : GeneratedTask {
  int pixels = 32, paddles = 14;
  std::string mode = "faithful", input = "values";
  std::string data_dir;
  std::shared_ptr<const Painter> painter;
  Files files;             // of data_dir
  std::vector<int> order;  // of its images

  Pathfinder() { train_size = 160000, validation_size = test_size = 20000; }

  void knobs(Knobs& k) override {
    k("size", pixels, {32, 64, 128, 256}).range(32, 256).note("pixels of a side: 32, 64, 128 (Path-X) or 256");
    k("paddles", paddles, {6, 9, 14}).range(3, 14).note("paddles of a snake; the Long Range Arena uses 14 alone");
    k("mode", mode, {"faithful", "fast"}).note("fast: not the published distribution, snakes are a little more curled");
    k("input", input, {"values", "tokens"}).note("values 0..1, or bytes to embed");
    size_knobs(k);
    k("data_dir", data_dir, {}).any_text().note("folder with imgs/ and metadata/, as curv_contour_length_14; empty = generate");
  }
  void check() override {
    if (pixels != 32 && pixels != 64 && pixels != 128 && pixels != 256)
      refuse("size", std::to_string(pixels), "allowed is 32, 64, 128 or 256");
    if (data_dir.empty()) {
      painter = std::make_shared<Painter>(level(pixels, paddles), mode == "fast");
      return;
    }
    if (!std::filesystem::is_directory(std::filesystem::path(data_dir) / "metadata"))
      missing_data(name, data_dir, data_dir + "/metadata is not there", "metadata/*.npy and imgs/*/*.png (curv_contour_length_14)",
                   "pathfinder without pathfinder.data_dir");
    files = read_metadata(data_dir);
    order = shuffled_records(static_cast<int>(files.image.size()));
  }

  Index size(Split split) const override {
    if (data_dir.empty()) return GeneratedTask::size(split);
    return split == Split::train ? static_cast<Index>(order.size()) - 2 * tenth() : tenth();
  }

  TaskInfo info() const override {
    TaskInfo out;
    out.vocab = input == "tokens" ? 257 : 0;
    out.features = input == "tokens" ? 0 : 1;
    out.classes = 2;
    out.max_length = pixels * pixels;
    out.about = "are two discs the ends of one dashed curve (Long Range Arena: Pathfinder 32, 64, 128 = Path-X, 256)";
    out.references = {{"chance", "uniform guess", .5, "1 / 2"}, {"ceiling", "traces the curve", 1, "by construction"}};
    if (pixels == 32 && paddles == 14)
      out.references.push_back({"floor", "threshold on the distance of the discs", .544, "603 images of the original program, in sample"});
    if (paddles == 14 && mode == "faithful") out.references.push_back({"floor", "brightness", .5, "independent of the label"});
    const std::tuple<int, const char*, double> published[] = {{32, "Transformer", .7140}, {32, "S4", .9420},       {32, "S5", .9533},
                                                              {32, "Mega", .9601},        {128, "S4", .9635},      {128, "S5", .9858},
                                                              {128, "Mega", .9798},       {128, "Transformer", .5}};
    for (const auto& [size, label, value] : published)
      if (size == pixels && paddles == 14 && mode == "faithful")
        out.references.push_back({"published", label, value, "Long Range Arena tables"});
    out.slices = {{"label", {"separate", "connected"}}};
    return out;
  }

  void example(Split split, Index index, Example& out) const override {
    static thread_local Scene scene;
    if (data_dir.empty()) {
      Rng rng = keyed_draws(split, index);
      scene = painter->draw(rng);
    } else {
      const Index before = split == Split::train ? 0 : split == Split::validation ? size(Split::train) : size(Split::train) + tenth();
      const std::size_t n = at(order[at(before + index)]);
      read_png(files.image[n], pixels, scene.pixels);
      scene.connected = files.label[n] == 1;
    }
    out.clear();
    for (const float v : scene.pixels)
      if (input == "tokens") out.tokens.push_back(1 + static_cast<std::int32_t>(v));
      else out.features.push_back(v / 255.f);
    out.targets = {scene.connected}, out.slices = {scene.connected};
  }

  std::vector<Statistic> statistics() const override {
    std::vector<Statistic> out = {{"connected", .5, 0, [](const Example& e) { return double(e.targets[0]); }}};
    if (painter)
      out.push_back({"oracle: follows the paddles", .99, .01, [this](const Example& e) {
                       std::vector<float> grey;
                       for (Index i = 0; i < pixels * pixels; ++i) grey.push_back(static_cast<float>(value(e, i)));
                       return double(painter->traces(grey) == (e.targets[0] == 1));
                     }});
    if (paddles != 14 || mode == "fast") return out;
    const auto share = [this](double above) {
      return [=, this](const Example& e) {
        double n = 0;
        for (Index i = 0; i < pixels * pixels; ++i) n += value(e, i) > above;
        return n / (pixels * pixels);
      };
    };
    const auto power = [this](int exponent) {
      return [=, this](const Example& e) {
        double sum = 0;
        for (Index i = 0; i < pixels * pixels; ++i) sum += std::pow(value(e, i), exponent);
        return sum / (pixels * pixels);
      };
    };
    for (const Row& r : original) {
      if (r.size != pixels) continue;
      const double square = r.deviation * r.deviation + r.mean * r.mean;
      out.push_back({"shortcut: brighter than the mean, so connected", .5, .01,
                     [=](const Example& e) { return double((power(1)(e) > r.mean) == (e.targets[0] == 1)); }});
      out.push_back({"mean pixel, 0..255", r.mean, r.tolerance * r.mean, power(1)});
      out.push_back({"mean square of a pixel", square, 2 * r.tolerance * square, power(2)});
      out.push_back({"share of pixels above 0", r.above_0, r.tolerance * r.above_0, share(0)});
      out.push_back({"share of pixels above 64", r.above_64, r.tolerance * r.above_64, share(64)});
    }
    return out;
  }

  std::string show(const Example& e) const override {
    std::vector<float> values;
    for (Index i = 0; i < pixels * pixels; ++i) values.push_back(static_cast<float>(value(e, i)));
    return picture(values, pixels, 1, pixel_order("rows", pixels * pixels), 0, 255) + (e.targets[0] ? "-> connected" : "-> separate");
  }

 private:
  Index tenth() const { return static_cast<Index>(order.size()) / 10; }
  double value(const Example& e, Index i) const {
    return input == "tokens" ? e.tokens[at(i)] - 1 : std::round(255 * static_cast<double>(e.features[at(i)]));
  }
};
SSM_TASK(Pathfinder, "pathfinder");

}  // namespace ssm::pathfinder
