// A table that stays in its file: rows are read when they are asked for, by direct I/O, with a
// cache of rows in DRAM in front.
//
// A gather finds each row once however often it is asked for, looks it up in the cache, sorts what
// is missing by its place in the file, reads each 4 KiB block once (BlockReader), decodes, and
// leaves the rows read in the cache. Interleaved rows cost one read, split ones two.
//
// Nothing allocates after make: a gather of more rows than fit the staging is done in parts.
// gather() is one call from begin to end; who has a prompt's rows and a token's rows to fetch
// decides their order and the size of the prompt's calls.
//
// A row's bytes are what the file system returns: a device that errs in silence is found by the
// loader's checksums or by comparing rows with the source, not here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"
#include "memory/table/row_store.h"
#include "memory/table/table_file.h"

namespace engram::memory {

// One part of row i begins at byte offset + i * stride of the file.
struct FileSection {
  std::shared_ptr<const DirectFile> file;  // shared: values and scales are mostly in one
  int64_t offset = 0;
  int64_t stride = 0;
};

// Where the rows of a table lie in files. With scales inside the stride of the values, a row is one
// piece; else two.
struct FileRows {
  FileSection values;
  FileSection scales;  // no file without scales
  std::string version;
};

// The rows [first, end) of a table file, opened once more for direct reads. Errors: those of
// opening it; DATA_LOSS when its size changed.
Result<FileRows> open_file_rows(const TableFile& table, int64_t first, int64_t end);

struct NvmeOptions {
  IoBackend backend = IoBackend::kAuto;
  int depth = 128;                            // reads in flight, 1 to 4096
  int64_t cache_bytes = 0;                    // of the row cache; 0: none
  int64_t staging_bytes = int64_t{16} << 20;  // rows read at once; at least those of a token
  int64_t largest_read = int64_t{32} << 10;   // bytes; at least the blocks of one row are taken
  int64_t read_gap = 0;                       // see BlockRules
};

struct NvmeStats {
  int64_t rows = 0;           // asked for, repeats included
  int64_t distinct_rows = 0;  // within each gather (or part of one)
  int64_t cache_hits = 0;     // of the distinct rows
  int64_t cache_misses = 0;
  int64_t cache_evicted = 0;
  int64_t row_blocks = 0;  // that a read per row asked for and missed would have read
  int64_t blocks = 0;      // read, retries included
  int64_t reads = 0;
  int64_t bytes = 0;
  int64_t retries = 0;
  int64_t failed_rows = 0;
  int64_t most_in_flight = 0;

  double cache_hit_share() const;  // of the distinct rows
  double deduplicated_share()
      const;  // of the block reads that one read per row asked for would make
};

class NvmeRowStore : public RowStore {
 public:
  // Any thread; as of the last finished part of a gather.
  virtual NvmeStats nvme_stats() const = 0;
  virtual int64_t memory_bytes() const = 0;  // taken: cache, staging, buffers
};

// INVALID_ARGUMENT when the codec cannot have rows of that width, an option is out of range, or the
// files do not hold the blocks of all rows; FAILED_PRECONDITION for a backend that is forbidden
// here; RESOURCE_EXHAUSTED when the memory cannot be had. gather() answers DATA_LOSS, naming the
// table, the row and the read's reason, for rows that could not be read twice; UNAVAILABLE where
// the system had no means to read.
Result<std::unique_ptr<NvmeRowStore>> make_nvme_row_store(
    TableGeometry geometry, FileRows rows, const NvmeOptions& options);

// The same with a queue of the caller's; backend and depth are the queue's.
Result<std::unique_ptr<NvmeRowStore>> make_nvme_row_store_on(
    std::unique_ptr<ReadQueue> queue,
    TableGeometry geometry,
    FileRows rows,
    const NvmeOptions& options);

}  // namespace engram::memory
