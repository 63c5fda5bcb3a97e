#include "tools/bench/overhead_points.h"

#include <algorithm>
#include <cmath>

#include "tools/bench/html_page.h"
#include "tools/bench/number_text.h"
#include "tools/bench/overhead_curves.h"
#include "tools/bench/svg_bars.h"
#include "tools/bench/svg_plot.h"

namespace engram::tools::bench {
namespace {

constexpr size_t kOpenPoints = 2;  // the others are folded

std::string arm_title(const ArmResult& arm) {
  return arm.name.empty() ? arm.key : arm.key + ": " + arm.name;
}

std::string unit_of(const std::string& metric) {
  if (metric.ends_with("_ms")) return metric_title(metric) + " (ms)";
  if (metric.ends_with("_throughput")) return metric_title(metric) + " (tokens/s)";
  std::string name = metric_title(metric);
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

// What is drawn by round: the workload's own metric where it was sampled.
std::string sampled_metric(const OverheadPoint& point) {
  std::string found;
  for (const ArmResult& arm : point.arms) {
    for (const RoundSamples& rate : arm.rates) {
      if (rate.samples.empty()) continue;
      if (rate.metric == point.metric) return rate.metric;
      if (found.empty()) found = rate.metric;
    }
  }
  return found;
}

std::string rounds_figure(const OverheadPoint& point) {
  const std::string metric = sampled_metric(point);
  if (metric.empty()) {
    return missing_figure_html("Rounds", "needs samples per round (--rounds 7 or more).");
  }
  Plot plot{
      .title = "Rounds: " + metric_title(metric) + ", " + describe_point(point),
      .x = {.label = "round"},
      .y = {.label = unit_of(metric)},
      .series = {}};
  Table numbers{.header = {"arm", "median"}, .rows = {}};
  size_t rounds = 0;
  for (const ArmResult& arm : point.arms) {
    PlotSeries series{.name = arm_title(arm), .points = {}, .colour = arm_colour(arm.key)};
    const RoundSamples* rate = arm.rate(metric);
    if (rate == nullptr) continue;
    std::vector<Cell> row = {text_cell(arm_title(arm)), number_cell(rate->median)};
    for (size_t i = 0; i < rate->samples.size(); ++i) {
      series.points.push_back({.x = static_cast<double>(i + 1), .y = rate->samples[i]});
      row.push_back(number_cell(rate->samples[i]));
    }
    rounds = std::max(rounds, rate->samples.size());
    plot.series.push_back(std::move(series));
    numbers.rows.push_back(std::move(row));
  }
  for (size_t i = 1; i <= rounds; ++i) numbers.header.push_back("round " + std::to_string(i));
  for (size_t i = 1; i <= rounds && rounds <= 20; ++i) {
    plot.x.ticks.push_back({static_cast<double>(i), std::to_string(i)});
  }
  return figure_html(
      {.title = plot.title,
       .note = "The arms take turns within a round: what moves them all alike cancels.",
       .warning = point.quiet ? "" : "Noisy: not quiet enough to be believed.",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = std::move(numbers)});
}

// Without the empty bins at both ends; an open last bin ends at the largest wait.
std::vector<Bin> bins_of(const ExposedWait& wait) {
  double total = 0;
  for (const ExposedWait::Count& count : wait.histogram) {
    if (std::isfinite(count.count)) total += count.count;
  }
  std::vector<Bin> bins;
  double low = 0;
  for (const ExposedWait::Count& count : wait.histogram) {
    double high = count.upper_us;
    if (!std::isfinite(high)) high = std::max(wait.max_us.value_or(0), 2 * low);
    const double share = total > 0 ? 100 * count.count / total : 0;
    if (share > 0 || !bins.empty()) bins.push_back({low, high, share});
    low = high;
  }
  while (!bins.empty() && !(bins.back().share > 0)) bins.pop_back();
  return bins;
}

std::string wait_figure(const OverheadPoint& point) {
  Histogram histogram{
      .title = "Exposed wait: " + describe_point(point),
      .x = {.label = "wait of a step for its rows (µs)", .log = true},
      .y = {.label = "steps (%)", .zero = true},
      .series = {}};
  Table numbers{.header = {"arm", "from (µs)", "to (µs)", "steps (%)"}, .rows = {}};
  for (size_t i = 0; i < point.arms.size(); ++i) {
    HistogramSeries series{
        .name = arm_title(point.arms[i]),
        .bins = bins_of(point.arms[i].wait),
        .colour = arm_colour(point.arms[i].key)};
    if (series.bins.empty()) continue;
    for (const Bin& bin : series.bins) {
      numbers.rows.push_back(
          {text_cell(series.name), number_cell(bin.low), number_cell(bin.high),
           number_cell(bin.share)});
    }
    histogram.series.push_back(std::move(series));
  }
  if (histogram.series.empty()) {
    return missing_figure_html(
        "Exposed wait", "needs an arm that fetches rows from a table (--arms D, S or V).");
  }
  return figure_html(
      {.title = histogram.title,
       .note = "Logarithmic x axis; the first bin begins at 0.",
       .warning = "",
       .legend = legend_of(histogram),
       .drawing = draw_histogram(histogram),
       .numbers = std::move(numbers)});
}

// What each arm delivered and moved: names of rates and amounts as the arms have them.
std::string arms_table(const OverheadPoint& point) {
  std::vector<std::string> names;
  const auto note = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const ArmResult& arm : point.arms) {
    for (const RoundSamples& rate : arm.rates) note(rate.metric);
    for (const Metric& amount : arm.amounts) note(amount.name);
  }
  Table table{.header = {"arm"}, .rows = {}};
  for (const std::string& name : names) table.header.push_back(unit_of(name));
  for (const char* name : {"wait p50 (µs)", "wait p99 (µs)", "wait max (µs)", "token hash"}) {
    table.header.push_back(name);
  }
  for (const ArmResult& arm : point.arms) {
    std::vector<Cell> row = {text_cell(arm_title(arm))};
    for (const std::string& name : names) {
      const RoundSamples* rate = arm.rate(name);
      std::optional<double> value = rate == nullptr ? std::nullopt : rate->median;
      for (const Metric& amount : arm.amounts) {
        if (amount.name == name) value = amount.value;
      }
      row.push_back(number_cell(value));
    }
    row.push_back(number_cell(arm.wait.p50_us));
    row.push_back(number_cell(arm.wait.p99_us));
    row.push_back(number_cell(arm.wait.max_us));
    row.push_back(text_cell(arm.token_hash.empty() ? "–" : arm.token_hash));
    table.rows.push_back(std::move(row));
  }
  return table_html(table);
}

}  // namespace

std::string overhead_points(const std::vector<OverheadResult>& runs) {
  std::string out;
  size_t drawn = 0;
  for (const OverheadResult& run : runs) {
    for (const OverheadPoint& point : run.points) {
      std::string title = describe_point(point);
      if (runs.size() > 1) title += " (" + run_title(run) + ")";
      if (!point.quiet) title += " – NOISY";
      const std::string body =
          arms_table(point) + figure_grid_html(rounds_figure(point) + wait_figure(point));
      out += details_html(title, body, drawn < kOpenPoints);
      ++drawn;
    }
  }
  return out.empty() ? out : heading_html("The points one by one") + out;
}

}  // namespace engram::tools::bench
