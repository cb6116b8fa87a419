// tree.hpp - what an HDF5 file of this project holds, in memory: groups with attributes, and arrays. No HDF5 header is needed to use it.
//
//   Tree t;
//   t.set("/model", "parameters", 1234);                                     // attribute of a group
//   t.put("/timing/forward", Array(samples).units("s"));                     // 1-D
//   t.put("/params/embed.weight", Array({V, D}, pointer));                   // any shape, row major
//   t.row("/train", {{"step", 10}, {"loss", 2.3, "nats"}});                  // a table is a group of columns of one length
//   t.write("results/x.h5");                                                 // replaces the file in one step
//   Tree back = Tree::read("results/x.h5");
//
// Paths are absolute ("/train/loss"), "/" is the root; missing parent groups are made. A path is a group or an array, never both
// (std::logic_error). What a reader asks of a file that the file does not have is BadInput naming file, path and nearest name.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "real.hpp"

namespace ssm {

using Attribute = std::variant<std::string, std::int64_t, double, bool>;
using Attributes = std::map<std::string, Attribute>;

template <class T>
Attribute attribute_of(const T& value) {
  if constexpr (std::is_same_v<T, Attribute> || std::is_same_v<T, bool>) return value;
  else if constexpr (std::is_integral_v<T>) return static_cast<std::int64_t>(value);
  else if constexpr (std::is_floating_point_v<T>) return static_cast<double>(value);
  else return std::string(value);
}

// Elements in row-major order; kept bit for bit. Float columns stay float, so a Real array is as wide as the build's Real.
struct Array {
  using Data =
      std::variant<std::vector<double>, std::vector<float>, std::vector<std::int64_t>, std::vector<std::int32_t>, std::vector<std::string>>;
  std::vector<Index> shape{0};  // the product is the number of elements; {} is one scalar
  Data data;
  Attributes attributes;  // "units" lives here

  Array() = default;
  template <class T>
  explicit Array(std::vector<T> column) : shape{static_cast<Index>(column.size())}, data(std::move(column)) {}
  template <class T>
  Array(std::vector<Index> extents, const T* first) : shape(std::move(extents)), data(std::vector<T>(first, first + elements(shape))) {}

  static Index elements(const std::vector<Index>& shape);
  Index size() const { return elements(shape); }
  const char* type() const;  // "float64", "float32", "int64", "int32", "string"
  Array& units(const std::string& text) & { return attributes["units"] = text, *this; }
  Array&& units(const std::string& text) && { return attributes["units"] = text, std::move(*this); }
};

std::string shape_text(const std::vector<Index>& shape);  // "(3, 4)"

// One value of a table row.
struct Cell {
  std::string name;
  Attribute value;
  std::string units;
  template <class T>
  Cell(std::string column, const T& v, std::string unit = "") : name(std::move(column)), value(attribute_of(v)), units(std::move(unit)) {}
};

class Tree {
 public:
  Tree() { groups_["/"]; }

  // ---- writing side
  void group(const std::string& path);
  template <class T>
  void set(const std::string& path, const std::string& name, const T& value) {
    attributes(path)[name] = attribute_of(value);
  }
  void put(const std::string& path, Array array);
  // Adds one element to a 1-D column, made on first use with the value's type (bool as int64).
  void append(const std::string& path, const Attribute& value, const std::string& units = "");
  // Adds one row to the columns in `path`. A column that is new or gets no value is filled with NaN, -1 or "" so that all stay equally long.
  void row(const std::string& path, const std::vector<Cell>& cells);
  void erase(const std::string& path);  // an array, or a group with all below it

  // ---- reading side
  bool has(const std::string& path) const { return groups_.count(path) || arrays_.count(path); }
  const Attribute* find(const std::string& path, const std::string& name) const;  // nullptr when absent
  const Array* find(const std::string& path) const;
  const Array& at(const std::string& path) const;  // BadInput when absent
  template <class T>
  T get(const std::string& path, const std::string& name) const;  // std::string, int64_t, double (or an integer), bool; BadInput
  template <class T>
  const std::vector<T>& column(const std::string& path) const;  // exact type or BadInput
  std::vector<double> numbers(const std::string& path) const;   // any numeric type, converted
  const std::map<std::string, Attributes>& groups() const { return groups_; }
  const std::map<std::string, Array>& arrays() const { return arrays_; }

  // The attributes of a group (made when missing) or of an array.
  Attributes& attributes(const std::string& path);

  // ---- files
  // Writes path + ".tmp" in the same folder and renames it, so that a killed process leaves the previous file whole. std::runtime_error
  // names the path and what failed; the temporary is removed. `durable` adds fsync of file and folder.
  void write(const std::string& path, bool durable = false) const;
  // BadInput naming the file and what is wrong with it: missing, unreadable, not HDF5, truncated, of a type not kept here.
  static Tree read(const std::string& path);
  const std::string& file() const { return file_; }  // where it was read from, for messages
  void file(const std::string& path) { file_ = path; }

 private:
  void parents(const std::string& path);
  std::map<std::string, Attributes> groups_;
  std::map<std::string, Array> arrays_;
  std::string file_;
};

}  // namespace ssm
