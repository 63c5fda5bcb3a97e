// Reads rows of a table file where they lie, many at a time: each block once, neighbours in one
// read, many in flight (BlockReader). One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"
#include "memory/table/block_reader.h"
#include "memory/table/table_file.h"

namespace engram::memory {

// A row as it is stored. The bytes stay until the next read().
struct FileRow {
  int64_t row = 0;                  // in [0, rows)
  const uint8_t* values = nullptr;  // null: could not be read
  const uint8_t* scales = nullptr;  // null without scales
};

class RowReader {
 public:
  // Errors: those of opening the file; RESOURCE_EXHAUSTED for the buffers of the reads in flight.
  static Result<std::unique_ptr<RowReader>> make(
      std::shared_ptr<const TableFile> file, std::unique_ptr<ReadQueue> queue);

  // Fills in where the bytes of each row are. The first error, by whichever read; the rows that
  // are there are right all the same. Takes the memory of so many rows, and keeps it.
  Status read(std::span<FileRow> rows);

  int64_t row_bytes() const { return value_bytes_ + scale_bytes_; }
  const BlockReaderStats& stats() const { return reader_->stats(); }

 private:
  RowReader(
      std::shared_ptr<const TableFile> file,
      DirectFile source,
      const BlockRules& rules,
      std::unique_ptr<BlockReader> reader);

  // Constant.
  const std::shared_ptr<const TableFile> file_;  // shared with the loader and other stores
  const DirectFile source_;
  const BlockRules rules_;
  const int64_t value_bytes_;
  const int64_t scale_bytes_;

  // The one thread.
  std::vector<uint8_t> staging_;  // values and scales of each row asked for
  std::vector<FilePiece> pieces_;
  std::vector<BlockRead> reads_;
  std::vector<int32_t> failed_;  // indexes of rows
  const std::unique_ptr<BlockReader> reader_;
};

}  // namespace engram::memory
