// Where table rows come from. Tables are read-only while serving; a row never changes.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/device/device.h"
#include "memory/table/geometry.h"
#include "memory/table/row_place.h"

namespace engram::memory {

struct RowStoreStats {
  int64_t rows_read = 0;   // rows gathered, repeats included
  int64_t bytes_read = 0;  // as stored, scales included
  // Of stores that read files while they serve.
  int64_t cache_hits = 0;  // rows, each counted once per gather
  int64_t cache_misses = 0;
  int64_t file_reads = 0;
  int64_t file_bytes = 0;   // whole blocks
  int64_t failed_rows = 0;  // that could not be read
};

// One table. gather() may be called by one thread at a time, everything else by any thread;
// different stores are independent.
class RowStore {
 public:
  virtual ~RowStore() = default;
  virtual const TableGeometry& geometry() const = 0;
  virtual std::string placement() const = 0;  // "host, 97 % huge pages"
  // Names the table's contents: stores of one version give the same rows. Constant.
  virtual std::string version() const = 0;
  virtual RowStoreStats stats() const = 0;
  // Of a store with all its rows in memory: where they are, for readers that need no gather();
  // parts in ascending order. Readers tell how many rows they took by count_rows(). Empty: rows
  // come by gather() only. With a part in the device's memory: they come by reading it only.
  virtual std::vector<PlacedRows> in_memory() const { return {}; }
  virtual void count_rows(int64_t) {}

  // Decodes row_ids[t * H + h] into out[slots[t]] at element h * r, for t in [0, tokens).
  //   row_ids  [tokens * H], each in [0, rows): offsets included
  //   slots    [tokens], rows of `out`
  //   out      [slots, E], f32 or bf16, host-visible
  // Ok when all rows are there. Otherwise the first reason, and the indexes t of the tokens with a
  // row that could not be read are appended to *failed, each once, in any order; what `out` holds
  // for those means nothing, all other tokens are as if nothing had happened. DATA_LOSS when the
  // bytes are bad or gone, UNAVAILABLE and INTERNAL when reading them failed.
  // REQUIRES: no part is in the device's memory.
  // Synchronous; runs on the calling thread (the side stream's worker). Decoding is exact in f32
  // and in bf16 for codecs of at most 8 significand bits, else rounded to nearest.
  Status gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed);

 private:
  // gather() of one piece: at least one token, at most most_tokens(), and `out` is as promised.
  // Appends the indexes within the piece. Row ids and slots are the store's to check, where it
  // reads them.
  virtual Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed) = 0;
  // Asked before each piece; positive.
  virtual int64_t most_tokens() const { return std::numeric_limits<int64_t>::max(); }
};

// Rows in this process's memory, whoever put them there.
struct HostRows {
  RowPlace place;
  // Where the calling thread should read the same rows, asked by each gather: of copies on several
  // NUMA nodes the nearest. Empty: at `place`.
  std::function<RowPlace()> nearest = {};
  int64_t bytes = 0;  // from the first value on, for the share of huge pages
  // Of pages that the kernel does not list as huge; none: as it lists them.
  std::optional<double> huge_share = {};
  // Keeps the memory or mapping alive; shared because stores of several layers may lie in one.
  std::shared_ptr<const void> owner;
  std::string where;  // begin of placement(): "host", "shared"
  std::string version;
};

class HostRowStore : public RowStore {
 public:
  virtual const RowPlace& place() const = 0;
};

// INVALID_ARGUMENT when the codec cannot have rows of that width.
Result<std::unique_ptr<HostRowStore>> make_host_row_store(TableGeometry geometry, HostRows rows);

// A table that owns its bytes, in huge pages where the system grants them. Whoever made it fills
// `values` [R, value_bytes] and `scales` [R, scale_bytes] before the first gather.
struct OwnedTable {
  std::unique_ptr<HostRowStore> store;
  uint8_t* values = nullptr;
  uint8_t* scales = nullptr;  // null without scales
};
// RESOURCE_EXHAUSTED when the memory cannot be had.
Result<OwnedTable> make_owned_table(TableGeometry geometry, std::string version);

}  // namespace engram::memory
