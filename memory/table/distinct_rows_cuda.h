// Finding the distinct rows of a gather on a GPU, and repeating those that are wanted again. Free
// of CUDA headers; defined in builds of the CUDA backend.
#pragma once

#include "memory/device/device.h"
#include "memory/table/distinct_rows.h"
#include "memory/table/row_decode.h"

namespace engram::memory {

// Enqueues: the rows of the gather, each id once, to listed[0 .. count).
// REQUIRES: gather.ids; no more rows than most_rows().
void enqueue_list_rows(Stream& stream, const RowGather& gather, const DistinctRows& rows);

// Enqueues, behind that and a gather of what is listed: the rows that were not listed themselves,
// copied from those that were.
void enqueue_repeat_rows(Stream& stream, const RowGather& gather, const DistinctRows& rows);

}  // namespace engram::memory
