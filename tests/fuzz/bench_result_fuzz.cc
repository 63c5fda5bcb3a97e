// Any text as the file of a result. What is read must give a report that is well-formed and holds
// no script, a flat table, and a comparison with itself that finds no difference.
#include <cstdint>
#include <string>

#include "memory/base/status.h"
#include "tests/support/xml_check.h"
#include "tools/bench/compare_results.h"
#include "tools/bench/report.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace bench = engram::tools::bench;
  const std::string text(reinterpret_cast<const char*>(data), size);
  bench::ResultSet results;
  if (!bench::parse_results(text, "result.json", &results).ok()) return 0;
  const std::string page = bench::report_page(results);
  ENGRAM_CHECK(engram::tests::xml_error(page).empty());
  ENGRAM_CHECK(page.find("<script") == std::string::npos);
  ENGRAM_CHECK(bench::report_csv(results).ends_with("\r\n"));
  const auto comparison = bench::compare_results(results, results);
  if (!comparison.ok()) return 0;
  ENGRAM_CHECK(!bench::comparison_text(comparison.value()).empty());
  ENGRAM_CHECK(!bench::comparison_json(comparison.value()).empty());
  for (const bench::MetricDifference& d : comparison.value().metrics) {
    ENGRAM_CHECK(!d.difference || *d.difference == 0);
  }
  return 0;
}
