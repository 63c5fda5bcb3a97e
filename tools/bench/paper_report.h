// What `engram bench paper` found, beside what the paper says.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/overhead_report.h"
#include "tools/bench/paper_model.h"

namespace engram::tools::bench {

struct PaperModelResult {
  ModelFacts facts;
  std::string scaled_down;  // of this model alone; empty: not
  ReportPoint point;        // of one workload; no rounds: not measured
};

struct PaperReport {
  // x_kind, machine, settings, peaks, scaled_down of all models together. Points are made of
  // `models`.
  OverheadReport run;
  std::vector<PaperModelResult> models;
};

// As the paper counts: tokens per second that are lost, in percent of those without tables. No
// rounds: not measured in enough of them.
Estimate loss_percent(const PointResult& point, const std::string& arm);

// The JSON of an overhead report with "x_kind": "paper"; each point names its model, "models" has
// the facts of all, "paper" the paper's figures beside the measured ones.
std::string paper_json(const PaperReport& report);
std::string paper_text(const PaperReport& report);

}  // namespace engram::tools::bench
