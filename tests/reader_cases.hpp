// reader_cases.hpp - small well-formed files for every reader of the user's data, and what must hold whatever stands in them: examples
// within the ranges that the task states, or BadInput that names the folder. Shared by tests/test_readers.cpp and tests/fuzz/reader.cpp.
#pragma once
#include <png.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "error.hpp"
#include "task.hpp"

namespace ssm::readers {

using Files = std::map<std::string, std::string>;  // by path inside the folder

inline std::string small_png(int grey) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION, image.width = image.height = 32, image.format = PNG_FORMAT_GRAY;
  const std::vector<unsigned char> pixels(1024, static_cast<unsigned char>(grey));
  png_alloc_size_t bytes = 0;
  png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels.data(), 0, nullptr);
  std::string out(bytes, '\0');
  png_image_write_to_memory(&image, out.data(), &bytes, 0, pixels.data(), 0, nullptr);
  return out;
}

inline Files listops_files() {
  const std::string table = "Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n( ( ( [SM ( ( ( [MED 1 ) 2 ) ] ) ) 9 ) ] )\t0\r\n";
  return {{"basic_train.tsv", table}, {"basic_val.tsv", table}, {"basic_test.tsv", table}};
}

inline Files pathfinder_files() {
  Files out;
  for (int i = 0; i < 12; ++i) {
    const std::string name = "sample_" + std::to_string(i) + ".png";
    out["imgs/0/" + name] = small_png(10 * i);
    out["metadata/0.npy"] += "imgs/0 " + name + ' ' + std::to_string(i) + ' ' + std::to_string(i % 2) + " 1.0 14 4 2 0.5 1 1\n";
  }
  return out;
}

inline Files mnist_files() {
  const std::string images = std::string("\0\0\x08\x03\0\0\0\x0c\0\0\0\x1c\0\0\0\x1c", 16) + std::string(std::size_t{12} * 784, '\x40');
  const std::string labels = std::string("\0\0\x08\x01\0\0\0\x0c", 8) + std::string("\0\1\2\3\4\5\6\7\x08\x09\0\1", 12);
  return {{"train-images-idx3-ubyte", images},
          {"train-labels-idx1-ubyte", labels},
          {"t10k-images-idx3-ubyte", images},
          {"t10k-labels-idx1-ubyte", labels}};
}

inline Files image_files() {
  Files out;
  for (const char* name : {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"})
    out[std::string(name) + ".bin"] = std::string(std::size_t{10000} * 3073, '\x05');
  return out;
}

inline Files review_files() {
  return {{"train/pos/1.txt", "good"}, {"train/neg/1.txt", "dull"}, {"test/pos/1.txt", "fi\xffne\n"}, {"test/neg/1.txt", "bad"}};
}

inline Files table_files() {
  return {{"train.tsv", "Source,Target\r\n\"He said \"\"no\"\", twice\",0\r\ngreat,1\r\n"}, {"test.tsv", "Source,Target\n\"a\nb\",1"}};
}

inline Files pair_files() {
  const std::string pairs = "1.0\tx\ty\tfirst \"text\tsecond\r\n0.0\tx\tz\tfirst\tthird\n";
  return {{"new_aan_pairs.train.tsv", pairs}, {"new_aan_pairs.eval.tsv", pairs}, {"new_aan_pairs.test.tsv", pairs}};
}

struct Reader {
  const char *label, *task;
  Files (*files)();
  float low = 0, high = 1;  // of features
};
// image comes last: its files have 30 MB each, so that only the fuzzer takes it.
const Reader all[] = {{"listops", "listops", listops_files}, {"pathfinder", "pathfinder", pathfinder_files},
                      {"mnist", "mnist", mnist_files},       {"reviews", "text", review_files},
                      {"table", "text", table_files},        {"pairs", "retrieval", pair_files},
                      {"image", "image", image_files, -3, 3}};

inline const Reader& reader(const std::string& label) {
  const auto* found = std::find_if(std::begin(all), std::end(all), [&](const Reader& r) { return r.label == label; });
  if (found == std::end(all)) throw BadInput("no reader " + label);
  return *found;
}

inline std::unique_ptr<Task> open(const Reader& reader, const std::filesystem::path& folder) {
  auto task = TaskRegistry::get().make(reader.task, "task");
  Knobs knobs;
  task->knobs(knobs);
  knobs.find("data_dir")->set(folder.string(), std::string(reader.task) + ".data_dir");
  task->open(1);
  return task;
}

// What is outside the ranges that the task states, among up to 20 examples of each split; "" when nothing is.
inline std::string outside(const Task& task, const Reader& reader) {
  const TaskInfo info = task.info();
  Example e;
  for (const Split split : {Split::train, Split::validation, Split::test})
    for (Index i = 0; i < std::min<Index>(task.size(split), 20); ++i) {
      task.example(split, i, e);
      for (const auto* tokens : {&e.tokens, &e.second})
        for (const std::int32_t t : *tokens)
          if (t < 0 || t >= info.vocab) return "token " + std::to_string(t);
      for (const float v : e.features)
        if (!(v >= reader.low && v <= reader.high)) return "feature " + std::to_string(v);
      if (e.targets.size() != 1 || e.targets[0] < 0 || e.targets[0] >= info.classes) return "label";
      if (e.tokens.size() + e.features.size() > std::size_t(info.max_length)) return "length";
      if (e.slices.size() != info.slices.size()) return "number of slices";
      for (std::size_t s = 0; s < e.slices.size(); ++s)
        if (e.slices[s] < 0 || std::size_t(e.slices[s]) >= info.slices[s].labels.size()) return "slice " + std::to_string(e.slices[s]);
    }
  return {};
}

// The inputs in a file of scripts/fuzz: each behind its length in 4 bytes, least byte first.
inline std::vector<std::string> kept_inputs(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<std::string> out;
  for (unsigned char length[4]; in.read(reinterpret_cast<char*>(length), 4);) {
    out.emplace_back(std::size_t{length[0]} | std::size_t{length[1]} << 8 | std::size_t{length[2]} << 16, '\0');
    in.read(out.back().data(), static_cast<std::streamsize>(out.back().size()));
  }
  return out;
}

// The files of a reader in a folder, one of which at a time is changed.
struct Folder {
  const Reader& reader;
  std::filesystem::path path;
  Files files = reader.files();

  Folder(const Reader& reader_, std::filesystem::path path_) : reader(reader_), path(std::move(path_)) {
    for (const auto& [name, content] : files) put(name, content);
  }
  bool large() const { return reader.label == std::string("image"); }
  void put(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
  }
  // Reads the folder while `content` stands in the file `name`. Returns what is wrong with the reader, "" when it behaves. `refused`
  // says whether it refused the file.
  std::string read_with(const std::string& name, const std::string& content, bool& refused) const {
    put(name, content);
    std::string wrong;
    refused = false;
    try {
      wrong = outside(*open(reader, path), reader);
    } catch (const BadInput& e) {
      refused = true;
      if (std::string(e.what()).find(path.string()) == std::string::npos) wrong = std::string("names no file: ") + e.what();
    } catch (const std::exception& e) {
      wrong = std::string("not a BadInput: ") + e.what();
    }
    put(name, files.at(name));
    return wrong;
  }
  // What a fuzzer's input means: the first byte chooses the file, the rest is its content; for image three bytes more say where the rest
  // is laid over the file, and a rest of 4 bytes or less cuts it off there.
  std::pair<std::string, std::string> meaning(const std::string& input) const {
    if (input.empty()) return {files.begin()->first, ""};
    auto victim = files.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(static_cast<unsigned char>(input[0]) % files.size()));
    if (!large() || input.size() < 4) return {victim->first, input.substr(1)};
    std::string content = victim->second;
    std::size_t at = 0;
    for (int i = 1; i < 4; ++i) at = at << 8 | static_cast<unsigned char>(input[static_cast<std::size_t>(i)]);
    at = std::min(2 * at, content.size());
    if (input.size() <= 8) content.resize(at);
    else content.replace(at, std::min(input.size() - 4, content.size() - at), input, 4, std::string::npos);
    return {victim->first, content};
  }
};

}  // namespace ssm::readers
