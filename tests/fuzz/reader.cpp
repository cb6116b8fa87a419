// reader.cpp - one reader of the user's files under libFuzzer, which SSM_READER names (tests/reader_cases.hpp); built by scripts/fuzz.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "../reader_cases.hpp"

// The folder of a new corpus gets the well-formed files.
extern "C" int LLVMFuzzerInitialize(int* count, char*** words) {
  using namespace ssm::readers;
  for (int i = 1; i < *count; ++i) {
    const std::filesystem::path corpus = (*words)[i];
    if (!std::filesystem::is_directory(corpus) || !std::filesystem::is_empty(corpus)) continue;
    char place = 0;
    for (const auto& [name, content] : reader(SSM_READER).files())
      std::ofstream(corpus / std::to_string(place), std::ios::binary) << place++ << content.substr(0, 1 << 14);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace ssm::readers;
  static const Folder folder(reader(SSM_READER), std::filesystem::temp_directory_path() / ("ssmbench-fuzz-" + std::to_string(getpid())));
  static const int cleaning = std::atexit([] { std::filesystem::remove_all(folder.path); });
  (void)cleaning;
  bool refused;
  const auto [name, content] = folder.meaning({reinterpret_cast<const char*>(data), size});
  const std::string wrong = folder.read_with(name, content, refused);
  if (wrong.empty()) return 0;
  std::fprintf(stderr, "%s, %s: %s\n", SSM_READER, name.c_str(), wrong.c_str());
  std::abort();
}
