// Table files of the small checkpoints, for tests of everything that reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/table/table_header.h"
#include "memory/table/table_source.h"

namespace engram::tests {

// The tables of a checkpoint directory, in the order of its Engram layers.
std::vector<std::shared_ptr<const memory::TableSource>> checkpoint_tables(const std::string& model);

struct ModelTables {
  memory::RowLayout layout = memory::RowLayout::kSplit;
  int64_t extent_bytes = int64_t{64} << 10;
  int64_t rotate = 0;  // row i has the content of row i + rotate: another version of the table
};

// Writes DIRECTORY/layer-<l>.engram-table for each of them; a failure ends the program.
void write_model_tables(
    const std::string& model, const std::string& directory, const ModelTables& options);

}  // namespace engram::tests
