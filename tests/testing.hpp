// testing.hpp - what every test may use: the device that main.cpp started, and tests made from a registry.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "exec.hpp"

#if defined(__HIP__)
static_assert(!ssm_node_is_assignable<std::string, testing::internal::CodeLocation>);  // cmake/hip15.hpp
#endif

ssm::Device& test_device();

// Gradients are held to differences in the double build; the sanitizer build runs the same code once, for its memory.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kDifferences = false;
#else
constexpr bool kDifferences = ssm::kDouble;
#endif

// Functions that main.cpp calls before it runs tests, when all registries are complete.
struct AtStart {
  explicit AtStart(std::function<void()> f);
};

// A test named suite.name with this body.
void add_test(const std::string& suite, const std::string& name, const std::function<void()>& body);

// Calls of operator new so far, in the whole program.
long news_made();
