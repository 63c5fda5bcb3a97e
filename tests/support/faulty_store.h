// A row store over a table file whose reads suffer.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <utility>

#include "memory/table/row_store_nvme.h"
#include "tests/support/faulty_reads.h"

namespace engram::tests {

// Serves the file's rows from `first` on as a table of that geometry. Backend and depth of the
// queue are those of the options.
inline std::unique_ptr<memory::NvmeRowStore> open_faulty(
    const memory::TableFile& file,
    const memory::TableGeometry& geometry,
    int64_t first,
    const memory::NvmeOptions& options,
    const Faults& faults) {
  memory::Result<memory::FileRows> rows =
      memory::open_file_rows(file, first, first + geometry.rows);
  REQUIRE(rows.ok());
  memory::Result<std::unique_ptr<memory::NvmeRowStore>> store = memory::make_nvme_row_store_on(
      faulty_queue({.backend = options.backend, .depth = options.depth}, faults), geometry,
      std::move(rows).value(), options);
  REQUIRE(store.ok());
  return std::move(store).value();
}

}  // namespace engram::tests
