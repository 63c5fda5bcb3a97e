// A live lookup done again from the token ids, by other means than the ones it came by: the hash
// straight from its definition, one row read from the source, decoded value by value. Pure
// functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/ngram.h"
#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/table/geometry.h"
#include "memory/table/table_source.h"

namespace engram::engine {

// One row of one token, as the engine fetched it.
struct RowSample {
  size_t table = 0;  // index of the Engram layer
  int column = 0;
  int64_t row = 0;              // the id that was looked up
  std::vector<int32_t> window;  // the token and those before it, as many as an n-gram can see
  uint64_t request = 0;
  memory::DType act = memory::DType::kF32;
  std::vector<uint8_t> staged;  // [r] act: what the model was given
};

// The row of column `column` of the last token of the window, by the definition in geometry.h.
int64_t row_by_definition(
    const memory::TableGeometry& geometry, std::span<const int32_t> ids, int column);

// values [value_bytes], scales [scale_bytes] -> [r].
std::vector<float> decode_by_definition(
    const memory::TableGeometry& geometry, const uint8_t* values, const uint8_t* scales);

enum class RowVerdict {
  kRight,
  kWrong,      // status says what differs, and where the row is
  kUnchecked,  // the source could not be read; status says why
};
struct RowCheck {
  RowVerdict verdict = RowVerdict::kRight;
  memory::Status status;
};
RowCheck check_row(
    const RowSample& sample, const memory::TableSource& source, const TokenMap& token_map);

}  // namespace engram::engine
