// JSON of files that nobody vouches for. Includes nlohmann-json: for .cc files only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "memory/base/status.h"

namespace engram::memory {

// INVALID_ARGUMENT, beginning with `name`, for what is not JSON in UTF-8, for a key that occurs
// twice in one object (the key is named), and for more than 64 levels. Never throws.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& name);

// For messages: at most about 60 characters of the value.
std::string json_excerpt(const nlohmann::json& value);

}  // namespace engram::memory
