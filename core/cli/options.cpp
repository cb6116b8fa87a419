#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/command.hpp"
#include "error.hpp"

namespace po = boost::program_options;

namespace ssm {

std::map<std::string, Command>& commands() {
  static std::map<std::string, Command> all;
  return all;
}

std::vector<KnownKey> known_keys() {
  std::vector<KnownKey> out;
  const auto section = [&](const std::string& name, auto&& owner) {
    Knobs knobs;
    owner.knobs(knobs);
    for (const Knob& k : knobs.all()) out.push_back({name + "." + k.name, k, k.default_value});
  };
  section("model", ModelConfig{});
  section("train", TrainSettings{});
  section("run", RunSettings{});
  section("seed", Seeds{});
  for (const std::string& name : TaskRegistry::get().names()) section(name, *TaskRegistry::get().make(name, "task"));
  for (const std::string& name : VariantRegistry::get().names()) section(name, *VariantRegistry::get().make(name, "variant"));
  return out;
}

namespace {

// A short form that the command has as an option of its own is that option: --view of bench is a list.
po::options_description key_options(const po::options_description& own) {
  po::options_description keys("Keys");
  const auto text = [] { return po::value<std::string>(); };
  for (const char* name : {"task", "variant", "depth", "layers", "seed", "view"})
    if (!own.find_nothrow(name, false)) keys.add_options()(name, text());
  for (const KnownKey& key : known_keys()) keys.add_options()(key.name.c_str(), text());
  return keys;
}

po::options_description own_options(const Command& command) {
  po::options_description own("Options");
  own.add_options()("help", po::bool_switch(), "this text");
  if (command.takes_keys)
    own.add_options()("config", po::value<std::vector<std::string>>(), "file of `key = value` lines; may be given several times");
  command.options(own);
  return own;
}

[[noreturn]] void rephrase(const po::error& e, const po::options_description& all, const std::string& where) {
  if (const auto* u = dynamic_cast<const po::unknown_option*>(&e)) {
    std::vector<std::string> names;
    for (const auto& option : all.options()) names.push_back(option->long_name());
    std::string name = u->get_option_name(), near;
    name.erase(0, name.find_first_not_of('-'));
    for (const std::string& n : names)  // "lr" is meant to be train.lr
      if (near.empty() && n.size() > name.size() && n.compare(n.size() - name.size() - 1, std::string::npos, "." + name) == 0) near = n;
    if (near.empty()) near = nearest(name, names);
    throw BadInput(where + "unknown option '" + name + "'; did you mean '" + near + "'? see `ssmbench list` and --help");
  }
  throw BadInput(where + e.what());
}

// Moves the keys out of what was parsed, in their order: of a key given twice the last one wins.
void collect(po::parsed_options& parsed, const po::options_description& keys, KeyValues& out) {
  std::erase_if(parsed.options, [&](const po::option& o) {
    if (o.string_key.empty() || !keys.find_nothrow(o.string_key, false)) return false;
    out.emplace_back(o.string_key, o.value.empty() ? "" : o.value.front());
    return true;
  });
}

// Gives words without a -- the names of the command's positional arguments.
void name_positional(po::parsed_options& parsed, const Command& command) {
  std::size_t n = 0;
  for (po::option& o : parsed.options) {
    if (!o.string_key.empty()) continue;
    const std::string& word = o.value.empty() ? o.original_tokens.front() : o.value.front();
    if (n == command.positional.size())
      throw BadInput("unexpected argument '" + word + "': " + command.name + " takes " +
                     (n ? join(command.positional) + " and" : std::string("only")) + " options --name value");
    o.string_key = command.positional[n++];
  }
}

void read_config(const std::string& path, const po::options_description& keys, KeyValues& out) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path)) throw BadInput("--config " + path + ": cannot be read");
  try {
    auto parsed = po::parse_config_file(file, keys);
    collect(parsed, keys, out);
  } catch (const po::error& e) {
    rephrase(e, keys, path + ": ");
  }
}

}  // namespace

Arguments parse_arguments(const Command& command, int argc, const char* const* argv) {
  const po::options_description own = own_options(command);
  const po::options_description keys = command.takes_keys ? key_options(own) : po::options_description();
  po::options_description all;
  all.add(own).add(keys);

  Arguments out;
  out.argc = argc;
  out.argv = argv;
  const int style = po::command_line_style::unix_style & ~(po::command_line_style::allow_guessing | po::command_line_style::allow_short);
  try {
    auto parsed = po::command_line_parser(argc, argv).options(all).style(style).run();
    name_positional(parsed, command);
    KeyValues from_line;
    collect(parsed, keys, from_line);
    po::store(parsed, out.own);
    if (out.own.count("config"))
      for (const std::string& path : out.own["config"].as<std::vector<std::string>>()) read_config(path, keys, out.keys);
    out.keys.insert(out.keys.end(), from_line.begin(), from_line.end());
  } catch (const po::error& e) {
    rephrase(e, all, "");
  }
  return out;
}

std::string help_text(const Command& command) {
  std::ostringstream out;
  out << "ssmbench " << command.name;
  for (const std::string& p : command.positional) out << " [" << p << ']';
  out << (command.takes_keys ? " [--key value ...]\n\n" : "\n\n") << command.about << "\n\n" << own_options(command);
  if (!command.takes_keys) return out.str();
  out << "\nKeys (task, variant, depth, layers, seed are short forms; a variant's and a task's own keys: ssmbench list).\n"
         "Of a key given twice the last one wins, and the command line wins over --config files.\n";
  for (const KnownKey& key : known_keys()) {
    const std::string section = key.name.substr(0, key.name.find('.'));
    if (section != "model" && section != "train" && section != "run" && section != "seed") continue;
    out << "  --" << key.name << " = " << (key.default_value.empty() ? "\"\"" : key.default_value) << "\n      " << key.knob.help << "; "
        << key.knob.allowed() << '\n';
  }
  return out.str();
}

}  // namespace ssm
