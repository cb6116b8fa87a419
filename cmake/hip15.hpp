// clang 15, Debian's compiler for HIP, crashes on the node of a std::map in C++20 unless it was asked before whether the node's pair can be
// assigned. It is asked here for the maps that files with kernels use. Force-included by hipcc.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

template <class Key, class Value>
constexpr bool ssm_node_is_assignable = std::is_copy_assignable_v<std::pair<const Key, Value>>;
static_assert(!ssm_node_is_assignable<std::string, std::map<std::string, std::string>>);                                // VariantKnobs
static_assert(!ssm_node_is_assignable<std::string, std::function<void(std::map<std::string, std::vector<double>>&)>>);  // hooks of Params
