// The table of flags behind parse_options().
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/options.h"

namespace engram::server {

struct Flag {
  std::string name;                  // "max-model-len"
  std::vector<std::string> aliases;  // with dashes: "--context-length", "-c", "-c,..." not joined
  std::string group;                 // heading in the help
  std::string help;
  bool is_switch = false;                // --name and --no-name, or with a value in the file
  std::vector<std::string> off_aliases;  // of switches: names that mean --no-name
  std::function<memory::Status(const std::string&)> set;
  std::function<std::string()> print;
};

// Flags that write into `options`, which must outlive the table.
std::vector<Flag> option_table(Options* options);

}  // namespace engram::server
