// The tables of every published layout are found, checked and read row by row.
#include "engine/model/table_source.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "engine/model/hash_constants.h"
#include "tests/support/checkpoints.h"

namespace engram::engine {
namespace {

using memory::RowCodec;

// Ranges that begin and end anywhere give what the whole gives.
std::string read_all(const TableSources& sources, const TableSource& table, bool scales) {
  const memory::TableGeometry& g = table.geometry;
  const int64_t row_bytes = scales ? g.scale_bytes() : g.value_bytes();
  const auto read = scales ? read_scales : read_values;
  std::string whole(static_cast<size_t>(g.rows * row_bytes), '\0');
  REQUIRE(read(sources, table, 0, g.rows, whole.data()).ok());
  for (const int64_t step : {int64_t{1}, int64_t{7}, g.rows / 3 + 1}) {
    std::string parts(whole.size(), '\0');
    for (int64_t row = 0; row < g.rows; row += step) {
      const int64_t end = std::min(g.rows, row + step);
      REQUIRE(read(sources, table, row, end, parts.data() + row * row_bytes).ok());
    }
    CHECK(parts == whole);
  }
  return whole;
}

std::string tensor_bytes(const memory::TensorFiles& files, const std::string& name) {
  const memory::TensorInfo* tensor = files.find(name);
  REQUIRE(tensor != nullptr);
  std::string bytes(static_cast<size_t>(tensor->bytes), '\0');
  REQUIRE(files.read(*tensor, 0, tensor->bytes, bytes.data()).ok());
  return bytes;
}

TEST_CASE("tables of an EngramForCausalLM checkpoint are found", "[table_source]") {
  struct Case {
    const char* name;
    RowCodec codec;
  };
  const Case cases[] = {
      {"tiny-engram", RowCodec::kBf16},       {"tiny-engram-f16", RowCodec::kF16},
      {"tiny-engram-f32", RowCodec::kF32},    {"tiny-engram-fp8", RowCodec::kF8Ue8m0},
      {"tiny-qwen3-engram", RowCodec::kBf16},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto opened = open_table_sources(tests::checkpoint_directory(c.name));
    REQUIRE(opened.status().message() == "");
    const TableSources& sources = opened.value();
    CHECK(sources.layout == "EngramForCausalLM");
    CHECK_FALSE(sources.token_map.canonical.empty());
    CHECK_FALSE(sources.tables.empty());
    for (const TableSource& table : sources.tables) {
      CHECK(table.geometry.codec == c.codec);
      CHECK(table.geometry.fill_id == sources.token_map.pad);
      const std::string name = engram_prefix(table.geometry.layer) + "embedding.";
      CHECK(read_all(sources, table, false) == tensor_bytes(sources.files, name + "weight"));
      if (c.codec != RowCodec::kF8Ue8m0) {
        CHECK(table.scales.empty());
        continue;
      }
      CHECK(read_all(sources, table, true) == tensor_bytes(sources.files, name + "scale"));
    }
  }
}

}  // namespace
}  // namespace engram::engine
