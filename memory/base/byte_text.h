// Byte counts as people read and write them. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "memory/base/status.h"

namespace engram::memory {

// "1.50 GiB", "12.0 MiB", "0.5 KiB", "0"
std::string format_bytes(int64_t bytes);

// "1073741824", "512MiB", "2GiB", "2GB" (x 1000^3), "2G" (as GiB); any case, fractions of a unit.
// INVALID_ARGUMENT quotes the text.
Result<int64_t> parse_bytes(const std::string& text);

}  // namespace engram::memory
