#include "listops_io.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "error.hpp"

namespace ssm::listops {

namespace {

const std::vector<std::string>& names() {
  static const std::vector<std::string> all = {"", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"};
  return all;
}

// What stands in a file, printable and short.
std::string printable(std::string_view word) {
  std::string out = "'";
  for (const char c : word.substr(0, 24)) {
    const unsigned byte = static_cast<unsigned char>(c);
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", byte);
    out += byte < 0x20 || byte >= 0x7f ? std::string(hex) : std::string(1, c);
  }
  return out + (word.size() > 24 ? "...'" : "'");
}

std::int32_t token(std::string_view word) {
  if (word.size() == 1 && word[0] >= '0' && word[0] <= '9') return zero + (word[0] - '0');
  if (word == "]" || word == "X") return closing;
  for (std::int32_t t = op_min; t < closing; ++t)
    if (word == names()[static_cast<std::size_t>(t)]) return t;
  throw BadInput("unknown token " + printable(word) + "; allowed: ( ) 0..9 [MIN [MAX [MED [SM ] X");
}

void parse_source(std::string_view source, std::vector<std::int32_t>& tokens) {
  tokens.clear();
  for (std::size_t i = 0; i < source.size();) {
    if (source[i] == ' ') {
      ++i;
      continue;
    }
    const std::size_t end = std::min(source.find(' ', i), source.size());
    const std::string_view word = source.substr(i, end - i);
    if (word != "(" && word != ")") tokens.push_back(token(word));
    i = end;
  }
}

void parse_line(std::string_view line, std::vector<std::int32_t>& tokens, Table& table) {
  const std::size_t tab = line.find('\t');
  if (tab == std::string_view::npos) throw BadInput("no tab between expression and label (a truncated file?)");
  const std::string_view target = line.substr(tab + 1);
  parse_source(line.substr(0, tab), tokens);
  const Meaning meaning = evaluate(tokens);
  if (target.size() != 1 || target[0] < '0' || target[0] > '9') throw BadInput("label " + printable(target) + "; allowed: 0..9");
  if (target[0] - '0' != meaning.label)
    throw BadInput("label " + printable(target) + ", but the expression evaluates to " + std::to_string(meaning.label));
  table.tokens.insert(table.tokens.end(), tokens.begin(), tokens.end());
  table.start.push_back(table.tokens.size());
  table.meaning.push_back(meaning);
  table.longest = std::max(table.longest, static_cast<int>(tokens.size()));
  table.deepest = std::max(table.deepest, meaning.levels);
}

}  // namespace

Meaning evaluate(std::span<const std::int32_t> tokens) {
  struct Open {
    std::int32_t op;
    Arguments arguments;
  };
  static thread_local std::vector<Open> open;
  open.clear();
  Meaning out{-1, 0};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int32_t t = tokens[i];
    if (out.label >= 0) throw BadInput("more tokens after the expression's last bracket");
    if (is_operator(t)) {
      open.push_back({t, {}});
      out.levels = std::max(out.levels, static_cast<int>(open.size()));
      continue;
    }
    if (open.empty()) throw BadInput("the expression does not begin with an operator");
    int value = t - zero;
    if (t == closing) {
      if (open.back().arguments.n == 0) throw BadInput("an operator without arguments");
      value = open.back().arguments.apply(open.back().op);
      open.pop_back();
    } else {
      out.levels = std::max(out.levels, static_cast<int>(open.size()) + 1);
    }
    if (open.empty()) out.label = value;
    else open.back().arguments.add(value);
  }
  if (tokens.empty()) throw BadInput("an empty expression");
  if (out.label < 0) throw BadInput("the expression lacks " + std::to_string(open.size()) + " closing brackets (a truncated file?)");
  return out;
}

std::span<const std::uint8_t> Table::operator[](Index i) const {
  const std::size_t first = start[static_cast<std::size_t>(i)];
  return {tokens.data() + first, start[static_cast<std::size_t>(i) + 1] - first};
}

Table read_tsv(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw BadInput("cannot read " + path + ": " + std::strerror(errno));
  if (std::filesystem::is_directory(path)) throw BadInput("cannot read " + path + ": it is a folder");
  Table table;
  std::vector<std::int32_t> tokens;
  std::string line;
  for (Index number = 1; std::getline(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    try {
      if (number > 1) parse_line(line, tokens, table);
      else if (line != "Source\tTarget") throw BadInput("header " + printable(line) + "; allowed: 'Source<TAB>Target'");
    } catch (const BadInput& e) {
      throw BadInput(path + " line " + std::to_string(number) + ": " + e.what());
    }
  }
  if (in.bad()) throw std::runtime_error("reading " + path + " failed: " + std::strerror(errno));
  if (table.meaning.empty()) throw BadInput(path + " line 1: the file holds no example");
  return table;
}

std::string text(std::span<const std::int32_t> tokens, bool brackets) {
  // Number of arguments of each operator, by its place: an operator is preceded by one parenthesis per argument and one for its bracket.
  std::vector<std::size_t> arguments(tokens.size()), open;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == closing) open.pop_back();
    if (tokens[i] != closing && !open.empty()) ++arguments[open.back()];
    if (is_operator(tokens[i])) open.push_back(i);
  }
  std::string out;
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int32_t t = tokens[i];
    if (brackets && is_operator(t))
      for (std::size_t k = 0; k <= arguments[i]; ++k) out += "( ";
    out += names()[static_cast<std::size_t>(t)] + ' ';
    depth += is_operator(t) - (t == closing);
    if (!brackets || is_operator(t)) continue;
    out += t == closing ? ") " : "";
    if (depth > 0) out += ") ";
  }
  if (!out.empty()) out.pop_back();
  return out;
}

void write_tsv(const std::string& path, Index count, const Row& row) {
  const std::string temporary = path + ".part";
  std::error_code ignored;
  try {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out << "Source\tTarget\r\n";
    std::vector<std::int32_t> tokens;
    for (Index i = 0; i < count && out; ++i) {
      const int label = row(i, tokens);
      out << text(tokens, true) << '\t' << label << "\r\n";
    }
    out.close();
    if (!out) throw std::runtime_error("writing " + temporary + " failed: " + std::strerror(errno));
    std::filesystem::rename(temporary, path);
  } catch (...) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

}  // namespace ssm::listops
