// checkpoint.cpp - checksums and messages of checkpoint files.
#include "record/checkpoint.hpp"

#include "error.hpp"
#include "record/fnv.hpp"
#include "record/record.hpp"

namespace ssm {
namespace {

constexpr const char* kSchema = "ssmbench-checkpoint/1";

std::string checksum(const Array& array) {
  Fnv1a h;
  h.text(array.type());
  h.text(shape_text(array.shape));
  std::visit(
      [&](const auto& v) {
        using T = typename std::decay_t<decltype(v)>::value_type;
        if constexpr (std::is_same_v<T, std::string>)
          for (const auto& s : v) h.text(s);
        else h.bytes(v.data(), v.size() * sizeof(T));
      },
      array.data);
  return h.hex();
}

void add(Fnv1a& h, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) {
    h.text(name);
    h.text(std::to_string(value.index()));
    std::visit(
        [&](const auto& v) {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::string>) h.text(v);
          else h.bytes(&v, sizeof v);
        },
        value);
  }
}

// Over all names, checksums and attributes: finds what is missing, added or renamed.
std::string checksum(const Checkpoint& c, const std::map<std::string, std::string>& sums) {
  Fnv1a h;
  for (const auto& [name, array] : c.arrays) {
    h.text(name);
    h.text(sums.at(name));
    add(h, array.attributes);
  }
  add(h, c.attributes);
  return h.hex();
}

}  // namespace

void Checkpoint::save(const std::string& path) const {
  Tree tree;
  std::map<std::string, std::string> sums;
  tree.group("/arrays");
  tree.attributes("/state") = attributes;
  for (const auto& [name, array] : arrays) {
    const std::string at = "/arrays/" + name;
    tree.put(at, array);
    tree.set(at, "fnv1a", sums[name] = checksum(array));
  }
  tree.set("/", "schema", kSchema);
  tree.set("/", "created", utc_now());
  tree.set("/", "sealed", true);
  tree.set("/", "fnv1a", checksum(*this, sums));
  tree.write(path, true);
}

Checkpoint Checkpoint::load(const std::string& path) {
  const Tree tree = Tree::read(path);
  const Attribute* schema = tree.find("/", "schema");
  const auto* text = schema ? std::get_if<std::string>(schema) : nullptr;
  if (!text || *text != kSchema)
    throw BadInput(path + ": not a checkpoint: root attribute 'schema' is " + (text ? "'" + *text + "'" : "missing") + ", expected '" +
                   kSchema + "'");
  Checkpoint c;
  c.file = path;
  std::map<std::string, std::string> sums;
  const std::string prefix = "/arrays/";
  for (const auto& [at, array] : tree.arrays()) {
    if (at.compare(0, prefix.size(), prefix) != 0) throw BadInput(path + ": unexpected entry '" + at + "'");
    const std::string name = at.substr(prefix.size()), stored = tree.get<std::string>(at, "fnv1a");
    if ((sums[name] = checksum(array)) != stored)
      throw BadInput(path + ": entry '" + name + "' is damaged: its contents do not match its checksum");
    Array copy = array;
    copy.attributes.erase("fnv1a");
    c.arrays.emplace(name, std::move(copy));
  }
  if (const auto state = tree.groups().find("/state"); state != tree.groups().end()) c.attributes = state->second;
  if (checksum(c, sums) != tree.get<std::string>("/", "fnv1a"))
    throw BadInput(path + ": damaged: the names or attributes of '/state' and '/arrays' do not match the checksum of '/'");
  return c;
}

template <class T>
const std::vector<T>& Checkpoint::get(const std::string& name, const std::vector<Index>& shape) const {
  const auto it = arrays.find(name);
  if (it == arrays.end()) {
    std::vector<std::string> names;
    for (const auto& [key, array] : arrays) names.push_back(key);
    const std::string near = nearest(name, names);
    throw BadInput(file + ": no entry '" + name + "' of shape " + shape_text(shape) +
                   (near.empty() ? "" : "; the nearest is '" + near + "'"));
  }
  if (it->second.shape != shape)
    throw BadInput(file + ": entry '" + name + "' has shape " + shape_text(it->second.shape) + ", expected " + shape_text(shape));
  const auto* exact = std::get_if<std::vector<T>>(&it->second.data);
  const Array wanted{std::vector<T>()};
  if (!exact) throw BadInput(file + ": entry '" + name + "' is " + it->second.type() + ", expected " + wanted.type());
  return *exact;
}
template const std::vector<double>& Checkpoint::get(const std::string&, const std::vector<Index>&) const;
template const std::vector<float>& Checkpoint::get(const std::string&, const std::vector<Index>&) const;
template const std::vector<std::int64_t>& Checkpoint::get(const std::string&, const std::vector<Index>&) const;
template const std::vector<std::int32_t>& Checkpoint::get(const std::string&, const std::vector<Index>&) const;
template const std::vector<std::string>& Checkpoint::get(const std::string&, const std::vector<Index>&) const;

template <class T>
T Checkpoint::attribute(const std::string& name) const {
  Tree state;
  state.file(file);
  state.attributes("/state") = attributes;
  return state.get<T>("/state", name);
}
template std::string Checkpoint::attribute(const std::string&) const;
template std::int64_t Checkpoint::attribute(const std::string&) const;
template double Checkpoint::attribute(const std::string&) const;
template bool Checkpoint::attribute(const std::string&) const;

}  // namespace ssm
