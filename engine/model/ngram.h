// From token ids to table rows, for every family of hashed n-gram tables. Pure functions, no
// device; the serving path calls them once per new token and layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/table/geometry.h"

namespace engram::engine {

// Raw ids to the ids that are hashed. An empty map that passes ids through is the identity.
struct TokenMap {
  std::vector<int32_t> canonical;  // [len(tokenizer)]; below zero: a dead token (kDeadLatch)
  int32_t pad = 0;                 // canonical id of the pad
  bool pass_through = false;       // ids past the map's end stay as they are; else they are the pad

  int32_t of(int32_t raw) const {
    if (static_cast<size_t>(raw) < canonical.size()) return canonical[static_cast<size_t>(raw)];
    return pass_through ? raw : pad;
  }
};

// rows[t * H + c] of the positions [begin, end) of a sequence, offsets included. Positions before
// 0 and behind a boundary read as geometry.fill_id. Products and sums wrap in 64 bits and the
// remainder is never negative, as with NumPy's int64.
//   geometry  one that check_geometry() accepts
//   ids       what the token map gave for the whole sequence from position 0, at least `end` of
//             them; only those from begin - max_order + 1 on are read
//   rows      [(end - begin) * H]
void hash_rows(
    const memory::TableGeometry& geometry,
    std::span<const int32_t> ids,
    int64_t begin,
    int64_t end,
    int64_t* rows);

}  // namespace engram::engine
