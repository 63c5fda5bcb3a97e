// From rows in ascending order to the extents of a table file, on several threads with bounded
// memory. Workers take runs of rows of about 1 MiB; each has its producer put them straight into
// the extents they belong to, and whoever fills an extent writes it. Extents that a writer found
// complete are not produced again.
//
// Memory: an extent is held while a worker fills or writes it, or while the next rows belong to it.
// A run touches at most two extents of values and two of scales, so that is at most 4 * threads + 2
// extents, and in practice threads + 3, whatever the size of the table.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "memory/base/status.h"
#include "memory/table/row_encode.h"
#include "memory/table/table_writer.h"

namespace engram::memory {

class RowProducer {
 public:
  virtual ~RowProducer() = default;

  // Puts the rows [first, first + count) as they are stored to to.values + i * to.value_stride and
  // to.scales + i * to.scale_stride, and leaves the bytes between rows alone. Several threads call
  // it at a time, for different rows.
  virtual Status produce(int64_t first, int64_t count, const RowTarget& to) = 0;
};

// Made-up rows, see synthetic_rows.h.
class SyntheticProducer : public RowProducer {
 public:
  explicit SyntheticProducer(TableGeometry geometry) : geometry_(std::move(geometry)) {}
  Status produce(int64_t first, int64_t count, const RowTarget& to) override;

 private:
  const TableGeometry geometry_;
};

struct StreamProgress {
  int64_t bytes_total = 0;    // of the data section
  int64_t bytes_resumed = 0;  // were there before
  int64_t bytes_done = 0;     // with those
};

struct StreamOptions {
  int threads = 4;
  const std::atomic<bool>* stop = nullptr;                 // becomes true: end early with CANCELLED
  std::function<void(const StreamProgress&)> on_progress;  // some times a second, on the caller
};

// Writes all rows; finish() is left to the caller. After an error or a stop what was written is
// committed, so that the next writer goes on from there. The first error is returned.
Status stream_rows(RowProducer* producer, TableWriter* writer, const StreamOptions& options);

}  // namespace engram::memory
