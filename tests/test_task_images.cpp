// Tasks of images: Pathfinder's geometry against the original program, pixel orders, drawing, and the readers of files with their errors.
#include <png.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "../tasks/pathfinder_draw.hpp"
#include "../tasks/pixels.hpp"
#include "../tasks/raster.hpp"
#include "open_task.hpp"

using namespace ssm;

namespace {

bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

std::string refusal(const std::string& name, const TemporaryFolder& folder) {
  return bad_input([&] { open_task(name, {{"data_dir", folder.path.string()}}); });
}

struct Moments {
  double n = 0, sum = 0, squares = 0;
  void add(double x) { n += 1, sum += x, squares += x * x; }
  double mean() const { return sum / n; }
  double deviation() const { return std::sqrt(squares / n - mean() * mean()); }
};

// Accuracy of the nearest of the first `train` drawings for 300 test drawings.
double nearest_neighbour(const Task& task, Index train) {
  std::vector<Example> known(static_cast<std::size_t>(train));
  for (Index i = 0; i < train; ++i) task.example(Split::train, i, known[std::size_t(i)]);
  Example e;
  int right = 0;
  for (Index i = 0; i < 300; ++i) {
    task.example(Split::test, i, e);
    float best = 1e30f;
    int label = 0;
    for (const Example& k : known) {
      float d = 0;
      for (std::size_t p = 0; p < e.features.size(); ++p) d += (k.features[p] - e.features[p]) * (k.features[p] - e.features[p]);
      if (d < best) best = d, label = k.targets[0];
    }
    right += label == e.targets[0];
  }
  return right / 300.0;
}

}  // namespace

// 603 images of the original program at 32 x 32. Tolerances: 4 standard errors of both samples, deviations within 10 %.
TEST(Pathfinder, GeometryOfTheOriginal) {
  constexpr int n = 400;
  const double errors = 4 * std::sqrt(1.0 / n + 1.0 / 603);
  const pathfinder::Painter painter(pathfinder::level(32, 14), false);
  Moments y, x, terminal, distance[2], attempts, distractors;
  std::vector<std::pair<double, bool>> order, brightness;
  int traced = 0, false_snakes = 0;
  for (int i = 0; i < n; ++i) {
    Rng rng(7, 1, std::uint64_t(i));
    const pathfinder::Scene s = painter.draw(rng);
    y.add(s.origin.y), x.add(s.origin.x), terminal.add(s.terminal.y);
    const double d = std::hypot(s.origin.y - s.terminal.y, s.origin.x - s.terminal.x);
    distance[s.connected].add(d);
    attempts.add(s.attempts), distractors.add(s.distractors);
    order.emplace_back(d, s.connected);
    brightness.emplace_back(std::accumulate(s.pixels.begin(), s.pixels.end(), 0.), s.connected);
    const bool snake = painter.traces(s.pixels);
    traced += snake && s.connected, false_snakes += snake && !s.connected;
    ASSERT_TRUE(std::min({s.origin.y, s.origin.x, s.terminal.y, s.terminal.x}) >= 0 &&
                std::max({s.origin.y, s.origin.x, s.terminal.y, s.terminal.x}) < 32);
    EXPECT_EQ(*std::min_element(s.pixels.begin(), s.pixels.end()), 0);
    EXPECT_EQ(*std::max_element(s.pixels.begin(), s.pixels.end()), 255);
  }
  EXPECT_NEAR(y.mean(), 15.1, 3.7 * errors);
  EXPECT_NEAR(x.mean(), 15.3, 3.7 * errors);
  EXPECT_NEAR(y.deviation(), 3.7, .4);
  EXPECT_NEAR(terminal.deviation(), 8.9, .9);
  EXPECT_NEAR(distance[0].mean(), 12.9, 5 * std::sqrt(2.0) * errors);
  EXPECT_NEAR(distance[1].mean(), 13.3, 5 * std::sqrt(2.0) * errors);
  // Attempts are geometric, so their deviation is their mean. 350 images of the original had 1.13 distractors.
  EXPECT_NEAR(attempts.mean(), 310, 310 * errors);
  EXPECT_NEAR(distractors.mean(), 1.13, distractors.deviation() * 4 * std::sqrt(1.0 / n + 1.0 / 350));
  // The oracle misses no snake; 19 of 1031 pairs of separate ones it takes for connected (another 2000 images).
  EXPECT_EQ(traced, int(distance[1].n));
  EXPECT_NEAR(false_snakes / distance[0].n, 19 / 1031., share_tolerance(19 / 1031., distance[0].n) + share_tolerance(19 / 1031., 1031));
  // The best threshold on the distance or on the brightness, in sample: no shortcuts.
  for (auto* shortcut : {&order, &brightness}) {
    std::sort(shortcut->begin(), shortcut->end());
    int now = 0, best = 0;
    for (const auto& [value, connected] : *shortcut) {
      now += connected ? 1 : -1;
      best = std::max(best, std::abs(now));
    }
    EXPECT_LT(.5 + best / (2.0 * n), .60);
  }
}

// Rooms of the first paddle in the original, with NumPy and OpenCV: 30 of 360 orientations at 32 pixels, 9 first pixels each or 6.
TEST(Pathfinder, FewOrientationsHaveRoom) {
  const pathfinder::Painter painter(pathfinder::level(32, 14), false);
  for (int degree = -180; degree < 180; ++degree) {
    const Index expected = degree < -150 || degree > -121 ? 0 : degree <= -139 ? 6 : 9;
    EXPECT_EQ(painter.first_pixels(0, degree), expected) << degree;
  }
  int orientations = 0;
  const pathfinder::Painter larger(pathfinder::level(64, 14), false);
  for (int degree = -180; degree < 180; ++degree) orientations += larger.first_pixels(0, degree) > 0;
  EXPECT_EQ(orientations, 95);
}

TEST(Pathfinder, LargerLevelsShowTheOriginalsPixels) {
  expect_statistics("pathfinder", {{"size", "64"}}, 30);
  expect_statistics("pathfinder", {{"size", "128"}}, 30);
}

TEST(Pathfinder, LevelsModesAndInputs) {
  for (const char* size : {"64", "128", "256"}) {
    const auto task = open_task("pathfinder", {{"size", size}, {"mode", "fast"}});
    Example e;
    task->example(Split::test, 0, e);
    EXPECT_EQ(e.features.size(), std::size_t(std::stoi(size) * std::stoi(size)));
  }
  Example values, tokens, fewer;
  open_task("pathfinder")->example(Split::test, 1, values);
  open_task("pathfinder", {{"input", "tokens"}})->example(Split::test, 1, tokens);
  for (std::size_t p = 0; p < 1024; ++p) ASSERT_EQ(std::lround(255 * values.features[p]) + 1, tokens.tokens[p]);
  open_task("pathfinder", {{"paddles", "6"}})->example(Split::test, 1, fewer);
  EXPECT_LT(std::accumulate(fewer.features.begin(), fewer.features.end(), 0.f),
            std::accumulate(values.features.begin(), values.features.end(), 0.f));
  EXPECT_TRUE(mentions(bad_input([] { open_task("pathfinder", {{"size", "48"}}); }), "32, 64, 128 or 256"));
}

TEST(Pathfinder, ReadsTheArchive) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path / "imgs/0"), std::filesystem::create_directories(folder.path / "metadata");
  std::string table;
  for (int i = 0; i < 20; ++i) {
    const std::string file = "sample_" + std::to_string(i) + ".png";
    png_image image{};
    image.version = PNG_IMAGE_VERSION, image.width = image.height = 32, image.format = PNG_FORMAT_GRAY;
    const std::vector<unsigned char> grey(1024, static_cast<unsigned char>(10 * i + i % 2));
    ASSERT_TRUE(png_image_write_to_file(&image, (folder.path / "imgs/0" / file).c_str(), 0, grey.data(), 0, nullptr));
    table += "imgs/0 " + file + ' ' + std::to_string(i) + ' ' + std::to_string(i % 2) + " 1.0 14 4 2 0.5 1 1\n";
  }
  folder.write("imgs/0/empty.png", "");
  folder.write("metadata/1.npy", table + "imgs/0 empty.png 20 1 1.0 14 4 2 0.5 1 1\n");
  const auto task = open_task("pathfinder", {{"data_dir", folder.path.string()}});
  EXPECT_EQ(task->size(Split::train), 16);
  std::set<float> seen;
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test})
    for (Index i = 0; i < task->size(split); ++i) {
      task->example(split, i, e);
      ASSERT_EQ(std::lround(255 * e.features[5]) % 10, e.targets[0]);
      seen.insert(e.features[0]);
    }
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_TRUE(mentions(bad_input([&] {
                         open_task("pathfinder", {{"data_dir", folder.path.string()}, {"size", "64"}})->example(Split::test, 0, e);
                       }),
                       "is 32 x 32"));
  folder.write("imgs/0/sample_3.png", "not a PNG file");
  const auto damaged = open_task("pathfinder", {{"data_dir", folder.path.string()}});
  EXPECT_TRUE(mentions(bad_input([&] {
                         for (Index i = 0; i < 16; ++i) damaged->example(Split::train, i, e);
                         for (Index i = 0; i < 2; ++i) damaged->example(Split::test, i, e), damaged->example(Split::validation, i, e);
                       }),
                       "sample_3.png"));
  folder.write("metadata/1.npy", table + "imgs/0 sample_1.png 20 2\n");
  EXPECT_TRUE(mentions(refusal("pathfinder", folder), "line 21"));
  folder.write("metadata/1.npy", table + "imgs/1 sample_1.png 20 1\n");
  EXPECT_TRUE(mentions(refusal("pathfinder", folder), "is not there"));
}

TEST(Pixels, Orders) {
  for (const char* kind : {"rows", "permuted", "reversed-bits"}) {
    const std::vector<int> order = pixel_order(kind, 784);
    EXPECT_EQ(std::set<int>(order.begin(), order.end()).size(), 784u) << kind;
    EXPECT_EQ(std::is_sorted(order.begin(), order.end()), kind == std::string("rows"));
  }
  EXPECT_EQ(pixel_order("reversed-bits", 6), (std::vector<int>{0, 4, 2, 1, 5, 3}));
}

TEST(Raster, LinesAndReduction) {
  Raster r(9, 9);
  draw_line(r, 1, 4, 7, 4, 3);
  for (int y = 0; y < 9; ++y)
    for (int x = 0; x < 9; ++x) EXPECT_EQ(r(x, y) != 0, y >= 3 && y <= 5 && x >= 1 && x <= 7);
  Raster thin(9, 9);
  draw_line(thin, 8, 0, 0, 8, 1);
  for (int y = 0; y < 9; ++y)
    for (int x = 0; x < 9; ++x) EXPECT_EQ(thin(x, y) != 0, x + y == 8);
  Raster steep(3, 5);
  draw_line(steep, 0, 0, 2, 4, 1);  // halfway pixels go sideways, as Pillow's do
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 3; ++x) EXPECT_EQ(steep(x, y) != 0, x == (y + 1) / 2);
  Raster flat(12, 12);
  std::fill(flat.pixels.begin(), flat.pixels.end(), std::uint8_t{100});
  for (const std::uint8_t v : lanczos(flat, 5, 5).pixels) EXPECT_EQ(v, 100);
}

// The reference of the default setting again, on 300 test drawings.
TEST(Strokes, NearestNeighbour) {
  const auto task = open_task("strokes");
  for (const Reference& r : task->info().references)
    if (r.label.starts_with("nearest neighbour")) {
      EXPECT_NEAR(nearest_neighbour(*task, 2000), r.value, share_tolerance(r.value, 300));
    }
  EXPECT_GT(nearest_neighbour(*open_task("strokes", {{"jitter", "1"}}), 500), .75);
}

TEST(Image, ReadsCifarRecords) {
  const TemporaryFolder folder;
  std::string batch(std::size_t{3073} * 10000, '\0');
  for (std::size_t i = 0; i < 10000; ++i)
    batch[i * 3073] = static_cast<char>(i % 10), batch[i * 3073 + 1] = '\xff', batch[i * 3073 + 1026] = '\x80';
  for (const char* name :
       {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"})
    folder.write(name, batch);
  const auto task = open_task("image", {{"data_dir", folder.path.string()}});
  Example e;
  task->example(Split::test, 7, e);
  EXPECT_EQ(e.targets[0], 7);
  ASSERT_EQ(e.features.size(), 1024u);
  EXPECT_NEAR(e.features[0], (76 - 122.6) / 61, 1e-5);  // (19595 * 255 + 32768) >> 16
  EXPECT_NEAR(e.features[1], (75 - 122.6) / 61, 1e-5);  // (38470 * 128 + 32768) >> 16
  open_task("image", {{"data_dir", folder.path.string()}, {"color", "rgb"}})->example(Split::test, 7, e);
  ASSERT_EQ(e.features.size(), 3072u);
  EXPECT_EQ(e.features[0], 2);
  EXPECT_EQ(task->size(Split::train) + task->size(Split::validation), 50000);
  for (const Reference& r : task->info().references)
    if (r.kind == "floor") {
      EXPECT_NEAR(r.value, .1, .03);  // all pictures are alike
    }
  batch[3073 * 5] = '\x0b';
  folder.write("data_batch_3.bin", batch);
  EXPECT_TRUE(mentions(refusal("image", folder), "data_batch_3.bin, offset 15365: label 11"));
  folder.write("data_batch_3.bin", batch.substr(1));
  EXPECT_TRUE(mentions(refusal("image", folder), "30729999 bytes"));
}

TEST(Mnist, ReadsIdxFiles) {
  const TemporaryFolder folder;
  const auto word = [](std::uint32_t v) { return std::string{char(v >> 24), char(v >> 16), char(v >> 8), char(v)}; };
  const auto images = [&](std::uint32_t n) {
    std::string out = word(0x803) + word(n) + word(28) + word(28);
    for (std::uint32_t i = 0; i < n; ++i) out += std::string(784, char(i));
    return out;
  };
  const auto labels = [&](std::uint32_t n) {
    std::string out = word(0x801) + word(n);
    for (std::uint32_t i = 0; i < n; ++i) out += char(i % 10);
    return out;
  };
  folder.write("train-images-idx3-ubyte", images(50)), folder.write("train-labels-idx1-ubyte", labels(50));
  folder.write("t10k-images-idx3-ubyte", images(20)), folder.write("t10k-labels-idx1-ubyte", labels(20));
  const auto task = open_task("mnist", {{"data_dir", folder.path.string()}, {"order", "permuted"}});
  EXPECT_EQ(task->size(Split::train), 45);
  EXPECT_EQ(task->size(Split::validation), 5);
  Example e;
  task->example(Split::test, 17, e);
  EXPECT_EQ(e.targets[0], 7);
  EXPECT_EQ(e.features, std::vector<float>(784, 17 / 255.f));
  std::set<float> seen;
  for (const Split split : {Split::train, Split::validation})
    for (Index i = 0; i < task->size(split); ++i) task->example(split, i, e), seen.insert(e.features[0]);
  EXPECT_EQ(seen.size(), 50u);
  const auto floor = [&] {
    for (const Reference& r : open_task("mnist", {{"data_dir", folder.path.string()}})->info().references)
      if (r.kind == "floor") return r.value;
    return -1.;
  };
  EXPECT_LT(floor(), .5);  // brightness is the record's number, the label its last digit
  std::string told = images(20), taught = images(50);
  for (std::size_t i = 0; i < 20; ++i) told.replace(16 + i * 784, 784, 784, char(i % 10));
  for (std::size_t i = 0; i < 50; ++i) taught.replace(16 + i * 784, 784, 784, char(i % 10));
  folder.write("train-images-idx3-ubyte", taught), folder.write("t10k-images-idx3-ubyte", told);
  EXPECT_EQ(floor(), 1);
  folder.write("train-images-idx3-ubyte", images(50));
  const std::pair<std::string, const char*> wrong[] = {{"", "inside the header"},
                                                       {word(0x801) + images(20).substr(4), "magic number 2049"},
                                                       {images(20) + "x", "promises 20"},
                                                       {images(19), "20 labels for 19 images"},
                                                       {word(0x803) + word(20) + word(27) + images(20).substr(12), "offset 8"}};
  for (const auto& [content, part] : wrong) {
    folder.write("t10k-images-idx3-ubyte", content);
    EXPECT_TRUE(mentions(refusal("mnist", folder), part)) << refusal("mnist", folder);
  }
  folder.write("t10k-images-idx3-ubyte", images(20));
  std::string beyond = labels(20);
  beyond[8 + 17] = '\x0a';
  folder.write("t10k-labels-idx1-ubyte", beyond);
  EXPECT_TRUE(mentions(refusal("mnist", folder), "offset 25: label 10")) << refusal("mnist", folder);
}
