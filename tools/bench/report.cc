#include "tools/bench/report.h"

#include <set>

#include "tools/bench/html_page.h"
#include "tools/bench/report_overhead.h"
#include "tools/bench/report_serve.h"

namespace engram::tools::bench {
namespace {

std::string title_of(const ResultSet& results) {
  std::set<std::string> labels;
  for (const ServeResult& run : results.serve) labels.insert(run.label);
  for (const OverheadResult& run : results.overhead) labels.insert(run.label);
  labels.erase("");
  std::string title = "engram bench";
  if (labels.empty() || labels.size() > 4) return title;
  title += ":";
  std::string comma = " ";
  for (const std::string& label : labels) {
    title += comma + label;
    comma = ", ";
  }
  return title;
}

}  // namespace

std::string report_page(const ResultSet& results) {
  return page_html(
      title_of(results), serve_report(results.serve) + overhead_report(results.overhead));
}

}  // namespace engram::tools::bench
