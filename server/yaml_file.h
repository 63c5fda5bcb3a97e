// A YAML file that holds one map of names to scalars or lists of scalars.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"

namespace engram::server {

// Pairs in the file's order, lists joined by commas, names without a value left out. NOT_FOUND,
// INVALID_ARGUMENT with file and line.
memory::Result<std::vector<std::pair<std::string, std::string>>> read_flat_yaml(
    const std::string& file);

}  // namespace engram::server
