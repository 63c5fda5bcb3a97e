// The working set of one attention tile, sized for the first two cache levels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/ops/ops.h"

namespace engram::engine::cpu {

constexpr int64_t kKeys = 32;   // keys of a block: part of the definition of the result
constexpr int64_t kGroup = 16;  // keys whose elements lie side by side
constexpr int64_t kTileFloats = 8192;
constexpr int64_t kMaxTileRows = 128;

// Width of a row of f32 values in a tile: whole vectors of any target.
constexpr int64_t padded_width(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

// Query rows of a tile.
constexpr int64_t tile_rows(int64_t head_dim) {
  return std::min(kMaxTileRows, kTileFloats / padded_width(head_dim));
}

// Query rows of one kv head and one sequence, numbered (token - first token) * heads + head.
struct TileRows {
  int64_t sequence = 0;
  int64_t token = 0;  // of row 0, in the step
  int64_t kv_head = 0;
  int64_t heads = 0;  // query heads of a kv head
  int64_t begin = 0;
  int64_t end = 0;
};

// Lives on the stack of the thread that works on it; about 220 KB, of which small heads touch
// little.
struct AttentionTile {
  int64_t width;                                  // Dh
  int64_t padded;                                 // padded_width(Dh)
  alignas(64) float keys[kKeys * kMaxHeadDim];    // [kKeys / kGroup][Dh][kGroup]
  alignas(64) float values[kKeys * kMaxHeadDim];  // [kKeys][padded]
  alignas(64) float q[kTileFloats];               // [rows][Dh], scaled
  alignas(64) float out[kTileFloats];             // [rows][padded], not yet divided by sum
  alignas(64) float weights[kMaxTileRows * kKeys];
  alignas(64) float top[kMaxTileRows];  // largest score so far
  alignas(64) float sum[kMaxTileRows];  // of the weights
  alignas(64) float shrink[kMaxTileRows];
};

}  // namespace engram::engine::cpu
