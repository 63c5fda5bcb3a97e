// Where table rows come from. Tables are read-only while serving; a row never changes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/device/device.h"
#include "memory/table/geometry.h"

namespace engram::memory {

struct RowStoreStats {
  int64_t rows_read = 0;   // rows gathered, repeats included
  int64_t bytes_read = 0;  // as stored, scales included
};

// One table. gather() may be called by one thread at a time; different stores are independent.
class RowStore {
 public:
  virtual ~RowStore() = default;
  virtual const TableGeometry& geometry() const = 0;
  virtual std::string placement() const = 0;  // "host, 97 % huge pages"
  virtual RowStoreStats stats() const = 0;

  // Decodes row_ids[t * H + h] into out[slots[t]] at element h * r, for t in [0, tokens).
  //   row_ids  [tokens * H], each in [0, rows): offsets included
  //   slots    [tokens], rows of `out`
  //   out      [slots, E], f32 or bf16, host-visible
  // Synchronous; runs on the calling thread (the side stream's worker). Decoding is exact in f32
  // and in bf16 for codecs of at most 8 significand bits, else rounded to nearest.
  virtual void gather(const int64_t* row_ids, const int32_t* slots, int64_t tokens, View out) = 0;
};

// A table in host memory: owns its bytes, in huge pages where the system grants them.
class HostRowStore : public RowStore {
 public:
  // Bytes of the table; filled by the loader before the first gather.
  virtual void* values() = 0;  // [R, value_bytes]
  virtual void* scales() = 0;  // [R, scale_bytes], null without scales
};

// RESOURCE_EXHAUSTED when the memory cannot be had.
Result<std::unique_ptr<HostRowStore>> make_host_row_store(TableGeometry geometry);

}  // namespace engram::memory
