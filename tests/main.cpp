// main.cpp - GoogleTest's main: starts Kokkos only when tests run, never for listing.
#include <vector>

#include "testing.hpp"

namespace {

ssm::Device* device = nullptr;

std::vector<std::function<void()>>& start_functions() {
  static std::vector<std::function<void()>> all;
  return all;
}

struct Made : ::testing::Test {
  std::function<void()> body;
  explicit Made(std::function<void()> f) : body(std::move(f)) {}
  void TestBody() override { body(); }
};

}  // namespace

ssm::Device& test_device() { return *device; }

AtStart::AtStart(std::function<void()> f) { start_functions().push_back(std::move(f)); }

void add_test(const std::string& suite, const std::string& name, const std::function<void()>& body) {
  ::testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [body]() -> ::testing::Test* { return new Made(body); });
}

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (const auto& f : start_functions()) f();
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  ssm::Device d;
  device = &d;
  return RUN_ALL_TESTS();
}
