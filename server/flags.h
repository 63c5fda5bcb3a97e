// Flag values as people write them, and the nearest flag to a misspelt one. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::server {

// "4096", "32k" (x 1024), "1M" (x 1024^2); a fraction is allowed before the letter ("1.5k").
memory::Result<int64_t> parse_count(const std::string& text);
// Bytes: "1073741824", "512MiB", "2GiB", "2GB" (x 1000^3), "2G" (as GiB).
memory::Result<int64_t> parse_bytes(const std::string& text);
// Seconds: "45", "0.5", "250ms", "45s", "2m", "1h".
memory::Result<double> parse_seconds(const std::string& text);
memory::Result<double> parse_number(const std::string& text);
// true, false, 1, 0, yes, no, on, off.
memory::Result<bool> parse_bool(const std::string& text);

// The candidate with the fewest edits, or "" when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace engram::server
