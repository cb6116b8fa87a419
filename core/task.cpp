#include "task.hpp"

namespace ssm {

const char* split_name(Split split) { return split == Split::train ? "train" : split == Split::validation ? "validation" : "test"; }

Split split_of(const std::string& name) {
  for (const Split s : {Split::train, Split::validation, Split::test})
    if (name == split_name(s)) return s;
  unknown("split", name, {"train", "validation", "test"});
}

std::string Task::show(const Example& e) const {
  std::string out;
  for (const auto t : e.tokens) out += std::to_string(t) + ' ';
  if (!e.second.empty()) out += "| ";
  for (const auto t : e.second) out += std::to_string(t) + ' ';
  out += "->";
  for (const auto t : e.targets)
    if (t >= 0) out += ' ' + std::to_string(t);
  for (const auto v : e.values) out += ' ' + number_text(static_cast<double>(v));
  return out;
}

void Task::write(Split, Index, const std::string&) const { throw Unsupported("task " + name + " has no file form of its own"); }

}  // namespace ssm
