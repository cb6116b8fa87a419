// registry.hpp - things that register themselves by the last line of their own file. Iteration is in name order.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "error.hpp"

namespace ssm {

template <class T>
class Registry {
 public:
  using Make = std::unique_ptr<T> (*)();

  static Registry& get() {
    static Registry instance;
    return instance;
  }
  // Throws std::logic_error when two files register one name.
  bool add(const std::string& name, Make maker) {
    if (!makers_.emplace(name, maker).second) throw std::logic_error("registered twice: " + name);
    return true;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [name, make] : makers_) out.push_back(name);
    return out;
  }
  bool has(const std::string& name) const { return makers_.count(name) != 0; }
  // Throws BadInput with the nearest name when `name` is unknown; `what` is "variant" or "task".
  std::unique_ptr<T> make(const std::string& name, const std::string& what) const {
    const auto found = makers_.find(name);
    if (found == makers_.end()) unknown(what, name, names());
    return found->second();
  }

 private:
  std::map<std::string, Make> makers_;
};

}  // namespace ssm
