#include "memory/table/table_file.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <random>

#include "tests/support/bytes.h"
#include "tests/support/synthetic_row.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

TEST_CASE("tables of every codec and layout read back row by row", "[table_file]") {
  const tests::TempDirectory directory;
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      CAPTURE(row_codec_name(codec), row_layout_name(layout));
      const TableGeometry g = tests::small_geometry(codec, 64, 1003, 6);
      const std::string path = directory.file(std::string(row_codec_name(codec)) + ".t");
      const auto file = tests::write_synthetic_table(path, g, layout, 8192);
      CHECK(file->header().layout == layout);
      CHECK(file->header().id.size() == 16);
      std::vector<uint8_t> values(static_cast<size_t>(g.value_bytes()));
      std::vector<uint8_t> scales(static_cast<size_t>(g.scale_bytes()));
      for (int64_t row = 0; row < g.rows; ++row) {
        REQUIRE(file->read_row(row, values.data(), scales.data()).ok());
        REQUIRE(tests::SyntheticRow(g, row).equals(values.data(), scales.data()));
      }
      for (const int64_t row : {int64_t{-1}, g.rows, INT64_MAX}) {
        CHECK(file->read_row(row, values.data(), scales.data()).code() == Code::kInvalidArgument);
      }
      // The data section is the memory image, padding and all.
      const std::vector<uint8_t> image = tests::synthetic_image(file->header());
      std::vector<uint8_t> data(image.size());
      REQUIRE(file->read_data(0, file->header().data_bytes, data.data()).ok());
      CHECK(data == image);
      const RowPlace place = row_place(file->header(), image.data());
      CHECK(
          std::memcmp(
              place.values + (g.rows - 1) * place.value_stride, values.data(), values.size()) == 0);
      for (int64_t i = 0; i < file->extents(); ++i) {
        CHECK(file->check_extent(i, data.data() + file->header().extent_at(i)).ok());
      }
      ::unlink(path.c_str());
    }
  }
}

TEST_CASE("the id follows rows, geometry and layout", "[table_file]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kInt8, 32, 500, 4);
  TableGeometry other_layer = g;
  other_layer.layer = 2;  // other rows too
  TableGeometry other_fill = g;
  other_fill.fill_id = 7;  // the same rows
  const auto id = [&](const std::string& name, const TableGeometry& geometry, RowLayout layout) {
    return tests::write_synthetic_table(directory.file(name), geometry, layout, 4096)->header().id;
  };
  const std::string first = id("a", g, RowLayout::kSplit);
  CHECK(id("b", g, RowLayout::kSplit) == first);
  CHECK(id("c", g, RowLayout::kInterleaved) != first);
  CHECK(id("d", other_layer, RowLayout::kSplit) != first);
  CHECK(id("e", other_fill, RowLayout::kSplit) != first);
}

TEST_CASE("a truncated or extended table file is refused", "[table_file]") {
  const uint64_t seed = 7;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 700, 4);
  const auto good =
      tests::write_synthetic_table(directory.file("good"), g, RowLayout::kSplit, 4096);
  const std::string bytes = tests::file_bytes(directory.file("good"));
  REQUIRE(static_cast<int64_t>(bytes.size()) == good->header().file_bytes());
  std::vector<size_t> lengths = {0, 1, 7, 8, 4095, 4096, 4097, bytes.size() - 1};
  for (int i = 0; i < 200; ++i) lengths.push_back(random() % bytes.size());
  for (const size_t length : lengths) {
    CAPTURE(length);
    directory.write("t", bytes.substr(0, length));
    const Status status = TableFile::open(directory.file("t")).status();
    CHECK(status.code() == Code::kDataLoss);
    CHECK_THAT(status.message(), Catch::StartsWith(directory.file("t") + ": expected "));
  }
  directory.write("t", bytes + "x");
  CHECK(TableFile::open(directory.file("t")).status().code() == Code::kDataLoss);
  CHECK(TableFile::open(directory.file("none")).status().code() == Code::kNotFound);

  // Cut while it is open: an error, never a signal.
  directory.write("t", bytes);
  const auto open = TableFile::open(directory.file("t"));
  REQUIRE(open.ok());
  REQUIRE(::truncate(directory.file("t").c_str(), 5000) == 0);
  std::vector<uint8_t> values(64);
  std::vector<uint8_t> scales(2);
  CHECK(open.value()->read_row(600, values.data(), scales.data()).code() == Code::kDataLoss);
}

TEST_CASE("every flipped bit is found, and where it is", "[table_file]") {
  const uint64_t seed = 8;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 700, 4);
  const auto good =
      tests::write_synthetic_table(directory.file("good"), g, RowLayout::kInterleaved, 8192);
  const TableHeader& h = good->header();
  const std::string bytes = tests::file_bytes(directory.file("good"));
  for (int i = 0; i < 1000; ++i) {
    const size_t at = random() % bytes.size();
    const int bit = static_cast<int>(random() % 8);
    CAPTURE(at, bit);
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
    directory.write("t", bad);
    const auto file = TableFile::open(directory.file("t"));
    const int64_t in_data = static_cast<int64_t>(at) - h.data_offset;
    if (in_data < 0 || in_data >= h.data_bytes) {
      REQUIRE(!file.ok());
      CHECK_THAT(file.status().message(), Catch::StartsWith(directory.file("t") + ": "));
      continue;
    }
    REQUIRE(file.ok());
    const int64_t hit = in_data / h.extent_bytes;
    for (int64_t e = 0; e < h.extents(); ++e) {
      const Status status =
          file.value()->check_extent(e, bad.data() + h.data_offset + h.extent_at(e));
      REQUIRE(status.ok() == (e != hit));
      if (e != hit) continue;
      CHECK(status.code() == Code::kDataLoss);
      CHECK_THAT(
          status.message(),
          Catch::StartsWith(
              directory.file("t") + ": extent " + std::to_string(hit) + " (bytes " +
              std::to_string(h.data_offset + h.extent_at(hit)) + " to "));
    }
  }
}

TEST_CASE("an unfinished file is not opened, whatever it holds", "[table_file]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 8, 100, 2);
  tests::write_synthetic_table(directory.file("a"), g, RowLayout::kSplit, 4096);
  const std::string unfinished = directory.file("b") + kUnfinishedSuffix;
  REQUIRE(::rename(directory.file("a").c_str(), unfinished.c_str()) == 0);
  CHECK(TableFile::open(unfinished).status().code() == Code::kFailedPrecondition);
}

}  // namespace
}  // namespace engram::memory
