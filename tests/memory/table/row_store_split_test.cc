// A table in several stores against the same table in one, bit by bit, wherever the cuts are.
#include "memory/table/row_store_split.h"

#include <catch2/catch.hpp>

#include "tests/support/faulty_store.h"
#include "tests/support/gather_compare.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int kColumns = 6;

// Rows [first, end) of the oracle's table, in place.
std::unique_ptr<RowStore> host_part(
    const HostRowStore& oracle, int64_t first, int64_t end, const std::string& version) {
  const TableGeometry& g = oracle.geometry();
  RowPlace place = oracle.place();
  place.values += first * place.value_stride;
  if (place.scales != nullptr) place.scales += first * place.scale_stride;
  Result<std::unique_ptr<HostRowStore>> store = make_host_row_store(
      part_geometry(g, first, end), {.place = place,
                                     .bytes = (end - first) * place.value_stride,
                                     .owner = nullptr,
                                     .where = "host",
                                     .version = version});
  REQUIRE(store.ok());
  return std::move(store).value();
}

std::unique_ptr<RowStore> nvme_part(
    const TableFile& file, int64_t first, int64_t end, const tests::Faults& faults) {
  return tests::open_faulty(
      file, part_geometry(file.header().geometry, first, end), first,
      {.depth = 32, .cache_bytes = 100000, .staging_bytes = 200000}, faults);
}

std::unique_ptr<RowStore> join(
    const TableGeometry& geometry, std::vector<RowPart> parts, int64_t max_rows) {
  Result<std::unique_ptr<RowStore>> store =
      make_split_row_store(geometry, std::move(parts), max_rows);
  REQUIRE(store.ok());
  return std::move(store).value();
}

TEST_CASE("wherever a table is cut, its rows are the same", "[row_store_split]") {
  constexpr uint64_t kSeed = 111;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  int64_t rows = 0;
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      const TableGeometry g = tests::small_geometry(codec, 64, 10000, kColumns);
      const auto file = tests::write_synthetic_table(
          directory.file(row_codec_name(codec) + std::string(row_layout_name(layout))), g, layout,
          1 << 20);
      const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
      // One row, one row less, a column's boundary, and within columns.
      for (const std::vector<int64_t>& cuts : std::vector<std::vector<int64_t>>{
               {1}, {g.rows - 1}, {g.offsets[2]}, {1234, 7000}, {g.offsets[1], g.offsets[4] + 5}}) {
        std::vector<RowPart> parts;
        for (size_t i = 0; i <= cuts.size(); ++i) {
          const int64_t first = i == 0 ? 0 : cuts[i - 1];
          const int64_t end = i == cuts.size() ? g.rows : cuts[i];
          parts.push_back(
              {first, i % 2 == 0 ? nvme_part(*file, first, end, {})
                                 : host_part(*oracle, first, end, file->header().id)});
        }
        const std::unique_ptr<RowStore> store =
            join(g, std::move(parts), random() % 2 == 0 ? 1000 : 65536);
        CAPTURE(row_codec_name(codec), row_layout_name(layout), store->placement());
        for (const int64_t tokens : {0, 1, 5, 64, 700}) {
          const tests::GatherCall call = tests::random_call(g, tokens, 0.3, random);
          const DType dtype = random() % 2 == 0 ? DType::kF32 : DType::kBf16;
          const tests::GatherResult result = tests::run_gather(*store, call, dtype);
          REQUIRE(result.status.ok());
          CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, dtype)) == 0);
          rows += tokens * g.columns();
        }
        CHECK(store->stats().rows_read == 770 * g.columns());
        CHECK(store->version() == file->header().id);
        CHECK_THAT(store->placement(), Catch::Contains("rows from 0: nvme"));
        CHECK_THAT(store->placement(), Catch::Contains("host"));
      }
    }
  }
  CHECK(rows > 300000);
}

TEST_CASE("staging rows may be wider than the vector", "[row_store_split]") {
  constexpr uint64_t kSeed = 112;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 900, kColumns);
  const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
  std::vector<RowPart> parts;
  parts.push_back({0, host_part(*oracle, 0, 400, "v")});
  parts.push_back({400, host_part(*oracle, 400, g.rows, "v")});
  const std::unique_ptr<RowStore> store = join(g, std::move(parts), 100);
  const tests::GatherCall call = tests::random_call(g, 40, 0., random);
  std::vector<std::vector<float>> outs;
  std::vector<int32_t> failed;
  const int64_t stride = g.vector_width() + 3 * 64;
  for (RowStore* s : {static_cast<RowStore*>(oracle.get()), store.get()}) {
    outs.emplace_back(static_cast<size_t>(call.out_rows * stride), -7.f);
    const View out{outs.back().data(), call.out_rows, g.vector_width(), stride, DType::kF32};
    REQUIRE(s->gather(call.ids.data(), call.slots.data(), call.tokens(), out, &failed).ok());
  }
  CHECK(outs[0] == outs[1]);
}

TEST_CASE("a token fails once, whatever part and rows it misses", "[row_store_split]") {
  constexpr uint64_t kSeed = 113;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 9000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kInterleaved, 1 << 20);
  const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
  const TableHeader& h = file->header();
  // All of the first part fails, and a stretch of the third.
  const int64_t bad_from = h.data_offset + 130 * 4096;
  const int64_t bad_to = bad_from + 4096;
  std::vector<RowPart> parts;
  parts.push_back({0, nvme_part(*file, 0, 500, {.seed = kSeed, .error = 1.})});
  parts.push_back({500, host_part(*oracle, 500, 6000, h.id)});
  parts.push_back(
      {6000,
       nvme_part(
           *file, 6000, g.rows, {.seed = kSeed, .ends = 1., .from = bad_from, .to = bad_to})});
  const std::unique_ptr<RowStore> store = join(g, std::move(parts), 600);
  const auto is_bad = [&](int64_t row) {
    if (row < 500) return true;
    const int64_t begin = h.data_offset + h.values_at + row * h.value_stride;
    const int64_t end = begin + g.value_bytes() + g.scale_bytes();
    return row >= 6000 && begin < bad_to && end > bad_from;
  };
  int64_t failed = 0;
  for (int round = 0; round < 10; ++round) {
    const tests::GatherCall call = tests::random_call(g, 300, 0.01, random);
    const tests::GatherResult result = tests::run_gather(*store, call, DType::kBf16);
    std::vector<int32_t> expected;
    for (int32_t t = 0; t < 300; ++t) {
      const auto first = call.ids.begin() + t * kColumns;
      if (std::any_of(first, first + kColumns, is_bad)) expected.push_back(t);
    }
    CHECK(result.failed == expected);
    CHECK(result.status.code() == Code::kDataLoss);
    CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, DType::kBf16)) == 0);
    failed += static_cast<int64_t>(expected.size());
  }
  CHECK(failed > 100);
  CHECK(failed < 2500);
}

TEST_CASE("parts of different tables are refused", "[row_store_split]") {
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 900, kColumns);
  const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
  std::vector<RowPart> parts;
  parts.push_back({0, host_part(*oracle, 0, 400, "0123456789abcdef")});
  parts.push_back({400, host_part(*oracle, 400, g.rows, "fedcba9876543210")});
  const Status status = make_split_row_store(g, std::move(parts), 100).status();
  CHECK(status.code() == Code::kFailedPrecondition);
  CHECK_THAT(status.message(), Catch::Contains("rows from 400 on"));
  CHECK_THAT(status.message(), Catch::Contains("fedcba9876543210"));
}

}  // namespace
}  // namespace engram::memory
