// A small run for the tests of reports: two completed requests, one failed, one never sent.
#pragma once

#include <vector>

#include "tools/bench/serve_metrics.h"
#include "tools/bench/serve_report.h"

namespace engram::tests {

inline std::vector<tools::bench::RequestRecord> sample_records() {
  using tools::bench::Outcome;
  std::vector<tools::bench::RequestRecord> records(4);
  for (size_t i = 0; i < 3; ++i) {
    const double at = static_cast<double>(i);
    records[i].outcome = Outcome::kCompleted;
    records[i].planned_s = at;
    records[i].ready_s = at + 0.25;
    records[i].sent_s = at + 0.2505;
    records[i].messages = {{at + 0.5, 1}, {at + 0.6, 3}};
    records[i].done_s = at + 0.6;
    records[i].prompt_tokens = 100;
    records[i].output_tokens = 4;
    records[i].bytes = 300;
    records[i].text = "text";
  }
  records[2].outcome = Outcome::kFailed;
  records[2].error = "UNAVAILABLE: \"gone\", twice";
  records[2].messages.clear();
  records[2].output_tokens = 0;
  records[3].planned_s = 3;
  return records;
}

inline tools::bench::ServeMetrics sample_metrics(const tools::bench::ServeRun& run, double cpu_s) {
  const std::vector<tools::bench::RequestRecord> records = sample_records();
  return tools::bench::serve_metrics(
      records, 4,
      {.percentiles = tools::bench::report_percentiles(run.percentiles),
       .objectives = run.objectives},
      {.cpu_s = cpu_s});
}

}  // namespace engram::tests
