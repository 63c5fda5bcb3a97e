// The gather through shared memory, behind enqueue_decode_rows(). Included by .cu files only.
#pragma once

#include "memory/device/device.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_gather.cuh"

namespace engram::memory {

// Whether stored rows, and their places in `out`, begin at and are made of whole 16 bytes.
bool in_whole_16_bytes(const RowGather& gather);

// Enqueues the gather with RowKernel::kBulk or kAsync. False, and nothing was enqueued: rows of
// this kind do not go that way.
bool enqueue_ring(Stream& stream, const RowGather& gather, const cuda::GatherArgs& args);

}  // namespace engram::memory
