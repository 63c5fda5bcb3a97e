// Whether a table is the one a model hashes into. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "memory/base/status.h"
#include "memory/table/geometry.h"
#include "memory/table/table_header.h"

namespace engram::memory {

// INVALID_ARGUMENT names `where`, the first field that differs, what it is and what the model's is.
// Codec and scales are the table's own matter: any codec serves.
Status check_table_header(
    const std::string& where,
    const TableHeader& header,
    const TableGeometry& wanted,
    const std::array<uint8_t, 32>& token_map_sha256);

}  // namespace engram::memory
