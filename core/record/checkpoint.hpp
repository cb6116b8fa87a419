// checkpoint.hpp - named arrays and attributes in a file that is refused unless it comes back bit for bit.
//
//   Checkpoint c;
//   c.arrays["param/embed.weight"] = Array({V, D}, host_pointer);
//   c.attributes["step"] = Index(100);
//   c.save("ab12.ckpt.h5");
//   c = Checkpoint::load("ab12.ckpt.h5");
//   c.copy("param/embed.weight", {V, D}, host_pointer);
//
// File: root @schema "ssmbench-checkpoint/1" @created @fnv1a (over names, types, shapes and contents) @sealed (true: without the seal of
// hdf5_seal.hpp it is truncated; who edits the file with another program sets it to false), /state with one attribute per entry of
// `attributes`, /arrays/<name> with its own @fnv1a.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "record/tree.hpp"

namespace ssm {

struct Checkpoint {
  std::map<std::string, Array> arrays;  // a "/" in a name makes a group
  Attributes attributes;
  std::string file;  // where it was loaded from, for messages

  // Temporary name, fsync, rename; std::runtime_error when that fails.
  void save(const std::string& path) const;
  // BadInput naming the file and the entry: foreign, truncated, changed.
  static Checkpoint load(const std::string& path);

  // The array, when it is there with this shape and type; otherwise BadInput naming file, entry, found and expected.
  template <class T>
  const std::vector<T>& get(const std::string& name, const std::vector<Index>& shape) const;
  template <class T>
  void copy(const std::string& name, const std::vector<Index>& shape, T* to) const {
    const auto& from = get<T>(name, shape);
    std::copy(from.begin(), from.end(), to);
  }
  // T: std::string, std::int64_t, double, bool.
  template <class T>
  T attribute(const std::string& name) const;
};

}  // namespace ssm
