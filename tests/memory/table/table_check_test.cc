#include "memory/table/table_check.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "tests/support/bytes.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

TEST_CASE("a check reads everything and names every corrupt extent", "[table_check]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 5000, 4);
  const std::string path = directory.file("t");
  const auto file = tests::write_synthetic_table(path, g, RowLayout::kSplit, 8192);
  const TableHeader& h = file->header();
  for (const int threads : {1, 3}) {
    TableCheckOptions options;
    options.threads = threads;
    int64_t bytes = 0;
    options.on_progress = [&](int64_t done) { bytes = done; };
    const auto corrupt = check_table(*file, options);
    REQUIRE(corrupt.ok());
    CHECK(corrupt.value().empty());
    CHECK(bytes == h.data_bytes);
  }
  for (const int64_t extent : {2, 17, 40})
    tests::flip_bit(path, h.data_offset + h.extent_at(extent) + 777);
  const auto corrupt = check_table(*file, {});
  REQUIRE(corrupt.ok());
  REQUIRE(corrupt.value().size() == 3);
  CHECK_THAT(corrupt.value()[0].message(), Catch::StartsWith(path + ": extent 2 (bytes 20480 "));
  CHECK_THAT(corrupt.value()[1].message(), Catch::StartsWith(path + ": extent 17 "));
  CHECK_THAT(corrupt.value()[2].message(), Catch::StartsWith(path + ": extent 40 "));

  std::atomic<bool> stop{true};
  TableCheckOptions stopped;
  stopped.stop = &stop;
  CHECK(check_table(*file, stopped).status().code() == Code::kCancelled);
}

TEST_CASE("a file cut while it is checked gives errors for what is gone", "[table_check]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 5000, 4);
  const std::string path = directory.file("t");
  const auto file = tests::write_synthetic_table(path, g, RowLayout::kSplit, 8192);
  REQUIRE(::truncate(path.c_str(), 4096 + 8192 * 10) == 0);
  const auto corrupt = check_table(*file, {});
  REQUIRE(corrupt.ok());
  REQUIRE(static_cast<int64_t>(corrupt.value().size()) == file->extents() - 10);
  CHECK(corrupt.value()[0].code() == Code::kDataLoss);
  CHECK_THAT(corrupt.value()[0].message(), Catch::Contains("reading at byte 86016"));
}

}  // namespace
}  // namespace engram::memory
