// The text of engramd --help: flags by group, wrapped for a terminal of 100 columns. Pure.
#pragma once

#include <string>
#include <vector>

#include "server/option_table.h"

namespace engram::server {

// One entry per flag: "-m, --model", "--[no-]metrics", its help, other names, and the value it has
// now in brackets. In the order of the table; a group's heading comes before its first flag.
std::string help_text(const std::vector<Flag>& flags);

// One entry: `names` in the left column, `text` wrapped in the right one.
std::string help_entry(const std::string& names, const std::string& text);

}  // namespace engram::server
