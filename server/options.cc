#include "server/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "server/flags.h"
#include "server/help_text.h"
#include "server/option_table.h"
#include "server/yaml_file.h"

namespace engram::server {
namespace {

using memory::Result;
using memory::Status;

constexpr const char* kAbout =
    "engramd serves a model with Engram (n-gram tables in host memory) over gRPC.\n"
    "Try it: engramd --model DIR, then: engram complete \"The following options are\"\n"
    "\n"
    "Usage: engramd [OPTIONS] [MODEL]\n";
constexpr const char* kAfterHelp =
    "Every flag is also read from the environment (--max-model-len: ENGRAM_MAX_MODEL_LEN) and "
    "from\n"
    "the YAML file of --config (max-model-len: 32k). Command line beats environment beats file.\n"
    "SIGTERM or SIGINT drains: running requests finish within --shutdown-timeout, then exit 0; a\n"
    "second signal ends at once with 130 (SIGINT) or 143 (SIGTERM).\n";

// Options that are no flags of the table: they do something else than serve, or say where flags
// are.
struct OtherOption {
  const char* names;  // as CLI11 reads them
  const char* shown;
  const char* help;
};
constexpr OtherOption kConfig = {"--config", "--config FILE", "YAML file with flags"};
constexpr OtherOption kPrintConfig = {
    "--print-config", "--print-config",
    "Print every value and where it comes from, as a YAML file that --config reads, then exit"};
constexpr OtherOption kCheckConfig = {
    "--check-config", "--check-config", "Exit 0 if the configuration is valid"};
constexpr OtherOption kHealthCheck = {
    "--health-check", "--health-check HOST:PORT", "Ask that server whether it is ready"};
constexpr OtherOption kVersionOption = {"--version", "--version", "Print the version"};
constexpr OtherOption kHelp = {"--help,-h", "-h, --help", "Print this"};

std::string whole_help(const std::vector<Flag>& flags) {
  std::string text = kAbout + help_text(flags) + "\nOther:\n";
  for (const OtherOption& option :
       {kConfig, kPrintConfig, kCheckConfig, kHealthCheck, kVersionOption, kHelp}) {
    text += help_entry(option.shown, option.help);
  }
  return text + "\n" + kAfterHelp;
}

// What the command line says, before any value is parsed.
struct CommandLine {
  std::map<std::string, std::string> values;  // by flag name
  std::string config;
  bool config_given = false;
  Action action = Action::kServe;
  std::string health_address;
  std::string help;
};

std::string spellings(const Flag& flag) {
  std::string text = "--" + flag.name;
  for (const std::string& alias : flag.aliases) text += "," + alias;
  if (!flag.is_switch) return text;
  text += ",!--no-" + flag.name;
  for (const std::string& alias : flag.off_aliases) text += ",!" + alias;
  return text;
}

Status unknown_flag(const std::string& word, const CLI::App& app) {
  if (word.empty() || word[0] != '-') {
    return memory::invalid_argument("unexpected argument \"" + word + "\"");
  }
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string name = word.substr(0, word.find('='));
  const std::string near = nearest(name, known);
  return memory::invalid_argument(
      "unknown flag " + name + (near.empty() ? "; see --help" : "; did you mean " + near + "?"));
}

std::string variable_of(const std::string& flag) {
  std::string name = "ENGRAM_" + flag;
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

Result<CommandLine> read_command_line(
    const std::vector<std::string>& arguments, const std::vector<Flag>& flags) {
  CommandLine line;
  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();

  std::map<std::string, std::string> values;
  std::map<std::string, bool> switches;
  std::map<std::string, CLI::Option*> options;
  std::string directory;
  app.add_option("directory", directory);
  for (const Flag& flag : flags) {
    CLI::Option* option = flag.is_switch ? app.add_flag(spellings(flag), switches[flag.name])
                                         : app.add_option(spellings(flag), values[flag.name]);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    options[flag.name] = option;
  }
  bool help = false;
  bool version = false;
  bool check = false;
  bool print = false;
  app.add_option(kConfig.names, line.config);
  app.add_flag(kPrintConfig.names, print);
  app.add_flag(kCheckConfig.names, check);
  app.add_option(kHealthCheck.names, line.health_address);
  app.add_flag(kVersionOption.names, version);
  app.add_flag(kHelp.names, help);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return memory::invalid_argument(error.what());
  }
  if (!app.remaining().empty()) return unknown_flag(app.remaining()[0], app);

  line.config_given = app.count(kConfig.names) > 0;
  if (help) line.action = Action::kHelp;
  if (help) line.help = whole_help(flags);
  if (version) line.action = Action::kVersion;
  if (app.count(kHealthCheck.names) > 0) line.action = Action::kHealthCheck;
  if (check) line.action = Action::kCheckConfig;
  if (print) line.action = Action::kPrintConfig;
  for (const Flag& flag : flags) {
    if (options[flag.name]->count() == 0) continue;
    line.values[flag.name] =
        flag.is_switch ? (switches[flag.name] ? "true" : "false") : values[flag.name];
  }
  if (!directory.empty()) {
    if (line.values.contains("model")) {
      return memory::invalid_argument("unexpected argument \"" + directory + "\" beside --model");
    }
    line.values["model"] = directory;
  }
  return line;
}

// The file's values by flag name.
Result<std::map<std::string, std::string>> read_file(
    const std::string& file, const std::vector<Flag>& flags) {
  Result<std::vector<std::pair<std::string, std::string>>> entries = read_flat_yaml(file);
  if (!entries.ok()) return entries.status();
  std::vector<std::string> known;
  for (const Flag& flag : flags) known.push_back(flag.name);
  std::map<std::string, std::string> values;
  for (auto& [key, value] : entries.value()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = nearest(name, known);
      return memory::invalid_argument(
          file + ": unknown key \"" + key + "\"" +
          (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    if (!values.emplace(name, std::move(value)).second) {
      return memory::invalid_argument(file + ": key \"" + key + "\" is given twice");
    }
  }
  return values;
}

struct Found {
  std::string value;
  std::string origin;
};

std::optional<Found> find_value(
    const std::string& name,
    const CommandLine& line,
    const Environment& environment,
    const std::map<std::string, std::string>& in_file) {
  if (const auto it = line.values.find(name); it != line.values.end()) {
    return Found{it->second, "command line"};
  }
  const std::string variable = variable_of(name);
  if (const char* value = environment(variable.c_str()); value != nullptr && *value != '\0') {
    return Found{value, "environment " + variable};
  }
  if (const auto it = in_file.find(name); it != in_file.end()) {
    return Found{it->second, "file " + line.config};
  }
  return {};
}

// No flag is taken that would do nothing.
Status check_tables(const memory::TableSetOptions& tables) {
  const bool on_nvme =
      tables.placement == "auto" || tables.placement.find("nvme") != std::string::npos;
  if (tables.cache_bytes > 0 && !on_nvme) {
    return memory::invalid_argument(
        "--table-cache needs --table-placement with nvme: rows in memory are not cached again");
  }
  if (!tables.socket.empty() && !tables.placement.empty()) {
    return memory::invalid_argument(
        "--table-placement cannot be given with --table-socket: the daemon holds the tables");
  }
  if (!tables.socket.empty() && tables.start_early) {
    return memory::invalid_argument(
        "--start-early cannot be given with --table-socket: the daemon loads the tables");
  }
  if (!tables.placement.empty() && tables.start_early) {
    return memory::invalid_argument(
        "--start-early cannot be given with --table-placement: parts of tables are loaded before "
        "they serve");
  }
  if (tables.start_early && tables.directory.empty()) {
    return memory::invalid_argument(
        "--start-early needs --tables DIR: only table files can be served while they are loading");
  }
  return {};
}

Status check_together(Options* options) {
  if (options->engine_kind == "model" && options->engine.model.empty()) {
    return memory::invalid_argument("--model DIR is required (or --engine=fake)");
  }
  ENGRAM_RETURN_IF_ERROR(check_tables(options->engine.tables));
  if (options->metrics && options->port != 0 && options->port == options->metrics_port &&
      options->host == options->metrics_host) {
    return memory::invalid_argument(
        "--port and --metrics-port are both " + std::to_string(options->port));
  }
  if (options->served_model_names.empty()) {
    std::string name = options->engine_kind == "fake" ? "fake" : options->engine.model;
    while (name.size() > 1 && name.back() == '/') name.pop_back();
    options->served_model_names = {name.substr(name.find_last_of('/') + 1)};
  }
  // The simulator follows the flags that mean the same for it.
  options->fake.max_num_seqs = options->engine.max_num_seqs;
  options->fake.max_queued_requests = options->engine.max_queued_requests;
  if (options->engine.max_model_len > 0) {
    options->fake.max_model_len = options->engine.max_model_len;
  }
  return {};
}

}  // namespace

Result<ParsedOptions> parse_options(
    const std::vector<std::string>& arguments, const Environment& environment) {
  ParsedOptions parsed;
  Options options;
  const std::vector<Flag> flags = option_table(&options);
  Result<CommandLine> line = read_command_line(arguments, flags);
  if (!line.ok()) return line.status();
  CommandLine& command = line.value();
  parsed.action = command.action;
  parsed.help = command.help;
  parsed.health_address = command.health_address;
  if (parsed.action == Action::kHelp || parsed.action == Action::kVersion ||
      parsed.action == Action::kHealthCheck) {
    return parsed;
  }
  const char* config_variable = environment("ENGRAM_CONFIG");
  if (!command.config_given && config_variable != nullptr) command.config = config_variable;
  std::map<std::string, std::string> in_file;
  if (!command.config.empty()) {
    Result<std::map<std::string, std::string>> read = read_file(command.config, flags);
    if (!read.ok()) return read.status();
    in_file = std::move(read).value();
  }
  for (const Flag& flag : flags) {
    const std::optional<Found> found = find_value(flag.name, command, environment, in_file);
    if (found) {
      const Status status = flag.set(found->value);
      if (!status.ok()) {
        return memory::invalid_argument(
            "--" + flag.name + " (" + found->origin + "): " + status.message());
      }
    }
    parsed.values.push_back({flag.name, "", found ? found->origin : "default"});
  }
  ENGRAM_RETURN_IF_ERROR(check_together(&options));
  for (size_t i = 0; i < flags.size(); ++i) parsed.values[i].value = flags[i].print();
  parsed.options = std::move(options);
  return parsed;
}

}  // namespace engram::server
