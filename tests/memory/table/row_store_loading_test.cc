// Serving from a table that is still being loaded: the same bits as the loaded table, whatever is
// there already, and an honest answer when the rest never comes.
#include "memory/table/row_store_loading.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/aligned_bytes.h"
#include "tests/support/bytes.h"
#include "tests/support/faulty_reads.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int kColumns = 8;
constexpr int64_t kExtent = 16 << 10;

// A table file, the loaded image of it as the source of truth, and a store over a load.
class Rig {
 public:
  struct Plan {
    RowCodec codec = RowCodec::kBf16;
    RowLayout layout = RowLayout::kSplit;
    int64_t width = 64;
    tests::Faults load = {};   // what the loader's reads suffer
    tests::Faults reads = {};  // what the rows' reads suffer
  };

  explicit Rig(const Plan& plan)
      : plan_(plan),
        file_(tests::write_synthetic_table(
            directory_.file("t"),
            tests::small_geometry(plan.codec, plan.width, 20011, kColumns),
            plan.layout,
            kExtent)),
        image_(tests::synthetic_image(file_->header())),
        memory_(file_->header().data_bytes) {
    truth_ = make_host_row_store(geometry(), rows(image_.data())).value();
  }

  const TableGeometry& geometry() const { return file_->header().geometry; }
  const TableFile& file() const { return *file_; }

  void start(int depth) {
    LoadOptions options{.threads = 1, .depth = depth, .piece_bytes = 4096};
    options.make_queue = [faults = plan_.load](
                             const ReadQueueOptions& wanted) -> Result<std::unique_ptr<ReadQueue>> {
      return tests::faulty_queue(wanted, faults);
    };
    load_ = TableLoad::start(file_, memory_.data(), std::move(options)).value();
    store_ = make_loading_row_store({
                                        .file = file_,
                                        .load = load_,
                                        .rows = rows(memory_.data()),
                                        .queue = tests::faulty_queue({.depth = 32}, plan_.reads),
                                    })
                 .value();
  }

  RowStore& store() { return *store_; }
  TableLoad& load() { return *load_; }

  // Gathers random rows and compares each token that did not fail with the truth.
  struct Outcome {
    Status status;
    std::vector<int32_t> failed;
    int64_t wrong = 0;  // tokens
  };
  Outcome gather(int64_t tokens, DType dtype, std::mt19937_64& random) {
    std::vector<int64_t> ids(static_cast<size_t>(tokens * kColumns));
    for (int64_t& id : ids) id = static_cast<int64_t>(random() % 20011);
    std::vector<int32_t> slots(static_cast<size_t>(tokens));
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
    std::shuffle(slots.begin(), slots.end(), random);
    const int64_t token_bytes = geometry().vector_width() * dtype_bytes(dtype);
    std::vector<uint8_t> found(static_cast<size_t>(tokens * token_bytes));
    std::vector<uint8_t> wanted = found;
    const auto view = [&](std::vector<uint8_t>& bytes) {
      return make_view(bytes.data(), dtype, tokens, geometry().vector_width());
    };
    Outcome outcome;
    outcome.status = store_->gather(ids.data(), slots.data(), tokens, view(found), &outcome.failed);
    std::vector<int32_t> none;
    REQUIRE(truth_->gather(ids.data(), slots.data(), tokens, view(wanted), &none).ok());
    const std::set<int32_t> failed(outcome.failed.begin(), outcome.failed.end());
    REQUIRE(failed.size() == outcome.failed.size());  // each once
    for (int64_t t = 0; t < tokens; ++t) {
      if (failed.count(static_cast<int32_t>(t)) > 0) continue;
      const int64_t at = slots[static_cast<size_t>(t)] * token_bytes;
      const bool same =
          std::memcmp(found.data() + at, wanted.data() + at, static_cast<size_t>(token_bytes)) == 0;
      outcome.wrong += same ? 0 : 1;
    }
    return outcome;
  }

 private:
  HostRows rows(const uint8_t* data) const {
    return {
        .place = row_place(file_->header(), data),
        .bytes = file_->header().data_bytes,
        .owner = nullptr,
        .where = "host",
        .version = file_->header().id};
  }

  const Plan plan_;
  tests::TempDirectory directory_;
  std::shared_ptr<const TableFile> file_;
  std::vector<uint8_t> image_;
  tests::AlignedBytes memory_;
  std::unique_ptr<RowStore> truth_;
  std::shared_ptr<TableLoad> load_;
  std::unique_ptr<RowStore> store_;  // before the load it reads through
};

TEST_CASE("a million rows from a table that is being loaded are right", "[row_store_loading]") {
  const Rig::Plan plans[] = {
      {.codec = RowCodec::kBf16, .layout = RowLayout::kSplit, .width = 64},
      {.codec = RowCodec::kF8Ue8m0, .layout = RowLayout::kSplit, .width = 96},
      {.codec = RowCodec::kF8Ue8m0, .layout = RowLayout::kInterleaved, .width = 96},
      {.codec = RowCodec::kInt4, .layout = RowLayout::kInterleaved, .width = 160},
  };
  int64_t rows = 0;
  int64_t while_loading = 0;
  for (Rig::Plan plan : plans) {
    plan.load = {.seed = 11, .pieces = 0.2, .delay_us_most = 4000};
    plan.reads = {.seed = 12, .pieces = 0.2};
    Rig rig(plan);
    rig.start(4);
    CHECK(rig.store().version() == rig.file().header().id);
    CHECK_THAT(rig.store().placement(), Catch::Contains("loading: "));
    const uint64_t seed = 13;
    CAPTURE(row_codec_name(plan.codec), row_layout_name(plan.layout), seed);
    std::mt19937_64 random(seed);
    int64_t read = 0;
    while (read < 260000) {
      const int64_t tokens = static_cast<int64_t>(random() % (read % 7 == 0 ? 700 : 40));
      const bool loading = !rig.load().over();
      const Rig::Outcome outcome =
          rig.gather(tokens, random() % 2 == 0 ? DType::kF32 : DType::kBf16, random);
      REQUIRE(outcome.status.ok());
      REQUIRE(outcome.failed.empty());
      REQUIRE(outcome.wrong == 0);
      read += tokens * kColumns;
      if (loading) while_loading += tokens * kColumns;
      CHECK(rig.store().stats().rows_read == read);
    }
    CHECK(rig.load().wait().ok());
    rows += read;
    // The last rows come from memory alone.
    CHECK(rig.gather(100, DType::kF32, random).wrong == 0);
    CHECK(rig.store().placement().find("loading") == std::string::npos);
  }
  CHECK(rows > 1000000);
  WARN(while_loading << " of " << rows << " rows were read while the table was loading");
}

TEST_CASE("rows that cannot be read fail their tokens and no other", "[row_store_loading]") {
  Rig rig({
      .codec = RowCodec::kF8Ue8m0,
      .load = {.seed = 21, .delay_us_most = 200000},
      .reads = {.seed = 22, .ends = 0.05, .error = 0.05},
  });
  rig.start(1);
  std::mt19937_64 random(23);
  int64_t failed = 0;
  for (int i = 0; i < 40; ++i) {
    const Rig::Outcome outcome = rig.gather(50, DType::kF32, random);
    CHECK(outcome.wrong == 0);
    CHECK(outcome.status.ok() == outcome.failed.empty());
    if (!outcome.status.ok()) {
      CHECK_THAT(outcome.status.message(), Catch::StartsWith(rig.file().path() + ": reading"));
    }
    failed += static_cast<int64_t>(outcome.failed.size());
  }
  CHECK(failed > 0);
  CHECK(failed < 2000);
}

TEST_CASE("after a failed load the missing rows fail with its reason", "[row_store_loading]") {
  for (const int64_t corrupt : {0, 40}) {
    Rig rig({.load = {.seed = 31, .delay_us_most = 300}});
    tests::flip_bit(rig.file().path(), rig.file().header().data_offset + corrupt * kExtent + 77);
    rig.start(4);
    CAPTURE(corrupt);
    const Status status = rig.load().wait();
    REQUIRE(status.code() == Code::kDataLoss);
    std::mt19937_64 random(32);
    int64_t failed = 0;
    for (int i = 0; i < 10; ++i) {
      const Rig::Outcome outcome = rig.gather(40, DType::kBf16, random);
      CHECK(outcome.wrong == 0);
      REQUIRE(outcome.status.code() == Code::kDataLoss);
      CHECK(outcome.status.message() == status.message());
      failed += static_cast<int64_t>(outcome.failed.size());
    }
    CHECK(failed > 0);
    CHECK_THAT(rig.store().placement(), Catch::Contains("failed at "));
  }
}

TEST_CASE("rows that went out unchecked are confessed", "[row_store_loading]") {
  Rig rig({.load = {.seed = 41, .delay_us_most = 20000}});
  // Within the padding behind the last row: no row is wrong, but the checksum is.
  const TableHeader& header = rig.file().header();
  const int64_t end = header.values_at + header.geometry.rows * header.value_stride;
  REQUIRE(end < header.data_bytes);
  tests::flip_bit(rig.file().path(), header.data_offset + end);
  rig.start(1);
  std::mt19937_64 random(42);
  const Rig::Outcome early = rig.gather(2000, DType::kF32, random);
  CHECK(early.status.ok());
  CHECK(early.wrong == 0);
  REQUIRE(rig.load().wait().code() == Code::kDataLoss);
  Status late;
  while (late.ok()) late = rig.gather(200, DType::kF32, random).status;
  CHECK(late.code() == Code::kDataLoss);
  CHECK_THAT(
      late.message(), Catch::Contains("is corrupt") &&
                          Catch::Contains("were served before their checksum was taken"));
}

}  // namespace
}  // namespace engram::memory
