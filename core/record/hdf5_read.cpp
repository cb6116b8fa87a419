// hdf5_read.cpp - HDF5 file -> Tree. Whatever is wrong with the file is BadInput.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.hpp"
#include "record/hdf5.hpp"
#include "record/hdf5_handle.hpp"
#include "record/hdf5_seal.hpp"

namespace ssm::hdf5 {
namespace {

constexpr int kMaxDepth = 64;  // a group that contains itself ends here

class Reader {
 public:
  Reader(const std::string& path, Index file_bytes) : path_(path), file_bytes_(file_bytes) {}

  Tree run() {
    const Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
    if (!file.ok()) bad("", "damaged HDF5 file (" + reason() + ")");
    haddr_t end = 0;
    must(H5Fget_eoa(file, &end) >= 0, "/");
    if (seal_is_cut(path_, static_cast<std::size_t>(file_bytes_), end)) bad("", "truncated: the end of its checksum is missing");
    tree_.file(path_);
    group(file, "/", 0);
    const Attribute* sealed = tree_.find("/", "sealed");
    if (sealed && *sealed == Attribute(true) && !has_seal(path_, static_cast<std::size_t>(file_bytes_)))
      bad("", "truncated: the checksum at its end is missing");
    return std::move(tree_);
  }

 private:
  [[noreturn]] void bad(const std::string& entry, const std::string& what) const {
    throw BadInput(path_ + ": " + (entry.empty() ? "" : "'" + entry + "': ") + what);
  }
  void must(bool ok, const std::string& entry) const {
    if (!ok) bad(entry, "cannot be read, the file is damaged (" + reason() + ")");
  }

  void group(hid_t parent, const std::string& path, int depth) {
    if (depth > kMaxDepth) bad(path, "groups nested more than " + std::to_string(kMaxDepth) + " deep");
    const Handle self(H5Gopen2(parent, path.c_str(), H5P_DEFAULT), H5Gclose);
    must(self.ok(), path);
    tree_.group(path);
    attributes(self, path);
    H5G_info_t info;
    must(H5Gget_info(self, &info) >= 0, path);
    for (hsize_t i = 0; i < info.nlinks; ++i) {
      const ssize_t length = H5Lget_name_by_idx(self, ".", H5_INDEX_NAME, H5_ITER_INC, i, nullptr, 0, H5P_DEFAULT);
      must(length > 0, path);
      std::string name(static_cast<std::size_t>(length), '\0');
      must(H5Lget_name_by_idx(self, ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size() + 1, H5P_DEFAULT) == length, path);
      const std::string child = path == "/" ? "/" + name : path + "/" + name;
      const Handle object(H5Oopen(self, name.c_str(), H5P_DEFAULT), H5Oclose);
      must(object.ok(), child);
      if (H5Iget_type(object) == H5I_GROUP) group(self, child, depth + 1);
      else if (H5Iget_type(object) == H5I_DATASET) tree_.put(child, array(object, child));
    }
  }

  // Elements of a simple or scalar space; refuses extents that cannot be in memory.
  std::vector<Index> extents(hid_t space, const std::string& entry) const {
    if (H5Sget_simple_extent_type(space) == H5S_NULL) return {0};
    const int rank = H5Sget_simple_extent_ndims(space);
    must(rank >= 0, entry);
    std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
    must(H5Sget_simple_extent_dims(space, dims.data(), nullptr) >= 0, entry);
    Index total = 1;
    for (const hsize_t d : dims)
      if (d > hsize_t(1) << 48 || __builtin_mul_overflow(total, static_cast<Index>(d), &total))
        bad(entry, "impossible shape, the file is damaged");
    return {dims.begin(), dims.end()};
  }

  // Reads `n` elements of any supported type through `read(memory type, buffer)`.
  template <class Read>
  Array::Data elements(hid_t type, Index n, const std::string& entry, Read read) const {
    const auto numbers = [&]<class T>(T, hid_t memory) -> Array::Data {
      std::vector<T> v(static_cast<std::size_t>(n));
      if (n) must(read(memory, v.data()) >= 0, entry);
      return v;
    };
    const std::size_t width = H5Tget_size(type);
    switch (H5Tget_class(type)) {
      case H5T_FLOAT:
        return width <= 4 ? numbers(float(), H5T_NATIVE_FLOAT) : numbers(double(), H5T_NATIVE_DOUBLE);
      case H5T_INTEGER:
        if (width < 4 || (width == 4 && H5Tget_sign(type) == H5T_SGN_2)) return numbers(std::int32_t(), H5T_NATIVE_INT32);
        return numbers(std::int64_t(), H5T_NATIVE_INT64);
      case H5T_ENUM:
        return numbers(std::int32_t(), H5T_NATIVE_INT32);
      case H5T_STRING:
        return H5Tis_variable_str(type) > 0 ? variable_strings(n, entry, read, type) : fixed_strings(n, entry, read, type);
      default:
        bad(entry, "has a type other than number, string or bool");
    }
  }

  template <class Read>
  std::vector<std::string> variable_strings(Index n, const std::string& entry, Read read, hid_t type) const {
    const Handle memory = string_type();
    H5Tset_cset(memory, H5Tget_cset(type));
    std::vector<char*> pointers(static_cast<std::size_t>(n), nullptr);
    const bool ok = !n || read(memory, pointers.data()) >= 0;
    std::vector<std::string> out;
    for (char* p : pointers) {
      out.emplace_back(p && ok ? p : "");
      if (p && ok) H5free_memory(p);
    }
    must(ok, entry);
    return out;
  }

  template <class Read>
  std::vector<std::string> fixed_strings(Index n, const std::string& entry, Read read, hid_t type) const {
    const std::size_t width = H5Tget_size(type);
    const Handle memory(H5Tcopy(type), H5Tclose);
    std::vector<char> all(static_cast<std::size_t>(n) * width + 1);
    if (n) must(read(memory, all.data()) >= 0, entry);
    std::vector<std::string> out;
    for (Index i = 0; i < n; ++i)
      out.emplace_back(&all[static_cast<std::size_t>(i) * width], strnlen(&all[static_cast<std::size_t>(i) * width], width));
    return out;
  }

  Array array(hid_t set, const std::string& path) {
    const Handle space(H5Dget_space(set), H5Sclose), type(H5Dget_type(set), H5Tclose), options(H5Dget_create_plist(set), H5Pclose);
    must(space.ok() && type.ok() && options.ok(), path);
    Array out;
    out.shape = extents(space, path);
    const Index n = out.size();
    const auto width = static_cast<Index>(H5Tget_size(type));
    if (H5Pget_layout(options) != H5D_CHUNKED && n && width > file_bytes_ / n) bad(path, "is larger than the file, the file is damaged");
    try {
      out.data = elements(type, n, path, [&](hid_t memory, void* to) { return H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, to); });
    } catch (const std::bad_alloc&) {
      bad(path, "of shape " + shape_text(out.shape) + " does not fit into memory");
    }
    into_ = &out.attributes;
    attributes_of(set, path);
    return out;
  }

  void attributes(hid_t object, const std::string& path) {
    into_ = &tree_.attributes(path);
    attributes_of(object, path);
  }

  void attributes_of(hid_t object, const std::string& path) {
    std::vector<std::string> names;
    hsize_t from = 0;
    const herr_t ok = H5Aiterate2(
        object, H5_INDEX_NAME, H5_ITER_INC, &from,
        [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
          static_cast<std::vector<std::string>*>(to)->emplace_back(name);
          return 0;
        },
        &names);
    must(ok >= 0, path);
    for (const std::string& name : names) (*into_)[name] = attribute(object, name, path + "@" + name);
  }

  Attribute attribute(hid_t object, const std::string& name, const std::string& entry) const {
    const Handle self(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
    must(self.ok(), entry);
    const Handle space(H5Aget_space(self), H5Sclose), type(H5Aget_type(self), H5Tclose);
    must(space.ok() && type.ok(), entry);
    if (Array::elements(extents(space, entry)) != 1) bad(entry, "is an attribute of several values; one is supported");
    const bool boolean = H5Tget_class(type) == H5T_ENUM;
    const auto data = elements(type, 1, entry, [&](hid_t memory, void* to) { return H5Aread(self, memory, to); });
    return std::visit(
        [&](const auto& v) -> Attribute {
          if constexpr (std::is_integral_v<typename std::decay_t<decltype(v)>::value_type>)
            if (boolean) return v[0] != 0;
          return attribute_of(v[0]);
        },
        data);
  }

  const std::string& path_;
  Index file_bytes_;
  Tree tree_;
  Attributes* into_ = nullptr;
};

}  // namespace

Tree decode(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw BadInput(path + ": cannot be opened: " + std::strerror(errno));
  struct stat info;
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  ::close(fd);
  if (!regular) throw BadInput(path + ": not a file that can be read as HDF5 (a folder or a device)");
  if (info.st_size == 0) throw BadInput(path + ": not an HDF5 file: it is empty");
  if (!seal_matches(path, static_cast<std::size_t>(info.st_size)))
    throw BadInput(path + ": damaged HDF5 file: its contents do not match the checksum at its end");
  const Session session;
  if (H5Fis_hdf5(path.c_str()) <= 0) throw BadInput(path + ": not an HDF5 file");
  return Reader(path, info.st_size).run();
}

}  // namespace ssm::hdf5
