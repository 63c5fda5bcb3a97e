// Readers of one result each, for result_file.cc. Includes nlohmann-json: for .cc files only.
#pragma once

#include "engine/model/json_cursor.h"
#include "memory/base/status.h"
#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// Both take an object and leave `file` alone.
memory::Status read_serve_result(const engine::JsonCursor& root, ServeResult* result);
memory::Status read_overhead_result(const engine::JsonCursor& root, OverheadResult* result);

}  // namespace engram::tools::bench
