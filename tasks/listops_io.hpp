// listops_io.hpp - the files of the Long Range Arena's ListOps: basic_train.tsv, basic_val.tsv, basic_test.tsv.
//
// Line 1 is "Source<TAB>Target"; every other line an expression, a tab and its value. Tokens are separated by blanks and every
// application is wrapped in parentheses: the maximum of 2 and 9 is "( ( ( [MAX 2 ) 9 ) ] )". Lines end with CR LF.
// The reader ignores parentheses and takes "X" for "]" and LF for CR LF, as the published readers do.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "listops_tree.hpp"

namespace ssm::listops {

// All expressions of one file. Expression i is tokens[start[i], start[i+1]).
struct Table {
  std::vector<std::uint8_t> tokens;
  std::vector<std::size_t> start{0};
  std::vector<Meaning> meaning;
  int longest = 0, deepest = 0;
  Index size() const { return static_cast<Index>(meaning.size()); }
  std::span<const std::uint8_t> operator[](Index i) const;
};

// Throws BadInput naming the file and the line: missing, empty, another header, a foreign token, an incomplete expression, a label
// that is not a digit or not the value of its expression.
Table read_tsv(const std::string& path);

// The expression with parentheses; with `brackets` = false only its tokens.
std::string text(std::span<const std::int32_t> tokens, bool brackets);

// Writes rows 0..count-1 as row(i, tokens) -> label gives them, to a temporary name that is renamed at the end. Throws std::runtime_error.
using Row = std::function<int(Index, std::vector<std::int32_t>&)>;
void write_tsv(const std::string& path, Index count, const Row& row);

}  // namespace ssm::listops
