// tree.cpp - the in-memory tree: groups, arrays, rows, and the messages for what is missing.
#include "record/tree.hpp"

#include <cmath>
#include <limits>
#include <set>

#include "error.hpp"
#include "record/atomic_file.hpp"
#include "record/hdf5.hpp"

namespace ssm {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

template <class T>
constexpr const char* kTypeName = nullptr;
template <>
constexpr const char* kTypeName<double> = "float64";
template <>
constexpr const char* kTypeName<float> = "float32";
template <>
constexpr const char* kTypeName<std::int64_t> = "int64";
template <>
constexpr const char* kTypeName<std::int32_t> = "int32";
template <>
constexpr const char* kTypeName<std::string> = "string";
template <>
constexpr const char* kTypeName<bool> = "bool";

void check_path(const std::string& path) {
  if (path.empty() || path[0] != '/' || (path.size() > 1 && path.back() == '/') || path.find("//") != std::string::npos)
    throw std::logic_error("tree: '" + path + "' is not an absolute path");
}

std::string join_path(const std::string& group, const std::string& name) { return group == "/" ? "/" + name : group + "/" + name; }

// The columns of a table: the 1-D arrays directly below `path`.
template <class F>
void for_columns(std::map<std::string, Array>& arrays, const std::string& path, F f) {
  const std::string prefix = join_path(path, "");
  for (auto it = arrays.lower_bound(prefix); it != arrays.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it)
    if (it->first.find('/', prefix.size()) == std::string::npos && it->second.shape.size() == 1) f(it->second);
}

void pad(Array& column, Index rows) {
  if (column.shape[0] >= rows) return;
  const auto n = static_cast<std::size_t>(rows);
  std::visit(Overloaded{[&](std::vector<std::string>& v) { v.resize(n); }, [&](std::vector<std::int64_t>& v) { v.resize(n, -1); },
                        [&](std::vector<std::int32_t>& v) { v.resize(n, -1); },
                        [&](auto& v) { v.resize(n, std::numeric_limits<typename std::decay_t<decltype(v)>::value_type>::quiet_NaN()); }},
             column.data);
  column.shape[0] = rows;
}

Array::Data column_for(const Attribute& value) {
  if (std::holds_alternative<std::string>(value)) return std::vector<std::string>();
  if (std::holds_alternative<double>(value)) return std::vector<double>();
  return std::vector<std::int64_t>();
}

}  // namespace

Index Array::elements(const std::vector<Index>& shape) {
  Index n = 1;
  for (const Index extent : shape) n *= extent;
  return n;
}

const char* Array::type() const {
  return std::visit([](const auto& v) { return kTypeName<typename std::decay_t<decltype(v)>::value_type>; }, data);
}

std::string shape_text(const std::vector<Index>& shape) {
  std::vector<std::string> extents;
  for (const Index extent : shape) extents.push_back(std::to_string(extent));
  return "(" + join(extents) + ")";
}

void Tree::parents(const std::string& path) {
  check_path(path);
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (arrays_.count(parent)) throw std::logic_error("tree: '" + parent + "' is an array, '" + path + "' cannot be below it");
    groups_[parent];
  }
}

void Tree::group(const std::string& path) {
  parents(path);
  if (arrays_.count(path)) throw std::logic_error("tree: '" + path + "' is an array, not a group");
  groups_[path];
}

Attributes& Tree::attributes(const std::string& path) {
  if (const auto array = arrays_.find(path); array != arrays_.end()) return array->second.attributes;
  group(path);
  return groups_[path];
}

void Tree::put(const std::string& path, Array array) {
  parents(path);
  if (groups_.count(path)) throw std::logic_error("tree: '" + path + "' is a group, not an array");
  const std::size_t held = std::visit([](const auto& v) { return v.size(); }, array.data);
  if (static_cast<Index>(held) != array.size())
    throw std::logic_error("tree: '" + path + "' has " + std::to_string(held) + " elements but shape " + shape_text(array.shape));
  arrays_[path] = std::move(array);
}

void Tree::append(const std::string& path, const Attribute& value, const std::string& units) {
  auto it = arrays_.find(path);
  if (it == arrays_.end()) {
    Array column;
    column.data = column_for(value);
    put(path, std::move(column));
    it = arrays_.find(path);
  }
  Array& column = it->second;
  if (!units.empty()) column.attributes["units"] = units;
  if (column.shape.size() != 1) throw std::logic_error("tree: '" + path + "' of shape " + shape_text(column.shape) + " is not a column");
  const bool text = std::holds_alternative<std::string>(value), real = std::holds_alternative<double>(value);
  std::visit(
      [&](auto& v) {
        using T = typename std::decay_t<decltype(v)>::value_type;
        if constexpr (std::is_same_v<T, std::string>) {
          if (!text) throw std::logic_error("tree: '" + path + "' is a column of strings, the value is a number");
          v.push_back(std::get<std::string>(value));
        } else {
          if (text || (real && std::is_integral_v<T>))
            throw std::logic_error("tree: '" + path + "' is a column of " + kTypeName<T> + ", the value is a " +
                                   (text ? "string" : "real number"));
          std::visit(
              [&](const auto& x) {
                if constexpr (std::is_arithmetic_v<std::decay_t<decltype(x)>>) v.push_back(static_cast<T>(x));
              },
              value);
        }
      },
      column.data);
  ++column.shape[0];
}

void Tree::row(const std::string& path, const std::vector<Cell>& cells) {
  Index rows = 0;
  for_columns(arrays_, path, [&](Array& column) { rows = std::max(rows, column.shape[0]); });
  group(path);
  std::set<std::string> given;
  for (const Cell& cell : cells) {
    if (!given.insert(cell.name).second)
      throw std::logic_error("tree: column '" + cell.name + "' given twice in one row of '" + path + "'");
    const std::string name = join_path(path, cell.name);
    if (!arrays_.count(name)) {
      Array column;
      column.data = column_for(cell.value);
      put(name, std::move(column));
    }
    pad(arrays_[name], rows);
    append(name, cell.value, cell.units);
  }
  for_columns(arrays_, path, [&](Array& column) { pad(column, rows + 1); });
}

void Tree::erase(const std::string& path) {
  arrays_.erase(path);
  groups_.erase(path);
  const auto below = [&](const auto& entry) { return entry.first.compare(0, path.size() + 1, path + "/") == 0; };
  std::erase_if(arrays_, below);
  std::erase_if(groups_, below);
}

const Attribute* Tree::find(const std::string& path, const std::string& name) const {
  const Attributes* from = nullptr;
  if (const auto group = groups_.find(path); group != groups_.end()) from = &group->second;
  if (const auto array = arrays_.find(path); array != arrays_.end()) from = &array->second.attributes;
  if (!from) return nullptr;
  const auto it = from->find(name);
  return it == from->end() ? nullptr : &it->second;
}

const Array* Tree::find(const std::string& path) const {
  const auto it = arrays_.find(path);
  return it == arrays_.end() ? nullptr : &it->second;
}

const Array& Tree::at(const std::string& path) const {
  if (const Array* array = find(path)) return *array;
  std::vector<std::string> names;
  for (const auto& [name, array] : arrays_) names.push_back(name);
  const std::string near = nearest(path, names);
  throw BadInput(file_ + ": no array '" + path + "'" + (near.empty() ? "" : "; the nearest is '" + near + "'"));
}

template <class T>
T Tree::get(const std::string& path, const std::string& name) const {
  const Attribute* value = find(path, name);
  if (!value) {
    if (!has(path)) throw BadInput(file_ + ": no group '" + path + "' (attribute '" + name + "' is expected there)");
    std::vector<std::string> names;
    const auto group = groups_.find(path);
    for (const auto& [key, held] : group != groups_.end() ? group->second : at(path).attributes) names.push_back(key);
    const std::string near = nearest(name, names);
    throw BadInput(file_ + ": no attribute '" + name + "' at '" + path + "'" + (near.empty() ? "" : "; the nearest is '" + near + "'"));
  }
  if (const T* exact = std::get_if<T>(value)) return *exact;
  if constexpr (std::is_same_v<T, double>)
    if (const auto* integer = std::get_if<std::int64_t>(value)) return static_cast<double>(*integer);
  const char* found = std::visit([](const auto& v) { return kTypeName<std::decay_t<decltype(v)>>; }, *value);
  throw BadInput(file_ + ": attribute '" + name + "' at '" + path + "' is " + found + ", not " + kTypeName<T>);
}
template std::string Tree::get(const std::string&, const std::string&) const;
template std::int64_t Tree::get(const std::string&, const std::string&) const;
template double Tree::get(const std::string&, const std::string&) const;
template bool Tree::get(const std::string&, const std::string&) const;

template <class T>
const std::vector<T>& Tree::column(const std::string& path) const {
  const Array& array = at(path);
  if (const auto* exact = std::get_if<std::vector<T>>(&array.data)) return *exact;
  throw BadInput(file_ + ": '" + path + "' is " + array.type() + ", not " + kTypeName<T>);
}
template const std::vector<double>& Tree::column(const std::string&) const;
template const std::vector<float>& Tree::column(const std::string&) const;
template const std::vector<std::int64_t>& Tree::column(const std::string&) const;
template const std::vector<std::int32_t>& Tree::column(const std::string&) const;
template const std::vector<std::string>& Tree::column(const std::string&) const;

std::vector<double> Tree::numbers(const std::string& path) const {
  return std::visit(
      [&](const auto& v) -> std::vector<double> {
        if constexpr (std::is_same_v<typename std::decay_t<decltype(v)>::value_type, std::string>)
          throw BadInput(file_ + ": '" + path + "' holds strings, not numbers");
        else return {v.begin(), v.end()};
      },
      at(path).data);
}

void Tree::write(const std::string& path, bool durable) const {
  const std::vector<char> bytes = hdf5::encode(*this);
  write_atomic(path, bytes.data(), bytes.size(), durable);
}

Tree Tree::read(const std::string& path) { return hdf5::decode(path); }

}  // namespace ssm
