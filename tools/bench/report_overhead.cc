#include "tools/bench/report_overhead.h"

#include <algorithm>

#include "tools/bench/html_page.h"
#include "tools/bench/overhead_curves.h"
#include "tools/bench/overhead_points.h"
#include "tools/bench/report_settings.h"
#include "tools/bench/svg_bars.h"
#include "tools/bench/svg_plot.h"

namespace engram::tools::bench {
namespace {

using Runs = std::vector<OverheadResult>;

std::string plain_name(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

Cell overhead_cell(const OverheadComparison& c) {
  const std::string text = c.text.empty() ? percent_cell(c.percent).text : c.text;
  return {.text = text, .number = c.percent};
}

// A row per point, a column per arm over a baseline.
std::string summary_table(const Runs& runs) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      for (const OverheadComparison& c : point.comparisons) {
        const std::pair<std::string, std::string> pair(c.arm, c.baseline);
        if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
      }
    }
  }
  const bool several = runs.size() > 1;
  Table table{.header = {"point", "overhead in"}, .rows = {}};
  if (several) table.header.push_back("run");
  for (const auto& [arm, baseline] : pairs) table.header.push_back(arm + " over " + baseline);
  table.header.push_back("quiet");
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      const std::string& metric = point.metric;
      std::vector<Cell> row = {text_cell(describe_point(point)), text_cell(metric_title(metric))};
      if (several) row.push_back(text_cell(run_title(run)));
      for (const auto& [arm, baseline] : pairs) {
        row.push_back(text_cell("–"));
        for (const OverheadComparison& c : point.comparisons) {
          const bool here = c.arm == arm && c.baseline == baseline && c.metric == metric;
          if (here) row.back() = overhead_cell(c);
        }
      }
      row.push_back(text_cell(point.quiet ? "yes" : "NOISY"));
      row.back().bad = !point.quiet;
      table.rows.push_back(std::move(row));
    }
  }
  return table_html(table);
}

std::string comparisons_table(const Runs& runs) {
  Table table{
      .header = {"point", "run", "arm", "baseline", "metric", "overhead", "quiet"}, .rows = {}};
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      for (const OverheadComparison& c : point.comparisons) {
        table.rows.push_back(
            {text_cell(describe_point(point)), text_cell(run_title(run)), text_cell(c.arm),
             text_cell(c.baseline), text_cell(metric_title(c.metric)), overhead_cell(c),
             text_cell(point.quiet ? "yes" : "NOISY")});
        table.rows.back().back().bad = !point.quiet;
      }
    }
  }
  return details_html("All comparisons", table_html(table), false);
}

std::string flatness_table(const Runs& runs) {
  Table table{.header = {"cost by table size", "run", "flat within the intervals"}, .rows = {}};
  for (const OverheadResult& run : runs) {
    for (const OverheadFlatness& f : run.flatness) {
      table.rows.push_back(
          {text_cell(f.text), text_cell(run_title(run)), text_cell(f.flat ? "yes" : "NO")});
      table.rows.back().back().bad = !f.flat;
    }
  }
  return table.rows.empty() ? "" : table_html(table);
}

std::string split_figure(const Runs& runs) {
  const std::string title = "Split of the cost";
  StackedBars bars{
      .title = title, .x = {.label = "share of the step (%)"}, .parts = {}, .bars = {}};
  Table numbers{.header = {"point", "run"}, .rows = {}};
  std::vector<std::string> parts;
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      for (const Metric& part : point.split_percent) {
        if (std::find(parts.begin(), parts.end(), part.name) == parts.end()) {
          parts.push_back(part.name);
        }
      }
    }
  }
  for (const std::string& part : parts) {
    bars.parts.push_back(plain_name(part));
    numbers.header.push_back(plain_name(part) + " (%)");
  }
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      if (point.split_percent.empty()) continue;
      StackedBar bar{.name = describe_point(point), .parts = {}};
      std::vector<Cell> row = {text_cell(bar.name), text_cell(run_title(run))};
      for (const std::string& name : parts) {
        std::optional<double> value;
        for (const Metric& part : point.split_percent) {
          if (part.name == name) value = part.value;
        }
        bar.parts.push_back(value.value_or(kNone));
        row.push_back(percent_cell(value));
      }
      bars.bars.push_back(std::move(bar));
      numbers.rows.push_back(std::move(row));
    }
  }
  if (bars.bars.empty()) {
    return missing_figure_html(title, "needs the arms that tell the parts apart (--arms N,Z,S,D).");
  }
  return figure_html(
      {.title = title,
       .note = "Where the cost over no Engram goes. Parts that were not measured are not drawn.",
       .warning = "",
       .legend = legend_of(bars),
       .drawing = draw_stacked_bars(bars),
       .numbers = std::move(numbers)});
}

}  // namespace

std::string overhead_report(const std::vector<OverheadResult>& runs) {
  if (runs.empty()) return "";
  std::string out = heading_html("What the tables cost");
  std::vector<RunSettings> settings;
  for (const OverheadResult& run : runs) {
    settings.push_back({run_title(run), run.settings});
    std::string about = run_title(run) + ": " + run.kind;
    if (!run.date.empty()) about += ", " + run.date;
    if (!run.command.empty()) about += ". Command: " + run.command;
    out += paragraph_html(about);
    for (const std::string& warning : run.warnings) {
      out += warning_html(run_title(run) + ": " + warning);
    }
  }
  out += settings_html(settings) + summary_table(runs) + comparisons_table(runs);
  out += overhead_curves(runs, Along::kBatch);
  out += overhead_curves(runs, Along::kTableSize) + flatness_table(runs);
  out += overhead_curves(runs, Along::kPromptLength);
  out += figure_grid_html(split_figure(runs));
  return out + overhead_points(runs);
}

}  // namespace engram::tools::bench
