#include "record/cached_task.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "error.hpp"
#include "record/fnv.hpp"
#include "record/tree.hpp"

namespace ssm {

namespace {

constexpr const char* kSchema = "ssmbench-examples/1";
constexpr Index kLongestPart = 1024, kPartNumbers = Index{1} << 22;  // of examples; of their tokens and features

const std::vector<std::int32_t>* whole_parts(const Example& e, std::size_t k) {
  const std::vector<std::int32_t>* all[] = {&e.tokens, &e.second, &e.targets, &e.marks, &e.slices};
  return all[k];
}
constexpr std::size_t kWhole = 5;

// A vector in front of which stands its length and the bytes of an element: length * 8 + bytes.
template <class Stored, class T, class Convert>
void put(const std::vector<T>& from, Convert convert, std::vector<std::int32_t>& words) {
  words.push_back(static_cast<std::int32_t>(8 * from.size() + sizeof(Stored)));
  const std::size_t begin = words.size();
  words.resize(begin + (from.size() * sizeof(Stored) + 3) / 4);
  auto* bytes = reinterpret_cast<unsigned char*>(words.data() + begin);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const Stored v = convert(from[i]);
    std::memcpy(bytes + i * sizeof(Stored), &v, sizeof(Stored));
  }
}

template <class Stored, class T, class Convert>
void get(const unsigned char* bytes, Convert convert, std::vector<T>& to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    Stored v;
    std::memcpy(&v, bytes + i * sizeof(Stored), sizeof(Stored));
    to[i] = convert(v);
  }
}

float grey(std::uint8_t k) { return static_cast<float>(k) / 255.f; }
bool is_grey(float v) {
  return v >= 0 && v <= 1 &&
         std::bit_cast<std::uint32_t>(grey(static_cast<std::uint8_t>(v * 255.f + .5f))) == std::bit_cast<std::uint32_t>(v);
}

void pack_real(const std::vector<float>& from, std::vector<std::int32_t>& words) {
  if (std::all_of(from.begin(), from.end(), is_grey))
    put<std::uint8_t>(
        from, [](float v) { return static_cast<std::uint8_t>(v * 255.f + .5f); }, words);
  else
    put<float>(
        from, [](float v) { return v; }, words);
}

// Held while a part is made. Where the file system has no locks both processes make it, and the last one's file stays.
class PartLock {
 public:
  explicit PartLock(std::string path) : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    while (file_ >= 0 && ::fcntl(file_, F_OFD_SETLKW, &whole) != 0 && errno == EINTR) continue;
  }
  ~PartLock() {
    ::unlink(path_.c_str());
    if (file_ >= 0) ::close(file_);
  }
  PartLock(const PartLock&) = delete;
  PartLock& operator=(const PartLock&) = delete;

 private:
  std::string path_;
  int file_;
};

class CachedTask final : public Task {
 public:
  CachedTask(std::unique_ptr<Task> inner, const std::string& folder, const std::string& settings) : inner_(std::move(inner)) {
    name = inner_->name;
    const TaskInfo i = inner_->info();
    const Index part = std::clamp<Index>(kPartNumbers / (Index{i.max_length} * std::max(i.features, 1)), 1, kLongestPart);
    for (const Split split : {Split::train, Split::validation, Split::test}) {
      Kept& kept = kept_[static_cast<std::size_t>(split)];
      kept.size = inner_->size(split), kept.part = part;
      kept.parts = std::vector<Part>(static_cast<std::size_t>((kept.size + part - 1) / part));
      Fnv1a sum;
      sum.text(settings), sum.text(split_name(split));
      std::vector<std::int32_t> words;
      Example e;
      for (Index k = 0; k < std::min<Index>(kept.size, 2); ++k) inner_->example(split, k, e), pack(e, words);
      sum.bytes(words.data(), 4 * words.size());
      kept.hash = sum.hex();
      kept.path = (std::filesystem::path(folder) / (name + '-' + kept.hash)).string();
    }
  }

  void knobs(Knobs& k) override { inner_->knobs(k); }
  void open(std::uint64_t) override { throw std::logic_error("a cached task is open"); }
  TaskInfo info() const override { return inner_->info(); }
  Index size(Split split) const override { return inner_->size(split); }
  std::string host_only() const override { return inner_->host_only(); }
  std::vector<Statistic> statistics() const override { return inner_->statistics(); }
  std::string show(const Example& e) const override { return inner_->show(e); }
  void write(Split split, Index count, const std::string& path) const override { inner_->write(split, count, path); }

  void example(Split split, Index index, Example& out) const override {
    const Kept& kept = kept_[static_cast<std::size_t>(split)];
    const Index k = index / kept.part;
    Part& part = kept.parts.at(static_cast<std::size_t>(k));
    std::call_once(part.once, [&] { part.load(*this, split, k); });
    unpack(part.words.data() + part.offsets[static_cast<std::size_t>(index - k * kept.part)], out);
  }

 private:
  struct Part {
    std::once_flag once;
    std::vector<std::int32_t> words;
    std::vector<std::int64_t> offsets;  // of the examples in words, then their number
    void load(const CachedTask& task, Split split, Index k);
    bool read(const std::string& path, const std::string& hash, Index first, Index count, bool say);
  };
  struct Kept {
    Index size = 0, part = 1;
    std::string path, hash;
    mutable std::vector<Part> parts;
  };

  std::unique_ptr<Task> inner_;
  Kept kept_[3];
};

// False when there is no file, or no whole one of this part, which it says when asked to.
bool CachedTask::Part::read(const std::string& path, const std::string& hash, Index first, Index count, bool say) {
  if (!std::filesystem::exists(path)) return false;
  try {
    const Tree t = Tree::read(path);
    const bool mine = t.get<std::string>("/", "schema") == kSchema && t.get<std::string>("/", "hash") == hash;
    if (!mine || t.get<std::int64_t>("/", "first") != first) throw BadInput(path + ": of other examples");
    words = t.column<std::int32_t>("/words"), offsets = t.column<std::int64_t>("/offsets");
    if (static_cast<Index>(offsets.size()) != count + 1 || offsets.back() != static_cast<Index>(words.size()))
      throw BadInput(path + ": of another number of examples");
    return true;
  } catch (const BadInput& e) {
    if (say) std::fprintf(stderr, "%s; made again\n", e.what());
    return false;
  }
}

void CachedTask::Part::load(const CachedTask& task, Split split, Index k) {
  const Kept& kept = task.kept_[static_cast<std::size_t>(split)];
  const std::string path = kept.path + '-' + std::to_string(k) + ".h5";
  const Index first = k * kept.part, count = std::min(kept.part, kept.size - first);
  if (read(path, kept.hash, first, count, false)) return;
  const PartLock lock(path + ".lock");
  if (read(path, kept.hash, first, count, true)) return;  // made by another process meanwhile
  words.clear(), offsets.assign(1, 0);
  Example e;
  for (Index i = first; i < first + count; ++i) {
    task.inner_->example(split, i, e);
    pack(e, words);
    offsets.push_back(static_cast<std::int64_t>(words.size()));
  }
  Tree t;
  t.set("/", "schema", kSchema);
  t.set("/", "sealed", true);
  t.set("/", "hash", kept.hash);
  t.set("/", "task", task.name);
  t.set("/", "split", split_name(split));
  t.set("/", "first", first);
  t.put("/words", Array(words));
  t.put("/offsets", Array(offsets));
  t.write(path);
}

}  // namespace

void pack(const Example& e, std::vector<std::int32_t>& words) {
  for (std::size_t k = 0; k < kWhole; ++k) {
    const std::vector<std::int32_t>& v = *whole_parts(e, k);
    const auto [low, high] = std::minmax_element(v.begin(), v.end());
    if (v.empty() || (*low >= 0 && *high <= 0xff))
      put<std::uint8_t>(
          v, [](std::int32_t x) { return static_cast<std::uint8_t>(x); }, words);
    else if (*low >= 0 && *high <= 0xffff)
      put<std::uint16_t>(
          v, [](std::int32_t x) { return static_cast<std::uint16_t>(x); }, words);
    else
      put<std::int32_t>(
          v, [](std::int32_t x) { return x; }, words);
  }
  pack_real(e.features, words), pack_real(e.values, words);
}

void unpack(const std::int32_t* words, Example& e) {
  const auto next = [&](auto& to, auto&& elements) {
    const std::int32_t head = *words++;
    to.resize(static_cast<std::size_t>(head / 8));
    elements(reinterpret_cast<const unsigned char*>(words), head % 8, to);
    words += (to.size() * static_cast<std::size_t>(head % 8) + 3) / 4;
  };
  const auto same = [](auto v) { return static_cast<std::int32_t>(v); };
  for (std::size_t k = 0; k < kWhole; ++k)
    next(const_cast<std::vector<std::int32_t>&>(*whole_parts(e, k)), [&](const unsigned char* bytes, int width, auto& to) {
      if (width == 1) get<std::uint8_t>(bytes, same, to);
      else if (width == 2) get<std::uint16_t>(bytes, same, to);
      else get<std::int32_t>(bytes, same, to);
    });
  for (std::vector<float>* part : {&e.features, &e.values})
    next(*part, [](const unsigned char* bytes, int width, auto& to) {
      if (width == 1) get<std::uint8_t>(bytes, grey, to);
      else
        get<float>(
            bytes, [](float v) { return v; }, to);
    });
}

std::unique_ptr<Task> cached(std::unique_ptr<Task> task, const std::string& folder, const std::map<std::string, std::string>& keys,
                             std::uint64_t seed) {
  const auto files = keys.find(task->name + ".data_dir");
  const bool reads = files != keys.end() && !files->second.empty();
  if (reads || task->host_only().empty() || task->size(Split::train) == 0) return task;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw BadInput("run.cache = '" + folder + "': cannot be made: " + failed.message());
  std::string settings = "seed=" + std::to_string(seed) + '\n';
  for (const auto& [key, value] : keys)
    if (key.rfind(task->name + '.', 0) == 0) settings += key + '=' + value + '\n';
  return std::make_unique<CachedTask>(std::move(task), folder, settings);
}

}  // namespace ssm
