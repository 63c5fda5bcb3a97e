// Rows that are found somewhere against those that every made-up table has.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "memory/table/geometry.h"
#include "memory/table/row_place.h"
#include "memory/table/synthetic_rows.h"

namespace engram::tests {

class SyntheticRow {
 public:
  SyntheticRow(const memory::TableGeometry& g, int64_t row)
      : values_(static_cast<size_t>(g.value_bytes())),
        scales_(static_cast<size_t>(g.scale_bytes())) {
    memory::make_synthetic_rows(
        g, row, 1, values_.data(), g.value_bytes(), scales_.empty() ? nullptr : scales_.data(),
        g.scale_bytes());
  }
  // `scales` may be null where the codec has none.
  bool equals(const uint8_t* values, const uint8_t* scales) const {
    return std::memcmp(values, values_.data(), values_.size()) == 0 &&
           (scales_.empty() || std::memcmp(scales, scales_.data(), scales_.size()) == 0);
  }

 private:
  std::vector<uint8_t> values_;
  std::vector<uint8_t> scales_;
};

// Whether `count` random rows of a table in memory are right.
inline bool rows_right(
    const memory::TableGeometry& g, const memory::RowPlace& place, uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < count; ++i) {
    const int64_t row = static_cast<int64_t>(random() % static_cast<uint64_t>(g.rows));
    const uint8_t* scales =
        place.scales == nullptr ? nullptr : place.scales + row * place.scale_stride;
    if (!SyntheticRow(g, row).equals(place.values + row * place.value_stride, scales)) return false;
  }
  return true;
}

}  // namespace engram::tests
