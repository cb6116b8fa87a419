// fnv.hpp - FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv): finds damage, not forgery.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>

namespace ssm {

class Fnv1a {
 public:
  void bytes(const void* data, std::size_t count) {
    const auto* p = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < count; ++i) hash_ = (hash_ ^ p[i]) * 1099511628211ull;
  }
  void text(const std::string& s) { bytes(s.c_str(), s.size() + 1); }
  std::uint64_t value() const { return hash_; }
  std::string hex() const {
    char buffer[17];
    std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(hash_));
    return buffer;
  }

 private:
  std::uint64_t hash_ = 14695981039346656037ull;
};

}  // namespace ssm
