// command.hpp - one command of the program: one file in core/cli, registered by its last line.
#pragma once
#include <boost/program_options.hpp>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "config.hpp"

namespace ssm {

struct Arguments {
  KeyValues keys;                             // of config files, then of the command line
  boost::program_options::variables_map own;  // the command's own options and positional arguments
  int argc = 0;
  const char* const* argv = nullptr;
  bool flag(const char* name) const { return own.count(name) && own[name].as<bool>(); }
  std::string text(const char* name) const { return own.count(name) ? own[name].as<std::string>() : ""; }
};

struct Command {
  std::string name, about;
  // Declares the command's own options; a positional argument is an option named in `positional`.
  std::function<void(boost::program_options::options_description&)> options;
  std::vector<std::string> positional;
  std::function<int(const Arguments&)> run;  // exit code
  bool takes_keys = true;
};

std::map<std::string, Command>& commands();

struct RegisterCommand {
  explicit RegisterCommand(Command c) { commands()[c.name] = std::move(c); }
};

// Every key that some choice of task and variants knows, with its declaration: what --key accepts, and `list --json` prints.
struct KnownKey {
  std::string name;
  Knob knob;
  std::string default_value;
};
std::vector<KnownKey> known_keys();

// Parses what follows the command's name. Throws BadInput: unknown option with the nearest name, missing value, unreadable --config file.
Arguments parse_arguments(const Command& command, int argc, const char* const* argv);

// The text of `ssmbench <command> --help`.
std::string help_text(const Command& command);

}  // namespace ssm
