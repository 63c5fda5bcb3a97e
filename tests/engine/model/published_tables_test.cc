// The tables of every published layout are found, checked and read row by row.
#include "engine/model/published_tables.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/hash_constants.h"
#include "memory/base/sha256.h"
#include "tests/support/bytes.h"
#include "tests/support/checkpoints.h"
#include "tests/support/edited_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::RowCodec;
using nlohmann::json;

// Ranges that begin and end anywhere give what the whole gives.
std::string read_all(const PublishedTables& published, const PublishedTable& table, bool scales) {
  const memory::TableGeometry& g = table.geometry;
  const int64_t row_bytes = scales ? g.scale_bytes() : g.value_bytes();
  const auto read = scales ? read_scales : read_values;
  std::string whole(static_cast<size_t>(g.rows * row_bytes), '\0');
  REQUIRE(read(published, table, 0, g.rows, whole.data()).ok());
  for (const int64_t step : {int64_t{1}, int64_t{7}, g.rows / 3 + 1}) {
    std::string parts(whole.size(), '\0');
    for (int64_t row = 0; row < g.rows; row += step) {
      const int64_t end = std::min(g.rows, row + step);
      REQUIRE(read(published, table, row, end, parts.data() + row * row_bytes).ok());
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

TEST_CASE("tables of an EngramForCausalLM checkpoint are found", "[published_tables]") {
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
    const auto opened = open_published_tables(tests::checkpoint_directory(c.name));
    REQUIRE(opened.status().message() == "");
    const PublishedTables& published = opened.value();
    CHECK(published.layout == "EngramForCausalLM");
    CHECK_FALSE(published.token_map.canonical.empty());
    CHECK_FALSE(published.tables.empty());
    for (const PublishedTable& table : published.tables) {
      CHECK(table.geometry.codec == c.codec);
      CHECK(table.geometry.fill_id == published.token_map.pad);
      const std::string name = engram_prefix(table.geometry.layer) + "embedding.";
      CHECK(read_all(published, table, false) == tensor_bytes(published.files, name + "weight"));
      if (c.codec != RowCodec::kF8Ue8m0) {
        CHECK(table.scales.empty());
        continue;
      }
      CHECK(read_all(published, table, true) == tensor_bytes(published.files, name + "scale"));
    }
  }
}

std::string hex_sha256(const std::string& bytes) {
  std::string text;
  for (const uint8_t byte : memory::sha256(bytes.data(), static_cast<int64_t>(bytes.size()))) {
    const char* digits = "0123456789abcdef";
    text += {digits[byte >> 4], digits[byte & 15]};
  }
  return text;
}

// What make_table_checkpoints.py says of a table.
void check_table(const PublishedTables& published, const PublishedTable& table, const json& all) {
  const memory::TableGeometry& g = table.geometry;
  const auto expected = std::find_if(
      all["tables"].begin(), all["tables"].end(),
      [&](const json& t) { return t["layer"] == g.layer; });
  REQUIRE(expected != all["tables"].end());
  const json& t = *expected;
  CHECK(g.rows == t["rows"]);
  CHECK(g.row_width == t["row_width"]);
  CHECK(std::string(row_codec_name(g.codec)) == t["codec"]);
  CHECK(json(g.moduli) == t["moduli"]);
  CHECK(json(g.multipliers) == t["multipliers"]);
  CHECK(g.tensor_scale == t.value("tensor_scale", 1.f));
  CHECK(hex_sha256(read_all(published, table, false)) == t["values_sha256"]);
  if (t["scales_sha256"].is_null()) {
    CHECK(table.scales.empty());
  } else {
    CHECK(hex_sha256(read_all(published, table, true)) == t["scales_sha256"]);
  }
  const std::vector<int32_t> raw = all["ids"];
  std::vector<int32_t> ids;
  for (const int32_t id : raw) ids.push_back(published.token_map.of(id));
  CHECK(json(ids) == all["hashed_ids"]);
  const size_t columns = g.moduli.size();
  std::vector<int64_t> rows(ids.size() * columns);
  hash_rows(g, ids, 0, static_cast<int64_t>(ids.size()), rows.data());
  for (size_t i = 0; i < ids.size(); ++i) {
    CAPTURE(i);
    const auto begin = rows.begin() + static_cast<int64_t>(i * columns);
    CHECK(
        json(std::vector<int64_t>(begin, begin + static_cast<int64_t>(columns))) ==
        t["row_ids"][i]);
  }
}

TEST_CASE("tables of the published layouts are found, with their hashes", "[published_tables]") {
  for (const char* name :
       {"layout-engram-moe", "layout-v41", "layout-v41-flat", "layout-qwen", "layout-qwen-fp8",
        "layout-longcat", "layout-longcat-f32", "layout-peft", "layout-peft-raw"}) {
    CAPTURE(name);
    const std::string directory = tests::checkpoint_directory(name);
    const json expected = json::parse(tests::file_bytes(directory + "/expected.json"));
    const auto opened = open_published_tables(directory);
    REQUIRE(opened.status().message() == "");
    const PublishedTables& published = opened.value();
    CHECK(published.layout == expected["layout"]);
    REQUIRE(published.tables.size() == expected["tables"].size());
    for (size_t i = 0; i < published.tables.size(); ++i) {
      CHECK(
          (i == 0 || published.tables[i - 1].geometry.layer < published.tables[i].geometry.layer));
      check_table(published, published.tables[i], expected);
    }
  }
}

TEST_CASE("a dead token of DeepSeek-V4.1 reads as pads", "[published_tables]") {
  const auto opened = open_published_tables(tests::checkpoint_directory("layout-v41"));
  REQUIRE(opened.ok());
  const memory::TableGeometry& g = opened.value().tables[0].geometry;
  CHECK(g.boundary == memory::Boundary::kDeadLatch);
  const size_t columns = g.moduli.size();
  std::vector<int64_t> dead(columns);
  std::vector<int64_t> start(columns);
  hash_rows(g, std::vector<int32_t>{5, 6, -1}, 2, 3, dead.data());
  hash_rows(g, std::vector<int32_t>{opened.value().token_map.pad}, 0, 1, start.data());
  CHECK(dead == start);
}

TEST_CASE("an adapter without its tokenizer says what is needed", "[published_tables]") {
  const tests::TempDirectory directory;
  const std::string source = tests::checkpoint_directory("layout-peft");
  std::filesystem::copy(source + "/config.json", directory.file("config.json"));
  const auto opened = open_published_tables(directory.path());
  CHECK(opened.status().code() == memory::Code::kNotFound);
  CHECK_THAT(opened.status().message(), Catch::Contains("copy it from the base model"));
}

TEST_CASE("directories of no known layout are refused", "[published_tables]") {
  const tests::TempDirectory directory;
  CHECK(open_published_tables(directory.path()).status().code() == memory::Code::kNotFound);
  directory.write("config.json", "[]");
  CHECK_THAT(
      open_published_tables(directory.path()).status().message(),
      Catch::Contains("expected an object"));
  directory.write("config.json", "{\"architectures\": [\"LlamaForCausalLM\"]}");
  CHECK_THAT(
      open_published_tables(directory.path()).status().message(),
      Catch::Contains("no layout known here (engram-peft, Qwen4-Exp, LongCat-Flash"));
}

TEST_CASE("a shard that is not there is named", "[published_tables]") {
  const tests::TempDirectory directory;
  const std::string copy = directory.file("copy");
  std::filesystem::copy(tests::checkpoint_directory("layout-qwen"), copy);
  std::filesystem::remove(copy + "/model-00002-of-00003.safetensors");
  const auto opened = open_published_tables(copy);
  CHECK(opened.status().code() == memory::Code::kNotFound);
  CHECK_THAT(opened.status().message(), Catch::Contains("model-00002-of-00003.safetensors"));
}

TEST_CASE("a file that becomes shorter is data loss", "[published_tables]") {
  const tests::TempDirectory directory;
  const std::string copy = directory.file("copy");
  std::filesystem::copy(tests::checkpoint_directory("layout-longcat"), copy);
  const auto opened = open_published_tables(copy);
  REQUIRE(opened.ok());
  std::filesystem::resize_file(copy + "/model.safetensors", 3000);
  const PublishedTable& table = opened.value().tables[0];
  std::string bytes(static_cast<size_t>(table.geometry.rows * table.geometry.value_bytes()), '\0');
  const memory::Status status =
      read_values(opened.value(), table, 0, table.geometry.rows, bytes.data());
  CHECK(status.code() == memory::Code::kDataLoss);
  CHECK_THAT(status.message(), Catch::Contains("model.safetensors"));
}

}  // namespace
}  // namespace engram::engine
