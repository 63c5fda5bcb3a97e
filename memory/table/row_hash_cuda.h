// Windows of tokens and their row ids on a GPU. Free of CUDA headers; defined in builds of the CUDA
// backend. All pointers are of the device's memory, or pinned; windows are aligned to 16 bytes.
#pragma once

#include <cstdint>

#include "memory/device/device.h"
#include "memory/table/row_hash.h"

namespace engram::memory {

// The token map where the device reads it: the map of engine/model/ngram.h.
struct DeviceTokenMap {
  const int32_t* canonical = nullptr;  // [size]
  int32_t size = 0;
  int32_t pad = 0;
  bool pass_through = false;
};

// Enqueues: the raw id tokens[i] becomes the newest of window i, and the oldest is forgotten, for i
// in [0, count).  windows [count, kWindow]
void enqueue_push_tokens(
    Stream& stream,
    const DeviceTokenMap& map,
    const int32_t* tokens,
    int64_t count,
    int32_t* windows);

// Enqueues ids[t * H + c] = the row of column c for the token that is the newest of window t.
//   windows  [tokens, kWindow]
//   ids      [tokens, columns]
void enqueue_hash_rows(
    Stream& stream,
    const RowHash& hash,
    int64_t columns,
    const int32_t* windows,
    int64_t tokens,
    int64_t* ids);

}  // namespace engram::memory
