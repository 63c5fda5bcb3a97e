// The inner loop of a gather: reads stored rows by id, far apart in memory, and writes them as
// activations. Runs on the calling thread, with the best vector instructions at hand.
//
// Decoding is exact in f32: the value is the stored number times its scale, rounded once where the
// product does not fit. bf16 is that f32, rounded to nearest, ties to even.
#pragma once

#include <cstdint>
#include <limits>

#include "memory/base/tensor.h"
#include "memory/device/device.h"
#include "memory/table/geometry.h"
#include "memory/table/row_hash.h"
#include "memory/table/row_place.h"

namespace engram::memory {

class DistinctRows;

// Ways of a GPU to read rows. All give the same bits.
//   kLoads  a warp per row, loads to registers: the shortest way for few rows
//   kAsync  through shared memory, by copies of 16 bytes (cp.async)
//   kBulk   through shared memory, by one bulk copy per row (compute capability 9.0)
enum class RowKernel : uint8_t { kLoads, kAsync, kBulk };

// Row ids[t * H + h] goes to out[slots[t]], elements [h * r, (h + 1) * r).
struct RowGather {
  const TableGeometry* geometry = nullptr;  // columns, rows, width and codec; check_codec() holds
  RowPlace place;                           // strides may have gaps; nothing needs to be aligned
  // Rows from upper_first on are the rows from 0 on of `upper`. Of enqueued decoding only.
  RowPlace upper = {};
  int64_t upper_first = std::numeric_limits<int64_t>::max();
  const int64_t* ids = nullptr;  // [tokens * H]; one outside the table is a bug
  // Of enqueued decoding, instead of ids: the kernel itself hashes the windows [tokens, kWindow],
  // which are aligned to 16 bytes.
  const RowHash* hash = nullptr;  // read while enqueueing
  const int32_t* windows = nullptr;
  const int32_t* slots = nullptr;  // [tokens]
  int64_t tokens = 0;
  View out;  // f32 or bf16, at least E columns
  // Of enqueued decoding: kBulk falls back to kAsync where the GPU has no bulk copies, and both to
  // kLoads where rows are not made of whole 16 bytes or are too long.
  RowKernel kernel = RowKernel::kLoads;
  int blocks = 0;  // at most so many; 0: as many as fill a link
  // Of enqueued decoding of ids: rows that are wanted more than once are read once. Large enough
  // for the gather, and used by no other stream meanwhile.
  const DistinctRows* distinct = nullptr;
};

void decode_rows(const RowGather& gather);

// Enqueues the same on a stream of a device, whose memory `out` is; place, ids and slots are where
// that device reads them: its own or pinned memory.
using EnqueueDecode = void (*)(Stream& stream, const RowGather& gather);

// One row of r elements wherever its bytes are, for rows that were read into a buffer.
void decode_row(
    const TableGeometry& geometry,
    const uint8_t* values,
    const uint8_t* scales,
    DType dtype,
    void* to);

}  // namespace engram::memory
