// hdf5_seal.hpp - the 16 bytes behind the end of an HDF5 file of ours: "ssmbench" and the FNV-1a of all before, least byte first.
// HDF5 ignores what follows its own end, and cuts it off when another program changes the file. The seal is checked before HDF5 parses a
// byte, because the library itself crashes on some damaged files (seen: 1.10.8, one changed byte in an attribute's message).
#pragma once
#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "record/fnv.hpp"

namespace ssm::hdf5 {

constexpr std::size_t kSealBytes = 16;

inline std::string seal_of(const Fnv1a& sum) {
  std::string seal = "ssmbench";
  for (int i = 0; i < 8; ++i) seal += static_cast<char>(sum.value() >> (8 * i));
  return seal;
}

inline void seal(std::vector<char>& bytes) {
  Fnv1a sum;
  sum.bytes(bytes.data(), bytes.size());
  const std::string end = seal_of(sum);
  bytes.insert(bytes.end(), end.begin(), end.end());
}

// The first `n` bytes behind byte `from` of the file.
inline std::string bytes_behind(const std::string& path, std::size_t from, std::size_t n) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes(n, '\0');
  in.seekg(static_cast<std::streamoff>(from));
  in.read(bytes.data(), static_cast<std::streamsize>(n));
  return bytes;
}

// True when a part of a seal, but not all of it, stands behind byte `end`, where HDF5's data end.
inline bool seal_is_cut(const std::string& path, std::size_t file_bytes, std::size_t end) {
  if (file_bytes <= end || file_bytes >= end + kSealBytes) return false;
  const std::size_t n = std::min<std::size_t>(file_bytes - end, 8);
  return bytes_behind(path, end, n) == std::string("ssmbench").substr(0, n);
}

inline bool has_seal(const std::string& path, std::size_t file_bytes) {
  return file_bytes >= kSealBytes && bytes_behind(path, file_bytes - kSealBytes, 8) == "ssmbench";
}

// False when the file has a seal that does not match. A file without one (made or changed by another program) passes.
inline bool seal_matches(const std::string& path, std::size_t file_bytes) {
  if (!has_seal(path, file_bytes)) return true;
  const std::string end = bytes_behind(path, file_bytes - kSealBytes, kSealBytes);
  std::ifstream in(path, std::ios::binary);
  Fnv1a sum;
  std::vector<char> block(1 << 16);
  for (std::size_t left = file_bytes - kSealBytes; left > 0;) {
    const std::size_t n = std::min(left, block.size());
    if (!in.read(block.data(), static_cast<std::streamsize>(n))) return false;
    sum.bytes(block.data(), n);
    left -= n;
  }
  return end == seal_of(sum);
}

}  // namespace ssm::hdf5
