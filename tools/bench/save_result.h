// Writing results so that a failure loses nothing that was there: a whole file takes its name when
// it is complete, an appended line is taken back when it did not fit. Devices and pipes
// (/dev/stdout) are written to as they are. Errors name the path: RESOURCE_EXHAUSTED for a full
// disk, NOT_FOUND for a directory that is missing, PERMISSION_DENIED.
#pragma once

#include <string>

#include "memory/base/status.h"

namespace engram::tools::bench {

memory::Status save_text(const std::string& path, const std::string& text);

// Adds `line` and a newline to the file, which may not exist yet; begins on a line of its own.
memory::Status append_line(const std::string& path, const std::string& line);

// Whether a result could be saved there, asked before a long run. Leaves nothing behind.
memory::Status check_can_save(const std::string& path);

}  // namespace engram::tools::bench
