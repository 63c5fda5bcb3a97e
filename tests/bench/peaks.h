// The machine's own limits, as loops that do nothing else. Highway, best target.
#pragma once

#include <cstdint>

namespace engram::bench {

// Reads [0, bytes) forward; some function of all of it. `ahead`: distance of the software prefetch
// in bytes, 0: none. REQUIRES: bytes is a multiple of 1024.
uint64_t read_all(const void* data, int64_t bytes, int64_t ahead);

// `count` times 24 independent multiply-adds on whole vectors.
float multiply_add(int64_t count);
// Floating-point operations of one count.
int64_t multiply_add_flops();

// to[i] = row ids[i], rows of row_bytes, the row `ahead` places further prefetched: the gather one
// would write by hand. `to` is a ring of ring_rows rows.
void copy_rows(
    const uint8_t* table,
    int64_t row_bytes,
    const int64_t* ids,
    int64_t count,
    int64_t ahead,
    uint8_t* to,
    int64_t ring_rows);

}  // namespace engram::bench
