#include "server/table_messages.h"

#include <catch2/catch.hpp>

namespace engram::server {
namespace {

memory::TableReport some_report() {
  memory::TableReport report;
  report.layer = 4;
  report.version = "0123456789abcdef";
  report.source = "t/layer-4.engram-table";
  report.placement = "host, 97 % huge pages";
  report.codec = "bf16";
  report.rows = int64_t{1} << 40;
  report.columns = 8;
  report.row_width = 64;
  report.row_bytes = 128;
  report.bytes = int64_t{1} << 47;
  report.tiers = {{"host", 3, 384}, {"nvme", 5, 640}};
  report.memory = "2 MiB hugetlb";
  report.huge_share = 0.97;
  report.numa_nodes = {0, 2};
  report.pinned_bytes = 384;
  report.pin_seconds = 0.25;
  report.findings = {"memlock is 64 KiB"};
  report.load_bytes = 1000;
  report.loaded_bytes = 500;
  report.load_seconds = 2;
  report.load_method = "io_uring, 2 threads, direct";
  report.stats.rows_read = 7;
  report.stats.cache_hits = 3;
  report.stats.failed_rows = 1;
  return report;
}

}  // namespace

TEST_CASE("a table's report becomes a message with everything in it", "[tables]") {
  v1::Table table;
  describe_table(some_report(), &table);
  CHECK(table.layer() == 4);
  CHECK(table.version() == "0123456789abcdef");
  CHECK(table.source() == "t/layer-4.engram-table");
  CHECK(table.placement() == "host, 97 % huge pages");
  CHECK(table.codec() == "bf16");
  CHECK(table.rows() == uint64_t{1} << 40);
  CHECK(table.columns() == 8);
  CHECK(table.row_width() == 64);
  CHECK(table.row_bytes() == 128);
  CHECK(table.bytes() == uint64_t{1} << 47);
  REQUIRE(table.tiers_size() == 2);
  CHECK(table.tiers(1).name() == "nvme");
  CHECK(table.tiers(1).rows() == 5);
  CHECK(table.tiers(1).bytes() == 640);
  CHECK(table.memory().huge_page_share() == 0.97);
  CHECK(table.memory().numa_nodes(1) == 2);
  CHECK(table.memory().pinned_bytes() == 384);
  CHECK(table.memory().pin_seconds() == 0.25);
  CHECK_FALSE(table.memory().shared());
  CHECK(table.memory().findings(0) == "memlock is 64 KiB");
  CHECK(table.load().bytes_done() == 500);
  CHECK(table.load().bytes_total() == 1000);
  CHECK(table.load().bytes_per_second() == 250);
  CHECK(table.load().method() == "io_uring, 2 threads, direct");
  CHECK(table.traffic().rows_read() == 7);
  CHECK(table.traffic().cache_hits() == 3);
  CHECK(table.traffic().failed_rows() == 1);
}

TEST_CASE(
    "a table without memory of its own and without a load says nothing about them", "[tables]") {
  memory::TableReport report = some_report();
  report.memory.clear();
  report.load_bytes = 0;
  v1::Table table;
  describe_table(report, &table);
  CHECK_FALSE(table.has_memory());
  CHECK_FALSE(table.has_load());
}

}  // namespace engram::server
