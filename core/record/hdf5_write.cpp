// hdf5_write.cpp - Tree -> bytes of an HDF5 file, through the in-memory file driver.
#include <stdexcept>

#include "record/hdf5.hpp"
#include "record/hdf5_handle.hpp"
#include "record/hdf5_seal.hpp"

namespace ssm::hdf5 {
namespace {

void must(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error("HDF5: " + what + ": " + reason());
}

hid_t native(double) { return H5T_NATIVE_DOUBLE; }
hid_t native(float) { return H5T_NATIVE_FLOAT; }
hid_t native(std::int64_t) { return H5T_NATIVE_INT64; }
hid_t native(std::int32_t) { return H5T_NATIVE_INT32; }

// HDF5 strings end at the first NUL byte; one that would come back shorter is refused.
const char* c_string(const std::string& text, const std::string& where) {
  if (text.find('\0') != std::string::npos) throw std::runtime_error("HDF5: the text at '" + where + "' has a NUL byte inside");
  return text.c_str();
}

void write_attribute(hid_t object, const std::string& path, const std::string& name, const Attribute& value) {
  const std::string where = path + "@" + name;
  const Handle text = string_type(), boolean = bool_type(), space(H5Screate(H5S_SCALAR), H5Sclose);
  const auto put = [&](hid_t type, const void* data) {
    const Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    must(attribute.ok() && H5Awrite(attribute, type, data) >= 0, where);
  };
  if (const auto* s = std::get_if<std::string>(&value)) {
    const char* p = c_string(*s, where);
    put(text, &p);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    const signed char byte = *flag;
    put(boolean, &byte);
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    put(H5T_NATIVE_INT64, integer);
  } else {
    put(H5T_NATIVE_DOUBLE, &std::get<double>(value));
  }
}

void write_array(hid_t file, const std::string& path, const Array& array) {
  const std::vector<hsize_t> dims(array.shape.begin(), array.shape.end());
  const Handle space(dims.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                     H5Sclose);
  const Handle options(H5Pcreate(H5P_DATASET_CREATE), H5Pclose), text = string_type();
  H5Pset_obj_track_times(options, false);  // the same content gives the same bytes
  must(space.ok(), path + " " + shape_text(array.shape));
  std::visit(
      [&](const auto& v) {
        using T = typename std::decay_t<decltype(v)>::value_type;
        std::vector<const char*> pointers;
        const void* data = v.data();
        hid_t type = text;
        if constexpr (std::is_same_v<T, std::string>) {
          for (const auto& s : v) pointers.push_back(c_string(s, path));
          data = pointers.data();
        } else {
          type = native(T());
        }
        const Handle set(H5Dcreate2(file, path.c_str(), type, space, H5P_DEFAULT, options, H5P_DEFAULT), H5Dclose);
        must(set.ok(), path);
        if (!v.empty()) must(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, path);
        for (const auto& [name, value] : array.attributes) write_attribute(set, path, name, value);
      },
      array.data);
}

// How far the in-memory file grows at a time: about the size of the contents, so that it rarely moves.
std::size_t growth(const Tree& tree) {
  std::size_t bytes = 1 << 16;
  for (const auto& [path, array] : tree.arrays())
    bytes += std::visit([](const auto& v) { return v.size() * sizeof(v[0]); }, array.data) + 1024;
  return bytes;
}

}  // namespace

std::vector<char> encode(const Tree& tree) {
  const Session session;
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  must(H5Pset_fapl_core(access, growth(tree), false) >= 0, "in-memory file");
  const Handle file(H5Fcreate("memory", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
  must(file.ok(), "in-memory file");
  for (const auto& [path, attributes] : tree.groups()) {  // sorted: a parent comes before what is below it
    const Handle group(
        path == "/" ? H5Gopen2(file, "/", H5P_DEFAULT) : H5Gcreate2(file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
    must(group.ok(), path);
    for (const auto& [name, value] : attributes) write_attribute(group, path, name, value);
  }
  for (const auto& [path, array] : tree.arrays()) write_array(file, path, array);
  must(H5Fflush(file, H5F_SCOPE_LOCAL) >= 0, "flush");
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  must(size > 0, "file image");
  std::vector<char> bytes;
  bytes.reserve(static_cast<std::size_t>(size) + kSealBytes);
  bytes.resize(static_cast<std::size_t>(size));
  must(H5Fget_file_image(file, bytes.data(), bytes.size()) == size, "file image");
  seal(bytes);
  return bytes;
}

}  // namespace ssm::hdf5
