#include "tools/bench/report_requests.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tools/bench/html_page.h"
#include "tools/bench/number_text.h"
#include "tools/bench/serve_quantiles.h"
#include "tools/bench/serve_quantities.h"
#include "tools/bench/statistics.h"
#include "tools/bench/svg_plot.h"
#include "tools/bench/svg_timeline.h"

namespace engram::tools::bench {
namespace {

using Runs = std::vector<ServeResult>;

constexpr size_t kMostCurves = 12;
constexpr size_t kMostRows = 120;     // of a timeline
constexpr size_t kMostDots = 600;     // of one run in a scatter plot
constexpr size_t kOpenTimelines = 2;  // the others are folded
constexpr const char* kNeedsDetails = "needs runs saved with --save-detailed.";

Table percentile_table(
    const std::vector<PlotSeries>& series, const std::vector<std::vector<double>>& values) {
  const std::vector<double> shares = {0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1};
  Table table{.header = {"run", "requests"}, .rows = {}};
  for (const double share : shares)
    table.header.push_back(std::string("p") + short_number(100 * share));
  for (size_t i = 0; i < series.size(); ++i) {
    std::vector<Cell> row = {
        text_cell(series[i].name), number_cell(static_cast<double>(values[i].size()))};
    for (const double share : shares) row.push_back(number_cell(quantile(values[i], share)));
    table.rows.push_back(row);
  }
  return table;
}

std::string distribution_figure(
    const Runs& runs, Latency latency, const std::string& title, const std::string& unit) {
  Plot plot{
      .title = title,
      .x = {.label = unit},
      .y = {.label = "requests at most as slow (%)", .zero = true},
      .series = {}};
  std::vector<std::vector<double>> all;
  double low = INFINITY;
  double high = 0;
  for (const ServeResult& run : runs) {
    std::vector<double> values = latencies_ms(run.requests, latency);
    if (values.empty() || all.size() == kMostCurves) continue;
    low = std::min(low, quantile(values, 0));
    high = std::max(high, quantile(values, 1));
    const int index = static_cast<int>(all.size());
    plot.series.push_back(
        {.name = describe_run(run),
         .points = cumulative_share(values),
         .colour = index,
         .dash = index / 8,
         .joined = Joined::kSteps,
         .marks = false});
    all.push_back(std::move(values));
  }
  if (all.empty()) return missing_figure_html(title, kNeedsDetails);
  plot.x.log = low > 0 && high > 20 * low;
  plot.x.zero = !plot.x.log;
  return figure_html(
      {.title = title,
       .note = plot.x.log ? "Logarithmic x axis." : "",
       .warning = "",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = percentile_table(plot.series, all)});
}

// Of n things at most `most`, evenly spaced.
std::vector<size_t> evenly(size_t n, size_t most) {
  std::vector<size_t> chosen;
  const size_t count = std::min(n, most);
  for (size_t i = 0; i < count; ++i) chosen.push_back(i * n / count);
  return chosen;
}

std::string prompt_length_figure(const Runs& runs) {
  const std::string title = "TTFT against prompt length";
  Plot plot{
      .title = title,
      .x = {.label = "prompt (tokens)", .zero = true},
      .y = {.label = "time to first token (ms)", .zero = true},
      .series = {}};
  double low = INFINITY;
  double high = 0;
  std::set<double> lengths;
  Table numbers{.header = {"run", "prompt (tokens)", "TTFT (ms)"}, .rows = {}};
  for (const ServeResult& run : runs) {
    if (plot.series.size() == 4) break;
    PlotSeries series{.name = describe_run(run), .points = {}, .joined = Joined::kNo};
    series.colour = static_cast<int>(plot.series.size());
    for (const size_t i : evenly(run.requests.size(), kMostDots)) {
      const double x = run.requests.input_tokens[i];
      const double y = 1e3 * run.requests.ttft_s[i];
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      series.points.push_back({.x = x, .y = y});
      lengths.insert(x);
      low = std::min(low, y);
      high = std::max(high, y);
      numbers.rows.push_back({text_cell(series.name), number_cell(x), number_cell(y)});
    }
    if (!series.points.empty()) plot.series.push_back(std::move(series));
  }
  if (plot.series.empty()) return missing_figure_html(title, kNeedsDetails);
  if (lengths.size() < 2) {
    return missing_figure_html(
        title, "needs prompts of different lengths (--random-range-ratio 0.5, or a dataset).");
  }
  plot.y.log = low > 0 && high > 30 * low;
  return figure_html(
      {.title = title,
       .note = std::string(plot.y.log ? "Logarithmic y axis. " : "") +
               "Each mark is a request; at most four runs and 600 requests of each.",
       .warning = "",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = std::move(numbers)});
}

// Requests that have a place in time, in the order of sending, at most kMostRows of them.
std::vector<size_t> timeline_requests(const ServeRequests& r) {
  std::vector<size_t> order;
  for (size_t i = 0; i < r.size(); ++i) {
    if (std::isfinite(r.start_s[i])) order.push_back(i);
  }
  std::stable_sort(
      order.begin(), order.end(), [&](size_t a, size_t b) { return r.start_s[a] < r.start_s[b]; });
  std::vector<size_t> chosen;
  for (const size_t place : evenly(order.size(), kMostRows)) chosen.push_back(order[place]);
  return chosen;
}

Table timeline_table(const ServeRequests& r, const std::vector<size_t>& chosen) {
  Table table{
      .header = {"sent (s)", "TTFT (ms)", "end to end (ms)", "output tokens", "longest gap (ms)"},
      .rows = {}};
  for (const size_t i : chosen) {
    const std::vector<double>& gaps = r.itl_s[i];
    const double longest = gaps.empty() ? kNone : *std::max_element(gaps.begin(), gaps.end());
    table.rows.push_back(
        {number_cell(r.start_s[i]), number_cell(1e3 * r.ttft_s[i]),
         number_cell(1e3 * r.latency_s[i]), number_cell(r.output_tokens[i]),
         number_cell(1e3 * longest)});
  }
  return table;
}

std::string timeline_figure(const ServeResult& run) {
  const ServeRequests& r = run.requests;
  const std::vector<size_t> chosen = timeline_requests(r);
  if (chosen.empty() || r.itl_s.empty()) return "";
  Timeline timeline{.title = std::string("Timeline: ") + describe_run(run), .rows = {}};
  for (const size_t i : chosen) {
    timeline.rows.push_back(
        {.sent_s = r.start_s[i], .first_s = r.start_s[i] + r.ttft_s[i], .gaps_s = r.itl_s[i]});
  }
  std::string note = "A row is a request; its colours are the gaps between its messages.";
  if (chosen.size() < r.size()) {
    note += std::string(" ") + std::to_string(chosen.size()) + " of " + std::to_string(r.size()) +
            " requests, evenly chosen.";
  }
  return figure_html(
      {.title = timeline.title,
       .note = note,
       .warning = "",
       .legend = legend_of(timeline),
       .drawing = draw_timeline(timeline),
       .numbers = timeline_table(r, chosen)});
}

std::string timelines(const Runs& runs) {
  std::string out;
  size_t drawn = 0;
  for (const ServeResult& run : runs) {
    const std::string figure = timeline_figure(run);
    if (figure.empty()) continue;
    const std::string folded =
        details_html(std::string("Timeline: ") + describe_run(run), figure, false);
    out += drawn < kOpenTimelines ? figure : folded;
    ++drawn;
  }
  return drawn > 0 ? out : missing_figure_html("Timeline of the requests", kNeedsDetails);
}

}  // namespace

std::string request_figures(const std::vector<ServeResult>& runs) {
  return distribution_figure(
             runs, Latency::kE2el, "Latency from end to end, distribution",
             "latency from end to end (ms)") +
         distribution_figure(
             runs, Latency::kTtft, "TTFT, distribution", "time to first token (ms)") +
         prompt_length_figure(runs) + timelines(runs);
}

}  // namespace engram::tools::bench
