// The plan's arithmetic: examples with their exact numbers and lines, then random plans with what
// must hold for each.
#include "memory/table/placement.h"

#include <catch2/catch.hpp>
#include <random>

namespace engram::memory {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

PlannedTable table(const std::string& name, int columns, int64_t column_rows, int64_t row_bytes) {
  PlannedTable t{.name = name, .row_bytes = row_bytes};
  for (int c = 0; c < columns; ++c) {
    t.geometry.moduli.push_back(column_rows);
    t.geometry.offsets.push_back(c * column_rows);
  }
  t.geometry.rows = columns * column_rows;
  return t;
}

Placement placement(const std::string& text) {
  const Result<Placement> parsed = parse_placement(text);
  REQUIRE(parsed.ok());
  return parsed.value();
}

// One MiB per column.
PlannedTable example(const std::string& name) {
  return table(name, 16, 4096, 256);
}

TEST_CASE("placements are read", "[placement]") {
  const Placement all = placement("hbm:8GiB,host:auto,nvme");
  REQUIRE(all.tiers.size() == 3);
  CHECK(all.tiers[0].tier == Tier::kHbm);
  CHECK(all.tiers[0].bytes == 8 * kGiB);
  CHECK(all.tiers[1].tier == Tier::kHost);
  CHECK(all.tiers[1].bytes == -1);
  CHECK(all.tiers[2].tier == Tier::kNvme);
  CHECK(all.text == "hbm:8GiB,host:auto,nvme");
  CHECK(placement("host").tiers.size() == 1);
  CHECK(placement("host:1.5GiB,nvme").tiers[0].bytes == 3 * kGiB / 2);
  CHECK(placement("nvme").tiers[0].tier == Tier::kNvme);
  CHECK(placement("auto").tiers.size() == 2);
}

TEST_CASE("an error names the part that is wrong", "[placement]") {
  const struct {
    const char* text;
    const char* part;
    const char* reason;
  } cases[] = {
      {"", "part \"\"", "expected hbm, host or nvme"},
      {"dram", "part \"dram\"", "expected hbm, host or nvme, found \"dram\""},
      {"host,", "part \"\"", "expected hbm, host or nvme"},
      {"hbm:8GiB,host:lots,nvme", "part \"host:lots\"", "found \"lots\""},
      {"host:", "part \"host:\"", "expected a size"},
      {"host:0", "part \"host:0\"", "more than 0"},
      {"host:-1GiB", "part \"host:-1GiB\"", "more than 0"},
      {"host,nvme:5GiB", "part \"nvme:5GiB\"", "takes what is left"},
      {"nvme,host", "part \"host\"", "from fast to slow"},
      {"host,host", "part \"host\"", "each once"},
      {"auto,nvme", "part \"auto\"", "expected hbm, host or nvme"},
      {"HOST", "part \"HOST\"", "expected hbm, host or nvme"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.text);
    const Result<Placement> parsed = parse_placement(c.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().code() == Code::kInvalidArgument);
    CHECK_THAT(parsed.status().message(), Catch::Contains(c.part));
    if (std::string(c.text) != "hbm:8GiB,host:lots,nvme") {
      CHECK_THAT(parsed.status().message(), Catch::Contains(c.reason));
    }
  }
}

TEST_CASE("everything fits in the host", "[placement]") {
  const PlacementLimits limits{.host_bytes = kGiB, .host_uses = {{"weights", 100 * kMiB}}};
  for (const char* text : {"host", "host:auto", "host,nvme", "auto", "host:200MiB"}) {
    CAPTURE(text);
    const Result<PlacementPlan> plan =
        plan_placement({example("layer 1"), example("layer 14")}, placement(text), limits);
    REQUIRE(plan.ok());
    CHECK(plan.value().host_bytes == 32 * kMiB);
    CHECK(plan.value().nvme_bytes == 0);
    REQUIRE(plan.value().tables.size() == 2);
    REQUIRE(plan.value().tables[1].ranges.size() == 1);
    CHECK(plan.value().tables[1].ranges[0].tier == Tier::kHost);
    CHECK(plan.value().tables[1].ranges[0].end == 65536);
    REQUIRE(plan.value().lines.size() == 4);
    CHECK(
        plan.value().lines[3] ==
        "layer 14: rows 0 to 65535 of 65536 in host (all columns, 16.0 MiB)");
  }
}

TEST_CASE("the first table and the last columns are in the faster tier", "[placement]") {
  // 16 MiB for the first table, 5.5 for the second, and one of slack.
  const PlacementLimits limits{
      .host_bytes = 30 * kMiB, .host_uses = {{"weights", 6 * kMiB}, {"reserve", 3 * kMiB / 2}}};
  std::vector<PlannedTable> tables = {example("layer 1"), example("layer 14")};
  tables[0].slack_bytes = tables[1].slack_bytes = kMiB;
  const Result<PlacementPlan> plan = plan_placement(tables, placement("host:auto,nvme"), limits);
  REQUIRE(plan.ok());
  const std::vector<RowRange>& first = plan.value().tables[0].ranges;
  REQUIRE(first.size() == 1);
  CHECK(first[0].tier == Tier::kHost);
  const std::vector<RowRange>& second = plan.value().tables[1].ranges;
  REQUIRE(second.size() == 2);
  CHECK(second[0].tier == Tier::kNvme);
  CHECK(second[0].first == 0);
  CHECK(second[0].end == 10 * 4096 + 2048);
  CHECK(second[1].tier == Tier::kHost);
  CHECK(second[1].first == second[0].end);
  CHECK(second[1].end == 65536);
  const std::vector<std::string> expected = {
      "placement host:auto,nvme: 32.0 MiB in 2 tables",
      "host: 32.0 MiB wanted, 30.0 MiB available less 6.0 MiB weights and 1.5 MiB reserve: "
      "22.5 MiB; takes 21.5 MiB",
      "layer 1: rows 0 to 65535 of 65536 in host (all columns, 16.0 MiB)",
      "layer 14: rows 0 to 43007 of 65536 in nvme (columns 0 to 9 and 50.0 % of column 10, "
      "10.5 MiB)",
      "layer 14: rows 43008 to 65535 of 65536 in host (columns 11 to 15 and 50.0 % of column 10, "
      "5.5 MiB)"};
  CHECK(plan.value().lines == expected);
}

TEST_CASE("rows that belong to no column are called padding", "[placement]") {
  PlannedTable padded = example("layer 1");
  padded.geometry.rows += 100;
  const Result<PlacementPlan> plan =
      plan_placement({padded}, placement("host:10KiB,nvme"), {.host_bytes = kMiB});
  REQUIRE(plan.ok());
  CHECK(
      plan.value().lines.back() ==
      "layer 1: rows 65596 to 65635 of 65636 in host (padding, 10.0 KiB)");
}

TEST_CASE("three tiers", "[placement]") {
  const PlacementLimits limits{
      .host_bytes = 20 * kMiB, .hbm_bytes = 8 * kMiB, .hbm_uses = {{"weights", 2 * kMiB}}};
  const Result<PlacementPlan> plan =
      plan_placement({example("layer 1")}, placement("hbm:4MiB,host:8MiB,nvme"), limits);
  REQUIRE(plan.ok());
  const std::vector<RowRange>& ranges = plan.value().tables[0].ranges;
  REQUIRE(ranges.size() == 3);
  CHECK(ranges[0].tier == Tier::kNvme);
  CHECK(ranges[0].end == 4 * 4096);
  CHECK(ranges[1].tier == Tier::kHost);
  CHECK(ranges[1].end == 12 * 4096);
  CHECK(ranges[2].tier == Tier::kHbm);
  CHECK(plan.value().hbm_bytes == 4 * kMiB);
  CHECK(plan.value().host_bytes == 8 * kMiB);
  CHECK(plan.value().nvme_bytes == 4 * kMiB);
}

TEST_CASE("a tier that is missing is an error and not another tier", "[placement]") {
  const PlacementLimits limits{.host_bytes = kGiB, .no_hbm = "there is no CUDA device"};
  const Status hbm =
      plan_placement({example("layer 1")}, placement("hbm:1MiB,host,nvme"), limits).status();
  CHECK(hbm.code() == Code::kFailedPrecondition);
  CHECK_THAT(hbm.message(), Catch::Contains("there is no CUDA device"));

  PlannedTable tensors = example("layer 2");
  tensors.not_on_nvme = "it comes from checkpoint tensors";
  const Status nvme = plan_placement({tensors}, placement("host:3MiB,nvme"), limits).status();
  CHECK(nvme.code() == Code::kFailedPrecondition);
  CHECK_THAT(nvme.message(), Catch::Contains("13.0 MiB of layer 2 would be on nvme"));
  CHECK_THAT(nvme.message(), Catch::Contains("it comes from checkpoint tensors"));
  CHECK(
      plan_placement({tensors}, placement("nvme"), limits).status().code() ==
      Code::kFailedPrecondition);
  // With a table that can be on nvme, the other one has the host for itself.
  const Result<PlacementPlan> mixed =
      plan_placement({example("layer 1"), tensors}, placement("host:18MiB,nvme"), limits);
  REQUIRE(mixed.ok());
  CHECK(mixed.value().tables[1].ranges.size() == 1);
  CHECK(mixed.value().tables[1].ranges[0].tier == Tier::kHost);
  CHECK(mixed.value().tables[0].ranges.size() == 2);
}

TEST_CASE("what does not fit is refused with the numbers", "[placement]") {
  const PlacementLimits limits{
      .host_bytes = 24 * kMiB, .host_uses = {{"weights", 4 * kMiB}, {"cache", 30 * kMiB}}};
  const std::vector<PlannedTable> tables = {example("layer 1"), example("layer 14")};
  const Status left = plan_placement(tables, placement("host"), limits).status();
  CHECK(left.code() == Code::kResourceExhausted);
  CHECK(
      left.message() ==
      "table placement \"host\": no place for 32.0 MiB of table rows, from layer 1 on (host: "
      "32.0 MiB wanted, 24.0 MiB available less 4.0 MiB weights and 30.0 MiB cache: 0); add "
      "nvme to read those rows from the table file");
  const Status asked =
      plan_placement(tables, placement("host:25MiB,nvme"), {.host_bytes = kMiB}).status();
  CHECK(asked.code() == Code::kResourceExhausted);
  CHECK_THAT(asked.message(), Catch::Contains("25.0 MiB of host wanted, 1.0 MiB available"));
  // More may be asked for than the tables need.
  CHECK(plan_placement(tables, placement("host:1TiB"), {.host_bytes = kGiB}).ok());
}

TEST_CASE("random plans place every row once and keep to the budgets", "[placement]") {
  constexpr uint32_t kSeed = 81;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    std::vector<PlannedTable> tables;
    for (int64_t t = below(4); t >= 0; --t) {
      tables.push_back(table(
          "layer " + std::to_string(t), 1 + static_cast<int>(below(24)), 1 + below(100000),
          1 + below(600)));
      // Padding rows belong to no column.
      tables.back().geometry.rows += below(100);
      tables.back().slack_bytes = below(2) * below(1 << 20);
    }
    const PlacementLimits limits{
        .host_bytes = below(1 << 30),
        .host_uses = {{"a", below(1 << 20)}},
        .hbm_bytes = below(1 << 28)};
    const Result<PlacementPlan> plan = plan_placement(tables, placement("hbm,host,nvme"), limits);
    REQUIRE(plan.ok());
    CHECK(plan.value().hbm_bytes <= limits.hbm_bytes);
    CHECK(
        plan.value().host_bytes <=
        std::max<int64_t>(0, limits.host_bytes - limits.host_uses[0].bytes));
    int64_t bytes = 0;
    for (size_t t = 0; t < tables.size(); ++t) {
      int64_t end = 0;
      Tier slowest = Tier::kNvme;
      for (const RowRange& range : plan.value().tables[t].ranges) {
        CHECK(range.first == end);
        CHECK(range.end > range.first);
        CHECK(range.bytes == (range.end - range.first) * tables[t].row_bytes);
        CHECK(range.tier <= slowest);
        slowest = range.tier;
        end = range.end;
        bytes += range.bytes;
      }
      CHECK(end == tables[t].geometry.rows);
    }
    CHECK(bytes == plan.value().hbm_bytes + plan.value().host_bytes + plan.value().nvme_bytes);
  }
}

}  // namespace
}  // namespace engram::memory
