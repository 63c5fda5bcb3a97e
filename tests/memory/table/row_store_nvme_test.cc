// Rows from files against the same rows in memory, bit by bit: every codec, both layouts, with and
// without a cache, with repeats, and on a disk that fails.
#include "memory/table/row_store_nvme.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <thread>

#include "tests/support/faulty_store.h"
#include "tests/support/gather_compare.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int kColumns = 6;
constexpr RowLayout kLayouts[] = {RowLayout::kSplit, RowLayout::kInterleaved};

std::unique_ptr<NvmeRowStore> open_store(const TableFile& file, const NvmeOptions& options) {
  Result<FileRows> rows = open_file_rows(file, 0, file.header().geometry.rows);
  REQUIRE(rows.ok());
  Result<std::unique_ptr<NvmeRowStore>> store =
      make_nvme_row_store(file.header().geometry, std::move(rows).value(), options);
  REQUIRE(store.ok());
  return std::move(store).value();
}

TEST_CASE("a million rows from files are bit by bit those in memory", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 101;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  const NvmeOptions options[] = {
      {},
      {.depth = 3, .staging_bytes = 10000, .largest_read = kBlock},
      {.depth = 32, .cache_bytes = 100000, .staging_bytes = 500000, .read_gap = kBlock},
      {.backend = IoBackend::kThreads, .depth = 16, .cache_bytes = 8 << 20},
  };
  int64_t rows = 0;
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : kLayouts) {
      // A width of 96 leaves strides that are no power of two.
      const int64_t width = layout == RowLayout::kSplit ? 64 : 96;
      const TableGeometry g = tests::small_geometry(codec, width, 20000, kColumns);
      const std::string path = directory.file("table");
      const auto file = tests::write_synthetic_table(path, g, layout, 1 << 20);
      const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
      for (const NvmeOptions& o : options) {
        const std::unique_ptr<NvmeRowStore> store = open_store(*file, o);
        CAPTURE(row_codec_name(codec), row_layout_name(layout), store->placement());
        const int64_t memory = store->memory_bytes();
        for (const int64_t tokens : {0, 1, 1, 2, 63, 700, 2300}) {
          const tests::GatherCall call = tests::random_call(g, tokens, 0.4, random);
          const DType dtype = random() % 2 == 0 ? DType::kF32 : DType::kBf16;
          CAPTURE(tokens, dtype_name(dtype));
          const tests::GatherResult result = tests::run_gather(*store, call, dtype);
          REQUIRE(result.status.ok());
          CHECK(result.failed.empty());
          CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, dtype)) == 0);
          rows += tokens * g.columns();
        }
        CHECK(store->memory_bytes() == memory);
        CHECK(store->stats().rows_read == 3067 * g.columns());
        CHECK(
            store->stats().bytes_read ==
            store->stats().rows_read * (g.value_bytes() + g.scale_bytes()));
        CHECK(store->version() == file->header().id);
      }
      std::filesystem::remove(path);
    }
  }
  CHECK(rows >= 1000000);
}

TEST_CASE("rows that cross blocks, and rows of more than a block", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 102;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  for (const int64_t width : {256, 1000, 1025, 3000, 20000}) {
    for (const RowLayout layout : kLayouts) {
      CAPTURE(width, row_layout_name(layout));
      const TableGeometry g = tests::small_geometry(RowCodec::kF32, width, 200, kColumns);
      const auto file = tests::write_synthetic_table(directory.file("table"), g, layout, 1 << 20);
      const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
      const std::unique_ptr<NvmeRowStore> store =
          open_store(*file, {.depth = 8, .cache_bytes = 1 << 20, .largest_read = kBlock});
      for (int round = 0; round < 5; ++round) {
        const tests::GatherCall call = tests::random_call(g, 20, 0., random);
        const tests::GatherResult result = tests::run_gather(*store, call, DType::kF32);
        REQUIRE(result.status.ok());
        CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, DType::kF32)) == 0);
      }
      std::filesystem::remove(directory.file("table"));
    }
  }
}

TEST_CASE("a store says what it read", "[row_store_nvme]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, 6000, kColumns);
  for (const RowLayout layout : kLayouts) {
    CAPTURE(row_layout_name(layout));
    const auto file = tests::write_synthetic_table(directory.file("table"), g, layout, 1 << 20);
    const std::unique_ptr<NvmeRowStore> store =
        open_store(*file, {.backend = IoBackend::kThreads, .depth = 32, .cache_bytes = 1 << 20});
    CHECK_THAT(store->placement(), Catch::StartsWith("nvme, "));
    CHECK_THAT(store->placement(), Catch::Contains("threads depth 32"));
    CHECK_THAT(store->placement(), Catch::EndsWith("row cache"));
    // Row 0 for every column of four tokens: one block, or two where scales are apart.
    const tests::GatherCall call{
        .ids = std::vector<int64_t>(24, 0), .slots = {0, 1, 2, 3}, .out_rows = 4};
    REQUIRE(tests::run_gather(*store, call, DType::kF32).status.ok());
    const int64_t reads = layout == RowLayout::kSplit ? 2 : 1;
    NvmeStats stats = store->nvme_stats();
    CHECK(stats.rows == 24);
    CHECK(stats.distinct_rows == 1);
    CHECK(stats.cache_hits == 0);
    CHECK(stats.cache_misses == 1);
    CHECK(stats.row_blocks == 24 * reads);
    CHECK(stats.reads == reads);
    CHECK(stats.blocks == reads);
    CHECK(stats.bytes == reads * kBlock);
    CHECK(stats.most_in_flight == reads);
    CHECK(stats.deduplicated_share() == Approx(23. / 24));
    // The second time it is in the cache.
    REQUIRE(tests::run_gather(*store, call, DType::kF32).status.ok());
    stats = store->nvme_stats();
    CHECK(stats.rows == 48);
    CHECK(stats.cache_hits == 1);
    CHECK(stats.reads == reads);
    CHECK(stats.cache_hit_share() == Approx(0.5));
    // One token is handed to the device at once.
    tests::GatherCall token{.slots = {0}, .out_rows = 1};
    for (int64_t c = 0; c < kColumns; ++c) token.ids.push_back(100 + c * 900);
    REQUIRE(tests::run_gather(*store, token, DType::kF32).status.ok());
    // Scales of 8 bytes may lie in neighbouring blocks.
    const int64_t in_flight = store->nvme_stats().most_in_flight;
    CHECK(in_flight == store->nvme_stats().reads - reads);
    CHECK(in_flight > (reads - 1) * kColumns);
    CHECK(in_flight <= reads * kColumns);
    std::filesystem::remove(directory.file("table"));
  }
}

TEST_CASE("the cache answers for rows that come again", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 103;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 20000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kInterleaved, 1 << 20);
  // Half of the accesses go to 200 rows, which the cache of about 2,000 keeps.
  const std::unique_ptr<NvmeRowStore> store =
      open_store(*file, {.cache_bytes = 2000 * 137, .staging_bytes = 80000});
  for (int round = 0; round < 400; ++round) {
    const tests::GatherCall call = tests::random_call(g, 20, 0.5, random);
    REQUIRE(tests::run_gather(*store, call, DType::kBf16).status.ok());
  }
  const NvmeStats stats = store->nvme_stats();
  CHECK(stats.cache_hit_share() > 0.4);
  CHECK(stats.cache_hits + stats.cache_misses == stats.distinct_rows);
  CHECK(stats.cache_evicted > 0);
}

TEST_CASE("rows in a bad block fail their tokens and nobody else's", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 104;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  for (const RowLayout layout : kLayouts) {
    const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 96, 20000, kColumns);
    const auto file = tests::write_synthetic_table(directory.file("table"), g, layout, 1 << 20);
    const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
    const TableHeader& h = file->header();
    const int64_t from = h.data_offset + h.values_at + 50 * kBlock;
    const int64_t to = from + 20 * kBlock;
    const std::unique_ptr<NvmeRowStore> store = tests::open_faulty(
        *file, g, 0, {.depth = 32, .cache_bytes = 50000, .staging_bytes = 70000},
        {.seed = kSeed, .pieces = 0.2, .error = 1., .from = from, .to = to});
    const auto is_bad = [&](int64_t row) {
      const int64_t begin = h.data_offset + h.values_at + row * h.value_stride;
      const int64_t bytes = layout == RowLayout::kSplit
                                ? g.value_bytes()
                                : h.scales_at - h.values_at + g.scale_bytes();
      return begin / kBlock * kBlock < to && (begin + bytes - 1) / kBlock * kBlock >= from;
    };
    int64_t failed = 0;
    for (const int64_t tokens : {1, 50, 1000}) {
      const tests::GatherCall call = tests::random_call(g, tokens, 0.2, random);
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        CAPTURE(row_layout_name(layout), tokens, dtype_name(dtype));
        const tests::GatherResult result = tests::run_gather(*store, call, dtype);
        std::vector<int32_t> expected;
        for (int32_t t = 0; t < tokens; ++t) {
          const auto first = call.ids.begin() + t * kColumns;
          if (std::any_of(first, first + kColumns, is_bad)) expected.push_back(t);
        }
        CHECK(result.failed == expected);
        CHECK(result.status.code() == (expected.empty() ? Code::kOk : Code::kDataLoss));
        CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, dtype)) == 0);
        failed += static_cast<int64_t>(expected.size());
        if (expected.empty()) continue;
        CHECK_THAT(result.status.message(), Catch::StartsWith("n-gram table of layer "));
        CHECK_THAT(result.status.message(), Catch::Contains(", row "));
        CHECK_THAT(result.status.message(), Catch::Contains(file->path()));
      }
    }
    CHECK(failed > 0);
    CHECK(store->nvme_stats().failed_rows > 0);
    std::filesystem::remove(directory.file("table"));
  }
}

// A stale slot or zeros would look like a row.
TEST_CASE("what a failed token gets is no number", "[row_store_nvme]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF32, 64, 600, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kSplit, 1 << 20);
  const std::unique_ptr<NvmeRowStore> store = tests::open_faulty(*file, g, 0, {}, {.error = 1.});
  const tests::GatherCall call{.ids = {0, 100, 200, 300, 400, 500}, .slots = {1}, .out_rows = 2};
  std::vector<float> out(2 * 64 * kColumns, 1.f);
  std::vector<int32_t> failed;
  const Status status = store->gather(
      call.ids.data(), call.slots.data(), 1,
      make_view(out.data(), DType::kF32, 2, g.vector_width()), &failed);
  CHECK(status.code() == Code::kDataLoss);
  CHECK(failed == std::vector<int32_t>{0});
  const auto second = out.begin() + 64 * kColumns;
  CHECK(std::all_of(out.begin(), second, [](float v) { return v == 1.f; }));
  CHECK(std::all_of(second, out.end(), [](float v) { return std::isnan(v); }));
}

TEST_CASE("a disk with passing faults loses few tokens and corrupts none", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 105;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kInt4, 64, 20000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kInterleaved, 1 << 20);
  const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
  const std::unique_ptr<NvmeRowStore> store = tests::open_faulty(
      *file, g, 0, {.depth = 64, .cache_bytes = 20000},
      {.seed = kSeed, .pieces = 0.1, .ends = 0.02, .error = 0.03, .delay_us_most = 100});
  int64_t failed = 0;
  for (int round = 0; round < 60; ++round) {
    const tests::GatherCall call = tests::random_call(g, 50, 0.2, random);
    const tests::GatherResult result = tests::run_gather(*store, call, DType::kF32);
    CAPTURE(round, result.status.to_string());
    CHECK(result.status.ok() == result.failed.empty());
    CHECK(tests::differences(call, result, tests::run_gather(*oracle, call, DType::kF32)) == 0);
    failed += static_cast<int64_t>(result.failed.size());
  }
  CHECK(store->nvme_stats().retries > 100);
  // 5 % of the reads fail and 5 % of their repetitions: each of 18,000 rows with 0.25 %.
  CHECK(failed < 200);
}

TEST_CASE("statistics may be read while rows are", "[row_store_nvme]") {
  constexpr uint64_t kSeed = 106;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 20000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kInterleaved, 1 << 20);
  const std::unique_ptr<NvmeRowStore> store = open_store(*file, {.cache_bytes = 100000});
  std::atomic<bool> stop{false};
  std::atomic<int64_t> inconsistent{0};
  std::thread reader([&] {
    while (!stop) {
      const NvmeStats stats = store->nvme_stats();
      if (stats.cache_hits + stats.cache_misses != stats.distinct_rows) ++inconsistent;
      if (store->stats().rows_read < stats.rows) ++inconsistent;
    }
  });
  for (int round = 0; round < 50; ++round) {
    const tests::GatherCall call = tests::random_call(g, 30, 0.5, random);
    CHECK(tests::run_gather(*store, call, DType::kBf16).status.ok());
  }
  stop = true;
  reader.join();
  CHECK(inconsistent == 0);
}

TEST_CASE("a part of a table is a table of its own", "[row_store_nvme]") {
  const tests::TempDirectory directory;
  TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 5000, kColumns);
  for (const RowLayout layout : kLayouts) {
    const auto file = tests::write_synthetic_table(directory.file("table"), g, layout, 1 << 20);
    const std::unique_ptr<HostRowStore> oracle = tests::make_oracle(g);
    TableGeometry part = g;
    part.rows = 1000;
    Result<FileRows> rows = open_file_rows(*file, 3456, 4456);
    REQUIRE(rows.ok());
    Result<std::unique_ptr<NvmeRowStore>> store =
        make_nvme_row_store(part, std::move(rows).value(), {});
    REQUIRE(store.ok());
    tests::GatherCall of_part{.slots = {0}, .out_rows = 1};
    tests::GatherCall of_whole = of_part;
    for (const int64_t row : {0, 1, 500, 998, 999, 7}) {
      of_part.ids.push_back(row);
      of_whole.ids.push_back(row + 3456);
    }
    const tests::GatherResult result = tests::run_gather(*store.value(), of_part, DType::kF32);
    REQUIRE(result.status.ok());
    CHECK(
        tests::differences(of_part, result, tests::run_gather(*oracle, of_whole, DType::kF32)) ==
        0);
    std::filesystem::remove(directory.file("table"));
  }
}

TEST_CASE("files that cannot serve a table are refused", "[row_store_nvme]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 5000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kSplit, 1 << 20);
  const FileRows rows = open_file_rows(*file, 0, g.rows).value();
  const auto refused = [](const TableGeometry& geometry, const FileRows& r) {
    return make_nvme_row_store(geometry, r, {}).status();
  };

  FileRows beyond = rows;
  beyond.values.offset = rows.values.file->bytes() - 4096;
  CHECK(refused(g, beyond).code() == Code::kInvalidArgument);
  CHECK_THAT(refused(g, beyond).message(), Catch::Contains(file->path()));
  FileRows narrow = rows;
  narrow.scales.stride = 1;
  CHECK(refused(g, narrow).code() == Code::kInvalidArgument);
  CHECK_THAT(refused(g, narrow).message(), Catch::Contains("scales"));
  FileRows before = rows;
  before.values.offset = -8;
  CHECK(refused(g, before).code() == Code::kInvalidArgument);

  // A last block that is not whole cannot be read directly.
  directory.write("odd", std::string(8192 + 100, 'x'));
  FileRows odd = rows;
  odd.values.file =
      std::make_shared<const DirectFile>(DirectFile::open(directory.file("odd")).value());
  odd.values.offset = 0;
  TableGeometry few = g;
  few.rows = (8192 + 100) / 64;
  CHECK_THAT(refused(few, odd).message(), Catch::Contains("12288"));
  few.rows = 8192 / 64;
  CHECK(refused(few, odd).ok());

  TableGeometry uneven = g;
  uneven.row_width = 48;
  CHECK(refused(uneven, rows).code() == Code::kInvalidArgument);
  for (const int depth : {0, -1, 5000}) {
    CHECK(make_nvme_row_store(g, rows, {.depth = depth}).status().code() == Code::kInvalidArgument);
  }
  CHECK(
      make_nvme_row_store(g, rows, {.cache_bytes = -1}).status().code() == Code::kInvalidArgument);
  const Status memory = make_nvme_row_store(g, rows, {.cache_bytes = int64_t{1} << 50}).status();
  CHECK(memory.code() == Code::kResourceExhausted);
  CHECK_THAT(memory.message(), Catch::Contains("row cache"));
}

TEST_CASE("a table file that shrank is not opened", "[row_store_nvme]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 5000, kColumns);
  const auto file =
      tests::write_synthetic_table(directory.file("table"), g, RowLayout::kSplit, 1 << 20);
  std::filesystem::resize_file(file->path(), 8192);
  const Result<FileRows> rows = open_file_rows(*file, 0, g.rows);
  REQUIRE_FALSE(rows.ok());
  CHECK(rows.status().code() == Code::kDataLoss);
  CHECK_THAT(rows.status().message(), Catch::Contains("8192 bytes"));
}

}  // namespace
}  // namespace engram::memory
