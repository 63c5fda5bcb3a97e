// Rows of any table, made up: every byte is a cheap hash of layer, row and place in the row, so
// that tables of any size can be written at memory speed and any row can be checked without them.
// Float codecs get finite values of magnitude 2^-7 to 2 (f16: 2^-3 to 2), with scales of 2^-7 to 1.
// Any thread.
//
// Bytes of a row are little-endian u32 words. With a = low and b = high half (its lowest bit set)
// of mix(layer, row), a 64-bit finalizer, word j is
//   x = a + j * 0x9e3779b9;  x = (x ^ x >> 15) * b;  x = (x ^ x >> 13) & keep | set
// where keep and set make the codec's elements finite. Scale words go on at j = 2^24.
#pragma once

#include <cstdint>

#include "memory/table/geometry.h"

namespace engram::memory {

// Rows [first, first + count) of a table of this layer, width and codec.
//   values  value_bytes() of each row, value_stride bytes apart
//   scales  scale_bytes() of each row, scale_stride bytes apart; null: not wanted
void make_synthetic_rows(
    const TableGeometry& geometry,
    int64_t first,
    int64_t count,
    uint8_t* values,
    int64_t value_stride,
    uint8_t* scales,
    int64_t scale_stride);

}  // namespace engram::memory
