// Small table files with made-up rows, for tests. Any row can be checked against
// memory/table/synthetic_rows.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/table/table_file.h"

namespace engram::tests {

// `columns` columns in two orders (an even number), of about `rows` / columns rows each; the rest
// of the rows is padding.
memory::TableGeometry small_geometry(
    memory::RowCodec codec, int64_t row_width, int64_t rows, int columns);

// The data section of such a table.
std::vector<uint8_t> synthetic_image(const memory::TableHeader& header);

// Writes the table file and opens it; a failure ends the program with its message.
std::shared_ptr<const memory::TableFile> write_synthetic_table(
    const std::string& path,
    const memory::TableGeometry& geometry,
    memory::RowLayout layout,
    int64_t extent_bytes);

}  // namespace engram::tests
