// Reads rows of a table file where they lie, many at a time: the 4 KiB blocks the rows need, each
// once, neighbours in one read, as many in flight as the queue has room for. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"
#include "memory/table/table_file.h"

namespace engram::memory {

// A row as it is stored. The bytes stay until the next read().
struct FileRow {
  int64_t row = 0;                  // in [0, rows)
  const uint8_t* values = nullptr;  // null: could not be read
  const uint8_t* scales = nullptr;  // null without scales
};

struct RowReaderStats {
  int64_t rows = 0;
  int64_t blocks = 0;  // each read once per call, however many rows lie in it
  int64_t reads = 0;
};

class RowReader {
 public:
  // Errors: those of opening the file.
  static Result<std::unique_ptr<RowReader>> make(
      std::shared_ptr<const TableFile> file, std::unique_ptr<ReadQueue> queue);

  // Fills in where the bytes of each row are. The first error, by whichever read; the rows that
  // are there are right all the same.
  Status read(std::span<FileRow> rows);

  // Blocks one row needs at most, for who bounds the memory of a call.
  int64_t row_blocks() const;
  const RowReaderStats& stats() const { return stats_; }

 private:
  // Neighbouring blocks, read at once.
  struct Run {
    int64_t first = 0;  // index in blocks_
    int64_t count = 0;
    bool failed = false;
  };
  // Bytes of the data section, which may begin and end within a block.
  struct Range {
    int64_t begin = 0;
    int64_t bytes = 0;
  };

  RowReader(
      std::shared_ptr<const TableFile> file, DirectFile source, std::unique_ptr<ReadQueue> queue);
  Range values_of(int64_t row) const;
  Range scales_of(int64_t row) const;
  void need(const Range& range);
  void plan();
  Status read_runs();
  const uint8_t* find(const Range& range) const;

  // Constant.
  const std::shared_ptr<const TableFile> file_;  // shared with the loader and other stores
  const DirectFile source_;

  // The one thread. The queue is destroyed first: its reads write into staging_.
  std::vector<int64_t> blocks_;  // of the data section, ascending, each once
  std::vector<Run> runs_;
  std::vector<ReadDone> done_;
  std::unique_ptr<uint8_t, void (*)(void*)> staging_;  // [staging_blocks_], in the order of blocks_
  int64_t staging_blocks_ = 0;
  RowReaderStats stats_;
  std::unique_ptr<ReadQueue> queue_;
};

}  // namespace engram::memory
