#include "tools/bench/serve_sweep.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tools/bench/html_page.h"
#include "tools/bench/number_text.h"
#include "tools/bench/serve_quantities.h"
#include "tools/bench/svg_plot.h"

namespace engram::tools::bench {
namespace {

using Runs = std::vector<ServeResult>;

// What the runs of a sweep differ in, and where each lies on its axis.
struct Sweep {
  Axis axis;
  std::vector<double> x;  // [runs]
  bool several = false;   // more than one place on the axis
};

void add_ticks(const std::set<double>& values, Axis* axis) {
  constexpr size_t kMostTicks = 14;
  if (values.size() > kMostTicks) return;
  for (const double value : values) axis->ticks.push_back({value, short_number(value)});
}

bool wants_log(const std::set<double>& values) {
  return !values.empty() && *values.begin() > 0 && *values.rbegin() / *values.begin() >= 8;
}

Sweep sweep_over_concurrency(const Runs& runs) {
  Sweep sweep{.axis = {.label = "requests at once, at most"}, .x = {}};
  std::set<double> values;
  for (const ServeResult& run : runs) {
    sweep.x.push_back(run.max_concurrency.value_or(kNone));
    if (run.max_concurrency) values.insert(*run.max_concurrency);
  }
  sweep.axis.log = wants_log(values);
  add_ticks(values, &sweep.axis);
  sweep.several = values.size() > 1;
  return sweep;
}

Sweep sweep_of(const Runs& runs) {
  Sweep sweep{.axis = {.label = "request rate (requests/s)"}, .x = {}};
  std::set<double> rates;
  bool unlimited = false;
  for (const ServeResult& run : runs) {
    if (std::isfinite(run.request_rate)) {
      rates.insert(run.request_rate);
    } else {
      unlimited = true;
    }
  }
  if (rates.empty()) return sweep_over_concurrency(runs);
  sweep.axis.log = wants_log(rates);
  sweep.several = rates.size() + (unlimited ? 1 : 0) > 1;
  // "All at once" has a place of its own, right of the largest rate.
  const double edge = *rates.rbegin() * (sweep.axis.log ? 2 : 1.15);
  add_ticks(rates, &sweep.axis);
  if (unlimited && !sweep.axis.ticks.empty()) sweep.axis.ticks.push_back({edge, "no limit"});
  for (const ServeResult& run : runs) {
    sweep.x.push_back(std::isfinite(run.request_rate) ? run.request_rate : edge);
  }
  return sweep;
}

// "8/s, 4 at once"; short, to stand beside a mark.
std::string load_text(const ServeResult& run) {
  const bool limited = std::isfinite(run.request_rate);
  std::string text = limited ? short_number(run.request_rate) + "/s" : "";
  if (run.max_concurrency) {
    text += text.empty() ? "" : ", ";
    text += short_number(*run.max_concurrency) + " at once";
  }
  return text.empty() ? "no limit" : text;
}

std::vector<std::string> series_names(const Runs& runs) {
  std::vector<std::string> names;
  for (const ServeResult& run : runs) {
    const std::string name = series_name(run);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// A series per label and quantity over `x`; runs without the quantity are left out.
std::vector<PlotSeries> series_of(
    const Runs& runs,
    const std::vector<double>& x,
    const std::vector<Quantity>& quantities,
    bool labelled) {
  std::vector<PlotSeries> all;
  const std::vector<std::string> names = series_names(runs);
  for (size_t n = 0; n < names.size(); ++n) {
    for (size_t q = 0; q < quantities.size(); ++q) {
      const bool one = names.size() == 1;
      PlotSeries series;
      series.name = one ? quantities[q].name : names[n] + ", " + quantities[q].name;
      series.colour = static_cast<int>(one ? q : n);
      series.dash = static_cast<int>(q);
      for (size_t i = 0; i < runs.size(); ++i) {
        const std::optional<double> y = quantities[q].value(runs[i]);
        if (series_name(runs[i]) != names[n] || !y || std::isnan(x[i])) continue;
        series.points.push_back(
            {.x = x[i],
             .y = *y,
             .doubtful = !runs[i].warnings.empty(),
             .hint = describe_run(runs[i]) + ": " + short_number(*y),
             .label = labelled ? load_text(runs[i]) : ""});
      }
      if (!series.points.empty()) all.push_back(series);
    }
  }
  return all;
}

Table numbers_of(const Runs& runs, const std::vector<Quantity>& quantities) {
  Table table{.header = {"run", "request rate (1/s)", "at once, at most"}, .rows = {}};
  for (const Quantity& q : quantities) table.header.push_back(q.name);
  for (const ServeResult& run : runs) {
    std::vector<Cell> row = {
        text_cell(describe_run(run)), number_cell(run.request_rate),
        number_cell(run.max_concurrency)};
    for (const Quantity& q : quantities) row.push_back(number_cell(q.value(run)));
    table.rows.push_back(row);
  }
  return table;
}

struct SweepFigure {
  std::string title;
  std::string unit;  // the y axis
  std::vector<Quantity> quantities;
  bool diagonal = false;
  bool may_be_log = false;
  std::string missing;  // what to do when there is nothing to draw
};

bool spans_decades(const std::vector<PlotSeries>& all) {
  double low = INFINITY;
  double high = 0;
  for (const PlotSeries& series : all) {
    for (const PlotPoint& point : series.points) {
      if (point.y > 0) low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  return high > 30 * low;
}

std::string sweep_figure(const Runs& runs, const Sweep& sweep, const SweepFigure& wanted) {
  Plot plot{.title = wanted.title, .x = sweep.axis, .y = {.label = wanted.unit}, .series = {}};
  plot.series = series_of(runs, sweep.x, wanted.quantities, false);
  if (plot.series.empty()) return missing_figure_html(wanted.title, wanted.missing);
  plot.y.log = wanted.may_be_log && spans_decades(plot.series);
  plot.y.zero = !plot.y.log;
  plot.diagonal = wanted.diagonal;
  const std::string note = plot.y.log ? "Logarithmic y axis." : "";
  return figure_html(
      {.title = wanted.title,
       .note = note,
       .warning = "",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = numbers_of(runs, wanted.quantities)});
}

}  // namespace

std::string interactivity_figure(const std::vector<ServeResult>& runs) {
  const std::string title = "Throughput against interactivity";
  std::vector<double> x;
  for (const ServeResult& run : runs) x.push_back(tokens_per_user(run).value_or(kNone));
  Plot plot{
      .title = title,
      .x = {.label = "interactivity: tokens/s per user (1 / median TPOT)", .zero = true},
      .y = {.label = "output tokens/s, all users", .zero = true},
      .series = series_of(runs, x, {{"output tokens/s", output_throughput}}, true)};
  if (plot.series.empty()) {
    return missing_figure_html(title, "needs runs with TPOT (more than one output token).");
  }
  return figure_html(
      {.title = title,
       .note = "Further up and further right is better: each point is one run, with its load.",
       .warning = "",
       .legend = legend_of(plot),
       .drawing = draw_plot(plot),
       .numbers = numbers_of(
           runs,
           {{"tokens/s per user", tokens_per_user}, {"output tokens/s", output_throughput}})});
}

std::string sweep_figures(const std::vector<ServeResult>& runs) {
  const Sweep sweep = sweep_of(runs);
  if (!sweep.several) {
    return missing_figure_html(
        "Throughput, TTFT and TPOT against request rate",
        "needs the results of several runs that differ in --request-rate (or in "
        "--max-concurrency), given together.");
  }
  const bool rates = std::isfinite(runs.front().request_rate) || !sweep.axis.label.empty();
  const std::string against = rates ? " against request rate" : " against concurrency";
  const std::string percentiles = "needs --metric-percentiles 99 and completed requests.";
  std::string out;
  out += sweep_figure(
      runs, sweep,
      {"Throughput" + against,
       "tokens/s",
       {{"output tokens/s", output_throughput}},
       false,
       false,
       "needs output_throughput in the results."});
  out += sweep_figure(
      runs, sweep,
      {"Requests served" + against,
       "requests/s",
       {{"completed requests/s", request_throughput}, {"goodput (--goodput)", goodput}},
       rates,
       false,
       "needs request_throughput in the results."});
  out += sweep_figure(
      runs, sweep,
      {"TTFT" + against,
       "time to first token (ms)",
       {{"p50", ttft_p50}, {"p99", ttft_p99}},
       false,
       true,
       percentiles});
  out += sweep_figure(
      runs, sweep,
      {"TPOT" + against,
       "time per output token (ms)",
       {{"p50", tpot_p50}, {"p99", tpot_p99}},
       false,
       true,
       percentiles});
  return out;
}

}  // namespace engram::tools::bench
