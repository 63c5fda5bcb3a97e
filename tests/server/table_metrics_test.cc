#include "server/table_metrics.h"

#include <prometheus/text_serializer.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace engram::server {
namespace {

memory::TableReport report_of(int layer, const std::string& version, int64_t rows_read) {
  memory::TableReport report;
  report.layer = layer;
  report.version = version;
  report.codec = "bf16";
  report.tiers = {{"host", 30, 3000}, {"nvme", 70, 7000}};
  report.numa_nodes = {0, 1};
  report.huge_share = 0.5;
  report.pinned_bytes = 3000;
  report.load_bytes = 3000;
  report.loaded_bytes = 1500;
  report.load_seconds = 2;
  report.stats.rows_read = rows_read;
  report.stats.cache_hits = rows_read / 2;
  return report;
}

class Scrape {
 public:
  void observe(const std::vector<memory::TableReport>& reports) { metrics_.observe(reports); }
  std::string text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }
  // The value of name{layer="L",<more>}; -1 when there is no such line.
  double value(const std::string& name, const std::string& labels) const {
    const std::string all = text();
    const std::string line = "\n" + name + "{" + labels + "} ";
    const size_t at = all.find(line);
    return at == std::string::npos ? -1 : std::stod(all.substr(at + line.size()));
  }

 private:
  prometheus::Registry registry_;
  TableMetrics metrics_{registry_, "m"};
};

}  // namespace

TEST_CASE("table metrics: values by layer and tier", "[metrics]") {
  Scrape scrape;
  scrape.observe({report_of(1, "a", 10), report_of(4, "b", 20)});
  CAPTURE(scrape.text());
  CHECK(scrape.value("engram_table_rows", R"(layer="1",model_name="m",tier="host")") == 30);
  CHECK(scrape.value("engram_table_bytes", R"(layer="4",model_name="m",tier="nvme")") == 7000);
  CHECK(scrape.value("engram_table_huge_page_ratio", R"(layer="1",model_name="m")") == 0.5);
  CHECK(scrape.value("engram_table_load_ratio", R"(layer="1",model_name="m")") == 0.5);
  CHECK(scrape.value("engram_table_pinned_bytes", R"(layer="1",model_name="m")") == 3000);
  CHECK(scrape.value("engram_table_rows_read_total", R"(layer="4",model_name="m")") == 20);
  CHECK(
      scrape.value(
          "engram_table_info",
          R"(codec="bf16",layer="1",model_name="m",numa_nodes="0,1",shared="false",version="a")") ==
      1);
}

TEST_CASE("table metrics: counters grow by differences and survive a swap", "[metrics]") {
  Scrape scrape;
  const std::string layer = R"(layer="1",model_name="m")";
  scrape.observe({report_of(1, "a", 100)});
  scrape.observe({report_of(1, "a", 100)});
  CHECK(scrape.value("engram_table_rows_read_total", layer) == 100);
  scrape.observe({report_of(1, "a", 150)});
  CHECK(scrape.value("engram_table_rows_read_total", layer) == 150);
  CHECK(scrape.value("engram_table_cache_hits_total", layer) == 75);
  memory::TableReport swapped = report_of(1, "b", 20);
  swapped.tiers.pop_back();
  scrape.observe({swapped});
  CAPTURE(scrape.text());
  CHECK(scrape.value("engram_table_rows_read_total", layer) == 170);
  CHECK(scrape.value("engram_table_rows", layer + R"(,tier="host")") == 30);
  CHECK(scrape.value("engram_table_rows", layer + R"(,tier="nvme")") == -1);
  CHECK(scrape.text().find(R"(version="a")") == std::string::npos);
  CHECK(scrape.text().find(R"(version="b")") != std::string::npos);
}

TEST_CASE("table metrics: a table that loads nothing counts as loaded", "[metrics]") {
  Scrape scrape;
  memory::TableReport report = report_of(1, "a", 0);
  report.load_bytes = 0;
  report.loaded_bytes = 0;
  scrape.observe({report});
  CHECK(scrape.value("engram_table_load_ratio", R"(layer="1",model_name="m")") == 1);
}

}  // namespace engram::server
