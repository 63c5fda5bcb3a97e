#include "tools/bench/overhead_curves.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "tools/bench/html_page.h"
#include "tools/bench/number_text.h"
#include "tools/bench/svg_plot.h"

namespace engram::tools::bench {
namespace {

// One comparison with all that it belongs to.
struct Entry {
  const OverheadResult* run;
  const OverheadPoint* point;
  const OverheadComparison* comparison;
};

// What a figure shows: everything in it has these in common.
struct FigureKey {
  int rank;  // of the metric, so that the most telling figures come first
  std::string workload;
  std::string tokens;  // "512 + 32 tokens"
  bool other_base;     // than N, which comes first
  std::string baseline;
  std::string metric;
  auto operator<=>(const FigureKey&) const = default;
};

std::string tokens_text(const OverheadPoint& p, Along along) {
  if (!p.input_tokens || !p.output_tokens) return "";
  if (along == Along::kPromptLength) {
    const std::string out = p.output_tokens->text();
    return out + (out == "1" ? " token out" : " tokens out");
  }
  return p.input_tokens->text() + " + " + p.output_tokens->text() + " tokens";
}

std::optional<double> place(const OverheadPoint& p, Along along) {
  if (along == Along::kBatch) return p.batch;
  if (along == Along::kTableSize) return p.table_parameters;
  const bool exact = p.input_tokens && p.input_tokens->low == p.input_tokens->high;
  return exact ? std::optional<double>(p.input_tokens->low) : std::nullopt;
}

std::map<FigureKey, std::vector<Entry>> figures_of(
    const std::vector<OverheadResult>& runs, Along along) {
  std::map<FigureKey, std::vector<Entry>> figures;
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      if (!place(point, along)) continue;
      for (const OverheadComparison& c : point.comparisons) {
        if (!c.percent) continue;
        const FigureKey key{
            c.metric == point.metric ? 0 : 1,
            point.workload,
            tokens_text(point, along),
            c.baseline != "N",
            c.baseline,
            c.metric};
        figures[key].push_back({&run, &point, &c});
      }
    }
  }
  return figures;
}

// What curves may differ in besides their arms.
struct Traits {
  std::string run;
  std::string batch;
  std::string table;
  std::string contention;
};

Traits traits_of(const Entry& entry, Along along) {
  const OverheadPoint& p = *entry.point;
  const std::string batch = p.batch ? "batch " + short_number(*p.batch) : "";
  const std::string table =
      p.table_parameters ? "table " + axis_number(*p.table_parameters, true) : "";
  return {
      run_title(*entry.run), along == Along::kBatch ? "" : batch,
      along == Along::kTableSize ? "" : table, p.contention ? "under contention" : "alone"};
}

// Arm and baseline, and those traits in which curves of the figure differ.
class CurveNames {
 public:
  CurveNames(const std::vector<Entry>& entries, Along along) : along_(along) {
    for (const Entry& entry : entries) {
      const Traits traits = traits_of(entry, along);
      runs_.insert(traits.run);
      batches_.insert(traits.batch);
      tables_.insert(traits.table);
      contentions_.insert(traits.contention);
    }
  }
  std::string of(const Entry& entry) const {
    const Traits traits = traits_of(entry, along_);
    std::string name = entry.comparison->arm + " over " + entry.comparison->baseline;
    if (batches_.size() > 1) name += ", " + traits.batch;
    if (tables_.size() > 1) name += ", " + traits.table;
    if (contentions_.size() > 1) name += ", " + traits.contention;
    if (runs_.size() > 1) name += ", " + traits.run;
    return name;
  }

 private:
  Along along_;
  std::set<std::string> runs_;
  std::set<std::string> batches_;
  std::set<std::string> tables_;
  std::set<std::string> contentions_;
};

PlotPoint plot_point(const Entry& entry, Along along) {
  const OverheadComparison& c = *entry.comparison;
  return {
      .x = *place(*entry.point, along),
      .y = *c.percent,
      .low = c.low.value_or(kNone),
      .high = c.high.value_or(kNone),
      .doubtful = !entry.point->quiet,
      .hint = describe_point(*entry.point) + ": " + c.text};
}

bool one_curve_per_arm(const std::vector<Entry>& entries, const CurveNames& names) {
  std::set<std::string> arms;
  std::set<std::string> curves;
  for (const Entry& entry : entries) {
    arms.insert(entry.comparison->arm);
    curves.insert(names.of(entry));
  }
  return arms.size() == curves.size() && arms.size() > 1;
}

std::vector<PlotSeries> curves_of(const std::vector<Entry>& entries, Along along) {
  const CurveNames names(entries, along);
  const bool by_arm = one_curve_per_arm(entries, names);
  std::vector<PlotSeries> curves;
  for (const Entry& entry : entries) {
    const std::string name = names.of(entry);
    const auto same = [&](const PlotSeries& s) { return s.name == name; };
    auto curve = std::find_if(curves.begin(), curves.end(), same);
    if (curve == curves.end()) {
      const int index = static_cast<int>(curves.size());
      const int colour = by_arm ? arm_colour(entry.comparison->arm) : index;
      curves.push_back({.name = name, .points = {}, .colour = colour, .dash = (index / 8) % 3});
      curve = curves.end() - 1;
    }
    curve->points.push_back(plot_point(entry, along));
  }
  for (PlotSeries& curve : curves) {
    std::stable_sort(
        curve.points.begin(), curve.points.end(),
        [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
  }
  return curves;
}

// Intervals of curves at one place would cover each other.
void spread_out(std::vector<PlotSeries>* curves) {
  const double middle = (static_cast<double>(curves->size()) - 1) / 2;
  const double step = std::min(7., 24 / std::max(1., middle));
  for (size_t i = 0; i < curves->size(); ++i) {
    (*curves)[i].nudge = step * (static_cast<double>(i) - middle);
  }
}

std::string arm_title(const Entry& entry, const std::string& key) {
  for (const ArmResult& arm : entry.point->arms) {
    if (arm.key == key && !arm.name.empty()) return key + " (" + arm.name + ")";
  }
  return key;
}

Table numbers_of(const std::vector<Entry>& entries) {
  Table table{
      .header = {"point", "run", "arm", "baseline", "overhead (%)", "low", "high", "quiet"},
      .rows = {}};
  for (const Entry& e : entries) {
    const OverheadComparison& c = *e.comparison;
    table.rows.push_back(
        {text_cell(describe_point(*e.point)), text_cell(run_title(*e.run)), text_cell(c.arm),
         text_cell(c.baseline), percent_cell(c.percent), percent_cell(c.low), percent_cell(c.high),
         text_cell(e.point->quiet ? "yes" : "NOISY")});
    table.rows.back().back().bad = !e.point->quiet;
  }
  return table;
}

const char* label_of(Along along) {
  switch (along) {
    case Along::kBatch:
      return "batch (sequences)";
    case Along::kTableSize:
      return "table size (parameters)";
    case Along::kPromptLength:
      return "prompt (tokens)";
  }
  return "";
}

const char* against(Along along) {
  switch (along) {
    case Along::kBatch:
      return " against batch size";
    case Along::kTableSize:
      return " against table size";
    case Along::kPromptLength:
      return " against prompt length";
  }
  return "";
}

std::string missing(Along along) {
  switch (along) {
    case Along::kBatch:
      return "needs several batch sizes (--workload w3 --batch 1,4,16).";
    case Along::kTableSize:
      return "needs several table sizes (--table-parameters 0.1e9,1e9,4e9).";
    case Along::kPromptLength:
      return "needs several prompt lengths (--workload w4 --prompt-len 512,2048).";
  }
  return "";
}

Axis axis_of(const std::vector<Entry>& entries, Along along) {
  Axis axis;
  axis.label = label_of(along);
  axis.billions = along == Along::kTableSize;
  axis.log = true;
  std::set<double> places;
  for (const Entry& entry : entries) places.insert(*place(*entry.point, along));
  if (along == Along::kBatch || places.size() <= 6) {
    for (const double at : places) {
      axis.ticks.push_back({at, axis.billions ? axis_number(at, true) : short_number(at)});
    }
  }
  return axis;
}

// "D, S".
std::string arms_of(const std::vector<Entry>& entries) {
  std::set<std::string> seen;
  std::string arms;
  for (const Entry& entry : entries) {
    const std::string& arm = entry.comparison->arm;
    if (!seen.insert(arm).second) continue;
    arms.append(arms.empty() ? "" : ", ").append(arm);
  }
  return arms;
}

std::string figure(const FigureKey& key, const std::vector<Entry>& entries, Along along) {
  Plot plot;
  plot.title = along == Along::kTableSize ? "Cost of " : "Overhead of ";
  plot.title.append(arms_of(entries)).append(" over ").append(key.baseline);
  plot.title.append(against(along)).append(": ").append(metric_title(key.metric));
  plot.title.append(", ").append(key.workload);
  if (!key.tokens.empty()) plot.title += ", " + key.tokens;
  plot.x = axis_of(entries, along);
  plot.y = {.label = "overhead (%)", .zero = true};
  plot.series = curves_of(entries, along);
  spread_out(&plot.series);
  bool noisy = false;
  for (const Entry& entry : entries) noisy = noisy || !entry.point->quiet;
  return figure_html(
      {.title = plot.title,
       .note = "How much slower than " + arm_title(entries.front(), key.baseline) +
               ", with the interval over the rounds; below 0 is faster. Where an interval holds 0, "
               "no cost can be told from none.",
       .warning =
           noisy ? "Noisy: points with open marks were not quiet enough to be believed." : "",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = numbers_of(entries)});
}

// Curves of all arms in one figure; a figure per arm where they would be too many.
std::string figures(const FigureKey& key, const std::vector<Entry>& entries, Along along) {
  constexpr size_t kMostCurves = 6;
  if (curves_of(entries, along).size() <= kMostCurves) return figure(key, entries, along);
  std::vector<std::string> arms;
  std::map<std::string, std::vector<Entry>> by_arm;
  for (const Entry& entry : entries) {
    const std::string& arm = entry.comparison->arm;
    if (by_arm[arm].empty()) arms.push_back(arm);
    by_arm[arm].push_back(entry);
  }
  std::string out;
  for (const std::string& arm : arms) out += figure(key, by_arm[arm], along);
  return out;
}

size_t places_along(const std::vector<Entry>& entries, Along along) {
  std::set<double> places;
  for (const Entry& entry : entries) places.insert(*place(*entry.point, along));
  return places.size();
}

}  // namespace

std::string metric_title(const std::string& metric) {
  static constexpr std::array<std::pair<const char*, const char*>, 7> kTitles = {
      {{"output_throughput", "output throughput"},
       {"total_throughput", "total throughput"},
       {"ttft_ms", "TTFT"},
       {"ttft_p99_ms", "TTFT p99"},
       {"tpot_ms", "TPOT"},
       {"tpot_p99_ms", "TPOT p99"},
       {"step_ms", "step time"}}};
  for (const auto& [name, title] : kTitles) {
    if (metric == name) return title;
  }
  return metric;
}

int arm_colour(const std::string& key) {
  static constexpr std::array<std::pair<const char*, int>, 6> kColours = {
      {{"N", 7}, {"Z", 4}, {"H", 2}, {"D", 0}, {"S", 1}, {"V", 3}}};
  for (const auto& [name, colour] : kColours) {
    if (key == name) return colour;
  }
  return 5;
}

std::string run_title(const OverheadResult& run) {
  return run.label.empty() ? run.file : run.label;
}

std::string overhead_curves(const std::vector<OverheadResult>& runs, Along along) {
  std::string first;
  std::string folded;
  for (const auto& [key, entries] : figures_of(runs, along)) {
    if (places_along(entries, along) < 2) continue;
    (key.rank == 0 ? first : folded) += figures(key, entries, along);
  }
  if (first.empty() && folded.empty()) {
    const std::string title = along == Along::kTableSize ? "Cost" : "Overhead";
    return missing_figure_html(title + against(along), missing(along));
  }
  if (!folded.empty()) folded = details_html("Other metrics", figure_grid_html(folded), false);
  return figure_grid_html(first) + folded;
}

}  // namespace engram::tools::bench
