// Gathers of two stores, compared bit by bit: rows do not change with the place they come from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "memory/table/row_store.h"
#include "memory/table/synthetic_rows.h"
#include "memory/table/table_file.h"

namespace engram::tests {

// The rows of a made-up table in memory, without the file: what every store of it must give.
inline std::unique_ptr<memory::HostRowStore> make_oracle(const memory::TableGeometry& geometry) {
  memory::OwnedTable table = memory::make_owned_table(geometry, "oracle").value();
  memory::make_synthetic_rows(
      geometry, 0, geometry.rows, table.values, geometry.value_bytes(), table.scales,
      geometry.scale_bytes());
  return std::move(table.store);
}

// Row ids and slots of one gather, by seed.
struct GatherCall {
  std::vector<int64_t> ids = {};
  std::vector<int32_t> slots = {};
  int64_t out_rows = 0;

  int64_t tokens() const { return static_cast<int64_t>(slots.size()); }
};

// Tokens with rows of any column. `repeat`: the share of rows that one in a hundred of the table's
// rows gets beside its own.
template <typename Random>
GatherCall random_call(
    const memory::TableGeometry& geometry, int64_t tokens, double repeat, Random& random) {
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  GatherCall call;
  call.out_rows = tokens + 3;
  for (int64_t slot = 0; slot < call.out_rows; ++slot) {
    call.slots.push_back(static_cast<int32_t>(slot));
  }
  std::shuffle(call.slots.begin(), call.slots.end(), random);
  call.slots.resize(static_cast<size_t>(tokens));
  const int64_t few = std::max<int64_t>(1, geometry.rows / 100);
  for (int64_t i = 0; i < tokens * geometry.columns(); ++i) {
    const bool again = static_cast<double>(below(1000)) < 1000. * repeat;
    call.ids.push_back(again ? below(few) : below(geometry.rows));
  }
  return call;
}

struct GatherResult {
  memory::Status status;
  std::vector<int32_t> failed;  // ascending
  std::vector<uint8_t> bytes;   // of `out`, rows nobody asked for included
  int64_t row_bytes = 0;
};

inline GatherResult run_gather(
    memory::RowStore& store, const GatherCall& call, memory::DType dtype) {
  GatherResult result;
  const int64_t width = store.geometry().vector_width();
  result.row_bytes = width * memory::dtype_bytes(dtype);
  result.bytes.assign(static_cast<size_t>(call.out_rows * result.row_bytes), 0xA5);
  result.status = store.gather(
      call.ids.data(), call.slots.data(), call.tokens(),
      memory::make_view(result.bytes.data(), dtype, call.out_rows, width), &result.failed);
  std::sort(result.failed.begin(), result.failed.end());
  return result;
}

// Bytes of `out` that differ, rows of tokens that failed in `a` left out.
inline int64_t differences(
    const GatherCall& call, const GatherResult& a, const GatherResult& expected) {
  std::vector<bool> skip(static_cast<size_t>(call.out_rows));
  for (const int32_t t : a.failed) {
    skip[static_cast<size_t>(call.slots[static_cast<size_t>(t)])] = true;
  }
  int64_t count = 0;
  for (size_t i = 0; i < expected.bytes.size(); ++i) {
    if (skip[i / static_cast<size_t>(a.row_bytes)]) continue;
    if (a.bytes[i] != expected.bytes[i]) ++count;
  }
  return count;
}

}  // namespace engram::tests
