// A set of tables: rows are those of the source wherever they come from, and a file that belongs to
// another model is refused by the field that gives it away.
#include "memory/table/table_set.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "memory/table/synthetic_rows.h"
#include "tests/support/bytes.h"
#include "tests/support/table_daemon.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr RowLayout kLayouts[] = {RowLayout::kSplit, RowLayout::kInterleaved};

TableRequest request_for(const TableGeometry& geometry, const std::string& directory) {
  TableRequest request;
  request.wanted = {geometry};
  request.options.directory = directory;
  return request;
}

std::unique_ptr<TableSet> open_set(const TableRequest& request) {
  Result<std::unique_ptr<TableSet>> set = TableSet::open(request);
  CAPTURE(set.status().to_string());
  REQUIRE(set.ok());
  return std::move(set).value();
}

// Every row of the table, decoded.
std::vector<float> all_rows(RowStore& store) {
  const TableGeometry& g = store.geometry();
  const int64_t tokens = g.rows / g.columns();
  std::vector<int64_t> ids(static_cast<size_t>(tokens * g.columns()));
  std::vector<int32_t> slots(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  for (size_t t = 0; t < slots.size(); ++t) slots[t] = static_cast<int32_t>(t);
  std::vector<float> out(ids.size() * static_cast<size_t>(g.row_width));
  std::vector<int32_t> failed;
  const View view = make_view(out.data(), DType::kF32, tokens, g.vector_width());
  REQUIRE(store.gather(ids.data(), slots.data(), tokens, view, &failed).ok());
  REQUIRE(failed.empty());
  return out;
}

// The same rows by the source's own hand.
std::vector<float> synthetic(const TableGeometry& g) {
  Result<OwnedTable> table = make_owned_table(g, "");
  REQUIRE(table.ok());
  make_synthetic_rows(
      g, 0, g.rows, table.value().values, g.value_bytes(), table.value().scales, g.scale_bytes());
  return all_rows(*table.value().store);
}

}  // namespace

TEST_CASE(
    "table set: files of every codec and layout give the rows of their source", "[table_set]") {
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : kLayouts) {
      CAPTURE(row_codec_name(codec), row_layout_name(layout));
      const tests::TempDirectory directory;
      TableGeometry g = tests::small_geometry(codec, 64, 4000, 8);
      if (codec == RowCodec::kF8Tensor) g.tensor_scale = 0.25f;
      const auto file =
          tests::write_synthetic_table(table_file_path(directory.path(), 1), g, layout, 65536);
      TableRequest request = request_for(g, directory.path());
      request.wanted[0].codec = RowCodec::kF32;  // the model does not say how rows are stored
      std::vector<TableProgress> told;
      request.progress = [&](const TableProgress& p) { told.push_back(p); };
      const std::unique_ptr<TableSet> set = open_set(request);
      REQUIRE(set->stores().size() == 1);
      CHECK(all_rows(*set->stores()[0]) == synthetic(g));
      CHECK(set->version() == file->header().id);
      REQUIRE_FALSE(told.empty());
      CHECK(told.back().bytes_done == file->header().data_bytes);
      CHECK(told.back().bytes_total == file->header().data_bytes);

      const TableReport report = set->reports()[0];
      CHECK(report.layer == 1);
      CHECK(report.version == file->header().id);
      CHECK(report.source == file->path());
      CHECK(report.codec == row_codec_name(codec));
      CHECK(report.rows == 4000);
      CHECK(report.bytes == file->header().data_bytes);
      CHECK(report.loaded_bytes == report.load_bytes);
      CHECK_THAT(report.placement, Catch::StartsWith("host, "));
      CHECK_FALSE(report.memory.empty());
      CHECK(report.stats.rows_read == 4000);
      CHECK_FALSE(report.load_method.empty());

      request.options.start_early = true;
      const std::unique_ptr<TableSet> early = open_set(request);
      CHECK(all_rows(*early->stores()[0]) == synthetic(g));
      CHECK(early->wait_loaded().ok());
      CHECK(all_rows(*early->stores()[0]) == synthetic(g));
      CHECK(early->progress().bytes_done == early->progress().bytes_total);

      // Row by row, as verification reads them.
      std::vector<uint8_t> values(static_cast<size_t>(g.value_bytes()));
      std::vector<uint8_t> scales(static_cast<size_t>(g.scale_bytes()) + 1);
      std::vector<uint8_t> made(values.size());
      std::vector<uint8_t> made_scales(scales.size());
      for (const int64_t row : {0, 17, 3999}) {
        REQUIRE(set->source(0).read_row(row, values.data(), scales.data()).ok());
        make_synthetic_rows(
            g, row, 1, made.data(), g.value_bytes(),
            g.scale_bytes() > 0 ? made_scales.data() : nullptr, g.scale_bytes());
        CHECK(values == made);
        CHECK(std::memcmp(scales.data(), made_scales.data(), scales.size() - 1) == 0);
        CHECK_THAT(
            set->source(0).row_text(row),
            Catch::Contains(file->path()) && Catch::Contains("row " + std::to_string(row)));
      }
    }
  }
}

// Invariant 2 of the architecture: a million rows at random are the source's, wherever they live.
TEST_CASE("table set: every placement gives the same bits for random rows", "[table_set]") {
  constexpr uint64_t kSeed = 71;
  constexpr int64_t kTokens = 2048;
  constexpr int64_t kRounds = 62;  // 62 * 2048 * 8 ids
  CAPTURE(kSeed);
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 100000, 8);
  const std::string path = table_file_path(directory.path(), 1);
  tests::write_synthetic_table(path, g, RowLayout::kInterleaved, 1 << 18);
  TableDaemonOptions serve;
  serve.tables = {path};
  serve.socket = directory.file("socket");
  const tests::TableDaemon daemon(serve);  // forks: before there are threads
  REQUIRE(daemon.answers());
  TableRequest request = request_for(g, directory.path());
  std::vector<std::pair<std::string, std::unique_ptr<TableSet>>> sets;
  const auto add = [&](const std::string& name, const char* placement, int64_t cache, bool early) {
    request.options.placement = placement;
    request.options.cache_bytes = cache;
    request.options.start_early = early;
    sets.emplace_back(name, open_set(request));
  };
  add("host", "", 0, false);
  add("half loaded", "", 0, true);
  add("nvme", "nvme", 0, false);
  add("nvme with a cache", "nvme", 1 << 20, false);
  add("split", "host:3MiB,nvme", 1 << 18, false);
  request.options = {};
  request.options.socket = serve.socket;
  sets.emplace_back("shared", open_set(request));
  CHECK(sets.back().second->reports()[0].shared);
  CHECK(sets.back().second->source(0).path() == path);

  std::mt19937_64 random(kSeed);
  std::vector<int64_t> ids(static_cast<size_t>(kTokens * g.columns()));
  std::vector<int32_t> slots(kTokens);
  std::iota(slots.begin(), slots.end(), 0);
  std::vector<float> expected(ids.size() * 64);
  std::vector<float> got(expected.size());
  Result<OwnedTable> made = make_owned_table(g, "");
  REQUIRE(made.ok());
  make_synthetic_rows(
      g, 0, g.rows, made.value().values, g.value_bytes(), made.value().scales, g.scale_bytes());
  const auto gather = [&](RowStore& store, std::vector<float>& out) {
    std::vector<int32_t> failed;
    const View view = make_view(out.data(), DType::kF32, kTokens, g.vector_width());
    REQUIRE(store.gather(ids.data(), slots.data(), kTokens, view, &failed).ok());
    REQUIRE(failed.empty());
  };
  for (int64_t round = 0; round < kRounds; ++round) {
    for (int64_t& id : ids) id = static_cast<int64_t>(random() % static_cast<uint64_t>(g.rows));
    gather(*made.value().store, expected);
    for (const auto& [name, set] : sets) {
      // NVMe reads of a million rows would take the test's time, not add to its proof.
      if (name == "nvme" && round % 8 != 0) continue;
      CAPTURE(name, round);
      gather(*set->stores()[0], got);
      REQUIRE(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("table set: a table of another model is refused by the field", "[table_set]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 32, 800, 4);
  tests::write_synthetic_table(table_file_path(directory.path(), 1), g, RowLayout::kSplit, 65536);
  const auto refused = [&](const char* field, const std::function<void(TableRequest&)>& edit) {
    CAPTURE(field);
    TableRequest request = request_for(g, directory.path());
    edit(request);
    const Status status = TableSet::open(request).status();
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(
        status.message(), Catch::Contains(table_file_path(directory.path(), 1) + ": " + field) &&
                              Catch::Contains("the model's is"));
  };
  refused("mix", [](TableRequest& r) { r.wanted[0].mix = Mix::kPolynomial; });
  refused("boundary", [](TableRequest& r) { r.wanted[0].boundary = Boundary::kDeadLatch; });
  refused("fill_id", [](TableRequest& r) { r.wanted[0].fill_id = 9; });
  refused("boundary_id", [](TableRequest& r) { r.wanted[0].boundary_id = 9; });
  refused("base", [](TableRequest& r) { r.wanted[0].base = 9; });
  refused("heads", [](TableRequest& r) { r.wanted[0].heads = 1; });
  refused("orders[1]", [](TableRequest& r) { r.wanted[0].orders[1] = 4; });
  refused("multipliers[2]", [](TableRequest& r) { r.wanted[0].multipliers[2] += 2; });
  refused("the number of moduli", [](TableRequest& r) { r.wanted[0].moduli.pop_back(); });
  refused("moduli[3]", [](TableRequest& r) { r.wanted[0].moduli[3] -= 1; });
  refused("offsets[1]", [](TableRequest& r) { r.wanted[0].offsets[1] -= 1; });
  refused("row_width", [](TableRequest& r) { r.wanted[0].row_width = 64; });
  refused("rows", [](TableRequest& r) { r.wanted[0].rows += 1; });
  refused("token-map SHA-256", [](TableRequest& r) { r.token_map_sha256[31] = 1; });

  // A file under another layer's name, and none at all.
  std::filesystem::copy(table_file_path(directory.path(), 1), table_file_path(directory.path(), 2));
  TableRequest request = request_for(g, directory.path());
  request.wanted[0].layer = 2;
  CHECK_THAT(TableSet::open(request).status().message(), Catch::Contains("layer is 1"));
  request.wanted[0].layer = 3;
  CHECK(TableSet::open(request).status().code() == Code::kNotFound);
}

TEST_CASE("table set: a corrupt extent is found while loading", "[table_set]") {
  const tests::TempDirectory directory;
  const TableGeometry g = tests::small_geometry(RowCodec::kBf16, 64, 4000, 4);
  const std::string path = table_file_path(directory.path(), 1);
  const int64_t at =
      tests::write_synthetic_table(path, g, RowLayout::kSplit, 65536)->header().data_offset +
      3 * 65536 + 100;
  tests::flip_bit(path, at);
  const Status status = TableSet::open(request_for(g, directory.path())).status();
  CHECK(status.code() == Code::kDataLoss);
  CHECK_THAT(status.message(), Catch::Contains(path) && Catch::Contains("extent 3"));
}

}  // namespace engram::memory
