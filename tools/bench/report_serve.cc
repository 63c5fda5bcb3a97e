#include "tools/bench/report_serve.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "tools/bench/html_page.h"
#include "tools/bench/report_requests.h"
#include "tools/bench/report_settings.h"
#include "tools/bench/serve_quantities.h"
#include "tools/bench/serve_sweep.h"

namespace engram::tools::bench {
namespace {

using Runs = std::vector<ServeResult>;

std::string summary_table(const Runs& runs) {
  const std::vector<Quantity> quantities = {
      {"requests/s", request_throughput},
      {"output tokens/s", output_throughput},
      {"input and output tokens/s", total_throughput},
      {"TTFT p50 (ms)", ttft_p50},
      {"TTFT p99 (ms)", ttft_p99},
      {"TPOT p50 (ms)", tpot_p50},
      {"TPOT p99 (ms)", tpot_p99}};
  Table table{.header = {"run", "file", "date", "completed", "failed"}, .rows = {}};
  for (const Quantity& q : quantities) table.header.push_back(q.name);
  table.header.push_back("to be trusted");
  for (const ServeResult& run : runs) {
    std::vector<Cell> row = {
        text_cell(describe_run(run)), text_cell(run.file), text_cell(run.date),
        number_cell(run.metric("completed")), number_cell(run.metric("failed"))};
    for (const Quantity& q : quantities) row.push_back(number_cell(q.value(run)));
    row.push_back(text_cell(run.warnings.empty() ? "yes" : "NO, see above"));
    row.back().bad = !run.warnings.empty();
    table.rows.push_back(row);
  }
  return table_html(table);
}

// Every metric of every run: nothing that the files say is left out of the page.
std::string metrics_table(const Runs& runs) {
  Table table{.header = {"metric"}, .rows = {}};
  std::vector<std::string> names;
  for (const ServeResult& run : runs) {
    table.header.push_back(describe_run(run));
    for (const Metric& m : run.metrics) {
      if (std::find(names.begin(), names.end(), m.name) == names.end()) names.push_back(m.name);
    }
  }
  for (const std::string& name : names) {
    table.rows.push_back({text_cell(name)});
    for (const ServeResult& run : runs) {
      table.rows.back().push_back(number_cell(run.metric(name)));
    }
  }
  return details_html("All metrics", table_html(table), false);
}

}  // namespace

std::string serve_report(std::vector<ServeResult> runs) {
  if (runs.empty()) return "";
  std::stable_sort(runs.begin(), runs.end(), [](const ServeResult& a, const ServeResult& b) {
    const auto key = [](const ServeResult& r) {
      return std::tuple(series_name(r), r.request_rate, r.max_concurrency.value_or(INFINITY));
    };
    return key(a) < key(b);
  });
  std::string out = heading_html("Load runs");
  std::vector<RunSettings> settings;
  for (const ServeResult& run : runs) {
    settings.push_back({describe_run(run), run.settings});
    for (const std::string& warning : run.warnings) {
      out += warning_html(describe_run(run) + ": " + warning);
    }
  }
  out += summary_table(runs) + settings_html(settings) + metrics_table(runs);
  out += figure_grid_html(sweep_figures(runs) + interactivity_figure(runs) + request_figures(runs));
  return out;
}

}  // namespace engram::tools::bench
