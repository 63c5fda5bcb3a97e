// The inner loop of a gather on a GPU: rows straight from where they are stored, host memory too,
// to device memory. Free of CUDA headers; defined in builds of the CUDA backend.
#pragma once

#include "memory/device/device.h"
#include "memory/table/row_decode.h"

namespace engram::memory {

// Enqueues what decode_rows() does, with the same bits (of a NaN: another NaN perhaps).
//   stream  of a CUDA device
//   gather  place, ids and slots where the device reads them: its own or pinned memory; out: its
//           own memory. An id outside the table or a slot outside `out` stops the process.
void enqueue_decode_rows(Stream& stream, const RowGather& gather);

}  // namespace engram::memory
