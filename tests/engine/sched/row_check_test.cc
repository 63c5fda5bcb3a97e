// The check of a lookup agrees with the engine's own hash and decoder on everything, and sees
// every bit that differs.
#include "engine/sched/row_check.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "engine/model/hash_families.h"
#include "memory/table/row_store.h"
#include "memory/table/synthetic_rows.h"
#include "tests/support/hash_configs.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::RowCodec;
using memory::TableGeometry;

std::vector<TableGeometry> families() {
  return {
      derive_geometries(tests::demo_config(99092), RowCodec::kBf16, 2)[0],
      derive_v41_geometries(tests::v41_config(), 2)[1],
      derive_ple_geometries(tests::qwen_hash())[0],
      derive_longcat_geometry(tests::longcat_hash()),
  };
}

// A table of made-up rows without a file.
class MadeUp : public memory::TableSource {
 public:
  explicit MadeUp(TableGeometry geometry) : geometry_(std::move(geometry)) {}
  const TableGeometry& geometry() const override { return geometry_; }
  std::string version() const override { return "v7"; }
  std::string path() const override { return "nowhere"; }
  int64_t image_bytes() const override { return memory::plain_image_bytes(geometry_); }
  memory::RowPlace place(const void* image) const override {
    return memory::plain_place(geometry_, image);
  }
  memory::Status load(void*, const std::function<void(int64_t)>&) const override { return {}; }
  memory::Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const override {
    if (unreadable) return memory::data_loss("torn off");
    memory::make_synthetic_rows(
        geometry_, row, 1, values, geometry_.value_bytes(), scales, geometry_.scale_bytes());
    return {};
  }
  std::string row_text(int64_t row) const override { return "row " + std::to_string(row); }

  bool unreadable = false;

 private:
  TableGeometry geometry_;
};

}  // namespace

TEST_CASE("row check: the definition and the engine's hash agree", "[row_check]") {
  constexpr uint64_t kSeed = 51;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  size_t family = 0;
  for (const TableGeometry& g : families()) {
    CAPTURE(family++);
    for (int round = 0; round < 300; ++round) {
      std::vector<int32_t> ids;
      for (uint64_t i = 0; i < 1 + random() % 12; ++i) {
        int32_t id = static_cast<int32_t>(random() % 90000);
        if (random() % 4 == 0 && g.boundary_id >= 0) id = static_cast<int32_t>(g.boundary_id);
        if (random() % 4 == 0 && g.boundary == memory::Boundary::kDeadLatch) id = -1;
        ids.push_back(id);
      }
      std::vector<int64_t> rows(ids.size() * static_cast<size_t>(g.columns()));
      hash_rows(g, ids, 0, std::ssize(ids), rows.data());
      for (size_t at = 0; at < ids.size(); ++at) {
        // No more than an n-gram can see.
        const size_t begin = at + 1 - std::min(at + 1, static_cast<size_t>(g.max_order()));
        const std::span<const int32_t> window(ids.data() + begin, at + 1 - begin);
        for (int c = 0; c < g.columns(); ++c) {
          CAPTURE(ids, at, c);
          REQUIRE(
              row_by_definition(g, window, c) ==
              rows[at * static_cast<size_t>(g.columns()) + static_cast<size_t>(c)]);
        }
      }
    }
  }
}

TEST_CASE("row check: what the engine stages is right, and any flipped bit is not", "[row_check]") {
  constexpr uint64_t kSeed = 52;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  TokenMap map;
  map.canonical.resize(500);
  std::iota(map.canonical.begin(), map.canonical.end(), 0);
  for (const RowCodec codec : memory::kRowCodecs) {
    for (const DType act : {DType::kF32, DType::kBf16}) {
      CAPTURE(row_codec_name(codec), dtype_name(act));
      TableGeometry g;
      g.layer = 3;
      g.orders = {2, 3};
      g.heads = 1;
      g.multipliers = {3, 5, 7};
      g.moduli = {97, 101};
      g.offsets = {0, 97};
      g.rows = 198;
      g.row_width = 64;
      g.codec = codec;
      if (codec == RowCodec::kF8Tensor) g.tensor_scale = 0.375f;
      MadeUp source(g);
      memory::OwnedTable table = memory::make_owned_table(g, "").value();
      memory::make_synthetic_rows(
          g, 0, g.rows, table.values, g.value_bytes(), table.scales, g.scale_bytes());
      for (int round = 0; round < 50; ++round) {
        RowSample sample;
        sample.window = {
            static_cast<int32_t>(random() % 500), static_cast<int32_t>(random() % 500)};
        sample.column = static_cast<int>(random() % 2);
        sample.row = row_by_definition(g, sample.window, sample.column);
        sample.act = act;
        std::vector<int64_t> ids = {sample.row, sample.row};
        const int32_t slot = 0;
        std::vector<uint8_t> staged(static_cast<size_t>(2 * 64 * memory::dtype_bytes(act)));
        std::vector<int32_t> failed;
        REQUIRE(
            table.store
                ->gather(
                    ids.data(), &slot, 1, memory::make_view(staged.data(), act, 1, 2 * 64), &failed)
                .ok());
        sample.staged.assign(
            staged.begin(), staged.begin() + static_cast<int64_t>(staged.size() / 2));
        REQUIRE(check_row(sample, source, map).verdict == RowVerdict::kRight);

        RowSample flipped = sample;
        const size_t bit = random() % (8 * flipped.staged.size());
        flipped.staged[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
        const RowCheck wrong = check_row(flipped, source, map);
        CHECK(wrong.verdict == RowVerdict::kWrong);
        CHECK(wrong.status.code() == memory::Code::kDataLoss);
        CHECK_THAT(
            wrong.status.message(), Catch::Contains("layer 3") && Catch::Contains("table v7") &&
                                        Catch::Contains("row " + std::to_string(sample.row)));

        RowSample elsewhere = sample;
        elsewhere.row = (sample.row + 1) % g.rows;
        CHECK(check_row(elsewhere, source, map).verdict == RowVerdict::kWrong);
      }
      source.unreadable = true;
      RowSample sample;
      sample.window = {1};
      sample.row = row_by_definition(g, sample.window, 0);
      const RowCheck unchecked = check_row(sample, source, map);
      CHECK(unchecked.verdict == RowVerdict::kUnchecked);
      CHECK_THAT(unchecked.status.message(), Catch::Contains("torn off"));
    }
  }
}

}  // namespace engram::engine
