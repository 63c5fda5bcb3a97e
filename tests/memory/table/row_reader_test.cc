#include "memory/table/row_reader.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tests/support/faulty_reads.h"
#include "tests/support/synthetic_row.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

bool right(const TableGeometry& g, const FileRow& row) {
  return row.values != nullptr && tests::SyntheticRow(g, row.row).equals(row.values, row.scales);
}

TEST_CASE("rows of every codec and layout are read where they lie", "[row_reader]") {
  const tests::TempDirectory directory;
  for (const RowCodec codec :
       {RowCodec::kBf16, RowCodec::kF32, RowCodec::kF8Ue8m0, RowCodec::kInt4}) {
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      for (const int64_t width : {64, 320, 4096}) {
        CAPTURE(row_codec_name(codec), row_layout_name(layout), width);
        const TableGeometry g = tests::small_geometry(codec, width, 509, 4);
        const std::string path = directory.file(std::to_string(width));
        std::filesystem::remove(path);
        const auto file = tests::write_synthetic_table(path, g, layout, 8192);
        auto reader = RowReader::make(file, make_read_queue(IoBackend::kAuto, 8).value());
        REQUIRE(reader.ok());
        std::mt19937_64 random(width);
        for (const size_t count : {0, 1, 7, 300}) {
          std::vector<FileRow> rows(count);
          for (FileRow& row : rows) row.row = static_cast<int64_t>(random() % 509);
          if (count > 2) rows[1].row = 508;
          if (count > 2) rows[2].row = 0;
          REQUIRE(reader.value()->read(rows).ok());
          for (const FileRow& row : rows) REQUIRE(right(g, row));
        }
      }
    }
  }
}

TEST_CASE("a block is read once however many rows want it", "[row_reader]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 4096, 4);  // 32 rows a block
  const auto file = tests::write_synthetic_table(directory.file("t"), g, RowLayout::kSplit, 65536);
  auto reader = RowReader::make(file, make_read_queue(IoBackend::kAuto, 8).value());
  REQUIRE(reader.ok());
  std::vector<FileRow> rows;
  for (int64_t i = 0; i < 320; ++i) rows.push_back({.row = 639 - i / 2 - (i % 2) * 160});
  REQUIRE(reader.value()->read(rows).ok());
  CHECK(reader.value()->stats().bytes == 10 * 4096);  // rows 320 to 639, next to each other
  CHECK(reader.value()->stats().reads == 2);          // of 32 KiB at most
  rows = {{.row = 0}, {.row = 4095}, {.row = 0}, {.row = 31}};
  REQUIRE(reader.value()->read(rows).ok());
  CHECK(reader.value()->stats().bytes == 12 * 4096);
  CHECK(reader.value()->stats().reads == 4);
}

TEST_CASE("rows whose blocks cannot be read are missing, the others are right", "[row_reader]") {
  const tests::TempDirectory directory;
  for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
    const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, 5000, 4);
    const auto file =
        tests::write_synthetic_table(directory.file(row_layout_name(layout)), g, layout, 65536);
    int missing = 0;
    int there = 0;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      CAPTURE(row_layout_name(layout), seed);
      const tests::Faults faults{.seed = seed, .ends = 0.15, .error = 0.15};
      auto reader = RowReader::make(file, tests::faulty_queue({.depth = 8}, faults));
      REQUIRE(reader.ok());
      std::mt19937_64 random(seed);
      std::vector<FileRow> rows(64);
      for (FileRow& row : rows) row.row = static_cast<int64_t>(random() % 5000);
      const Status status = reader.value()->read(rows);
      int lost = 0;
      for (const FileRow& row : rows) {
        if (row.values == nullptr) {
          ++lost;
        } else {
          ++there;
          REQUIRE(right(g, row));
        }
      }
      CHECK((lost > 0) == !status.ok());
      missing += lost;
    }
    CHECK(missing > 20);
    CHECK(there > 1000);
  }
}

}  // namespace
}  // namespace engram::memory
